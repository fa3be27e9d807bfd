//! Lays a layer's archive into a tree.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use rustix::fs::{
    AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};

use super::archive::{Archive, IndexedEntry};
use super::entry::{Entry, Kind};

/// How much of a layer is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Extent {
    /// Everything.
    Whole,
    /// Without documentation and translations, which no program needs to check its configuration.
    Runnable,
}

/// What [`Extent::Runnable`] leaves out.
const DOCUMENTATION: &[&str] = &[
    "usr/share/doc",
    "usr/share/doc-base",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/bug",
];

/// Lays `archive` into the tree at `root`. Paths are resolved without following any symbolic link, so
/// that no entry can leave the tree.
///
/// # Errors
/// With the path at which it failed.
pub fn lay(root: &Path, archive: &Archive, extent: Extent) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    let wanted: Vec<&IndexedEntry> = archive
        .index
        .entries()
        .iter()
        .filter(|indexed| extent == Extent::Whole || !is_documentation(&indexed.entry.path))
        .collect();
    let is_file = |indexed: &&IndexedEntry| matches!(indexed.entry.kind, Kind::File { .. });
    let is_link = |indexed: &&IndexedEntry| matches!(indexed.entry.kind, Kind::Hardlink { .. });

    // Directories and whatever removes something come first, links to files last; the files
    // between them do not depend on each other.
    let mut parent = Parent::of(&root);
    for indexed in wanted.iter().filter(|one| !is_file(one) && !is_link(one)) {
        place(&mut parent, indexed, archive).map_err(|error| at(&indexed.entry, error))?;
    }
    let files: Vec<&IndexedEntry> = wanted.iter().copied().filter(|one| is_file(one)).collect();
    files.par_chunks(64).try_for_each(|chunk| {
        let mut parent = Parent::of(&root);
        chunk.iter().try_for_each(|indexed| {
            place(&mut parent, indexed, archive).map_err(|error| at(&indexed.entry, error))
        })
    })?;
    for indexed in wanted.iter().filter(|one| is_link(one)) {
        place(&mut parent, indexed, archive).map_err(|error| at(&indexed.entry, error))?;
    }
    Ok(())
}

fn is_documentation(path: &Path) -> bool {
    DOCUMENTATION.iter().any(|directory| path.starts_with(directory))
}

fn at(entry: &Entry, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("/{}: {error}", entry.path.display()))
}

/// The directory last used, kept open because neighbours in path order share it.
struct Parent<'a> {
    root: &'a OwnedFd,
    last: Option<(PathBuf, OwnedFd)>,
}

impl<'a> Parent<'a> {
    fn of(root: &'a OwnedFd) -> Self {
        Self { root, last: None }
    }

    fn open(&mut self, directory: &Path) -> io::Result<&OwnedFd> {
        if directory.as_os_str().is_empty() {
            return Ok(self.root);
        }
        if self.last.as_ref().is_none_or(|(path, _)| path != directory) {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            let opened = rustix::fs::openat2(self.root, directory, flags, Mode::empty(), resolve)?;
            self.last = Some((directory.to_owned(), opened));
        }
        self.last.as_ref().map(|(_, opened)| opened).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn place(parent: &mut Parent<'_>, indexed: &IndexedEntry, archive: &Archive) -> io::Result<()> {
    let entry = &indexed.entry;
    let Some(name) = entry.path.file_name() else {
        return dress(parent.root, Path::new(""), entry);
    };
    let root = parent.root;
    let directory = parent.open(entry.path.parent().unwrap_or(Path::new("")))?;
    let name = Path::new(name);
    match &entry.kind {
        Kind::Whiteout => remove(directory, name),
        Kind::Directory => {
            match rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700)) {
                Err(rustix::io::Errno::EXIST) if is_directory(directory, name)? => {}
                Err(rustix::io::Errno::EXIST) => {
                    remove(directory, name)?;
                    rustix::fs::mkdirat(directory, name, Mode::from_raw_mode(0o700))?;
                }
                other => other?,
            }
            dress(directory, name, entry)
        }
        Kind::Symlink { target } => {
            replacing(directory, name, || rustix::fs::symlinkat(target, directory, name))?;
            dress(directory, name, entry)
        }
        Kind::Hardlink { target } => replacing(directory, name, || {
            rustix::fs::linkat(root, target, directory, name, AtFlags::empty())
        }),
        Kind::File { size } => {
            let mut made = None;
            replacing(directory, name, || {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let flags = flags | OFlags::NOFOLLOW;
                made =
                    Some(rustix::fs::openat(directory, name, flags, Mode::from_raw_mode(0o600))?);
                Ok(())
            })?;
            let file = File::from(made.ok_or(io::ErrorKind::NotFound)?);
            copy(&archive.file, indexed.data_offset, *size, &file)?;
            dress_file(&file, entry)
        }
    }
}

