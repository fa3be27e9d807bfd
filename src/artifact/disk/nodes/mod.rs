//! What of a stack of layers goes into which file system.

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::erofs::{Extent, Node};
use crate::digest::{Digest, Hasher};
use crate::layer::archive::{Archive, encode_member};
use crate::layer::entry::{Entry, Kind};
use crate::layer::index::{self, Content, Merged, MergedEntry};
use crate::layer::order;

/// Raised when the same key could come to mean other nodes.
const KEY_VERSION: u64 = 1;

/// Where the image that machines boot with leaves what they boot with.
const BOOT: &str = "boot/imgbuild";

/// The paths of a file system, and the digest of all that determines it.
#[derive(Debug, Clone)]
pub struct Nodes<'a> {
    /// In path order.
    pub nodes: Vec<Node<'a>>,
    /// Two with the same key have the same paths, metadata and contents.
    pub key: Digest,
}

/// The file system of the layer `archive`, which lies on the layers that make `below`. See
/// the [module](super) for how it differs from the archive.
///
/// # Errors
/// [`index::Error::NoParent`] if a path lies in a directory that neither the layer nor `below` has.
pub fn nodes_of_layer<'a>(archive: &'a Archive, below: &Merged<'_>) -> Result<Nodes<'a>, Error> {
    let mut key = key("layer");
    key.field(archive.digest.to_string());
    let mut nodes = Vec::with_capacity(archive.index.entries().len() + 16);
    // The directories that the current path may be in.
    let mut directories: Vec<PathBuf> = Vec::new();
    let root = archive.index.get(Path::new("")).is_none().then(PathBuf::new);
    let own =
        archive.index.entries().iter().map(|member| (member.entry.path.as_path(), Some(member)));
    for (path, member) in root.iter().map(|root| (root.as_path(), None)).chain(own) {
        if member.is_some_and(|member| member.entry.kind == Kind::Whiteout)
            && below.get(path).is_none()
        {
            key.field("dropped");
            key.field(path.as_os_str().as_encoded_bytes());
            continue;
        }
        while directories.last().is_some_and(|directory| !order::is_within(path, directory)) {
            directories.pop();
        }
        let missing = path.ancestors().skip(usize::from(member.is_some()));
        let missing: Vec<_> = match directories.last() {
            Some(known) => missing.take_while(|ancestor| ancestor != known).collect(),
            None => missing.collect(),
        };
        for ancestor in missing.into_iter().rev() {
            let directory = below.get(ancestor).filter(|found| found.entry.kind == Kind::Directory);
            let directory = directory.ok_or_else(|| index::Error::NoParent {
                layer: below.layers().len(),
                path: path.to_owned(),
            })?;
            add_entry(&mut key, &directory.entry);
            let entry = Cow::Owned(directory.entry.clone().into_owned());
            nodes.push(Node { entry, content: None });
            directories.push(ancestor.to_owned());
        }
        let Some(member) = member else { continue };
        let content = match member.entry.kind {
            Kind::File { size } => Some((member.data_offset, size)),
            _ => None,
        };
        let extent = |(offset, size)| Extent { file: &archive.file, offset, size };
        nodes.push(Node { entry: Cow::Borrowed(&member.entry), content: content.map(extent) });
        if member.entry.kind == Kind::Directory {
            directories.push(path.to_owned());
        }
    }
    Ok(Nodes { nodes, key: key.finish() })
}

/// The file system of everything at and below the directory `top` of the tree that `stack` makes,
/// with the directories it lies in. A hard link whose file is elsewhere becomes a file, and others
/// of the same file links to it.
///
/// # Errors
/// [`Error::NoDirectory`].
pub fn nodes_below<'a>(
    stack: &[&'a Archive],
    merged: &Merged<'_>,
    top: &Path,
) -> Result<Nodes<'a>, Error> {
    let directory = merged.get(top).filter(|found| found.entry.kind == Kind::Directory);
    directory.ok_or_else(|| Error::NoDirectory(top.to_owned()))?;
    let mut key = key("tree");
    let mut nodes = Vec::new();
    // What stands for a file that is elsewhere.
    let mut promoted: HashMap<&Path, &Path> = HashMap::new();
    let wanted = |path: &Path| path.starts_with(top) || top.starts_with(path);
    for item in merged.entries().iter().filter(|item| wanted(&item.entry.path)) {
        let mut entry: Cow<'a, Entry> = Cow::Owned(item.entry.clone().into_owned());
        let mut content = item.content;
        if let Kind::Hardlink { target } = &item.entry.kind
            && !target.starts_with(top)
        {
            let own = entry.to_mut();
            match promoted.get(target.as_path()) {
                Some(first) => own.kind = Kind::Hardlink { target: first.to_path_buf() },
                None => {
                    let file = merged.get(target);
                    content = merged.content(item);
                    own.kind = Kind::File { size: content.map_or(0, |content| content.size) };
                    own.xattrs = file.map(|file| file.entry.xattrs.clone()).unwrap_or_default();
                    promoted.insert(target, &item.entry.path);
                }
            }
        }
        add_entry(&mut key, &entry);
        if let Some(content) = content {
            key.field(stack[content.layer].digest.to_string());
            key.update(content.offset.to_le_bytes());
        }
        let extent =
            |Content { layer, offset, size }| Extent { file: &stack[layer].file, offset, size };
        nodes.push(Node { entry, content: content.map(extent) });
    }
    Ok(Nodes { nodes, key: key.finish() })
}

/// What a machine boots with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFiles {
    /// GRUB's `boot.img` for a BIOS.
    pub sector: Vec<u8>,
    /// GRUB's `core.img` for a BIOS.
    pub core: Vec<u8>,
    /// The files of the EFI system partition.
    pub esp: Vec<(PathBuf, Vec<u8>)>,
}

impl BootFiles {
    /// The files that the command of the boot image left below `/boot/imgbuild/` of the tree that
    /// `stack` makes: `boot.img`, `core.img`, and everything below `esp/`.
    ///
    /// # Errors
    /// [`Error::NoBootFile`] for the first two; the others are checked when they are used.
    /// [`Error::Read`].
    pub fn read(stack: &[&Archive], merged: &Merged<'_>) -> Result<Self, Error> {
        let content = |item: &MergedEntry<'_>| {
            let missing = || Error::NoBootFile(item.entry.path.clone());
            let Content { layer, offset, size } = merged.content(item).ok_or_else(missing)?;
            let mut bytes = vec![0; size as usize];
            stack[layer].file.read_exact_at(&mut bytes, offset).map_err(Error::Read)?;
            Ok::<_, Error>(bytes)
        };
        let named = |name: &str| {
            let path = Path::new(BOOT).join(name);
            content(merged.get(&path).ok_or(Error::NoBootFile(path))?)
        };
        let esp = Path::new(BOOT).join("esp");
        let mut files = Vec::new();
        for item in merged.entries() {
            if let Ok(path) = item.entry.path.strip_prefix(&esp)
                && item.entry.kind != Kind::Directory
            {
                files.push((path.to_owned(), content(item)?));
            }
        }
        Ok(Self { sector: named("boot.img")?, core: named("core.img")?, esp: files })
    }
}

fn key(kind: &str) -> Hasher {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild disk nodes");
    hasher.field(kind);
    hasher.update(KEY_VERSION.to_le_bytes());
    hasher
}

fn add_entry(key: &mut Hasher, entry: &Entry) {
    let mut header = Vec::new();
    encode_member(entry, &mut header);
    key.field(header);
}
