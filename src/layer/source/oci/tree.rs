//! The tree that the layers of an image make (OCI image specification, layer.md, "Applying Changesets").
//!
//! Nothing is written anywhere: names alone are put together, so a link cannot lead anybody astray.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::super::member::{Member, MemberKind, stripped};
use super::super::{Error, STEPS_LIMIT, Size};

/// How many links are followed, as many as Linux does (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// A path of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub kind: NodeKind,
    pub mtime: u64,
    /// Why no image of ours may have it, if none may.
    pub problem: Option<String>,
}

/// What a path of an image is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Directory,
    Symlink {
        target: PathBuf,
    },
    /// A file, which is in a layer, the member with this number, from 0.
    File {
        layer: usize,
        member: usize,
        size: u64,
        executable: bool,
    },
    Other,
}

/// What a member of a layer changes.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// The path is there from now on.
    Add(PathBuf),
    /// The path of lower layers is gone.
    Remove(PathBuf),
    /// What lower layers have in the directory is gone.
    Empty(PathBuf),
    Nothing,
}

/// The paths of all layers so far.
#[derive(Default)]
pub(super) struct Tree {
    nodes: BTreeMap<PathBuf, Node>,
    layers: usize,
    /// Of all layers, what they remove included.
    size: Size,
    /// From directory to directory along links, on the way to all members.
    steps: Cell<usize>,
}

impl Tree {
    /// Lays `members` on top, all that one layer has, in its order. Names that cannot be understood are passed
    /// over where they are not below `path`, which is all that is wanted in the end.
    pub fn apply(&mut self, members: Vec<Member>, path: &Path) -> Result<(), Error> {
        let layer = self.layers;
        self.layers += 1;
        let mut added = Vec::new();
        for (number, member) in members.into_iter().enumerate() {
            match change(&member.name) {
                Ok(Change::Add(path)) => added.push((path, number, member)),
                // Whiteouts are about lower layers only, wherever in their layer they stand.
                Ok(Change::Remove(gone)) => {
                    let gone = self.resolve(&gone)?;
                    self.remove(&gone, true);
                }
                Ok(Change::Empty(directory)) => {
                    let inside = self.resolve(&directory.join("x"))?;
                    self.remove(inside.parent().unwrap_or(Path::new("")), false);
                }
                Ok(Change::Nothing) => {}
                Err(problem) => {
                    let name = String::from_utf8_lossy(&member.name).into_owned();
                    let shown = name.trim_start_matches(['.', '/']);
                    if Path::new(shown).starts_with(path) {
                        return Err(Error::member(name, problem));
                    }
                }
            }
        }
        for (path, number, member) in added {
            let path = self.resolve(&path)?;
            let node = self.node(member, layer, number);
            self.place(path, node)?;
        }
        Ok(())
    }

    fn node(&self, member: Member, layer: usize, number: usize) -> Node {
        let Member { kind, mode, mtime, problem, .. } = member;
        let kind = match kind {
            MemberKind::Directory => NodeKind::Directory,
            MemberKind::Symlink { target } => NodeKind::Symlink { target },
            MemberKind::File { size } => {
                NodeKind::File { layer, member: number, size, executable: mode & 0o100 != 0 }
            }
            MemberKind::Other => NodeKind::Other,
            MemberKind::Hardlink { target } => {
                let target = match change(&target) {
                    Ok(Change::Add(path)) => self.resolve(&path).ok(),
                    _ => None,
                };
                let target = target.and_then(|path| self.nodes.get(&path));
                return match target {
                    Some(node) if node.kind != NodeKind::Directory => node.clone(),
                    _ => {
                        let problem = Some("it is a hard link to no file before it".to_owned());
                        Node { kind: NodeKind::Other, mtime, problem }
                    }
                };
            }
        };
        Node { kind, mtime, problem }
    }

