//! `Packages` files: every package that a repository offers, and who provides what.
//!
//! [`Universe`] puts the packages of several repositories side by side. It borrows from their
//! texts and reads relations only when asked, because of the 70 000 packages of a Debian release
//! a resolution looks at a few thousand.

use std::collections::HashMap;

use super::relation::{self, Alternative, Operator};
use super::{control, version};
use crate::digest::Digest;

mod entry;
mod pattern;
#[cfg(test)]
mod tests;

pub use entry::{is_architecture, is_pool_path};
pub use pattern::matches;

/// Which package of a [`Universe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackageId(u32);

impl PackageId {
    /// The place in the order in which packages were added, from 0.
    pub fn index(self) -> usize {
        self.0 as usize
    }

    /// The package at the given place.
    pub fn from_index(index: usize) -> Self {
        Self(u32::try_from(index).expect("more than 2^32 packages"))
    }
}

/// Where a package comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The repository with the number given to [`Universe::add`].
    Repository(usize),
    /// A file of its own, see [`Universe::add_file`].
    Source,
}

/// One version of one package, as a repository offers it.
#[derive(Clone, Debug)]
pub struct Package<'a> {
    /// Where it comes from.
    pub origin: Origin,
    /// Its name.
    pub name: &'a str,
    /// Its version, which is valid.
    pub version: &'a str,
    /// Its architecture, or `all`.
    pub architecture: &'a str,
    /// Whether the system is broken without it (`Essential: yes`).
    pub essential: bool,
    /// Where its file is, relative to the repository's URL; or the name of its source.
    pub path: &'a str,
    /// The size of its file in bytes.
    pub size: u64,
    /// The SHA-256 of its file.
    pub sha256: Digest,
    /// Whether the repository does not offer it any more, see [`Universe::add_departed`].
    pub departed: bool,
    /// Whether packages of other architectures may use it (`Multi-Arch: allowed`).
    multi_arch_allowed: bool,
    priority: Priority,
    pre_depends: &'a str,
    depends: &'a str,
    conflicts: &'a str,
    breaks: &'a str,
    provides: &'a str,
}

/// How much a package is part of a normal system (Debian policy, section 2.5). Decides which of
/// several providers comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Priority {
    Required,
    Important,
    Standard,
    Optional,
    Extra,
}

/// A package that provides the name of another.
#[derive(Clone, Copy, Debug)]
struct Provider<'a> {
    package: PackageId,
    /// The version that it provides, if it says one.
    version: Option<&'a str>,
}

/// Why a `Packages` file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A paragraph has a line that cannot be understood.
    #[error("the entry of `{package}` in the index of packages is malformed")]
    Malformed {
        /// The package, as far as it is known.
        package: String,
        /// The line.
        #[source]
        source: control::MalformedLine,
    },
    /// A field that is needed is absent, doubled or has no sense.
    #[error("the entry of `{package}` in the index of packages has no valid `{field}`")]
    Field {
        /// The package, as far as it is known.
        package: String,
        /// The field.
        field: &'static str,
    },
}

/// The packages of all repositories of an image.
#[derive(Clone, Debug, Default)]
pub struct Universe<'a> {
    packages: Vec<Package<'a>>,
    by_name: HashMap<&'a str, Vec<PackageId>>,
    providers: HashMap<&'a str, Vec<Provider<'a>>>,
}

impl<'a> Universe<'a> {
    /// A universe without packages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the packages for `architecture` and for all architectures that `text`, a `Packages`
    /// file of the repository with number `repository`, lists. If `allowed` is not empty, only
    /// packages whose name is one of its patterns ([`matches`]) are. A version of a package that is
    /// there already, from a repository added earlier, is passed over.
    ///
    /// # Errors
    ///
    /// An entry is malformed. A relation that is, is no error: the package cannot be installed
    /// then, which matters only if somebody wants it.
    pub fn add(
        &mut self,
        repository: usize,
        text: &'a str,
        architecture: &str,
        allowed: &[String],
    ) -> Result<(), Error> {
        let is_allowed =
            |name: &str| allowed.is_empty() || allowed.iter().any(|pattern| matches(pattern, name));
        for paragraph in control::paragraphs(text) {
            let package = entry::parse(paragraph, Origin::Repository(repository))?;
            let is_usable = package.architecture == architecture || package.architecture == "all";
            if is_usable && is_allowed(package.name) {
                self.insert(package);
            }
        }
        Ok(())
    }

    /// Adds the package that `text` describes: the control file of a .deb with the fields that an
    /// index adds to it, `Filename` being the name of its source.
    ///
    /// # Errors
    ///
    /// As for [`Universe::add`]; also if there is more than one paragraph.
    pub fn add_file(&mut self, text: &'a str) -> Result<PackageId, Error> {
        Ok(self.insert(entry::parse(text, Origin::Source)?))
    }

    /// Adds a package, unless its very version is there.
    fn insert(&mut self, package: Package<'a>) -> PackageId {
        let same_name = self.by_name.entry(package.name).or_default();
        let known =
            same_name.iter().find(|id| self.packages[id.index()].version == package.version);
        if let Some(&known) = known {
            return known;
        }
        let id = PackageId::from_index(self.packages.len());
        same_name.push(id);
        // A relation that cannot be read provides nothing.
        for relation in relation::parse_field(package.provides).unwrap_or_default() {
            for provided in relation.alternatives {
                // `Provides: name (= version)` is the only form with a version (policy, 7.5).
                let version = match provided.constraint {
                    None => None,
                    Some(constraint) if constraint.operator == Operator::Equal => {
                        Some(constraint.version)
                    }
                    Some(_) => continue,
                };
                if provided.qualifier.is_none() {
                    let provider = Provider { package: id, version };
                    self.providers.entry(provided.name).or_default().push(provider);
                }
            }
        }
        self.packages.push(package);
        id
    }

