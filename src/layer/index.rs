//! The tree that a stack of layers makes.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::archive::{Index, IndexedEntry};
use super::entry::{Entry, Kind};
use super::order;

#[cfg(test)]
mod tests;

/// How many symbolic links [`Merged::resolve`] follows, as many as Linux (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// Why layers do not make a tree, or a path leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A path has no directory to be in.
    #[error("`{}` of layer {layer} lies in no directory", path.display())]
    #[diagnostic(help(
        "the layers do not belong on one another in this order, or their order was changed"
    ))]
    NoParent {
        /// The number of the layer, the lowest being 0.
        layer: usize,
        /// The path.
        path: PathBuf,
    },
    /// A path does not exist.
    #[error("there is no `/{}`", .0.display())]
    NotFound(PathBuf),
    /// Symbolic links lead in a circle.
    #[error("too many symbolic links from `/{}` on", .0.display())]
    LinkLoop(PathBuf),
}

/// One path of a merged tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergedEntry<'a> {
    /// The path and its metadata. It is borrowed from its layer unless the merge changed it: a
    /// hard link may have become a file, or point to another name.
    pub entry: Cow<'a, Entry>,
    /// The topmost layer that has the path: where the metadata is from.
    pub layer: usize,
    /// The position of the path in that layer's index.
    pub member: usize,
    /// Where the path first appears in an extraction of all layers, lowest first. Differs from
    /// `layer` and `member` for a directory that a lower layer has already.
    pub place: Place,
    /// The content, for a file.
    pub content: Option<Content>,
}

/// A member of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The number of the layer.
    pub layer: usize,
    /// The position in its index.
    pub member: usize,
}

/// Where a file's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// The number of the layer.
    pub layer: usize,
    /// Where they begin in the layer's archive.
    pub offset: u64,
    /// How many they are.
    pub size: u64,
}

/// A stack of layers seen as one tree: every path exactly once, in path order, without whiteouts.
///
/// - A path of a higher layer replaces the same path of a lower one. Unless both are directories,
///   everything below the lower one goes with it; a whiteout only removes.
/// - A directory in several layers has the metadata of the highest, and its place in the lowest.
/// - A hard link joins names within its layer, whatever higher layers do: if its file's first name is
///   replaced, the next name that is left becomes the file, and the others link to that.
#[derive(Debug, Clone)]
pub struct Merged<'a> {
    layers: Vec<&'a Index>,
    entries: Vec<MergedEntry<'a>>,
}

impl<'a> Merged<'a> {
    /// Merges `layers`, lowest first.
    ///
    /// # Errors
    /// [`Error::NoParent`] where a path is not in a directory of the result. A whiteout of something
    /// that is not there has no effect and is no error.
    pub fn new(layers: impl IntoIterator<Item = &'a Index>) -> Result<Self, Error> {
        let layers: Vec<_> = layers.into_iter().collect();
        let mut items = Vec::new();
        for (number, layer) in layers.iter().enumerate() {
            items = lay_over(items, number, layer.entries());
        }
        check_parents(&items)?;
        let mut merged = Self { layers, entries: Vec::with_capacity(items.len()) };
        for item in items {
            merged.entries.push(item.into());
        }
        merged.mend_hard_links();
        Ok(merged)
    }

    /// All paths, in path order.
    pub fn entries(&self) -> &[MergedEntry<'a>] {
        &self.entries
    }

    /// The layers, lowest first.
    pub fn layers(&self) -> &[&'a Index] {
        &self.layers
    }

