//! Writes all of it, or nothing.
//!
//! Everything is laid down in a directory for this one time, on the same file system, and then moved to where it
//! belongs, a directory or file at a time; a move never replaces anything. What was moved is moved back if a
//! later move fails.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Content, Entry, Error};

/// What was written, until somebody decides that it stays.
#[derive(Debug)]
pub struct Written {
    /// What was moved to where it belongs.
    moved: Vec<PathBuf>,
    /// Directories that were made on the way, the outermost first.
    made: Vec<PathBuf>,
    stays: bool,
}

impl Written {
    /// Leaves everything where it is.
    pub fn keep(mut self) {
        self.stays = true;
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        // Nobody could do more about what cannot be removed.
        for path in self.moved.iter().rev() {
            let is_directory = path.symlink_metadata().is_ok_and(|it| it.is_dir());
            let _ = if is_directory { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        for path in self.made.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Writes `entries` below `root`, which is made if it is not there. `units` are the paths that are moved to their
/// places as a whole, and of which none may be there; every entry lies in one of them. It is taken back
/// when the result is dropped, unless it is kept. `help` says what to do about what is in the way.
///
/// # Errors
/// [`Error::InTheWay`], [`Error::Write`].
pub fn write(
    root: &Path,
    units: &[PathBuf],
    entries: &[Entry],
    help: &'static str,
) -> Result<Written, Error> {
    let present = |unit: &&PathBuf| root.join(unit).symlink_metadata().is_ok();
    let paths: Vec<PathBuf> = units.iter().filter(present).cloned().collect();
    let in_the_way = |paths| Error::InTheWay { directory: root.to_owned(), paths, help };
    if !paths.is_empty() {
        return Err(in_the_way(paths));
    }
    let cannot = |path: &Path| {
        let path = path.to_owned();
        move |source| Error::Write { path, source }
    };
    let mut written = Written { moved: Vec::new(), made: Vec::new(), stays: false };
    let missing = root.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists());
    for directory in missing.collect::<Vec<_>>().into_iter().rev() {
        fs::create_dir(directory).map_err(cannot(directory))?;
        written.made.push(directory.to_owned());
    }
    let stage = tempfile::Builder::new().prefix(".imgbuild-").tempdir_in(root);
    let stage = stage.map_err(cannot(root))?;
    for entry in entries {
        lay(stage.path(), entry).map_err(cannot(&root.join(&entry.path)))?;
    }
    for unit in units {
        let target = root.join(unit);
        match rename(&stage.path().join(unit), &target) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(in_the_way(vec![unit.clone()]));
            }
            moved => moved.map_err(cannot(&target))?,
        }
        written.moved.push(target);
    }
    Ok(written)
}

fn lay(stage: &Path, Entry { path, content }: &Entry) -> io::Result<()> {
    let path = stage.join(path);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    match content {
        Content::Link { target } => symlink(target, path),
        Content::File { bytes, executable } => {
            let mode = if *executable { 0o777 } else { 0o666 };
            let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
            file.write_all(bytes)
        }
    }
}

/// Moves what is at `from` to `to`, where nothing may be.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems (NFS) cannot promise it; then it is looked at just before.
        Err(Errno::INVAL | Errno::NOSYS) => match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(_) => fs::rename(from, to),
        },
        other => other.map_err(io::Error::from),
    }
}
