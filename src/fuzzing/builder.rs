//! What a fuzzer's bytes decide where no bytes are read: numbers, sizes, names.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::layer::archive::{Archive, Index, Writer};
use crate::layer::entry::{Entry, Kind};

use super::scratch::Scratch;

/// Decides by bytes, and by zeros when they are used up.
pub struct Choices<'a>(pub &'a [u8]);

impl Choices<'_> {
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub fn number(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    /// One of the numbers below `count`.
    pub fn below(&mut self, count: usize) -> usize {
        let number = usize::from(self.byte()) << 8 | usize::from(self.byte());
        number % count.max(1)
    }

    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn name(&mut self) -> String {
        let length = 1 + self.below(20);
        let sign = |byte: u8| char::from(b"ab.!-~_\xe4"[usize::from(byte % 8)]);
        (0..length).map(|_| self.byte()).map(sign).collect()
    }
}

/// Entries with their contents, in path order.
type Members = BTreeMap<PathBuf, (Entry, Vec<u8>)>;

/// A tree that has nothing that the rules of layers refuse, but perhaps by accident.
pub fn tree(choices: &mut Choices) -> Members {
    let root = entry(PathBuf::new(), Kind::Directory, choices);
    let mut members = Members::from([(PathBuf::new(), (root, Vec::new()))]);
    let mut directories = vec![PathBuf::new()];
    let mut files: Vec<PathBuf> = Vec::new();
    while !choices.is_over() && members.len() < 500 {
        let path = directories[choices.below(directories.len())].join(choices.name());
        if members.contains_key(&path) {
            continue;
        }
        let mut content = Vec::new();
        let kind = match choices.byte() % 8 {
            0 | 1 => Kind::Directory,
            2 => Kind::Symlink { target: choices.name().into() },
            3 => Kind::Whiteout,
            4 if !files.is_empty() => {
                let target = files[choices.below(files.len())].clone();
                // The first name of a file is the first in path order.
                if target > path {
                    continue;
                }
                let mut same = members[&target].0.clone();
                (same.path, same.kind) = (path.clone(), Kind::Hardlink { target });
                same.xattrs.clear();
                members.insert(path, (same, Vec::new()));
                continue;
            }
            _ => {
                content = vec![choices.byte(); choices.below(9000)];
                Kind::File { size: content.len() as u64 }
            }
        };
        match kind {
            Kind::Directory => directories.push(path.clone()),
            Kind::File { .. } => files.push(path.clone()),
            _ => {}
        }
        members.insert(path.clone(), (entry(path, kind, choices), content));
    }
    members
}

fn entry(path: PathBuf, kind: Kind, choices: &mut Choices) -> Entry {
    let number = choices.number();
    let mut xattrs = BTreeMap::new();
    let (mut mode, mut uid, mut gid, mut mtime) = (
        number as u32 & 0o7777,
        (number >> 12) as u32 & 0xffff,
        (number >> 28) as u32 & 0xffff,
        number >> 31,
    );
    match kind {
        Kind::Whiteout => (mode, uid, gid, mtime) = (0, 0, 0, 0),
        Kind::Symlink { .. } => mode = 0o777,
        _ if number.is_multiple_of(5) => {
            let size = choices.below(9000);
            xattrs.insert(format!("user.{}", choices.byte()), vec![choices.byte(); size]);
        }
        _ => {}
    }
    Entry { path, kind, mode, uid, gid, mtime, xattrs }
}

/// The archive of these members; nothing if the rules of layers refuse one.
pub fn packed(members: &Members) -> Option<Archive> {
    let mut writer = Writer::new(Vec::new());
    for (entry, content) in members.values() {
        writer.append(entry, &mut content.as_slice()).ok()?;
    }
    let bytes = writer.finish().unwrap();
    let file = Scratch::new(&bytes).into_file();
    let index = Index::read(&file).expect("what is written is read");
    Some(Archive { digest: Digest::of(&bytes), file, index })
}
