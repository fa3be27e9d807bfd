//! The packages that a resolution may choose from.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use super::Request;
use crate::debian::packages::{Package, PackageId, Universe};
use crate::debian::relation::{Alternative, ParseRelationError, Relation};
use crate::debian::version;

/// A [`Universe`] seen through the eyes of one [`Request`].
pub(super) struct World<'a> {
    pub universe: &'a Universe<'a>,
    pub architecture: &'a str,
    fixed: HashMap<&'a str, PackageId>,
    excluded: &'a BTreeMap<String, String>,
    preferred: &'a BTreeMap<String, String>,
    /// Only the best version of each package counts.
    strict: bool,
}

/// The packages of one name that satisfy a relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group<'a> {
    pub name: &'a str,
    /// Never empty, but for a name that nobody has.
    pub packages: Vec<PackageId>,
    /// The alternative that they satisfy, as it was written.
    pub text: String,
}

/// The field that cannot be read, and why.
pub(super) type Unreadable = (&'static str, ParseRelationError);

/// Newer versions before older ones; of equal ones, that of the repository added first.
pub(super) fn newest_first(universe: &Universe<'_>, left: PackageId, right: PackageId) -> Ordering {
    version::compare(universe.package(right).version, universe.package(left).version)
        .then(left.cmp(&right))
}

impl<'a> World<'a> {
    pub fn new(universe: &'a Universe<'a>, request: &Request<'a>, strict: bool) -> Self {
        let fixed = request.fixed.iter().map(|&id| (universe.package(id).name, id)).collect();
        let Request { architecture, excluded, preferred, .. } = *request;
        Self { universe, architecture, fixed, excluded, preferred, strict }
    }

    pub fn package(&self, id: PackageId) -> &'a Package<'a> {
        self.universe.package(id)
    }

    pub fn is_fixed(&self, id: PackageId) -> bool {
        self.fixed.get(self.package(id).name) == Some(&id)
    }

    /// Why the package called `name` must not be installed, if so.
    pub fn excluded(&self, name: &str) -> Option<&'a str> {
        self.excluded.get(name).map(String::as_str)
    }

    /// Whether the last resolution had a package called `name`.
    pub fn is_preferred(&self, name: &str) -> bool {
        self.preferred.contains_key(name)
    }

    /// The versions of the package called `name` that may be chosen, the best first.
    pub fn candidates(&self, name: &str) -> Vec<PackageId> {
        if let Some(&fixed) = self.fixed.get(name) {
            return vec![fixed];
        }
        let mut candidates = self.universe.versions(name).to_vec();
        self.sort(&mut candidates);
        if self.strict {
            candidates.truncate(1);
        }
        candidates
    }

    /// Puts the versions of one package in the order in which they are tried.
    pub fn sort(&self, candidates: &mut [PackageId]) {
        let preferred = |id: PackageId| {
            let package = self.package(id);
            self.preferred.get(package.name).is_some_and(|version| version == package.version)
        };
        candidates.sort_by(|&left, &right| {
            preferred(right)
                .cmp(&preferred(left))
                .then_with(|| newest_first(self.universe, left, right))
        });
    }

    /// Expands a relation that people wrote: who names a package that exists wants that one, and
    /// not another that provides its name.
    pub fn wanted(&self, relation: &Relation<'a>) -> Option<Vec<Group<'a>>> {
        self.expand(relation, |alternative| {
            let mut satisfying = self.universe.satisfying(alternative, self.architecture);
            let is_real = |id: &PackageId| self.package(*id).name == alternative.name;
            if satisfying.iter().any(is_real) {
                satisfying.retain(is_real);
            }
            Some(satisfying)
        })
    }

    /// Expands a relation to what satisfies each alternative, the best first. `None` if it asks
    /// for nothing: because it is one for other architectures, or `satisfying` says so.
    fn expand(
        &self,
        relation: &Relation<'a>,
        satisfying: impl Fn(&Alternative<'a>) -> Option<Vec<PackageId>>,
    ) -> Option<Vec<Group<'a>>> {
        let mut groups: Vec<Group<'a>> = Vec::new();
        let alternatives = relation.alternatives.iter();
        let mut alternatives =
            alternatives.filter(|alternative| alternative.applies_to(self.architecture)).peekable();
        alternatives.peek()?;
        for alternative in alternatives {
            let satisfying = satisfying(alternative)?;
            let group = |name, packages| Group { name, packages, text: alternative.to_string() };
            if satisfying.is_empty() {
                groups.push(group(alternative.name, Vec::new()));
            }
            for id in satisfying {
                let name = self.package(id).name;
                match groups.iter_mut().find(|group| group.name == name) {
                    Some(group) if group.packages.contains(&id) => {}
                    Some(group) => group.packages.push(id),
                    None => groups.push(group(name, vec![id])),
                }
            }
        }
        // Names that nobody has only matter if there is nothing else.
        if groups.iter().any(|group| !group.packages.is_empty()) {
            groups.retain(|group| !group.packages.is_empty());
        }
        Some(groups)
    }

    /// What has to be installed with `id`: for each relation, what satisfies it.
    pub fn requirements(&self, id: PackageId) -> Result<Vec<Vec<Group<'a>>>, Unreadable> {
        // What is there already has what it needs.
        if self.is_fixed(id) {
            return Ok(Vec::new());
        }
        let satisfying = |alternative: &Alternative<'a>| {
            let satisfying = self.universe.satisfying(alternative, self.architecture);
            // What a package needs and provides itself is there.
            (!satisfying.contains(&id)).then_some(satisfying)
        };
        let relations = self.package(id).requirements()?;
        Ok(relations.iter().filter_map(|relation| self.expand(relation, satisfying)).collect())
    }

    /// What cannot be installed with `id`. A package never conflicts with itself under another
    /// name or in another version (policy, section 7.4).
    pub fn conflicts(&self, id: PackageId) -> Result<Vec<Group<'a>>, Unreadable> {
        let package = self.package(id);
        let relations = package.conflicts()?;
        let satisfying = |alternative: &Alternative<'a>| {
            // Conflicts hit packages of any architecture, whatever their `Multi-Arch` is.
            let qualifier = alternative.qualifier.filter(|qualifier| *qualifier != "any");
            let alternative = Alternative { qualifier, ..alternative.clone() };
            Some(self.universe.satisfying(&alternative, self.architecture))
        };
        let groups =
            relations.iter().filter_map(|relation| self.expand(relation, satisfying)).flatten();
        Ok(groups
            .filter(|group| group.name != package.name && !group.packages.is_empty())
            .filter(|group| {
                let is_fixed = |&id: &PackageId| self.is_fixed(id);
                !(self.is_fixed(id) && group.packages.iter().any(is_fixed))
            })
            .collect())
    }

    /// The packages that are wanted whatever people wrote, and why.
    pub fn given(&self, request: &Request<'_>) -> Vec<Group<'a>> {
        let mut given: Vec<Group<'a>> = request
            .fixed
            .iter()
            .map(|&id| {
                let Package { name, version, .. } = self.package(id);
                let text = format!("{name} {version} is in a parent image");
                Group { name, packages: vec![id], text }
            })
            .collect();
        if request.essential {
            let mut names: Vec<&str> = self
                .universe
                .packages()
                .filter(|(_, package)| package.essential)
                .map(|(_, package)| package.name)
                .filter(|name| !self.fixed.contains_key(name))
                .collect();
            names.sort_unstable();
            names.dedup();
            given.extend(names.into_iter().map(|name| Group {
                name,
                packages: self.universe.versions(name).to_vec(),
                text: format!("{name} is essential"),
            }));
        }
        given
    }
}
