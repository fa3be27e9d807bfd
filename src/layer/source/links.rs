//! Where the symbolic links of a source lead.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use super::{Error, Node, NodeKind, STEPS_LIMIT};

/// How many links are followed, as many as Linux does (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// Checks that no link of `nodes` leads out of the directory that they are unpacked to, by whatever
/// way round other links. One that leads nowhere is none of our business.
pub(super) fn check(nodes: &BTreeMap<PathBuf, Node>) -> Result<(), Error> {
    let mut steps = 0;
    for (path, node) in nodes {
        if let NodeKind::Symlink { target } = &node.kind {
            follow(nodes, path, target, &mut steps).map_err(|problem| {
                let problem = format!("its target `{}` {problem}", target.display());
                Error::member(path, problem)
            })?;
            if steps > STEPS_LIMIT {
                return Err(Error::TooLarge { limit: format!("{STEPS_LIMIT} steps along links") });
            }
        }
    }
    Ok(())
}

/// Walks from the directory of `link` along `target` as the kernel does. Adds the number of steps.
fn follow(
    nodes: &BTreeMap<PathBuf, Node>,
    link: &Path,
    target: &Path,
    steps: &mut usize,
) -> Result<(), &'static str> {
    const OUT: &str = "leads out of the directory that the source is unpacked to";
    let mut here = link.parent().unwrap_or(Path::new("")).to_owned();
    let mut left = parts(target)?;
    let mut links = 0;
    while let Some(part) = left.pop_front() {
        *steps += 1;
        if part == ".." {
            if !here.pop() {
                return Err(OUT);
            }
            continue;
        }
        let next = here.join(part);
        match nodes.get(&next).map(|node| &node.kind) {
            Some(NodeKind::Symlink { target }) => {
                links += 1;
                if links > LINK_LIMIT {
                    return Err("leads in a circle");
                }
                for part in parts(target)?.into_iter().rev() {
                    left.push_front(part);
                }
            }
            _ => here = next,
        }
    }
    Ok(())
}

/// The parts of a relative target, `..` among them.
fn parts(target: &Path) -> Result<VecDeque<OsString>, &'static str> {
    let mut parts = VecDeque::new();
    for component in target.components() {
        match component {
            Component::Normal(name) => parts.push_back(name.to_owned()),
            Component::ParentDir => parts.push_back("..".into()),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err("is absolute"),
        }
    }
    Ok(parts)
}
