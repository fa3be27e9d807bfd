//! The paths of an image, whether they come from layers or from definitions that were not built yet.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::capabilities;
use crate::artifact::manifest::LayerKind;
use crate::inspect::Error;
use crate::inspect::image::Image;
use crate::inspect::tree::Tree;
use crate::layer::entry::Kind;
use crate::layer::index::{Content, MergedEntry};
use crate::render::{RenderedEntry, RenderedKind};

/// How much of two contents is compared at a time.
const CHUNK: u64 = 256 * 1024;

/// Paths of an image.
pub(super) struct View<'a> {
    nodes: BTreeMap<PathBuf, Node<'a>>,
}

/// One path.
pub(super) struct Node<'a> {
    pub kind: NodeKind,
    pub mode: u32,
    pub owner: String,
    pub group: String,
    pub capabilities: Option<String>,
    /// Whether a definition or overlay has it.
    pub defined: bool,
    bytes: Bytes<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Directory,
    File { size: u64 },
    Link { target: PathBuf },
}

enum Bytes<'a> {
    None,
    Layer(&'a Tree<'a>, Content),
    Memory(&'a [u8]),
}

impl<'a> View<'a> {
    /// Every path of `tree`, which the layers of `image` make.
    pub fn whole(image: &Image, tree: &'a Tree<'a>) -> Result<Self, Error> {
        Self::of_tree(image, tree, |_| true)
    }

    /// The paths that definitions and overlays have: by the `tree` of the image, or else by what was rendered.
    /// Without directories, since those take owner and mode from what packages make.
    pub fn defined(image: &'a Image, tree: Option<&'a Tree<'a>>) -> Result<Option<Self>, Error> {
        if let Some(tree) = tree {
            let is_file = |node: &Node<'_>| node.defined && node.kind != NodeKind::Directory;
            return Self::of_tree(image, tree, is_file).map(Some);
        }
        let Some(defined) = &image.defined else { return Ok(None) };
        let entries = defined.rendered.iter().flat_map(|layer| &layer.entries);
        let files = entries.filter(|entry| entry.kind != RenderedKind::Directory);
        let nodes = files.map(|entry| (entry.path.clone(), Node::rendered(entry))).collect();
        Ok(Some(Self { nodes }))
    }

    fn of_tree(
        image: &Image,
        tree: &'a Tree<'a>,
        wanted: impl Fn(&Node<'_>) -> bool,
    ) -> Result<Self, Error> {
        let users = names(&tree.text("etc/passwd")?);
        let groups = names(&tree.text("etc/group")?);
        let defined: Vec<bool> =
            image.layers.iter().map(|layer| layer.kind == LayerKind::Files).collect();
        let mut nodes = BTreeMap::new();
        for entry in tree.entries() {
            let mut node = Node::of_tree(tree, entry);
            node.defined = defined.get(entry.layer).copied().unwrap_or(false);
            let name = |names: &HashMap<u32, String>, number: u32| {
                names.get(&number).cloned().unwrap_or_else(|| number.to_string())
            };
            if wanted(&node) {
                node.owner = name(&users, entry.entry.uid);
                node.group = name(&groups, entry.entry.gid);
                nodes.insert(entry.entry.path.clone(), node);
            }
        }
        Ok(Self { nodes })
    }

    pub fn nodes(&self) -> &BTreeMap<PathBuf, Node<'a>> {
        &self.nodes
    }

    pub fn get(&self, path: &Path) -> Option<&Node<'a>> {
        self.nodes.get(path)
    }

    /// The files with capabilities.
    pub fn capabilities(&self) -> BTreeMap<String, String> {
        let nodes = self.nodes.iter();
        nodes.filter_map(|(path, node)| Some((shown(path), node.capabilities.clone()?))).collect()
    }
}

impl<'a> Node<'a> {
    fn of_tree(tree: &'a Tree<'a>, entry: &MergedEntry<'_>) -> Self {
        let content = tree.content(entry);
        let kind = match (&entry.entry.kind, content) {
            (Kind::Symlink { target }, _) => NodeKind::Link { target: target.clone() },
            // A hard link is another name of a file.
            (_, Some(Content { size, .. })) => NodeKind::File { size },
            _ => NodeKind::Directory,
        };
        let capability = entry.entry.xattrs.get("security.capability");
        Self {
            kind,
            mode: entry.entry.mode,
            owner: String::new(),
            group: String::new(),
            capabilities: capability.map(|value| capabilities::text(value)),
            defined: false,
            bytes: content.map_or(Bytes::None, |content| Bytes::Layer(tree, content)),
        }
    }

    fn rendered(entry: &'a RenderedEntry) -> Self {
        let (kind, bytes) = match &entry.kind {
            RenderedKind::Directory => (NodeKind::Directory, Bytes::None),
            RenderedKind::File { content } => {
                (NodeKind::File { size: content.len() as u64 }, Bytes::Memory(content))
            }
            RenderedKind::Symlink { target } => {
                (NodeKind::Link { target: target.clone() }, Bytes::None)
            }
        };
        Self {
            kind,
            mode: entry.mode,
            owner: entry.owner.clone(),
            group: entry.group.clone(),
            capabilities: None,
            defined: true,
            bytes,
        }
    }

    /// The whole content, if it is a file of at most `limit` bytes.
    pub fn content(&self, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        match self.kind {
            NodeKind::File { size } if size <= limit => self.read(0, size).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether both have the same content; two that are no files have.
    pub fn same_content(&self, other: &Self) -> Result<bool, Error> {
        let (NodeKind::File { size }, NodeKind::File { size: others }) = (&self.kind, &other.kind)
        else {
            return Ok(self.kind == other.kind);
        };
        if size != others {
            return Ok(false);
        }
        if let (Bytes::Layer(tree, here), Bytes::Layer(trees, there)) = (&self.bytes, &other.bytes)
            && tree.layers()[here.layer].digest == trees.layers()[there.layer].digest
            && here.offset == there.offset
        {
            return Ok(true);
        }
        let mut offset = 0;
        while offset < *size {
            let count = CHUNK.min(size - offset);
            if self.read(offset, count)? != other.read(offset, count)? {
                return Ok(false);
            }
            offset += count;
        }
        Ok(true)
    }

    fn read(&self, offset: u64, count: u64) -> Result<Vec<u8>, Error> {
        match &self.bytes {
            Bytes::None => Ok(Vec::new()),
            Bytes::Layer(tree, content) => tree.read(*content, offset, count as usize),
            Bytes::Memory(bytes) => Ok(bytes[offset as usize..(offset + count) as usize].to_vec()),
        }
    }
}

/// A path as people write it.
pub(super) fn shown(path: &Path) -> String {
    format!("/{}", path.display())
}

/// The names of numbers in the text of /etc/passwd or /etc/group. The first of several names counts.
fn names(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let (name, number) = (fields.next(), fields.nth(1).and_then(|it| it.parse().ok()));
        if let Some((name, number)) = name.zip(number) {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}
