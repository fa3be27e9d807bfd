//! Changes files of a container's root file system from outside. Its symbolic links are followed as the
//! container itself would: none leads out of it (openat2(2), `RESOLVE_IN_ROOT`).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Gid, Mode, OFlags, ResolveFlags, Uid, fchmod, fchown, mkdirat, openat, openat2,
    renameat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::GUEST_ROOT;

/// A root file system.
pub(super) struct Tree {
    root: OwnedFd,
}

impl Tree {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(path, flags, Mode::empty())? })
    }

    fn resolve(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        let flags = flags | OFlags::CLOEXEC;
        // As pathname resolution may be asked to try again (openat2(2), EAGAIN).
        loop {
            match openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT) {
                Err(Errno::AGAIN) => {}
                other => return other,
            }
        }
    }

    /// The directory that `path` lies in, and its last component.
    fn parent<'a>(&self, path: &'a str) -> io::Result<(OwnedFd, &'a str)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = self.resolve(Path::new(parent), OFlags::PATH | OFlags::DIRECTORY)?;
        Ok((parent, name))
    }

    /// Whether there is something at `path`.
    pub(super) fn has(&self, path: &str) -> bool {
        self.resolve(Path::new(path), OFlags::PATH).is_ok()
    }

    /// The text at `path`; none if there is no such file.
    pub(super) fn read(&self, path: &str) -> io::Result<Option<String>> {
        let mut text = String::new();
        match self.resolve(Path::new(path), OFlags::RDONLY | OFlags::NONBLOCK) {
            Ok(file) => File::from(file).read_to_string(&mut text).map(|_| Some(text)),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes `path` a file with this text, with the mode and owner of what is there, or else 644 and root.
    /// A symbolic link is replaced.
    pub(super) fn write(&self, path: &str, text: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        let old = rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).ok();
        let old = old.filter(|old| rustix::fs::FileType::from_raw_mode(old.st_mode).is_file());
        let temporary = format!(".{name}.imgbuild");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = openat(&parent, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let (mode, uid, gid) = match old {
            Some(old) => (Mode::from_raw_mode(old.st_mode), old.st_uid, old.st_gid),
            None => (Mode::from_raw_mode(0o644), GUEST_ROOT, GUEST_ROOT),
        };
        fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        fchmod(&file, mode)?;
        File::from(file).write_all(text.as_bytes())?;
        Ok(renameat(&parent, &temporary, &parent, name)?)
    }

    /// Removes the file at `path`, if it is there.
    pub(super) fn remove(&self, path: &str) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes a symbolic link at `path`, in place of what is there.
    pub(super) fn link(&self, target: &str, path: &str) -> io::Result<()> {
        self.remove(path)?;
        let (parent, name) = self.parent(path)?;
        symlinkat(target, &parent, name)?;
        let owner = (Some(Uid::from_raw(GUEST_ROOT)), Some(Gid::from_raw(GUEST_ROOT)));
        rustix::fs::chownat(&parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Makes the directory `path` and those above it, as far as they are missing.
    pub(super) fn make_directory(&self, path: &str) -> io::Result<()> {
        let mut above = PathBuf::new();
        for name in path.split('/') {
            above.push(name);
            if self.resolve(&above, OFlags::PATH | OFlags::DIRECTORY).is_ok() {
                continue;
            }
            let (parent, name) = self.parent(above.to_str().unwrap_or_default())?;
            mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
            let owner = (Some(Uid::from_raw(GUEST_ROOT)), Some(Gid::from_raw(GUEST_ROOT)));
            rustix::fs::chownat(&parent, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }
}
