//! The lines of text files that definitions and overlays have.

use std::collections::BTreeSet;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use super::view::{Node, View, shown};
use crate::inspect::Error;

/// The longest text whose lines are compared, in bytes: the longest that is rendered.
const LIMIT: u64 = 1 << 20;

/// Lines around a change.
const CONTEXT: usize = 3;

/// A text file whose lines differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TextChange {
    /// The path, with a leading slash.
    pub path: String,
    /// How many lines are new.
    pub added: usize,
    /// How many lines are gone.
    pub removed: usize,
    /// The difference in the unified format of diff(1).
    pub diff: String,
}

/// The text files of definitions that differ.
pub(super) fn changes((old, new): (&View<'_>, &View<'_>)) -> Result<Vec<TextChange>, Error> {
    let defined = |view: &View<'_>| -> Vec<PathBuf> {
        let nodes = view.nodes().iter().filter(|(_, node)| node.defined);
        nodes.map(|(path, _)| path.clone()).collect()
    };
    let paths: BTreeSet<PathBuf> = defined(old).into_iter().chain(defined(new)).collect();
    let mut changes = Vec::new();
    for path in paths {
        let (one, other) = (old.get(&path), new.get(&path));
        if let (Some(one), Some(other)) = (one, other)
            && one.same_content(other)?
        {
            continue;
        }
        let name = |node: Option<_>| node.map_or("/dev/null".to_owned(), |_| shown(&path));
        let names = (name(one), name(other));
        if let (Some(one), Some(other)) = (text(one)?, text(other)?) {
            changes.extend(change(shown(&path), names, &one, &other));
        }
    }
    Ok(changes)
}

/// The text of a file, empty if there is none; nothing if it is no text.
fn text(node: Option<&Node<'_>>) -> Result<Option<String>, Error> {
    let Some(node) = node else { return Ok(Some(String::new())) };
    let text = node.content(LIMIT)?.and_then(|bytes| String::from_utf8(bytes).ok());
    Ok(text.filter(|text| !text.contains('\0')))
}

fn change(path: String, names: (String, String), old: &str, new: &str) -> Option<TextChange> {
    let diff = TextDiff::from_lines(old, new);
    let count = |tag| diff.iter_all_changes().filter(|change| change.tag() == tag).count();
    let (added, removed) = (count(ChangeTag::Insert), count(ChangeTag::Delete));
    let mut unified = diff.unified_diff();
    let text = unified.context_radius(CONTEXT).header(&names.0, &names.1).to_string();
    (added + removed > 0).then_some(TextChange { path, added, removed, diff: text })
}
