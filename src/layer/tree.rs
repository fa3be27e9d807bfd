//! A file tree under construction: layers are laid into it, package scripts change it, and what
//! changed since the last layer is found again.
//!
//! Changes are found without trusting modification times, which scripts can set: after each layer the
//! inode number and the change time (`st_ctim`) of every path are remembered, and the kernel sets the
//! change time on every write, rename, link and change of metadata. A path whose stamp is the
//! same is the same; any other is compared in full.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::archive::normalise_capability;
use super::entry::{Entry, Kind};

/// What the kernel says of a path that was not touched since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    seconds: i64,
    nanoseconds: i64,
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            seconds: metadata.ctime(),
            nanoseconds: metadata.ctime_nsec(),
        }
    }
}

/// A path as the last layer left it.
#[derive(Clone, Debug)]
struct Known {
    entry: Entry,
    stamp: Stamp,
}

/// A directory on the way to becoming an image.
pub struct Tree {
    root: PathBuf,
    known: BTreeMap<PathBuf, Known>,
}

impl Tree {
    /// The empty tree at `root`, a directory that exists and is empty.
    pub fn empty(root: PathBuf) -> Self {
        Self { root, known: BTreeMap::new() }
    }

    /// Where the tree is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The differences since the last call, in path order, as the entries of a layer:
    /// modification times are clamped to `epoch`, directories have exactly `epoch`, and paths that
    /// are gone become whiteouts. From now on the present state is the known one.
    ///
    /// # Errors
    /// When the tree cannot be read, or holds what an image cannot: a device, a pipe or a socket.
    pub fn take_changes(&mut self, epoch: u64) -> io::Result<Vec<Entry>> {
        let mut found = self.scan(epoch)?;
        let mut changes = self.compare(&found);
        self.removals(&found, epoch, &mut changes);
        complete_hardlinks(&found, &mut changes);
        self.clamp_times(&changes, &mut found)?;
        self.known = found;
        settle();
        Ok(changes.into_values().collect())
    }

    /// Takes the present state as known, as when lower layers were laid into the tree.
    ///
    /// # Errors
    /// As [`Tree::take_changes`].
    pub fn forget_changes(&mut self) -> io::Result<()> {
        self.known = self.scan(u64::MAX)?;
        settle();
        Ok(())
    }

    /// Gives changed files the time that they have in the layer, so that a tree which goes on to the next
    /// layer is the same as one that was laid from archives.
    fn clamp_times(
        &self,
        changes: &BTreeMap<PathBuf, Entry>,
        found: &mut BTreeMap<PathBuf, Known>,
    ) -> io::Result<()> {
        for entry in changes.values().filter(|entry| matches!(entry.kind, Kind::File { .. })) {
            let full = self.root.join(&entry.path);
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(entry.mtime);
            fs::File::open(&full)?.set_modified(time)?;
        }
        for known in found.values_mut().filter(|known| changes.contains_key(&known.entry.path)) {
            known.stamp = Stamp::of(&fs::symlink_metadata(self.root.join(&known.entry.path))?);
        }
        Ok(())
    }

    fn scan(&self, epoch: u64) -> io::Result<BTreeMap<PathBuf, Known>> {
        let mut found = BTreeMap::new();
        let mut pending = vec![PathBuf::new()];
        while let Some(directory) = pending.pop() {
            if directory.as_os_str().is_empty() {
                let metadata = fs::symlink_metadata(&self.root)?;
                found.insert(PathBuf::new(), self.look(PathBuf::new(), &metadata, epoch)?);
            }
            for child in fs::read_dir(self.root.join(&directory))? {
                let child = child?;
                let path = directory.join(child.file_name());
                let metadata = child.metadata()?;
                let known = self.look(path.clone(), &metadata, epoch)?;
                if known.entry.kind == Kind::Directory {
                    pending.push(path.clone());
                }
                found.insert(path, known);
            }
        }
        name_hardlinks(&mut found);
        Ok(found)
    }

