//! The tree that the layers of an image make, with what its files hold.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Error;
use crate::layer::archive::Archive;
use crate::layer::entry::Kind;
use crate::layer::index::{Content, Merged, MergedEntry};
use crate::layer::order;

/// The most that is read of a text, in bytes. Far more than anybody writes by hand.
const TEXT_LIMIT: u64 = 4 << 20;

/// A merged stack of layers.
pub struct Tree<'a> {
    layers: &'a [Arc<Archive>],
    merged: Merged<'a>,
}

impl<'a> Tree<'a> {
    /// The tree of `layers`, lowest first.
    ///
    /// # Errors
    /// The layers do not belong on one another.
    pub fn new(layers: &'a [Arc<Archive>]) -> Result<Self, Error> {
        let merged = Merged::new(layers.iter().map(|layer| &layer.index)).map_err(Error::Tree)?;
        Ok(Self { layers, merged })
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &'a [Arc<Archive>] {
        self.layers
    }

    /// All paths, in path order.
    pub fn entries(&self) -> &[MergedEntry<'a>] {
        self.merged.entries()
    }

    /// What is at exactly `path`, without leading slash.
    pub fn get(&self, path: &Path) -> Option<&MergedEntry<'a>> {
        self.merged.get(path)
    }

    /// `path` with every directory on the way to it being one: a symbolic link before the last name is
    /// followed, the last name is not. Without leading slash.
    pub fn place(&self, path: &Path) -> PathBuf {
        let path = path.strip_prefix("/").unwrap_or(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return path.to_owned();
        };
        match self.merged.resolve(parent) {
            Ok(directory) => directory.entry.path.join(name),
            Err(_) => path.to_owned(),
        }
    }

    /// Where `path` leads, symbolic links followed to the last; none if it leads nowhere.
    pub fn follow(&self, path: &Path) -> Option<PathBuf> {
        self.merged.resolve(path).ok().map(|found| found.entry.path.clone())
    }

    /// Everything below the directory `path`, in path order.
    pub fn below(&self, path: &Path) -> impl Iterator<Item = &MergedEntry<'a>> {
        let entries = self.merged.entries();
        let start = entries.partition_point(|it| order::compare(&it.entry.path, path).is_le());
        let path = path.to_owned();
        entries[start..].iter().take_while(move |it| order::is_within(&it.entry.path, &path))
    }

    /// Where the content of a file, or of what a hard link stands for, is.
    pub fn content(&self, entry: &MergedEntry<'_>) -> Option<Content> {
        self.merged.content(entry)
    }

    /// `size` bytes of a content from `offset` on.
    ///
    /// # Errors
    /// The layer cannot be read.
    pub fn read(&self, content: Content, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
        bytes(&self.layers[content.layer], content.offset + offset, size)
    }

    /// The text of the file at exactly `path`; empty if there is none. What is not UTF-8 is replaced.
    ///
    /// # Errors
    /// The layer cannot be read.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<String, Error> {
        let content = self.get(path.as_ref()).and_then(|entry| self.content(entry));
        let Some(content) = content else { return Ok(String::new()) };
        let bytes = self.read(content, 0, content.size.min(TEXT_LIMIT) as usize)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Bytes of all files.
    pub fn size(&self) -> u64 {
        let sizes = self.entries().iter().map(|item| match item.entry.kind {
            Kind::File { size } => size,
            _ => 0,
        });
        sizes.sum()
    }
}

/// `size` bytes of `layer` from `offset` on.
pub(super) fn bytes(layer: &Archive, offset: u64, size: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = vec![0; size];
    let read: io::Result<()> = layer.file.read_exact_at(&mut bytes, offset);
    read.map_err(|source| Error::Read { layer: layer.digest, source })?;
    Ok(bytes)
}
