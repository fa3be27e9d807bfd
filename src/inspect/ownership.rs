//! Which package ships a path, by the lists that dpkg-query(1) searches.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Error;
use super::tree::Tree;
use crate::debian::database::{DIRECTORY, overrides::Diversions};

/// The packages of a tree by the paths that they ship.
#[derive(Default)]
pub struct Ownership {
    packages: BTreeMap<PathBuf, Vec<String>>,
}

impl Ownership {
    /// Reads dpkg's lists of `tree`. One without dpkg has no packages.
    ///
    /// # Errors
    /// A layer cannot be read.
    pub fn read(tree: &Tree<'_>) -> Result<Self, Error> {
        let database = Path::new(DIRECTORY.trim_start_matches('/'));
        let diversions = Diversions::parse(tree.text(database.join("diversions"))?.as_bytes());
        let diversions = diversions.unwrap_or_default();
        let info = database.join("info");
        let mut packages: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
        let mut lists = Vec::new();
        for entry in tree.below(&info) {
            let name = entry.entry.path.strip_prefix(&info).ok().and_then(Path::to_str);
            let Some(name) = name else { continue };
            let Some((package, kind)) = name.rsplit_once('.') else { continue };
            // `libc6:amd64.list` for packages of which several architectures can be installed.
            let package = package.split(':').next().unwrap_or(package);
            packages.entry(entry.entry.path.clone()).or_default().push(package.to_owned());
            if kind == "list" {
                lists.push((package, &entry.entry.path));
            }
        }
        for (package, list) in lists {
            for line in tree.text(list)?.lines().filter(|line| line.len() > 1) {
                let path = diversions.place(line.as_bytes(), package);
                let path = tree.place(Path::new(&*String::from_utf8_lossy(path)));
                packages.entry(path).or_default().push(package.to_owned());
            }
        }
        Ok(Self { packages })
    }

    /// The packages that ship `path`, without leading slash; of a directory there are many. dpkg's own
    /// records of a package count as its.
    pub fn of(&self, path: &Path) -> &[String] {
        self.packages.get(path).map_or(&[], Vec::as_slice)
    }
}
