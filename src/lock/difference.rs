//! How one lock differs from another.

use std::collections::{BTreeMap, BTreeSet};

use super::Lock;

/// One package of one image that was added, removed or changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The image.
    pub image: String,
    /// The package, or `source NAME`.
    pub package: String,
    /// Its version before, if it was there.
    pub from: Option<String>,
    /// Its version now, if it is there.
    pub to: Option<String>,
}

/// What changes from `old` to `new`, by image and package. A file that was replaced while its
/// version stayed shows up with twice the same version.
pub fn difference(old: &Lock, new: &Lock) -> Vec<Change> {
    let (old, new) = (files(old), files(new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).cloned().collect();
    let version = |file: &(String, _)| file.0.clone();
    keys.into_iter()
        .filter(|key| old.get(key) != new.get(key))
        .map(|key| Change {
            image: key.0.to_owned(),
            package: key.1.clone(),
            from: old.get(&key).map(version),
            to: new.get(&key).map(version),
        })
        .collect()
}

type Files<'a> = BTreeMap<(&'a str, String), (String, String)>;

/// The version and file of each package of each image, and the pin and lines of each source.
fn files(lock: &Lock) -> Files<'_> {
    let mut files = Files::new();
    for (image, locked) in &lock.images {
        for package in &locked.packages {
            let value = (package.version.clone(), package.sha256.to_string());
            files.insert((image.as_str(), package.name.clone()), value);
        }
        for source in &locked.sources {
            // A space is in no name of a package.
            let name = format!("source {}", source.name);
            files.insert((image.as_str(), name), (source.pin(), format!("{source:?}")));
        }
    }
    files
}
