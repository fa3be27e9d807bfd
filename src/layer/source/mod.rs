//! What is fetched as it is and becomes part of an image: archives and single files from anywhere.
//!
//! Nothing of them is believed: no path leaves the directory that they are unpacked to, nor does any
//! link; devices and set-id bits are refused, sizes bounded. What comes out belongs to root, with
//! one of two modes, so it does not matter who packed it, and how.

mod archive;
mod directory;
pub mod git;
mod links;
mod member;
pub mod oci;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub use archive::unpack;
pub use directory::pack;

/// Most bytes that a source may unpack to.
const SIZE_LIMIT: u64 = 32 << 30;
/// Most files, directories and links that a source may have. A kernel's source has a tenth of it.
const COUNT_LIMIT: usize = 1_000_000;

/// Most bytes that the names of all of them may have together: an archive names a directory with what lies in it
/// again and again, and packs that away.
const NAMES_LIMIT: usize = 128 << 20;
/// Most steps from directory to directory while links are followed. Links lead round other links, so a few of
/// them make a long way.
const STEPS_LIMIT: usize = if cfg!(test) { 100_000 } else { 4_000_000 };

/// What a source has, by paths below the directory that it is unpacked to. Every path but those at
/// the top lies in a directory that is there too; no link leads out.
pub struct Contents {
    /// The paths, in the order of [`PathBuf`].
    pub nodes: BTreeMap<PathBuf, Node>,
    /// Where the bytes of its files are.
    pub bytes: File,
}

/// One path of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// When it was modified, in seconds since 1970.
    pub mtime: u64,
}

/// What a path of a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory,
    /// A file.
    File {
        /// Where its bytes begin in [`Contents::bytes`].
        offset: u64,
        /// How many they are.
        size: u64,
        /// Whether its owner may execute it.
        executable: bool,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
}

/// Why a source cannot become part of an image.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It is no archive of a kind that can be unpacked.
    #[error("it is not a tar archive: {problem}")]
    #[diagnostic(help(
        "an archive is a tar file, plain or compressed with gzip, xz or zstd; look with `file` at what \
         the URL gives, and use `type = \"file\"` for anything that is to be there as it is"
    ))]
    Format {
        /// What it seems to be.
        problem: String,
    },
    /// The archive is damaged or ends too early.
    #[error("it is damaged")]
    #[diagnostic(help(
        "its bytes are those that the definition pins, so fetching it again does not help: pin another \
         version, and tell its authors"
    ))]
    Damaged(#[source] io::Error),
    /// A member is unacceptable.
    #[error("unacceptable member `{member}`: {problem}")]
    #[diagnostic(help(
        "nothing of the archive was used: where the archive is as its authors made it, take another \
         form of it (a release archive, a .deb), or tell them"
    ))]
    Member {
        /// Its path, as the archive gives it.
        member: String,
        /// Why.
        problem: String,
    },
    /// It is beyond all reason.
    #[error("it has more than {limit}")]
    #[diagnostic(help("no real source is that large; do not use it"))]
    TooLarge {
        /// The limit, with its unit.
        limit: String,
    },
    /// It is no OCI image that files can be taken of.
    #[error("it is no usable OCI image: {problem}")]
    #[diagnostic(help(
        "look at the image with `skopeo inspect --raw`, and at `digest` and `path` of the definition; the digest \
         is that of a manifest, or of an index with one for linux/amd64"
    ))]
    Image {
        /// What is wrong.
        problem: String,
    },
    /// There is nothing in it.
    #[error("there is nothing in it")]
    #[diagnostic(help("look with `tar --list` at what is in the archive, and at `strip`"))]
    Empty,
    /// A file of this machine.
    #[error("cannot {action} {}", path.display())]
    #[diagnostic(help("check that it is there, and that this user may read it"))]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

impl Error {
    fn image(problem: impl Into<String>) -> Self {
        Self::Image { problem: problem.into() }
    }

    fn member(member: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Self::Member { member: member.as_ref().display().to_string(), problem: problem.into() }
    }
}

/// What is known of a source while its members come.
struct Collector {
    nodes: BTreeMap<PathBuf, Node>,
    size: Size,
}

/// How much there is to keep in mind.
#[derive(Default)]
struct Size {
    count: usize,
    names: usize,
}

impl Size {
    /// Counts one more path.
    fn add(&mut self, path: &Path) -> Result<(), Error> {
        self.count += 1;
        self.names += path.as_os_str().len();
        if self.count > COUNT_LIMIT {
            return Err(Error::TooLarge { limit: format!("{COUNT_LIMIT} files") });
        }
        if self.names > NAMES_LIMIT {
            return Err(Error::TooLarge { limit: format!("{} MiB of names", NAMES_LIMIT >> 20) });
        }
        Ok(())
    }
}

impl Collector {
    fn new() -> Self {
        Self { nodes: BTreeMap::new(), size: Size::default() }
    }

    /// Adds a path. Directories may come again: they are all alike.
    fn insert(&mut self, path: PathBuf, node: Node) -> Result<(), Error> {
        match self.nodes.get(&path) {
            Some(there) if there.kind == node.kind && node.kind == NodeKind::Directory => {}
            Some(_) => return Err(Error::member(path, "it is there twice")),
            None => {
                self.size.add(&path)?;
                self.nodes.insert(path, node);
            }
        }
        Ok(())
    }

    /// All of it, once every path is seen to be where it may be.
    fn finish(mut self, bytes: File) -> Result<Contents, Error> {
        if self.nodes.is_empty() {
            return Err(Error::Empty);
        }
        self.add_parents()?;
        links::check(&self.nodes)?;
        Ok(Contents { nodes: self.nodes, bytes })
    }

    /// Adds the directories that the archive takes for granted.
    fn add_parents(&mut self) -> Result<(), Error> {
        let mut absent: BTreeSet<PathBuf> = BTreeSet::new();
        for path in self.nodes.keys() {
            for parent in path.ancestors().skip(1).take_while(|one| !one.as_os_str().is_empty()) {
                match self.nodes.get(parent).map(|node| &node.kind) {
                    Some(NodeKind::Directory) => break,
                    Some(_) => {
                        let problem = format!(
                            "it lies below `{}`, which is no directory of the archive",
                            parent.display()
                        );
                        return Err(Error::member(path, problem));
                    }
                    // Those above it are known as well.
                    None if absent.contains(parent) => break,
                    None => {
                        self.size.add(parent)?;
                        absent.insert(parent.to_owned());
                    }
                }
            }
        }
        let directory = || Node { kind: NodeKind::Directory, mtime: 0 };
        self.nodes.extend(absent.iter().map(|path| (path.clone(), directory())));
        // As old as the youngest of what is in it; what is in it comes after it.
        let paths: Vec<PathBuf> = self.nodes.keys().rev().cloned().collect();
        for path in paths {
            let Some(parent) = path.parent().filter(|parent| absent.contains(*parent)) else {
                continue;
            };
            let mtime = self.nodes[&path].mtime;
            if let Some(directory) = self.nodes.get_mut(parent) {
                directory.mtime = directory.mtime.max(mtime);
            }
        }
        Ok(())
    }
}
