//! Creating files, directories and links in the root directory.
//!
//! Directories are looked up once and kept open, and every name is created relative to its
//! directory without following a link there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::{PoisonError, RwLock};

use md5::{Digest as _, Md5};
use rustix::fs::{self, AtFlags, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::claims::Metadata;
use crate::debian::database::root::{Root, ignore_absent, split, timestamps};

/// As many links as the kernel follows in one path (`MAXSYMLINKS`, path_resolution(7)).
const MOST_LINKS: usize = 40;
/// Bytes that are read and written at a time.
const CHUNK: usize = 128 * 1024;
/// Directories that one thread keeps open at a time. An archive stays in a directory for many
/// members, so few are enough, and a machine may have many threads.
const MOST_DIRECTORIES: usize = 32;
/// What dpkg appends to the name of a file that is not yet in its place.
pub(super) const NEW: &[u8] = b".dpkg-new";

/// An MD5 sum, as dpkg keeps of every file.
pub(super) type Checksum = [u8; 16];

/// Knows which directories are links to which others. Links of directories do not change while
/// a batch is unpacked in parallel, so what is found stays true.
#[derive(Debug)]
pub(super) struct Resolver<'a> {
    root: &'a Root,
    known: RwLock<HashMap<Vec<u8>, Vec<u8>>>,
}

impl<'a> Resolver<'a> {
    pub fn new(root: &'a Root) -> Self {
        Self { root, known: RwLock::default() }
    }

    /// The path of the directory `path` without symbolic links; what does not exist has none.
    /// The root directory is the empty path.
    pub fn resolve(&self, path: &[u8]) -> io::Result<Vec<u8>> {
        self.resolve_from(Vec::new(), path, &mut 0)
    }

    fn resolve_from(&self, start: Vec<u8>, path: &[u8], links: &mut usize) -> io::Result<Vec<u8>> {
        let mut current = start;
        for component in path.split(|&byte| byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => current.truncate(split(&current).0.len()),
                name => current = self.step(current, name, links)?,
            }
        }
        Ok(current)
    }

    /// `name` in the directory `parent`, which is resolved already.
    fn step(&self, parent: Vec<u8>, name: &[u8], links: &mut usize) -> io::Result<Vec<u8>> {
        let path = [&parent, b"/".as_slice(), name].concat();
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(&path) {
            return Ok(known.clone());
        }
        let resolved = match self.root.link_target(&path)? {
            None => path.clone(),
            Some(target) => {
                *links += 1;
                if *links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let start = if target.starts_with(b"/") { Vec::new() } else { parent };
                self.resolve_from(start, &target, links)?
            }
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(path, resolved.clone());
        Ok(resolved)
    }
}

/// Creates things, and keeps directories open meanwhile. One thread has it.
#[derive(Debug)]
pub(super) struct Files<'a> {
    root: &'a Root,
    open: HashMap<Vec<u8>, Rc<OwnedFd>>,
    buffer: Vec<u8>,
}

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    Nothing,
    Directory,
    Link,
    Other,
}

impl<'a> Files<'a> {
    pub fn new(root: &'a Root) -> Self {
        Self { root, open: HashMap::new(), buffer: vec![0; CHUNK] }
    }

    /// The directory `path`, which has no links in it.
    pub fn directory(&mut self, path: &[u8]) -> io::Result<Rc<OwnedFd>> {
        if let Some(directory) = self.open.get(path) {
            return Ok(Rc::clone(directory));
        }
        if self.open.len() >= MOST_DIRECTORIES {
            self.open.clear();
        }
        let directory = Rc::new(self.root.directory(path)?);
        self.open.insert(path.to_vec(), Rc::clone(&directory));
        Ok(directory)
    }

