//! What takes how much room in an image.

use std::collections::BTreeMap;
use std::path::Path;

use schemars::JsonSchema;
use serde::Serialize;

use crate::artifact::manifest::LayerKind;
use crate::inspect::image::Layer;
use crate::inspect::ownership::Ownership;
use crate::inspect::tree::Tree;
use crate::layer::entry::Kind;

/// What files of packages layers are called that no package ships: scripts have made them.
const SCRIPTS: &str = "made by scripts";

/// Bytes of files, by layer, largest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Usage {
    /// All of them.
    pub bytes: u64,
    /// The layers whose files are seen, largest first.
    pub layers: Vec<Part>,
}

/// A part of something, and its own parts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Part {
    /// A layer, a package or a directory.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// What it consists of, largest first.
    pub parts: Vec<Part>,
}

impl Usage {
    /// That of `tree`, which `layers` make: files of packages by package, others by directory.
    pub(super) fn of(layers: &[Layer], tree: &Tree<'_>, owners: &Ownership) -> Self {
        let mut sizes: Vec<BTreeMap<String, u64>> = vec![BTreeMap::new(); layers.len()];
        for item in tree.entries() {
            let Kind::File { size } = item.entry.kind else { continue };
            let Some(layer) = layers.get(item.layer).filter(|_| size > 0) else { continue };
            let path = &item.entry.path;
            let name = match (layer.kind, owners.of(path)) {
                (LayerKind::Packages, [package, ..]) => package.clone(),
                (LayerKind::Packages, []) => SCRIPTS.to_owned(),
                _ => directory(path),
            };
            *sizes[item.layer].entry(name).or_default() += size;
        }
        let part = |(name, bytes)| Part { name, bytes, parts: Vec::new() };
        let layers = layers.iter().zip(sizes).map(|(layer, sizes)| {
            let parts = sorted(sizes.into_iter().map(part).collect());
            Part { name: layer.name(), bytes: parts.iter().map(|it| it.bytes).sum(), parts }
        });
        let layers = sorted(layers.filter(|layer| layer.bytes > 0).collect());
        Self { bytes: layers.iter().map(|layer| layer.bytes).sum(), layers }
    }

    /// Bytes of the files of each package.
    pub(super) fn packages(&self) -> BTreeMap<&str, u64> {
        let mut packages = BTreeMap::new();
        for part in self.layers.iter().flat_map(|layer| &layer.parts) {
            *packages.entry(part.name.as_str()).or_default() += part.bytes;
        }
        packages
    }
}

fn sorted(mut parts: Vec<Part>) -> Vec<Part> {
    parts.sort_by(|one, other| (other.bytes, &one.name).cmp(&(one.bytes, &other.name)));
    parts
}

/// The first two directories of a path.
fn directory(path: &Path) -> String {
    let parent = path.parent().unwrap_or(Path::new(""));
    let names: Vec<_> =
        parent.iter().take(2).map(|name| name.to_string_lossy().into_owned()).collect();
    format!("/{}", names.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_for_two_directories_at_most() {
        for (path, expected) in
            [("etc/haproxy/a.cfg", "/etc/haproxy"), ("a", "/"), ("usr/lib/x/y/z", "/usr/lib")]
        {
            assert_eq!(directory(Path::new(path)), expected);
        }
    }

    #[test]
    fn the_largest_is_first_and_names_decide_between_equals() {
        let part = |name: &str, bytes| Part { name: name.into(), bytes, parts: Vec::new() };
        let parts = sorted(vec![part("b", 1), part("c", 2), part("a", 1)]);
        let names: Vec<&str> = parts.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
    }
}
