//! Layers for tests, written down as text.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;

use super::{Archive, Index, Writer};
use crate::digest::Digest;
use crate::layer::entry::{Entry, Kind};

/// A layer under construction.
#[derive(Clone, Default)]
pub(crate) struct Tree(BTreeMap<PathBuf, (Entry, Vec<u8>)>);

impl Tree {
    /// One line a path: `d PATH`, `f PATH CONTENT`, `l PATH TARGET` (symbolic link), `h PATH TARGET`
    /// (hard link), `w PATH` (whiteout).
    pub fn parse(text: &str) -> Self {
        let mut tree = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let words: Vec<&str> = line.splitn(3, ' ').collect();
            let argument = words.get(2).copied().unwrap_or_default();
            let kind = match words[0] {
                "d" => Kind::Directory,
                "f" => Kind::File { size: argument.len() as u64 },
                "l" => Kind::Symlink { target: argument.into() },
                "h" => Kind::Hardlink { target: argument.into() },
                "w" => Kind::Whiteout,
                other => panic!("{other}"),
            };
            tree.insert(words[1], kind, argument.as_bytes());
        }
        tree
    }

    /// With a file of any content.
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.insert(path, Kind::File { size: content.len() as u64 }, content);
        self
    }

    /// Without `path`.
    pub fn without(mut self, path: &str) -> Self {
        self.0.remove(&PathBuf::from(path)).unwrap();
        self
    }

    /// Takes over all of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// With `change` made to the entry of `path`.
    pub fn change(mut self, path: &str, change: impl FnOnce(&mut Entry)) -> Self {
        change(&mut self.0.get_mut(&PathBuf::from(path)).unwrap().0);
        self
    }

    /// The bytes of the archive.
    pub fn bytes(&self) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new());
        for (entry, content) in self.0.values() {
            writer.append(entry, &mut content.as_slice()).unwrap();
        }
        writer.finish().unwrap()
    }

    /// The archive, in a file that is gone when it is closed.
    pub fn archive(&self) -> Archive {
        let bytes = self.bytes();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let index = Index::read(&file).unwrap();
        Archive { digest: Digest::of(&bytes), file, index }
    }

    fn insert(&mut self, path: &str, kind: Kind, content: &[u8]) {
        let path = PathBuf::from(path.trim_start_matches('/'));
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        let xattrs = BTreeMap::new();
        let entry =
            Entry { path: path.clone(), kind, mode, uid: 0, gid: 0, mtime: 1_000_000, xattrs };
        self.0.insert(path, (entry, content.to_vec()));
    }
}

/// The archive of [`Tree::parse`].
pub(crate) fn layer(text: &str) -> Archive {
    Tree::parse(text).archive()
}
