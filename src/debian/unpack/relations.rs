//! Which packages of a set satisfy the relations of which others.

use std::collections::HashMap;

use super::Error;
use super::package::Loaded;
use crate::debian::database::Status;
use crate::debian::relation::{self, Alternative};

/// The packages that a package needs, by their places in the set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    /// Those that satisfy its `Pre-Depends`.
    pub pre_depends: Vec<usize>,
    /// Those that satisfy its `Depends`.
    pub depends: Vec<usize>,
}

/// What each of the packages needs. Relations that a configured package in `status`
/// satisfies are left out, and so are those that nothing satisfies: dpkg will name them.
pub(super) fn resolve(packages: &[Loaded], status: &Status) -> Result<Vec<Needs>, Error> {
    let providers = Providers::of(packages, status);
    packages
        .iter()
        .enumerate()
        .map(|(index, package)| {
            let resolve = |field| providers.resolve(index, package, field);
            Ok(Needs { pre_depends: resolve("Pre-Depends")?, depends: resolve("Depends")? })
        })
        .collect()
}

/// A package under one of its names.
#[derive(Clone, Debug)]
struct Provider {
    /// Its place in the set; `None`: it is configured already.
    index: Option<usize>,
    /// Its version under this name; `None`: it has none, so no constraint accepts it.
    version: Option<String>,
}

struct Providers {
    by_name: HashMap<String, Vec<Provider>>,
}

impl Providers {
    fn of(packages: &[Loaded], status: &Status) -> Self {
        let mut by_name: HashMap<String, Vec<Provider>> = HashMap::new();
        let mut add = |index: Option<usize>, name: &str, version: Option<&str>| {
            let version = version.map(str::to_owned);
            by_name.entry(name.to_owned()).or_default().push(Provider { index, version });
        };
        let installed = status.installed().filter(|package| package.is_configured());
        let set =
            packages.iter().enumerate().map(|(index, package)| (Some(index), &package.identity));
        let all: Vec<_> = installed.map(|package| (None, package)).chain(set).collect();
        // Real packages before those that only provide a name.
        for (index, package) in &all {
            add(*index, &package.name, Some(&package.version));
        }
        for (index, package) in &all {
            let relations = relation::parse_field(&package.provides).unwrap_or_default();
            for alternative in relations.iter().flat_map(|relation| &relation.alternatives) {
                let version = alternative.constraint.map(|constraint| constraint.version);
                add(*index, alternative.name, version);
            }
        }
        Self { by_name }
    }

    fn resolve(
        &self,
        own: usize,
        package: &Loaded,
        field: &'static str,
    ) -> Result<Vec<usize>, Error> {
        let value = package.stanza.field(field).unwrap_or_default();
        let relations = relation::parse_field(value).map_err(|source| Error::Relation {
            package: package.label(),
            field,
            source,
        })?;
        let mut found = Vec::new();
        for relation in &relations {
            let fitting = || relation.alternatives.iter().flat_map(|other| self.fitting(other));
            if fitting().any(|provider| provider.index.is_none_or(|index| index == own)) {
                continue;
            }
            if let Some(index) = fitting().find_map(|provider| provider.index)
                && !found.contains(&index)
            {
                found.push(index);
            }
        }
        Ok(found)
    }

    fn fitting<'a>(&'a self, wanted: &'a Alternative<'a>) -> impl Iterator<Item = &'a Provider> {
        let providers = self.by_name.get(wanted.name).map(Vec::as_slice).unwrap_or_default();
        providers.iter().filter(|provider| match (&provider.version, wanted.constraint) {
            (_, None) => true,
            (Some(version), Some(constraint)) => constraint.accepts(version),
            (None, Some(_)) => false,
        })
    }
}