    /// What is at exactly `path`, following no symbolic link.
    pub fn get(&self, path: &Path) -> Option<&MergedEntry<'a>> {
        let position = self.entries.binary_search_by(|item| order::compare(&item.entry.path, path));
        Some(&self.entries[position.ok()?])
    }

    /// What `path` leads to when the tree is the root directory: symbolic links are followed, the
    /// last one too, and `..` never leads out of the tree. `path` may begin with a slash.
    ///
    /// # Errors
    /// [`Error::NotFound`] with the path that is missing (or is no directory, yet something is wanted
    /// below it), and [`Error::LinkLoop`].
    pub fn resolve(&self, path: &Path) -> Result<&MergedEntry<'a>, Error> {
        let root = self.get(Path::new("")).ok_or_else(|| Error::NotFound(PathBuf::new()))?;
        let mut current = root;
        let mut left: VecDeque<OsString> = names(path).collect();
        let mut links = 0;
        while let Some(name) = left.pop_front() {
            if name == ".." {
                let parent = current.entry.path.parent().unwrap_or(Path::new(""));
                current = self.get(parent).unwrap_or(root);
                continue;
            }
            let next = current.entry.path.join(name);
            let found = self.get(&next).ok_or_else(|| Error::NotFound(next.clone()))?;
            match &found.entry.kind {
                Kind::Symlink { target } => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(Error::LinkLoop(path.to_owned()));
                    }
                    if target.is_absolute() {
                        current = root;
                    }
                    for name in names(target).collect::<Vec<_>>().into_iter().rev() {
                        left.push_front(name);
                    }
                }
                Kind::Directory => current = found,
                _ if left.is_empty() => return Ok(found),
                _ => return Err(Error::NotFound(next.join(&left[0]))),
            }
        }
        Ok(current)
    }

    /// The content of `entry`: its own if it is a file, that of its file if it is a hard link.
    pub fn content(&self, entry: &MergedEntry<'_>) -> Option<Content> {
        match &entry.entry.kind {
            Kind::Hardlink { target } => self.get(target)?.content,
            _ => entry.content,
        }
    }

    /// Makes the hard links of every layer point to what is left of their file.
    fn mend_hard_links(&mut self) {
        let mut promoted: HashMap<(usize, PathBuf), PathBuf> = HashMap::new();
        for position in 0..self.entries.len() {
            let item = &self.entries[position];
            let Kind::Hardlink { target } = &item.entry.kind else { continue };
            if self.get(target).is_some_and(|file| {
                file.layer == item.layer && matches!(file.entry.kind, Kind::File { .. })
            }) {
                continue;
            }
            let mut entry = item.entry.clone().into_owned();
            let layer = item.layer;
            let key = (layer, target.clone());
            if let Some(first) = promoted.get(&key) {
                entry.kind = Kind::Hardlink { target: first.clone() };
                self.entries[position].entry = Cow::Owned(entry);
                continue;
            }
            let file = self.layers[layer].get(target).expect("a layer's links have their file");
            promoted.insert(key, entry.path.clone());
            entry.kind = file.entry.kind.clone();
            entry.xattrs = file.entry.xattrs.clone();
            self.entries[position].content = content_of(layer, file);
            self.entries[position].entry = Cow::Owned(entry);
        }
    }
}

/// A path while layers are being merged.
struct Item<'a> {
    member: &'a IndexedEntry,
    topmost: Place,
    place: Place,
}

impl Item<'_> {
    fn path(&self) -> &Path {
        &self.member.entry.path
    }

    fn is_directory(&self) -> bool {
        self.member.entry.kind == Kind::Directory
    }
}

impl<'a> From<Item<'a>> for MergedEntry<'a> {
    fn from(item: Item<'a>) -> Self {
        let Place { layer, member } = item.topmost;
        Self {
            entry: Cow::Borrowed(&item.member.entry),
            layer,
            member,
            place: item.place,
            content: content_of(layer, item.member),
        }
    }
}

fn content_of(layer: usize, member: &IndexedEntry) -> Option<Content> {
    match member.entry.kind {
        Kind::File { size } => Some(Content { layer, offset: member.data_offset, size }),
        _ => None,
    }
}

/// Lays the members of layer `number` over the tree `lower`. Both are in path order.
fn lay_over<'a>(lower: Vec<Item<'a>>, number: usize, upper: &'a [IndexedEntry]) -> Vec<Item<'a>> {
    let mut result = Vec::with_capacity(lower.len() + upper.len());
    let mut lower = lower.into_iter().peekable();
    for (position, member) in upper.iter().enumerate() {
        let path = member.entry.path.as_path();
        while let Some(item) = lower.next_if(|item| order::compare(item.path(), path).is_lt()) {
            result.push(item);
        }
        let replaced = lower.next_if(|item| item.path() == path);
        let topmost = Place { layer: number, member: position };
        let mut place = topmost;
        if member.entry.kind == Kind::Directory {
            if let Some(directory) = replaced.filter(Item::is_directory) {
                place = directory.place;
            }
        } else {
            while lower.next_if(|item| order::is_within(item.path(), path)).is_some() {}
        }
        if member.entry.kind != Kind::Whiteout {
            result.push(Item { member, topmost, place });
        }
    }
    result.extend(lower);
    result
}

/// Checks that every path but the root is in a directory. Paths are in order, so the directories
/// that the current path may be in form a stack.
fn check_parents(items: &[Item<'_>]) -> Result<(), Error> {
    let mut directories: Vec<&Path> = Vec::new();
    for item in items {
        let path = item.path();
        while directories.last().is_some_and(|directory| !order::is_within(path, directory)) {
            directories.pop();
        }
        if order::parent(path) != directories.last().copied() {
            return Err(Error::NoParent { layer: item.topmost.layer, path: path.to_owned() });
        }
        if item.is_directory() {
            directories.push(path);
        }
    }
    Ok(())
}

/// The names that `path` is made of, `..` among them.
fn names(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}
