//! How one lock differs from another.

use std::collections::{BTreeMap, BTreeSet};

use super::Lock;

/// One package of one image that was added, removed or changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The image.
    pub image: String,
    /// The package.
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
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).copied().collect();
    let version = |file: &(&str, _)| file.0.to_owned();
    keys.into_iter()
        .filter(|key| old.get(key) != new.get(key))
        .map(|key| Change {
            image: key.0.to_owned(),
            package: key.1.to_owned(),
            from: old.get(&key).map(version),
            to: new.get(&key).map(version),
        })
        .collect()
}

type Files<'a> = BTreeMap<(&'a str, &'a str), (&'a str, crate::digest::Digest)>;

/// The version and file of each package of each image.
fn files(lock: &Lock) -> Files<'_> {
    let images = lock.images.iter();
    images
        .flat_map(|(image, locked)| locked.packages.iter().map(move |package| (image, package)))
        .map(|(image, package)| {
            ((image.as_str(), package.name.as_str()), (package.version.as_str(), package.sha256))
        })
        .collect()
}
