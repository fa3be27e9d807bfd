//! A merged tree whose contents can be read.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;
use crate::digest::Digest;
use crate::layer::archive::{Archive, IndexedEntry};
use crate::layer::entry::Kind;
use crate::layer::index::{Content, Merged, MergedEntry};

/// The most that a lint reads of one file, in bytes. What lints read are short text files.
const LIMIT: u64 = 4 << 20;

/// A stack of layers, merged, with the archives to read from.
#[derive(Debug)]
pub struct Tree<'a> {
    stack: &'a [&'a Archive],
    merged: &'a Merged<'a>,
}

impl<'a> Tree<'a> {
    /// `merged` is `stack` merged.
    pub fn new(stack: &'a [&'a Archive], merged: &'a Merged<'a>) -> Self {
        Self { stack, merged }
    }

    /// The merged tree.
    pub(super) fn merged(&self) -> &'a Merged<'a> {
        self.merged
    }

    /// What is at exactly `path`.
    pub(super) fn get(&self, path: impl AsRef<Path>) -> Option<&'a MergedEntry<'a>> {
        self.merged.get(path.as_ref())
    }

    /// Whether there is a directory, not a symbolic link to one, at `path`.
    pub(super) fn is_directory(&self, path: impl AsRef<Path>) -> bool {
        self.get(path).is_some_and(|found| found.entry.kind == Kind::Directory)
    }

    /// The file that `path` leads to, symbolic and hard links followed, with where its content is.
    pub(super) fn file(&self, path: impl AsRef<Path>) -> Option<(&'a MergedEntry<'a>, Content)> {
        let found = self.merged.resolve(path.as_ref()).ok()?;
        Some((found, self.merged.content(found)?))
    }

    /// The beginning of the file that `path` leads to, at most `limit` bytes; nothing if there is
    /// no such file.
    pub(super) fn beginning(
        &self,
        path: impl AsRef<Path>,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some((_, content)) = self.file(path) else { return Ok(None) };
        let layer = self.stack[content.layer];
        let bytes = read(layer, content.offset, content.size.min(limit))
            .map_err(|source| Error::Layer { layer: layer.digest, source })?;
        Ok(Some(bytes))
    }

    /// The text of the file that `path` leads to; nothing if there is no such file. Bytes that are
    /// not UTF-8 are replaced.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Result<Option<String>, Error> {
        let bytes = self.beginning(path, LIMIT)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The layer that has `path`.
    pub(super) fn layer_of(&self, path: &Path) -> Option<Digest> {
        Some(self.stack[self.get(path)?.layer].digest)
    }
}

/// The text of a layer's file; empty if `member` is none.
pub(super) fn text_of(layer: &Archive, member: &IndexedEntry) -> io::Result<String> {
    let Kind::File { size } = member.entry.kind else { return Ok(String::new()) };
    let bytes = read(layer, member.data_offset, size.min(LIMIT))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read(layer: &Archive, offset: u64, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    layer.file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
