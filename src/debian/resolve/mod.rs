//! Which packages a set of wishes needs.
//!
//! The solver is [`resolvo`], a SAT solver. Debian's relations are given to it without virtual
//! packages: each relation is expanded to the real packages that satisfy it. How the choices
//! are made:
//!
//! - Only `Pre-Depends` and `Depends` pull packages in; `Conflicts` and `Breaks` keep them apart.
//! - Of each package the newest version counts, as for apt. Only when there is no solution that
//!   way, older versions of the same or another repository are considered.
//! - Of alternatives `a | b`, one that is needed anyway; else one that the last lock had; else the
//!   first. Of several providers the one with the higher priority, then by name.
//! - The result has no package that nothing in it needs.
//!
//! The same input always gives the same result.

mod closure;
mod explanation;
mod provider;
mod suggestion;
#[cfg(test)]
mod tests;
mod world;

use std::collections::BTreeMap;

use super::packages::{PackageId, Universe};
use super::relation::Relation;
pub use suggestion::closest;
use world::World;

/// What to resolve.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The architecture of the packages.
    pub architecture: &'a str,
    /// What is wanted, in the order in which people wrote it.
    pub wanted: &'a [Relation<'a>],
    /// Whether every package that is `Essential: yes` is wanted as well.
    pub essential: bool,
    /// Packages that must not be installed, each with the reason, as in
    /// ``image `base` excludes it``.
    pub excluded: &'a BTreeMap<String, String>,
    /// Packages that are there already, in just these versions.
    pub fixed: &'a [PackageId],
    /// Names and versions to prefer to newer ones, if they are still offered.
    pub preferred: &'a BTreeMap<String, String>,
}

/// Why there is no solution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody offers a wanted package.
    NotFound {
        /// Which of [`Request::wanted`].
        wanted: usize,
        /// The name that does not exist.
        name: String,
        /// An existing name that looks alike.
        suggestion: Option<String>,
    },
    /// The package exists, but in no version that fits.
    NoVersion {
        /// Which of [`Request::wanted`].
        wanted: usize,
        /// The versions that there are, newest first.
        available: Vec<String>,
    },
    /// The wishes contradict each other.
    Unsatisfiable {
        /// Those of [`Request::wanted`] that take part in the contradiction, in order.
        wanted: Vec<usize>,
        /// Who needs what, and who conflicts with whom, as a tree of several lines.
        explanation: String,
    },
}

/// Finds the packages that have to be added to [`Request::fixed`], sorted by name.
///
/// # Errors
///
/// A [`Failure`] if there are none.
pub fn resolve(universe: &Universe<'_>, request: &Request<'_>) -> Result<Vec<PackageId>, Failure> {
    find_missing(universe, request)?;
    let strict = World::new(universe, request, true);
    let chosen = match provider::solve(&strict, request) {
        Ok(chosen) => chosen,
        // The explanation of the wider search is the one that says what is really impossible.
        Err(_) => provider::solve(&World::new(universe, request, false), request)?,
    };
    let world = World::new(universe, request, false);
    let mut added = closure::needed(&world, request, &chosen);
    added.retain(|id| !request.fixed.contains(id));
    added.sort_by_key(|&id| universe.package(id).name);
    Ok(added)
}

/// Wishes that nothing can satisfy, whatever else is wanted, deserve a better message than a
/// solver can give.
fn find_missing(universe: &Universe<'_>, request: &Request<'_>) -> Result<(), Failure> {
    for (wanted, relation) in request.wanted.iter().enumerate() {
        let mut alternatives =
            relation.alternatives.iter().filter(|it| it.applies_to(request.architecture));
        let Some(first) = alternatives.clone().next() else { continue };
        if alternatives.any(|it| !universe.satisfying(it, request.architecture).is_empty()) {
            continue;
        }
        let missing = relation.alternatives.iter().find(|it| !universe.has_name(it.name));
        return Err(match missing {
            Some(missing) => Failure::NotFound {
                wanted,
                name: missing.name.to_owned(),
                suggestion: closest(missing.name, universe.names()),
            },
            None => {
                let mut ids = universe.versions(first.name).to_vec();
                ids.sort_by(|&left, &right| world::newest_first(universe, left, right));
                let version = |id: PackageId| universe.package(id).version.to_owned();
                Failure::NoVersion { wanted, available: ids.into_iter().map(version).collect() }
            }
        });
    }
    Ok(())
}
