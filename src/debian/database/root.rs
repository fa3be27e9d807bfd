//! A root directory whose symbolic links cannot lead out of it.
//!
//! Paths are resolved as the image itself would resolve them: an absolute link target starts at
//! the root directory, and `..` does not climb above it. The kernel does this (`openat2` with
//! `RESOLVE_IN_ROOT`, Linux 5.6, openat2(2)); where it cannot, or where a container's filter
//! forbids the call, the same is done here, component by component.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// As many links as the kernel follows in one path (`MAXSYMLINKS`, path_resolution(7)).
const MOST_LINKS: usize = 40;
/// How often to try again when the kernel could not be sure that `..` stayed inside (openat2(2):
/// `EAGAIN`, after a rename or mount anywhere on the system).
const MOST_RETRIES: usize = 128;
/// Directories are opened only to resolve paths below them.
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An opened root directory.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    directory: OwnedFd,
    in_kernel: bool,
}

/// Splits an absolute path into its directory (without slash at the end; empty for the root
/// directory) and its last component.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

impl Root {
    /// Opens the directory `path`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let directory = fs::open(path, DIRECTORY, Mode::empty())?;
        let probe = fs::openat2(&directory, ".", DIRECTORY, Mode::empty(), ResolveFlags::IN_ROOT);
        let in_kernel = match probe {
            Ok(_) => true,
            Err(Errno::NOSYS | Errno::PERM) => false,
            Err(error) => return Err(error.into()),
        };
        Ok(Self { path: path.to_owned(), directory, in_kernel })
    }

    /// The path that the root directory was opened by, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `inside` as seen from outside, for messages.
    pub fn outside(&self, inside: &[u8]) -> PathBuf {
        self.path.join(lossy(inside).trim_start_matches('/'))
    }

    /// The directory `path`, symbolic links followed.
    pub fn directory(&self, path: &[u8]) -> io::Result<OwnedFd> {
        self.open_in(path, DIRECTORY)
    }

    /// The metadata of what is at `path` itself; `None` if nothing is.
    pub fn stat(&self, path: &[u8]) -> io::Result<Option<fs::Stat>> {
        let (directory, name) = split(path);
        let name = if name.is_empty() { b"." } else { name };
        let found = self
            .directory(directory)
            .and_then(|directory| Ok(fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?));
        absent_is_none(found)
    }

    /// The target of the symbolic link `path`; `None` if there is none.
    pub fn link_target(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let (directory, name) = split(path);
        let found = self
            .directory(directory)
            .and_then(|directory| Ok(fs::readlinkat(directory, name, Vec::new())?.into_bytes()));
        match found {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            found => absent_is_none(found),
        }
    }

    /// What the file `path` holds, symbolic links followed; `None` if it does not exist.
    pub fn read(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        // Not blocking: a named pipe in place of a database file must not hang the build.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let read = self.open_in(path, flags).and_then(|file| {
            let mut bytes = Vec::new();
            File::from(file).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
        absent_is_none(read)
    }

    /// Replaces the file `path` as a whole: written beside it under the name that dpkg would
    /// use (`NAME-new`), then renamed.
    pub fn replace(&self, path: &[u8], content: &[u8], mode: u32) -> io::Result<()> {
        let (directory, name) = split(path);
        let directory = self.directory(directory)?;
        let temporary = [name, b"-new"].concat();
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        ignore_absent(fs::unlinkat(&directory, &*temporary, AtFlags::empty()))?;
        let mut file = File::from(fs::openat(&directory, &*temporary, flags, Mode::RUSR)?);
        file.write_all(content)?;
        fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        fs::renameat(&directory, &*temporary, &directory, name)?;
        Ok(())
    }

    /// Sets the modification time of the file `path`, in seconds since 1970.
    pub fn set_mtime(&self, path: &[u8], mtime: i64) -> io::Result<()> {
        let (directory, name) = split(path);
        let directory = self.directory(directory)?;
        fs::utimensat(directory, name, &timestamps(mtime), AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(())
    }

    /// Removes the file `path`, if it exists.
    pub fn remove(&self, path: &[u8]) -> io::Result<()> {
        let (directory, name) = split(path);
        match self.directory(directory) {
            Ok(directory) => Ok(ignore_absent(fs::unlinkat(directory, name, AtFlags::empty()))?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Makes the directory `path` and those above it, mode 0755, where they are missing.
    pub fn make_directories(&self, path: &[u8]) -> io::Result<()> {
        let path = path.strip_suffix(b"/").unwrap_or(path);
        for end in (1..=path.len()).filter(|&end| end == path.len() || path[end] == b'/') {
            let (directory, name) = split(&path[..end]);
            let directory = self.directory(directory)?;
            match fs::mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
                // The umask may have taken bits away.
                Ok(()) => {
                    fs::chmodat(&directory, name, Mode::from_raw_mode(0o755), AtFlags::empty())?
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes the symbolic link `path` to `target`, if nothing is there.
    pub fn make_link(&self, path: &[u8], target: &str) -> io::Result<()> {
        let (directory, name) = split(path);
        match fs::symlinkat(target, self.directory(directory)?, name) {
            Err(Errno::EXIST) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Removes `path` and what is below it, if it exists. Links are not followed.
    pub fn remove_tree(&self, path: &[u8]) -> io::Result<()> {
        let (directory, name) = split(path);
        match self.directory(directory) {
            Ok(directory) => remove_tree_at(directory.as_fd(), name),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The names in the directory `path`, sorted; none if it does not exist.
    pub fn names(&self, path: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Some(directory) = absent_is_none(self.open_in(path, flags))? else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for entry in fs::Dir::read_from(directory)? {
            let name = entry?.file_name().to_bytes().to_vec();
            if name != b"." && name != b".." {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn open_in(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let path = if path.is_empty() { b"." } else { path };
        if self.in_kernel {
            for _ in 0..MOST_RETRIES {
                let how = ResolveFlags::IN_ROOT;
                match fs::openat2(&self.directory, path, flags, Mode::empty(), how) {
                    Err(Errno::AGAIN) => std::hint::spin_loop(),
                    result => return Ok(result?),
                }
            }
        }
        self.walk(path, flags)
    }

    /// Opens `path` one component at a time. `..` is answered from the directories passed, so
    /// that it cannot leave the root however the tree changes meanwhile.
    fn walk(&self, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let mut passed: Vec<OwnedFd> = Vec::new();
        let mut rest: VecDeque<Vec<u8>> = components(path).collect();
        let mut links = 0;
        while let Some(component) = rest.pop_front() {
            if component == b".." {
                passed.pop();
                continue;
            }
            let here = self.innermost(&passed);
            if let Ok(target) = fs::readlinkat(here, &*component, Vec::new()) {
                links += 1;
                if links > MOST_LINKS {
                    return Err(Errno::LOOP.into());
                }
                let target = target.into_bytes();
                if target.starts_with(b"/") {
                    passed.clear();
                }
                for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                    rest.push_front(component);
                }
            } else if rest.is_empty() && !flags.contains(OFlags::DIRECTORY) {
                let flags = flags | OFlags::NOFOLLOW;
                return Ok(fs::openat(here, &*component, flags, Mode::empty())?);
            } else {
                let flags = DIRECTORY | OFlags::NOFOLLOW;
                passed.push(fs::openat(here, &*component, flags, Mode::empty())?);
            }
        }
        Ok(fs::openat(self.innermost(&passed), ".", flags, Mode::empty())?)
    }

    fn innermost<'a>(&'a self, passed: &'a [OwnedFd]) -> BorrowedFd<'a> {
        passed.last().unwrap_or(&self.directory).as_fd()
    }
}

fn remove_tree_at(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<()> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        result => return Ok(ignore_absent(result)?),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let directory = fs::openat(parent, name, flags, Mode::empty())?;
    for entry in fs::Dir::read_from(&directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            remove_tree_at(directory.as_fd(), name)?;
        }
    }
    Ok(fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

/// Access and modification time at `seconds` since 1970.
pub fn timestamps(seconds: i64) -> fs::Timestamps {
    let time = fs::Timespec { tv_sec: seconds, tv_nsec: 0 };
    fs::Timestamps { last_access: time, last_modification: time }
}

/// A path as text for messages.
pub fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// The components of a path; `.` and empty ones mean nothing.
fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|&byte| byte == b'/')
        .filter(|component| !matches!(*component, b"" | b"."))
        .map(<[u8]>::to_vec)
}

/// Turns "does not exist" into `None`, also where a component of the way is not a directory.
fn absent_is_none<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
                || error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// A file that is already gone needs no removal.
pub fn ignore_absent(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// The same tree, resolved by the kernel and by the fallback.
    fn both_ways(test: impl Fn(&Root, &Path)) {
        let outer = tempfile::tempdir().unwrap();
        std::fs::write(outer.path().join("secret"), "outside").unwrap();
        let path = outer.path().join("root");
        std::fs::create_dir_all(path.join("usr/lib")).unwrap();
        symlink("usr/lib", path.join("lib")).unwrap();
        symlink("/usr/lib", path.join("absolute")).unwrap();
        symlink("../../../../secret", path.join("usr/escape")).unwrap();
        symlink("/secret", path.join("usr/absolute-escape")).unwrap();
        symlink("loop", path.join("loop")).unwrap();
        let mut root = Root::open(&path).unwrap();
        test(&root, &path);
        root.in_kernel = false;
        test(&root, &path);
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        both_ways(|root, path| {
            std::fs::write(path.join("usr/lib/x"), "inside").unwrap();
            for name in ["/lib/x", "/absolute/x", "/usr/lib/../lib/x", "/../../usr/lib/x"] {
                assert_eq!(root.read(name.as_bytes()).unwrap().unwrap(), b"inside", "{name}");
            }
        });
    }

    #[test]
    fn links_do_not_lead_out_of_the_root() {
        both_ways(|root, _| {
            for name in ["/usr/escape", "/usr/absolute-escape", "/../secret", "/loop", "/loop/x"] {
                assert_eq!(root.read(name.as_bytes()).unwrap(), None, "{name}");
            }
        });
    }

    #[test]
    fn files_are_replaced_through_links_of_directories() {
        both_ways(|root, path| {
            root.make_directories(b"/absolute/new/deeper").unwrap();
            root.replace(b"/lib/new/deeper/file", b"text", 0o640).unwrap();
            assert_eq!(std::fs::read(path.join("usr/lib/new/deeper/file")).unwrap(), b"text");
            root.remove(b"/lib/new/deeper/file").unwrap();
            root.remove(b"/lib/new/deeper/file").unwrap();
            root.remove(b"/nowhere/at/all").unwrap();
            assert_eq!(root.names(b"/lib/new").unwrap(), vec![b"deeper".to_vec()]);
        });
    }
}
