//! What starts with the guest, and what never may.

use std::collections::BTreeMap;
use std::path::Path;

use super::view::{NodeKind, View};

/// Where systemd looks for units, the first counts (systemd.unit(5)).
const DIRECTORIES: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

/// Directories of symbolic links to units that are started together with another, and how that is called.
const RELATIONS: [(&str, &str); 3] =
    [("wants", "wanted by"), ("requires", "required by"), ("upholds", "upheld by")];

/// Units that others start, and those that are masked: why, in words.
pub(super) fn units(view: &View<'_>) -> BTreeMap<String, Vec<String>> {
    let mut units: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, node) in view.nodes() {
        let NodeKind::Link { target } = &node.kind else { continue };
        let below = DIRECTORIES.iter().find_map(|directory| path.strip_prefix(directory).ok());
        let Some((unit, why)) = below.and_then(|below| reason(below, target)) else { continue };
        let reasons = units.entry(unit).or_default();
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    }
    units.values_mut().for_each(|reasons| reasons.sort());
    units
}

fn reason(path: &Path, target: &Path) -> Option<(String, String)> {
    let unit = path.file_name()?.to_str()?.to_owned();
    let masked = target == Path::new("/dev/null");
    let directory = path.parent()?.to_str()?;
    if directory.is_empty() {
        return masked.then(|| (unit, "masked".to_owned()));
    }
    let (other, relation) = directory.rsplit_once('.')?;
    let (_, word) = RELATIONS.iter().find(|(name, _)| *name == relation)?;
    (!masked).then(|| (unit, format!("{word} {other}")))
}
