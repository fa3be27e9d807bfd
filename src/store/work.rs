//! Scratch directories that outlive their process by nothing.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::layout::create_private;

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