/// Does `make`; where something is in the way, once more after removing it.
fn replacing(
    directory: &OwnedFd,
    name: &Path,
    mut make: impl FnMut() -> rustix::io::Result<()>,
) -> io::Result<()> {
    match make() {
        Err(rustix::io::Errno::EXIST) => {
            remove(directory, name)?;
            Ok(make()?)
        }
        other => Ok(other?),
    }
}

fn is_directory(directory: &OwnedFd, name: &Path) -> io::Result<bool> {
    let status = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(rustix::fs::FileType::from_raw_mode(status.st_mode).is_dir())
}

fn remove(directory: &OwnedFd, name: &Path) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ISDIR | rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    for child in rustix::fs::Dir::read_from(&opened)? {
        let child = child?;
        use std::os::unix::ffi::OsStrExt;
        let child = Path::new(std::ffi::OsStr::from_bytes(child.file_name().to_bytes()));
        if child != Path::new(".") && child != Path::new("..") {
            remove(&opened, child)?;
        }
    }
    Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
}

fn copy(from: &File, offset: u64, size: u64, to: &File) -> io::Result<()> {
    let mut buffer = vec![0; size.min(1 << 20) as usize];
    let mut done = 0;
    while done < size {
        let wanted = (size - done).min(buffer.len() as u64) as usize;
        from.read_exact_at(&mut buffer[..wanted], offset + done)?;
        to.write_all_at(&buffer[..wanted], done)?;
        done += wanted as u64;
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(entry.mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Owner before mode, because a change of owner takes set-id bits away; capabilities after both, because
/// it takes those away too (chown(2)).
fn dress_file(file: &File, entry: &Entry) -> io::Result<()> {
    let descriptor = file.as_fd();
    if (entry.uid, entry.gid) != (0, 0) {
        rustix::fs::fchown(
            descriptor,
            Some(Uid::from_raw(entry.uid)),
            Some(Gid::from_raw(entry.gid)),
        )?;
    }
    rustix::fs::fchmod(descriptor, Mode::from_raw_mode(entry.mode))?;
    for (name, value) in &entry.xattrs {
        rustix::fs::fsetxattr(descriptor, name.as_str(), value, XattrFlags::empty())?;
    }
    Ok(rustix::fs::futimens(descriptor, &times(entry))?)
}

fn dress(directory: &OwnedFd, name: &Path, entry: &Entry) -> io::Result<()> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    rustix::fs::chownat(directory, name, Some(uid), Some(gid), flags)?;
    if entry.kind == Kind::Directory {
        let name = if name.as_os_str().is_empty() { Path::new(".") } else { name };
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
        if !entry.xattrs.is_empty() {
            let opened = rustix::fs::openat(
                directory,
                name,
                OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::empty(),
            )?;
            for (name, value) in &entry.xattrs {
                rustix::fs::fsetxattr(&opened, name.as_str(), value, XattrFlags::empty())?;
            }
        }
    }
    Ok(())
}