    fn look(&self, path: PathBuf, metadata: &fs::Metadata, epoch: u64) -> io::Result<Known> {
        let stamp = Stamp::of(metadata);
        let untouched = self.known.get(&path).filter(|known| known.stamp == stamp);
        let full = self.root.join(&path);
        let file_type = metadata.file_type();
        let kind = if file_type.is_dir() {
            Kind::Directory
        } else if file_type.is_file() {
            Kind::File { size: metadata.len() }
        } else if file_type.is_symlink() {
            Kind::Symlink { target: fs::read_link(&full)? }
        } else {
            let message = format!("/{} is a device, a pipe or a socket", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        };
        let mtime = match (&kind, untouched) {
            (_, Some(known)) => known.entry.mtime,
            (Kind::Directory, _) => epoch,
            _ => u64::try_from(metadata.mtime()).unwrap_or(0).min(epoch),
        };
        let xattrs = match (&kind, untouched) {
            (_, Some(known)) => known.entry.xattrs.clone(),
            (Kind::Symlink { .. }, _) => BTreeMap::new(),
            _ => extended_attributes(&full)?,
        };
        // A symbolic link's permission bits mean nothing (symlink(7)).
        let link = matches!(kind, Kind::Symlink { .. });
        let mode = if link { 0o777 } else { metadata.mode() & 0o7777 };
        let (uid, gid) = (metadata.uid(), metadata.gid());
        Ok(Known { entry: Entry { path, kind, mode, uid, gid, mtime, xattrs }, stamp })
    }

    fn compare(&self, found: &BTreeMap<PathBuf, Known>) -> BTreeMap<PathBuf, Entry> {
        let changed = |now: &&Known| match self.known.get(&now.entry.path) {
            Some(before) => !unchanged(before, now),
            None => true,
        };
        let entries = found.values().filter(changed).map(|now| now.entry.clone());
        entries.map(|entry| (entry.path.clone(), entry)).collect()
    }

    fn removals(
        &self,
        found: &BTreeMap<PathBuf, Known>,
        epoch: u64,
        changes: &mut BTreeMap<PathBuf, Entry>,
    ) {
        let mut gone: Option<&Path> = None;
        for path in self.known.keys().filter(|path| !found.contains_key(*path)) {
            // The whiteout of a directory stands for everything in it, as does whatever took its place.
            if gone.is_some_and(|above| path.starts_with(above)) {
                continue;
            }
            let replaced = path.ancestors().skip(1).any(|above| {
                found.get(above).is_some_and(|known| known.entry.kind != Kind::Directory)
            });
            gone = Some(path);
            if !replaced {
                changes.insert(path.clone(), whiteout(path, epoch));
            }
        }
    }
}

fn whiteout(path: &Path, mtime: u64) -> Entry {
    Entry {
        path: path.to_owned(),
        kind: Kind::Whiteout,
        mode: 0,
        uid: 0,
        gid: 0,
        mtime,
        xattrs: BTreeMap::new(),
    }
}

/// Whether a path is the same as before. A file that was written again is a changed file, with
/// whatever bytes; a directory or a symbolic link is what its metadata says, without its time.
fn unchanged(before: &Known, now: &Known) -> bool {
    match now.entry.kind {
        Kind::File { .. } | Kind::Hardlink { .. } => before.stamp == now.stamp,
        _ => Entry { mtime: before.entry.mtime, ..now.entry.clone() } == before.entry,
    }
}

/// Of the names of one file, the first in path order stays a file, the others become links to it.
fn name_hardlinks(found: &mut BTreeMap<PathBuf, Known>) {
    let mut first: BTreeMap<u64, PathBuf> = BTreeMap::new();
    for (path, known) in found.iter_mut() {
        if !matches!(known.entry.kind, Kind::File { .. } | Kind::Hardlink { .. }) {
            continue;
        }
        match first.get(&known.stamp.inode) {
            Some(target) => known.entry.kind = Kind::Hardlink { target: target.clone() },
            None => {
                first.insert(known.stamp.inode, path.clone());
            }
        }
    }
}

/// A link is written beside its target: where one name of a file changed, all of its names are in
/// the layer.
fn complete_hardlinks(found: &BTreeMap<PathBuf, Known>, changes: &mut BTreeMap<PathBuf, Entry>) {
    let mut groups: BTreeMap<&Path, Vec<&Entry>> = BTreeMap::new();
    for known in found.values() {
        if let Kind::Hardlink { target } = &known.entry.kind {
            groups.entry(target).or_default().push(&known.entry);
        }
    }
    for (target, links) in groups {
        let touched = changes.contains_key(target)
            || links.iter().any(|link| changes.contains_key(&link.path));
        if touched && let Some(file) = found.get(target) {
            changes.insert(target.to_owned(), file.entry.clone());
            changes.extend(links.iter().map(|link| (link.path.clone(), (*link).clone())));
        }
    }
}

/// The attributes that an image keeps: `user.*`, and capabilities.
fn extended_attributes(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0; 4096];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut attributes = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let kept = name == b"security.capability" || name.starts_with(b"user.");
        let (true, Ok(text)) = (kept, str::from_utf8(name)) else { continue };
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(path, std::ffi::OsStr::from_bytes(name), &mut value)?;
        value.truncate(length);
        if name == b"security.capability" {
            // Read in a user namespace, a capability may carry the namespace's root (revision 3).
            value = normalise_capability(&value)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
                .to_vec();
        }
        attributes.insert(text.to_owned(), value);
    }
    Ok(attributes)
}

/// Waits until the clock that stamps files has passed everything stamped so far. It moves on with the
/// timer interrupt, every 10 ms at most (CONFIG_HZ=100).
fn settle() {
    std::thread::sleep(Duration::from_millis(11));
}
