//! The source packages that roles consist of.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::origin::{Certainty, Origins};
use super::tracker::Tracker;
use crate::definition::{Project, Result};
use crate::lock::{Lock, Wishes, needed_by, wishes};

/// Suites of a release that the tracker follows, by what stands behind its code name.
const FOLLOWED: [&str; 4] = ["", "security", "updates", "proposed-updates"];

/// Roles, and the images of the lock that they consist of.
#[derive(Debug)]
pub struct Selection {
    /// The roles that need each image, by the name that the lock gives it.
    images: BTreeMap<String, BTreeSet<String>>,
    /// The suite of each of Debian's repositories, by image and repository.
    suites: BTreeMap<(String, String), String>,
}

/// A source package that something installed was built from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its name.
    pub source: String,
    /// Its version.
    pub version: String,
    /// How well these two are known.
    pub certainty: Certainty,
    /// The code name of the release that it is from.
    pub release: String,
    /// The packages that were built from it.
    pub packages: BTreeSet<String>,
    /// The images whose layers have them, by the names that the lock gives them.
    pub images: BTreeSet<String>,
    /// The roles that have them.
    pub roles: BTreeSet<String>,
}

/// Something in an image that the tracker says nothing of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Overlooked {
    /// The package or source.
    pub name: String,
    /// Its version, or what it is pinned to.
    pub version: String,
    /// Why nothing is said of it.
    pub why: String,
    /// The roles that have it.
    pub roles: BTreeSet<String>,
}

impl Selection {
    /// The images of `roles`.
    ///
    /// # Errors
    /// There is no such role.
    pub fn new(project: &Project, roles: &BTreeSet<String>) -> Result<Self> {
        let mut images: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for role in roles {
            for image in needed_by(project, role)? {
                images.entry(image).or_default().insert(role.clone());
            }
        }
        let suites = wishes(project)?.iter().flat_map(debian_suites).collect();
        Ok(Self { images, suites })
    }

    /// What of `lock` the roles consist of: what the tracker may know, and the rest.
    pub fn installed(&self, lock: &Lock, origins: &Origins) -> (Vec<Installed>, Vec<Overlooked>) {
        let mut installed: BTreeMap<(String, String, String), Installed> = BTreeMap::new();
        let mut overlooked: BTreeMap<(String, String, String), BTreeSet<String>> = BTreeMap::new();
        for (image, roles) in &self.images {
            let Some(locked) = lock.images.get(image) else { continue };
            let mut overlook = |name: &str, version: &str, why: String| {
                let key = (name.to_owned(), version.to_owned(), why);
                overlooked.entry(key).or_default().extend(roles.iter().cloned());
            };
            for package in &locked.packages {
                let release = match self.release(image, &package.repository) {
                    Ok(release) => release,
                    Err(why) => {
                        overlook(&package.name, &package.version, why);
                        continue;
                    }
                };
                let Some(origin) = origins.of(package) else {
                    let why = "it is a signed copy, and not known here of what".to_owned();
                    overlook(&package.name, &package.version, why);
                    continue;
                };
                let key = (origin.name.clone(), origin.version.clone(), release.to_owned());
                let one = installed.entry(key).or_insert_with(|| Installed {
                    source: origin.name,
                    version: origin.version,
                    certainty: origin.certainty,
                    release: release.to_owned(),
                    packages: BTreeSet::new(),
                    images: BTreeSet::new(),
                    roles: BTreeSet::new(),
                });
                // One package that knows vouches for the others.
                one.certainty = one.certainty.min(origin.certainty);
                one.packages.insert(package.name.clone());
                one.images.insert(image.clone());
                one.roles.extend(roles.iter().cloned());
            }
            let is_package = |name: &str| {
                locked.packages.iter().any(|package| package.source.as_deref() == Some(name))
            };
            for source in locked.sources.iter().filter(|source| !is_package(&source.name)) {
                overlook(&source.name, &source.pin(), "it is not a package".to_owned());
            }
        }
        let overlooked = overlooked.into_iter();
        let overlooked = overlooked.map(|((name, version, why), roles)| Overlooked {
            name,
            version,
            why,
            roles,
        });
        (installed.into_values().collect(), overlooked.collect())
    }

    /// The roles that have any of `images`.
    pub fn roles<'a>(&self, images: impl IntoIterator<Item = &'a str>) -> BTreeSet<String> {
        let roles = images.into_iter().filter_map(|image| self.images.get(image));
        roles.flatten().cloned().collect()
    }

    /// The code name of the release that a package of `image` from `repository` is of, or why there is none.
    fn release(&self, image: &str, repository: &str) -> Result<&str, String> {
        if repository.is_empty() {
            return Err("it is from no repository".to_owned());
        }
        let suite =
            self.suites.get(&(image.to_owned(), repository.to_owned())).ok_or_else(|| {
                format!("the repository `{repository}` is not that of the distribution")
            })?;
        let (release, kind) = suite.split_once(['-', '/']).unwrap_or((suite, ""));
        match FOLLOWED.contains(&kind) {
            true => Ok(release),
            false => Err(format!("the tracker does not follow the suite `{suite}`")),
        }
    }
}

/// Takes out of `installed` what is of a release that `tracker` does not know, and notes which versions it has: those are
/// versions of source packages. If packages of one source are there of which the version is known, it is that of the
/// others, too.
pub fn confirm(installed: &mut Vec<Installed>, tracker: &Tracker) -> Vec<Overlooked> {
    let (known, unknown): (Vec<_>, Vec<_>) = std::mem::take(installed)
        .into_iter()
        .partition(|one| tracker.releases.contains(&one.release));
    *installed = known;
    for one in installed.iter_mut() {
        let issues = tracker.issues.get(&one.source).into_iter().flatten();
        let mut states = issues.filter_map(|issue| issue.states.get(&one.release));
        if states.any(|state| state.versions.contains(&one.version)) {
            one.certainty = Certainty::Known;
        }
    }
    let (known, assumed): (Vec<_>, Vec<_>) =
        std::mem::take(installed).into_iter().partition(|one| one.certainty == Certainty::Known);
    *installed = known;
    let known = installed.len();
    for one in assumed {
        let same = |it: &&mut Installed| it.source == one.source && it.release == one.release;
        let mut siblings = installed[..known].iter_mut().filter(same);
        match (siblings.next(), siblings.next()) {
            (Some(sibling), None) => {
                sibling.packages.extend(one.packages);
                sibling.images.extend(one.images);
                sibling.roles.extend(one.roles);
            }
            _ => installed.push(one),
        }
    }
    let overlooked = unknown.into_iter().flat_map(|one| {
        let why = format!("the data know no release `{}`", one.release);
        one.packages.into_iter().map(move |name| Overlooked {
            name,
            version: one.version.clone(),
            why: why.clone(),
            roles: one.roles.clone(),
        })
    });
    overlooked.collect()
}

/// The repositories of `[debian]`: only those may give every package.
fn debian_suites(wishes: &Wishes) -> Vec<((String, String), String)> {
    let all = wishes.debian.repositories.iter();
    all.filter(|repository| repository.packages.is_empty())
        .map(|it| ((wishes.image.clone(), it.name.clone()), it.suite.clone()))
        .collect()
}
