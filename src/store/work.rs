//! Scratch directories that outlive their process by nothing.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::layout::{create_private, make_private};

/// A directory of this process, on the file system of the blobs, so that its files can be renamed
/// or reflinked into the store. Deleted on drop; see [`super::Store::work_dir`].
pub struct WorkDir {
    path: PathBuf,
    lock_path: PathBuf,
    /// Held until the directory is gone.
    _lock: File,
}

impl WorkDir {
    /// Makes a directory with a new name in `parent`.
    pub(super) fn create(parent: &Path) -> io::Result<Self> {
        loop {
            let named = tempfile::Builder::new()
                .prefix("")
                .suffix(".lock")
                .rand_bytes(12)
                .tempfile_in(parent)?;
            let (lock, lock_path) = named.keep()?;
            make_private(&lock)?;
            lock.lock()?;
            // Between the two calls another process may have taken the lock for one that a dead
            // process left, and deleted the file.
            if !is_at(&lock, &lock_path) {
                continue;
            }
            let path = lock_path.with_extension("");
            create_private(&path)?;
            return Ok(Self { path, lock_path, _lock: lock });
        }
    }

    /// The directory: absolute, mode 0700, at first empty.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // What cannot be deleted now is left to `sweep`: that is what the lock file is for.
        if remove_tree(&self.path).is_ok() {
            let _ = fs::remove_file(&self.lock_path);
        }
    }
}

/// Deletes the directories in `parent` whose process is dead, with `remove`. What cannot be
/// deleted is left for a sweep with more rights.
pub(super) fn sweep(parent: &Path, remove: &dyn Fn(&Path) -> io::Result<()>) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for lock_path in entries.flatten().map(|entry| entry.path()) {
        if lock_path.extension().is_none_or(|extension| extension != "lock") {
            continue;
        }
        let Ok(lock) = File::options().read(true).write(true).open(&lock_path) else { continue };
        if lock.try_lock().is_err() || !is_at(&lock, &lock_path) {
            continue;
        }
        let path = lock_path.with_extension("");
        let gone = match fs::symlink_metadata(&path) {
            Ok(_) => remove(&path).is_ok(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if gone {
            let _ = fs::remove_file(&lock_path);
        }
    }
}

/// Whether `path` still names the open `file`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Deletes a tree, also one that holds directories without permissions for their owner, as an
/// image may. Never follows a symbolic link.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_directories(path)?;
            fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Gives the owner of every directory in `path` all rights on it.
fn open_directories(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            open_directories(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn living_directories_are_spared_and_dead_ones_swept() {
        let parent = tempfile::tempdir().unwrap();
        let alive = WorkDir::create(parent.path()).unwrap();
        // A process that was killed leaves the lock file, and the lock is free.
        fs::create_dir(parent.path().join("dead")).unwrap();
        fs::write(parent.path().join("dead/file"), "").unwrap();
        fs::write(parent.path().join("dead.lock"), "").unwrap();
        fs::write(parent.path().join("never-made.lock"), "").unwrap();
        sweep(parent.path(), &remove_tree);
        assert!(alive.path().is_dir());
        assert_eq!(names(parent.path()).len(), 2);
        drop(alive);
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn what_cannot_be_deleted_is_left_to_a_sweep_with_more_rights() {
        let parent = tempfile::tempdir().unwrap();
        fs::create_dir(parent.path().join("dead")).unwrap();
        fs::write(parent.path().join("dead.lock"), "").unwrap();
        sweep(parent.path(), &|_| Err(io::ErrorKind::PermissionDenied.into()));
        assert_eq!(names(parent.path()), ["dead", "dead.lock"]);
        sweep(parent.path(), &remove_tree);
        assert!(names(parent.path()).is_empty());
    }

    #[test]
    fn trees_without_permissions_are_deleted_and_links_not_followed() {
        let parent = tempfile::tempdir().unwrap();
        let outside = parent.path().join("outside");
        fs::create_dir(&outside).unwrap();
        fs::set_permissions(&outside, Permissions::from_mode(0o755)).unwrap();
        let tree = parent.path().join("tree");
        fs::create_dir_all(tree.join("closed/inner")).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("closed/link")).unwrap();
        fs::set_permissions(tree.join("closed/inner"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(tree.join("closed"), Permissions::from_mode(0o000)).unwrap();
        open_directories(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert_eq!(names(parent.path()), ["outside"]);
        assert_eq!(fs::metadata(&outside).unwrap().permissions().mode() & 0o777, 0o755);
    }
}