    /// Where `path` really is: links on the way to it are followed inside the image, as `chroot` would.
    fn resolve(&self, path: &Path) -> Result<PathBuf, Error> {
        let parts = |path: &Path| -> VecDeque<OsString> {
            let named = path.components().filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_owned()),
                Component::ParentDir => Some("..".into()),
                _ => None,
            });
            named.collect()
        };
        let Some((parent, name)) = path.parent().zip(path.file_name()) else {
            return Ok(PathBuf::new());
        };
        // What is above a directory are directories, so there is no link to follow.
        let nearest = parent.ancestors().find_map(|above| self.nodes.get(above));
        if nearest.is_none_or(|node| node.kind == NodeKind::Directory) {
            return Ok(path.to_owned());
        }
        let (mut here, mut left, mut links) = (PathBuf::new(), parts(parent), 0);
        while let Some(part) = left.pop_front() {
            self.steps.set(self.steps.get() + 1);
            if self.steps.get() > STEPS_LIMIT {
                return Err(Error::TooLarge { limit: format!("{STEPS_LIMIT} steps along links") });
            }
            if part == ".." {
                here.pop();
                continue;
            }
            let next = here.join(part);
            match self.nodes.get(&next).map(|node| &node.kind) {
                Some(NodeKind::Symlink { target }) => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(Error::member(path, "links on the way to it lead in a circle"));
                    }
                    if target.is_absolute() {
                        here = PathBuf::new();
                    }
                    let mut target = parts(target);
                    target.append(&mut left);
                    left = target;
                }
                _ => here = next,
            }
        }
        Ok(here.join(name))
    }

    /// Takes away what lies below `path`, and the path itself if it is to go too.
    fn remove(&mut self, path: &Path, with_itself: bool) {
        let below = self.nodes.range(path.to_owned()..);
        let below = below.take_while(|(other, _)| other.starts_with(path));
        let gone: Vec<PathBuf> =
            below.map(|(other, _)| other.clone()).filter(|it| with_itself || it != path).collect();
        for path in gone {
            self.nodes.remove(&path);
        }
    }

    fn place(&mut self, path: PathBuf, node: Node) -> Result<(), Error> {
        for parent in path.ancestors().skip(1).take_while(|one| !one.as_os_str().is_empty()) {
            match self.nodes.get(parent).map(|node| &node.kind) {
                // What is above a directory is known.
                Some(NodeKind::Directory) => break,
                Some(_) => {
                    let problem =
                        format!("it lies below `{}`, which is no directory", parent.display());
                    return Err(Error::member(&path, problem));
                }
                None => {
                    let directory =
                        Node { kind: NodeKind::Directory, problem: None, ..node.clone() };
                    self.size.add(parent)?;
                    self.nodes.insert(parent.to_owned(), directory);
                }
            }
        }
        let was_directory = self.nodes.get(&path).is_some_and(|it| it.kind == NodeKind::Directory);
        if was_directory && node.kind != NodeKind::Directory {
            self.remove(&path, true);
        }
        self.size.add(&path)?;
        self.nodes.insert(path, node);
        Ok(())
    }

    /// What is at `path` and below it, by paths below it; of a file or the like, only the empty path.
    ///
    /// # Errors
    /// There is nothing; or it is a link, or lies behind one.
    pub fn at(&self, path: &Path) -> Result<BTreeMap<PathBuf, &Node>, Error> {
        let mut ways: Vec<&Path> = path.ancestors().collect();
        ways.pop();
        for way in ways.into_iter().rev() {
            match self.nodes.get(way).map(|node| &node.kind) {
                Some(NodeKind::Symlink { target }) => {
                    let (way, target) = (way.display(), target.display());
                    let problem =
                        format!("/{way} is a link to `{target}` there: name what it leads to");
                    return Err(Error::image(problem));
                }
                Some(_) => {}
                None => return Err(Error::image(format!("there is no /{} in it", way.display()))),
            }
        }
        let below = self.nodes.range(path.to_owned()..);
        let below = below.take_while(|(other, _)| other.starts_with(path));
        let relative = |other: &Path| other.strip_prefix(path).unwrap_or(other).to_owned();
        Ok(below.map(|(other, node)| (relative(other), node)).collect())
    }
}

/// What the member called `name` changes.
fn change(name: &[u8]) -> Result<Change, &'static str> {
    let start = name.iter().position(|byte| *byte != b'/').unwrap_or(name.len());
    let name = &name[start..];
    let end = name.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
    let name = &name[..end];
    let slash = name.iter().rposition(|byte| *byte == b'/');
    let (directory, last) = match slash {
        Some(slash) => (&name[..slash], &name[slash + 1..]),
        None => (&name[..0], name),
    };
    let inside = |directory: &[u8]| -> Result<PathBuf, &'static str> {
        match directory {
            [] => Ok(PathBuf::new()),
            other => Ok(stripped(other, 0)?.unwrap_or_default()),
        }
    };
    match last.strip_prefix(b".wh.") {
        Some(b".wh..opq") => Ok(Change::Empty(inside(directory)?)),
        // What union file systems of old kept for themselves.
        Some(rest) if rest.starts_with(b".wh.") => Ok(Change::Nothing),
        Some(b"" | b"." | b"..") => Err("it marks no name as deleted"),
        Some(rest) => match stripped(rest, 0)? {
            Some(rest) => Ok(Change::Remove(inside(directory)?.join(rest))),
            None => Err("it marks no name as deleted"),
        },
        None if name.is_empty() => Ok(Change::Nothing),
        None => Ok(stripped(name, 0)?.map_or(Change::Nothing, Change::Add)),
    }
}