    /// Adds a version that no repository offers any more, as far as it is known: it provides
    /// what the newest offered version of the package provides, and asks for nothing. Returns
    /// the offered package if its file is the very same.
    pub fn add_departed(&mut self, package: Departed<'a>) -> PackageId {
        let Departed { name, version, architecture, origin, path, size, sha256 } = package;
        let same_version =
            self.versions(name).iter().copied().find(|&id| self.package(id).version == version);
        if let Some(id) = same_version.filter(|&id| self.package(id).sha256 == sha256) {
            return id;
        }
        let newest = self.versions(name).iter().copied().max_by(|&left, &right| {
            version::compare(self.package(left).version, self.package(right).version)
        });
        let like = newest.map(|id| self.package(id));
        let departed = Package {
            origin,
            name,
            version,
            architecture,
            essential: false,
            path,
            size,
            sha256,
            departed: true,
            multi_arch_allowed: like.is_some_and(|like| like.multi_arch_allowed),
            priority: like.map_or(Priority::Optional, |like| like.priority),
            pre_depends: "",
            depends: "",
            conflicts: "",
            breaks: "",
            provides: like.map_or("", |like| like.provides),
        };
        if same_version.is_some() {
            // The same version with another file: both have to be told apart.
            let id = PackageId::from_index(self.packages.len());
            self.packages.push(departed);
            self.by_name.entry(name).or_default().push(id);
            return id;
        }
        self.insert(departed)
    }

    /// The package with the given id.
    pub fn package(&self, id: PackageId) -> &Package<'a> {
        &self.packages[id.index()]
    }

    /// All packages, in the order in which they were added.
    pub fn packages(&self) -> impl Iterator<Item = (PackageId, &Package<'a>)> {
        self.packages
            .iter()
            .enumerate()
            .map(|(index, package)| (PackageId::from_index(index), package))
    }

    /// All versions of the package called `name`.
    pub fn versions(&self, name: &str) -> &[PackageId] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    /// All names that can be asked for, real and virtual, in no particular order.
    pub fn names(&self) -> impl Iterator<Item = &'a str> {
        self.by_name.keys().chain(self.providers.keys()).copied()
    }

    /// Whether a package called `name` exists, or something provides that name.
    pub fn has_name(&self, name: &str) -> bool {
        self.by_name.contains_key(name) || self.providers.contains_key(name)
    }

    /// What satisfies `alternative` on `architecture`, the best first: the package of that name,
    /// then those that provide it, by priority and name. All versions of one name stand together.
    pub fn satisfying(&self, alternative: &Alternative<'_>, architecture: &str) -> Vec<PackageId> {
        let usable = |id: &PackageId| {
            let package = self.package(*id);
            match alternative.qualifier {
                None | Some("native") => true,
                Some("any") => package.multi_arch_allowed,
                Some(other) => other == architecture,
            }
        };
        let mut found: Vec<PackageId> = self
            .versions(alternative.name)
            .iter()
            .copied()
            .filter(|id| alternative.accepts(self.package(*id).version))
            .filter(usable)
            .collect();
        let mut providers: Vec<PackageId> =
            self.providing(alternative).filter(usable).filter(|id| !found.contains(id)).collect();
        providers.sort_by_key(|&id| {
            let package = self.package(id);
            (package.priority, package.name, id)
        });
        providers.dedup();
        found.extend(providers);
        found
    }

    /// The packages that provide what `alternative` asks for. One with a version is satisfied
    /// only by a provided version (policy, section 7.5).
    fn providing(&self, alternative: &Alternative<'_>) -> impl Iterator<Item = PackageId> {
        let providers = self.providers.get(alternative.name).map_or(&[][..], Vec::as_slice);
        providers
            .iter()
            .filter(|provider| match (alternative.constraint, provider.version) {
                (None, _) => true,
                (Some(constraint), Some(version)) => constraint.accepts(version),
                (Some(_), None) => false,
            })
            .map(|provider| provider.package)
    }
}

/// A locked package that may have left its repository. The fields are those of [`Package`].
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "the fields are those of Package")]
pub struct Departed<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub architecture: &'a str,
    pub origin: Origin,
    pub path: &'a str,
    pub size: u64,
    pub sha256: Digest,
}

impl<'a> Package<'a> {
    /// Everything that has to be installed with the package: `Pre-Depends` and `Depends`.
    ///
    /// # Errors
    ///
    /// The name of the field that cannot be read, and why.
    pub fn requirements(
        &self,
    ) -> Result<Vec<relation::Relation<'a>>, (&'static str, relation::ParseRelationError)> {
        self.relations([("Pre-Depends", self.pre_depends), ("Depends", self.depends)])
    }

    /// Everything that cannot be installed with the package: `Conflicts` and `Breaks`.
    ///
    /// # Errors
    ///
    /// The name of the field that cannot be read, and why.
    pub fn conflicts(
        &self,
    ) -> Result<Vec<relation::Relation<'a>>, (&'static str, relation::ParseRelationError)> {
        self.relations([("Conflicts", self.conflicts), ("Breaks", self.breaks)])
    }

    fn relations(
        &self,
        fields: [(&'static str, &'a str); 2],
    ) -> Result<Vec<relation::Relation<'a>>, (&'static str, relation::ParseRelationError)> {
        let mut relations = Vec::new();
        for (name, text) in fields {
            relations.extend(relation::parse_field(text).map_err(|error| (name, error))?);
        }
        Ok(relations)
    }
}
