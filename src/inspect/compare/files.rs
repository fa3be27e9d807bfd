//! Files that are new, gone, or not the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::view::{Node, NodeKind, View, shown};
use crate::inspect::Error;
use crate::inspect::ownership::Ownership;

/// A path that is not the same in both images. Times are not compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileChange {
    /// The path, with a leading slash.
    pub path: String,
    /// The package that ships it, in the new image or else in the old one.
    pub package: Option<String>,
    /// Whether a definition or overlay has it.
    pub defined: bool,
    /// What it was; none if it is new.
    pub from: Option<FileState>,
    /// What it is; none if it is gone.
    pub to: Option<FileState>,
    /// Whether both are files, and hold something else.
    pub content: bool,
}

/// A path of one of the images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct FileState {
    /// `file`, `directory` or `link`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Bytes of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Where a symbolic link points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<PathBuf>,
    /// Permissions, in octal digits.
    pub mode: String,
    /// The owner's name, or number if it has none.
    pub owner: String,
    /// The group's name, or number if it has none.
    pub group: String,
    /// Capabilities as getcap(8) writes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<String>,
}

/// What differs between two views.
pub(super) fn changes(
    (old, new): (&View<'_>, &View<'_>),
    owners: (&Ownership, &Ownership),
) -> Result<Vec<FileChange>, Error> {
    let paths: BTreeSet<&PathBuf> = old.nodes().keys().chain(new.nodes().keys()).collect();
    let mut changes = Vec::new();
    for path in paths {
        let (one, other) = (old.get(path), new.get(path));
        let content = match (one, other) {
            (Some(one), Some(other)) => !one.same_content(other)?,
            _ => false,
        };
        let (from, to) = (one.map(state), other.map(state));
        if !content && from == to {
            continue;
        }
        let both_files = [one, other]
            .iter()
            .all(|node| node.is_some_and(|node| matches!(node.kind, NodeKind::File { .. })));
        changes.push(FileChange {
            path: shown(path),
            package: owner(path, owners),
            defined: other.or(one).is_some_and(|node| node.defined),
            from,
            to,
            content: content && both_files,
        });
    }
    Ok(changes)
}

/// The package that ships a path, if it is one.
fn owner(path: &Path, (old, new): (&Ownership, &Ownership)) -> Option<String> {
    let owners = [new.of(path), old.of(path)];
    owners.into_iter().find(|packages| packages.len() == 1)?.first().cloned()
}

fn state(node: &Node<'_>) -> FileState {
    let (kind, size, target) = match &node.kind {
        NodeKind::Directory => ("directory", None, None),
        NodeKind::File { size } => ("file", Some(*size), None),
        NodeKind::Link { target } => ("link", None, Some(target.clone())),
    };
    FileState {
        kind,
        size,
        target,
        mode: format!("{:04o}", node.mode),
        owner: node.owner.clone(),
        group: node.group.clone(),
        capabilities: node.capabilities.clone(),
    }
}
