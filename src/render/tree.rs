//! The `files/` trees of definitions and overlays.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::definition::refuse_links;

use super::error::{Error, Result};

/// What stands at one path of a tree, not yet read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) kind: NodeKind,
    /// The file of the project, relative to its root.
    pub(super) origin: PathBuf,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NodeKind {
    Directory,
    /// Copied byte for byte.
    File {
        executable: bool,
    },
    /// Rendered.
    Template {
        executable: bool,
    },
    Symlink {
        target: PathBuf,
    },
}

impl NodeKind {
    /// The type of the path in the image, as messages name it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Directory => "a directory",
            Self::File { .. } | Self::Template { .. } => "a file",
            Self::Symlink { .. } => "a symbolic link",
        }
    }
}

/// Nodes by their path inside the image, without leading slash. Every ancestor of a path is there.
pub(super) type Tree = BTreeMap<PathBuf, Node>;

/// Marks a directory that would otherwise be empty, which version control cannot hold.
const KEEP: &str = ".gitkeep";

/// Reads the names below `root/directory`; a directory that does not exist is an empty tree.
/// Empty directories are passed over: they would be missing in another checkout.
pub(super) fn read(root: &Path, directory: &Path) -> Result<Tree> {
    refuse_links(root, directory)?;
    let top = root.join(directory);
    let mut tree = Tree::new();
    match fs::symlink_metadata(&top) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => return Ok(tree),
        Err(cause) => return Err(Error::Read { path: top, cause }),
        Ok(metadata) if !metadata.is_dir() => {
            return Err(Error::Special { path: top, kind: "no directory" });
        }
        Ok(_) => {}
    }
    let walk = WalkDir::new(&top).follow_links(false).follow_root_links(false).sort_by_file_name();
    for entry in walk {
        let entry = entry.map_err(|error| Error::Read {
            path: error.path().unwrap_or(&top).to_owned(),
            cause: error.into(),
        })?;
        let Ok(below) = entry.path().strip_prefix(&top) else { continue };
        if below.as_os_str().is_empty() || entry.file_type().is_dir() {
            continue;
        }
        let origin = directory.join(below);
        let (path, kind) = node(&entry, below, &origin)?;
        insert_ancestors(&mut tree, &path, &origin)?;
        if entry.file_name() == KEEP {
            continue;
        }
        check_path(&path, &origin)?;
        insert(&mut tree, path, Node { kind, origin })?;
    }
    Ok(tree)
}

/// The path and type that an entry at `below` has in the image.
fn node(entry: &walkdir::DirEntry, below: &Path, origin: &Path) -> Result<(PathBuf, NodeKind)> {
    let read_error = |cause| Error::Read { path: origin.to_owned(), cause };
    let kind = entry.file_type();
    if kind.is_symlink() {
        let target = fs::read_link(entry.path()).map_err(read_error)?;
        return Ok((below.to_owned(), NodeKind::Symlink { target }));
    }
    if !kind.is_file() {
        let kind = match () {
            () if kind.is_fifo() => "a fifo",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        return Err(Error::Special { path: origin.to_owned(), kind });
    }
    let mode = entry.metadata().map_err(|error| read_error(error.into()))?.permissions().mode();
    let executable = mode & 0o100 != 0;
    match below.extension() {
        Some(extension) if extension == "hbs" => {
            Ok((below.with_extension(""), NodeKind::Template { executable }))
        }
        _ => Ok((below.to_owned(), NodeKind::File { executable })),
    }
}

fn insert_ancestors(tree: &mut Tree, path: &Path, origin: &Path) -> Result<()> {
    let mut ancestors: Vec<_> = path.ancestors().skip(1).zip(origin.ancestors().skip(1)).collect();
    ancestors.retain(|(path, _)| !path.as_os_str().is_empty());
    for (path, origin) in ancestors.into_iter().rev() {
        check_path(path, origin)?;
        let node = Node { kind: NodeKind::Directory, origin: origin.to_owned() };
        insert(tree, path.to_owned(), node)?;
    }
    Ok(())
}

/// Adds a node of the same tree; a directory may come again and again.
fn insert(tree: &mut Tree, path: PathBuf, node: Node) -> Result<()> {
    match tree.get(&path) {
        Some(other) if other.kind == NodeKind::Directory && node.kind == NodeKind::Directory => {}
        Some(other) => {
            return Err(Error::SamePath { path, first: other.origin.clone(), second: node.origin });
        }
        None => drop(tree.insert(path, node)),
    }
    Ok(())
}

/// Lays `upper` over `lower`: files replace files and links links.
pub(super) fn lay_over(lower: &mut Tree, upper: Tree) -> Result<()> {
    for (path, node) in upper {
        if let Some(other) = lower.get(&path) {
            check_type(&path, other, &node)?;
        }
        lower.insert(path, node);
    }
    Ok(())
}

/// Checks that two sources of one path agree on its type.
pub(super) fn check_type(path: &Path, lower: &Node, upper: &Node) -> Result<()> {
    if lower.kind.word() == upper.kind.word() {
        return Ok(());
    }
    Err(Error::TypeConflict {
        path: path.to_owned(),
        first_kind: lower.kind.word(),
        first: lower.origin.clone(),
        second_kind: upper.kind.word(),
        second: upper.origin.clone(),
    })
}

/// Refuses names that mean something else than a file of this name.
fn check_path(path: &Path, origin: &Path) -> Result<()> {
    let forbidden = |reason: &str, help: &str| {
        let (path, reason, help) = (origin.to_owned(), reason.to_owned(), help.to_owned());
        Err(Error::Forbidden { path, reason, help })
    };
    let name = path.file_name().unwrap_or_default().as_bytes();
    if name.starts_with(b".wh.") {
        // OCI image specification, layer.md, "Whiteouts".
        return forbidden("`.wh.` marks deleted files in layers", "rename it");
    }
    if name.is_empty() || name.iter().any(u8::is_ascii_control) {
        return forbidden("its name is empty or holds control characters", "rename it");
    }
    let top = path.iter().next().unwrap_or_default().as_bytes();
    match top {
        // Since the merge of /usr these are links into it, which a directory would replace
        // (Debian's usrmerge; file-hierarchy(7), "Compatibility Symlinks").
        b"bin" | b"sbin" | b"lib" | b"lib32" | b"lib64" | b"libx32" => {
            let top = String::from_utf8_lossy(top);
            forbidden(&format!("/{top} is a link to /usr/{top}"), &format!("move it to usr/{top}"))
        }
        b"dev" | b"proc" | b"sys" | b"run" | b"tmp" => {
            let top = String::from_utf8_lossy(top);
            let help = "have it made at boot, for example by tmpfiles.d(5)";
            forbidden(&format!("/{top} is mounted over when the image runs"), help)
        }
        _ => Ok(()),
    }
}