    /// Makes the directory `name`. `false`: it is there already.
    pub fn make_directory(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<bool> {
        match fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                fs::openat(parent, name, flags, Mode::empty())?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Gives the directory `path` its final owner, mode and time.
    pub fn finish_directory(&mut self, path: &[u8], metadata: Metadata) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let (parent, name) = split(path);
        let parent = self.directory(parent)?;
        let directory = fs::openat(&*parent, name, flags, Mode::empty())?;
        finish(directory.as_fd(), metadata)
    }

    /// What `name` is.
    pub fn existing(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<Existing> {
        match fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(match fs::FileType::from_raw_mode(stat.st_mode) {
                fs::FileType::Directory => Existing::Directory,
                fs::FileType::Symlink => Existing::Link,
                _ => Existing::Other,
            }),
            Err(Errno::NOENT) => Ok(Existing::Nothing),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes the new file `name` of `size` bytes. Returns its checksum if one is wanted.
    pub fn write(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        metadata: Metadata,
        (content, size): (&mut dyn Read, u64),
        checksum: bool,
    ) -> Result<Option<Checksum>, CopyError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let file = match fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => File::from(file),
            Err(Errno::EXIST) => return Err(CopyError::Exists),
            Err(error) => return Err(CopyError::Write(error.into())),
        };
        let checksum = self.copy(&file, content, size, checksum)?;
        finish(file.as_fd(), metadata)?;
        Ok(checksum)
    }

    /// Removes the temporary file or link `name`, if there is one.
    pub fn clear(&self, parent: &OwnedFd, name: &[u8]) -> io::Result<()> {
        Ok(ignore_absent(fs::unlinkat(parent, name, AtFlags::empty()))?)
    }

    /// Gives the file `from` the name `to`, in place of a file or link that may be there.
    pub fn rename(&self, parent: &OwnedFd, from: &[u8], to: &[u8]) -> io::Result<()> {
        Ok(fs::renameat(parent, from, parent, to)?)
    }

    fn copy(
        &mut self,
        mut file: &File,
        content: &mut dyn Read,
        size: u64,
        checksum: bool,
    ) -> Result<Option<Checksum>, CopyError> {
        let mut hasher = checksum.then(Md5::new);
        let mut left = size;
        while left > 0 {
            let most = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            let chunk = &mut self.buffer[..most];
            let count = match content.read(chunk) {
                Ok(0) => return Err(CopyError::Read(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CopyError::Read(error)),
            };
            file.write_all(&chunk[..count])?;
            if let Some(hasher) = &mut hasher {
                hasher.update(&chunk[..count]);
            }
            left -= count as u64;
        }
        Ok(hasher.map(|hasher| hasher.finalize().into()))
    }

    /// Makes the symbolic link `name`, in place of a file or link that may be there.
    pub fn symlink(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        target: &[u8],
        metadata: Metadata,
    ) -> io::Result<()> {
        self.link(parent, name, |name| {
            fs::symlinkat(target, parent, name)?;
            let (owner, group) = owner(metadata);
            fs::chownat(parent, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)?;
            let times = timestamps(metadata.mtime);
            fs::utimensat(parent, name, &times, AtFlags::SYMLINK_NOFOLLOW)
        })
    }

    /// Makes `name` a further name of the file `target` in the directory `from`.
    pub fn hard_link(
        &self,
        (from, target): (&OwnedFd, &[u8]),
        parent: &OwnedFd,
        name: &[u8],
    ) -> io::Result<()> {
        self.link(parent, name, |name| fs::linkat(from, target, parent, name, AtFlags::empty()))
    }

    fn link(
        &self,
        parent: &OwnedFd,
        name: &[u8],
        make: impl Fn(&[u8]) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        match make(name) {
            Err(Errno::EXIST) => {
                let temporary = [name, NEW].concat();
                self.clear(parent, &temporary)?;
                make(&temporary)?;
                self.rename(parent, &temporary, name)?;
                // Renaming one name of a file to another name of it does nothing (rename(2)).
                self.clear(parent, &temporary)
            }
            result => Ok(result?),
        }
    }
}

/// Why a file was not written.
#[derive(Debug)]
pub(super) enum CopyError {
    /// The package could not be read.
    Read(io::Error),
    /// The file could not be written.
    Write(io::Error),
    /// Something has the name already; nothing has been read.
    Exists,
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

/// Reads `size` bytes for their checksum only.
pub(super) fn checksum(content: &mut dyn Read) -> io::Result<Checksum> {
    let mut hasher = Md5::new();
    let mut buffer = vec![0; CHUNK];
    loop {
        match content.read(&mut buffer)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Sets owner, mode and time. The owner comes first, because changing it clears the
/// set-user-id and set-group-id bits (chown(2)).
fn finish(file: BorrowedFd<'_>, metadata: Metadata) -> io::Result<()> {
    let (owner, group) = owner(metadata);
    fs::fchown(file, owner, group)?;
    fs::fchmod(file, Mode::from_raw_mode(metadata.mode))?;
    fs::futimens(file, &timestamps(metadata.mtime))?;
    Ok(())
}

fn owner(metadata: Metadata) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(metadata.uid)), Some(Gid::from_raw(metadata.gid)))
}
