//! Where a configuration file really lies.

use std::io;

use rustix::fs::FileType;

use crate::debian::database::root::{Root, split};

/// Links that dpkg follows before it calls them circular.
const MOST_LINKS: usize = 25;

/// The path that the configuration file `path` has after following the links that are there:
/// the new version goes beside the file that they lead to. `None`: they lead in a circle or to
/// something that is no file, and the new version goes beside `path` itself (`conffderef` of
/// dpkg).
pub(super) fn dereference(root: &Root, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut current = path.to_vec();
    for _ in 0..=MOST_LINKS {
        match root.link_target(&current)? {
            None => {
                let stat = root.stat(&current)?;
                let kind = stat.map(|stat| FileType::from_raw_mode(stat.st_mode));
                return Ok(kind.is_none_or(FileType::is_file).then_some(current));
            }
            Some(target) if target.starts_with(b"/") => current = target,
            Some(target) => {
                let directory = split(&current).0;
                current = [directory, b"/", &target].concat();
            }
        }
    }
    Ok(None)
}
