//! Which packages of a batch ship which path, noted by many threads at a time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Mutex;

use crate::debian::deb::MemberPath;

/// Locks are held for moments only; this many make it unlikely that threads meet.
const SHARDS: usize = 64;

/// Owner, permission bits and time of something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

/// A directory that a package of the batch ships.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    /// Whether the batch has made it.
    pub made: bool,
    /// The first package, in order, that ships it; `usize::MAX` if it was only needed.
    pub package: usize,
    /// What the first package says about it.
    pub metadata: Metadata,
}

/// What is known about a path.
#[derive(Debug)]
enum Claims {
    Directory(Directory),
    /// The packages that ship it as something else, the first of which puts it into place.
    Others(Vec<usize>),
}

/// The claims of a batch. Paths are without symbolic links in their directories.
#[derive(Debug)]
pub(super) struct Table {
    shards: Vec<Mutex<HashMap<MemberPath, Claims>>>,
    hasher: RandomState,
}

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The package is the first and puts the path into place.
    First,
    /// The package itself was the first already: its archive has the path twice.
    Again,
    /// Another package was first; who has the path is settled later.
    Later,
    /// This package ships a directory there, or something else where this is a directory.
    OtherKind(usize),
}

impl Table {
    pub fn new() -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new() }
    }

    fn shard(&self, path: &[u8]) -> std::sync::MutexGuard<'_, HashMap<MemberPath, Claims>> {
        // Only the choice of a lock depends on the random hash, never a result.
        let index = self.hasher.hash_one(path) as usize % SHARDS;
        self.shards[index].lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Claims `path` for something that is no directory.
    pub fn claim(&self, path: &[u8], package: usize) -> Answer {
        match self.shard(path).entry(path.to_vec()) {
            Entry::Vacant(entry) => {
                entry.insert(Claims::Others(vec![package]));
                Answer::First
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Claims::Directory(directory) => Answer::OtherKind(directory.package),
                Claims::Others(packages) if packages[0] == package => Answer::Again,
                Claims::Others(packages) => {
                    if !packages.contains(&package) {
                        packages.push(package);
                    }
                    Answer::Later
                }
            },
        }
    }

    /// Whether the directory `path` is known to be there; `package` ships it with `metadata`.
    pub fn directory(&self, path: &[u8], package: usize, metadata: Metadata) -> Answer {
        match self.shard(path).get_mut(path) {
            None => Answer::First,
            Some(Claims::Others(packages)) => Answer::OtherKind(packages[0]),
            Some(Claims::Directory(directory)) => {
                if package < directory.package {
                    directory.package = package;
                    directory.metadata = metadata;
                }
                Answer::Later
            }
        }
    }

    /// Notes that the directory `path` is there, and whether this batch has made it. An error is
    /// a package that ships something else there.
    pub fn note_directory(
        &self,
        path: &[u8],
        made: bool,
        package: usize,
        metadata: Metadata,
    ) -> Result<(), usize> {
        match self.shard(path).entry(path.to_vec()) {
            Entry::Vacant(entry) => {
                entry.insert(Claims::Directory(Directory { made, package, metadata }));
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Claims::Others(packages) => return Err(packages[0]),
                Claims::Directory(directory) => {
                    directory.made |= made;
                    if package < directory.package {
                        directory.package = package;
                        directory.metadata = metadata;
                    }
                }
            },
        }
        Ok(())
    }

    /// The directories that the batch has made, in order.
    pub fn made_directories(&self) -> BTreeMap<MemberPath, Directory> {
        self.collect(|claims| match claims {
            Claims::Directory(directory) if directory.made => Some(directory.clone()),
            _ => None,
        })
    }

    /// The paths that several packages claim.
    pub fn contested(&self) -> BTreeSet<MemberPath> {
        let contested = self.collect(|claims| match claims {
            Claims::Others(packages) if packages.len() > 1 => Some(()),
            _ => None,
        });
        contested.into_keys().collect()
    }

    fn collect<T>(&self, pick: impl Fn(&Claims) -> Option<T>) -> BTreeMap<MemberPath, T> {
        let mut picked = BTreeMap::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            for (path, claims) in shard.iter() {
                if let Some(value) = pick(claims) {
                    picked.insert(path.clone(), value);
                }
            }
        }
        picked
    }
}
