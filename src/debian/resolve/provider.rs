//! The encoding of Debian's relations for the solver.
//!
//! One name of the solver is one real package name, so that at most one version of each is
//! chosen; a set of versions is an explicit list of packages. There are no virtual packages:
//! relations come expanded, see [`World`].

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display};
use std::rc::Rc;

use resolvo::conflict::ConflictEdge;
use resolvo::utils::{Pool, VersionSet};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, DenseIndex, Dependencies,
    DependencyProvider, Interner, KnownDependencies, NameId, Problem, Requirement, SolvableId,
    Solver, SolverCache, StringId, UnsolvableOrCancelled, VersionSetId, VersionSetUnionId,
};

use super::world::{Group, World};
use super::{Failure, Request, closure, explanation};
use crate::debian::packages::PackageId;

/// Solves `request` in `world`. The result contains the fixed packages, and perhaps some that
/// nothing needs.
pub(super) fn solve(
    world: &World<'_>,
    request: &Request<'_>,
) -> Result<HashSet<PackageId>, Failure> {
    let likely = closure::likely(world, request);
    let mut provider = Provider { world, likely, given: HashSet::new(), pool: Pool::new() };
    let mut wanted = HashMap::new();
    let mut requirements = Vec::new();
    for given in world.given(request) {
        let requirement = provider.requirement(vec![given]);
        provider.given.insert(requirement);
        requirements.push(requirement.into());
    }
    for (index, relation) in request.wanted.iter().enumerate() {
        if let Some(groups) = world.wanted(relation) {
            let requirement = provider.requirement(groups);
            wanted.entry(requirement).or_insert(index);
            requirements.push(requirement.into());
        }
    }
    let mut solver = Solver::new(provider);
    match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solvables) => Ok(solvables.into_iter().map(package_id).collect()),
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            let graph = conflict.graph(&solver);
            let mut involved: Vec<usize> = graph
                .graph
                .edges(graph.root_node)
                .filter_map(|edge| match edge.weight() {
                    ConflictEdge::Requires(requirement) => wanted.get(requirement).copied(),
                    ConflictEdge::Conflict(_) => None,
                })
                .collect();
            involved.sort_unstable();
            involved.dedup();
            let explanation = explanation::explain(solver.provider(), &graph);
            Err(Failure::Unsatisfiable { wanted: involved, explanation })
        }
        Err(UnsolvableOrCancelled::Cancelled(_)) => unreachable!("nothing cancels the solver"),
    }
}

pub(super) fn package_id(solvable: SolvableId) -> PackageId {
    PackageId::from_index(solvable.to_index())
}

fn solvable_id(package: PackageId) -> SolvableId {
    SolvableId::from_index(package.index())
}

/// Packages of one name.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Set {
    packages: Rc<[PackageId]>,
    /// How the set is described to people.
    text: Rc<str>,
}

impl VersionSet for Set {
    type V = Element;
}

/// The pool wants a type for its own table of packages, which is not used: packages have
/// numbers already.
struct Element;

impl Display for Element {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ok(())
    }
}

pub(super) struct Provider<'a> {
    world: &'a World<'a>,
    /// The packages to try first where there is a choice.
    likely: HashSet<PackageId>,
    /// The requirements that nobody wrote.
    given: HashSet<Requirement>,
    pool: Pool<Set>,
}

impl<'a> Provider<'a> {
    /// Any of `groups`, which are not empty.
    fn requirement(&self, mut groups: Vec<Group<'a>>) -> Requirement {
        // The sort is stable: apart from that, the order stays.
        groups.sort_by_key(|group| !group.packages.iter().any(|id| self.likely.contains(id)));
        let mut sets = groups
            .into_iter()
            .map(|group| self.set(group.name, group.packages, &group.text))
            .collect::<Vec<_>>()
            .into_iter();
        let first = sets.next().expect("a relation has an alternative");
        if sets.len() == 0 {
            Requirement::Single(first)
        } else {
            Requirement::Union(self.pool.intern_version_set_union(first, sets))
        }
    }

    fn set(&self, name: &str, packages: Vec<PackageId>, text: &str) -> VersionSetId {
        let name = self.pool.intern_package_name(name);
        self.pool.intern_version_set(name, Set { packages: packages.into(), text: text.into() })
    }

    /// The versions of the packages in `conflict` that may stay.
    fn constraint(&self, conflict: Group<'a>) -> VersionSetId {
        let mut rest = self.world.candidates(conflict.name);
        rest.retain(|id| !conflict.packages.contains(id));
        self.set(conflict.name, rest, &conflict.text)
    }

    /// The name of a package.
    pub fn name(&self, package: PackageId) -> &'a str {
        self.world.package(package).name
    }

    /// How people are told of a package.
    pub fn label(&self, package: PackageId) -> String {
        let origin = if self.world.is_fixed(package) { " of a parent image" } else { "" };
        let package = self.world.package(package);
        format!("{} {}{origin}", package.name, package.version)
    }

    /// A requirement as it was written.
    pub fn describe(&self, requirement: Requirement) -> String {
        let mut texts: Vec<&str> = Vec::new();
        for set in self.sets(requirement) {
            let text = &self.pool.resolve_version_set(set).text;
            // Several providers satisfy the same alternative.
            if !texts.contains(&&**text) {
                texts.push(text);
            }
        }
        texts.join(" | ")
    }

    /// Whether `package` satisfies a requirement by what it provides, not by its own name.
    pub fn is_provider(&self, requirement: Requirement, package: PackageId) -> bool {
        let own = self.name(package);
        let sets = self.sets(requirement).into_iter().map(|set| self.pool.resolve_version_set(set));
        let mut sets = sets.filter(|set| set.packages.contains(&package));
        sets.all(|set| set.text.split([' ', ':']).next() != Some(own))
    }

    /// A requirement that stands at the beginning: a wish, or what is given.
    pub fn wish(&self, requirement: Requirement) -> String {
        let text = self.describe(requirement);
        if self.given.contains(&requirement) { text } else { format!("{text} is wanted") }
    }

    /// What there is instead of what a requirement asks for.
    pub fn instead(&self, requirement: Requirement) -> String {
        let names = self.sets(requirement).into_iter().map(|set| {
            self.pool.resolve_package_name(self.pool.resolve_version_set_package_name(set))
        });
        let offered: Vec<String> = names
            .flat_map(|name| self.world.candidates(name))
            .map(|package| self.label(package))
            .collect();
        if offered.is_empty() {
            ", which no repository has".to_owned()
        } else {
            format!(", but there is only {}", offered.join(", "))
        }
    }

    fn sets(&self, requirement: Requirement) -> Vec<VersionSetId> {
        match requirement {
            Requirement::Single(set) => vec![set],
            Requirement::Union(union) => self.pool.resolve_version_set_union(union).collect(),
        }
    }
}

impl Interner for Provider<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        self.label(package_id(solvable))
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl Display + '_ {
        let mut texts: Vec<String> =
            solvables.iter().map(|&solvable| self.display_solvable(solvable).to_string()).collect();
        texts.sort();
        texts.dedup();
        texts.join(" | ")
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        self.pool.resolve_package_name(name)
    }

    fn display_version_set(&self, set: VersionSetId) -> impl Display + '_ {
        &*self.pool.resolve_version_set(set).text
    }

    fn display_string(&self, string: StringId) -> impl Display + '_ {
        self.pool.resolve_string(string)
    }

    fn version_set_name(&self, set: VersionSetId) -> NameId {
        self.pool.resolve_version_set_package_name(set)
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        self.pool.intern_package_name(self.name(package_id(solvable)))
    }

    fn version_sets_in_union(
        &self,
        union: VersionSetUnionId,
    ) -> impl Iterator<Item = VersionSetId> {
        self.pool.resolve_version_set_union(union)
    }

    fn resolve_condition(&self, condition: ConditionId) -> Condition {
        self.pool.resolve_condition(condition).clone()
    }
}

impl DependencyProvider for Provider<'_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let packages = &self.pool.resolve_version_set(set).packages;
        let is_in = |solvable: &SolvableId| packages.contains(&package_id(*solvable));
        candidates.iter().copied().filter(|solvable| is_in(solvable) != inverse).collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let name = self.pool.resolve_package_name(name);
        let candidates: Vec<SolvableId> =
            self.world.candidates(name).into_iter().map(solvable_id).collect();
        let excluded = self.world.excluded(name).map(|reason| self.pool.intern_string(reason));
        let excluded =
            candidates.iter().flat_map(|&candidate| excluded.map(|reason| (candidate, reason)));
        let excluded = excluded.collect();
        Some(Candidates { candidates, excluded, ..Candidates::default() })
    }

    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        let mut packages: Vec<PackageId> = solvables.iter().copied().map(package_id).collect();
        self.world.sort(&mut packages);
        for (place, package) in solvables.iter_mut().zip(packages) {
            *place = solvable_id(package);
        }
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        let id = package_id(solvable);
        let (requirements, conflicts) =
            match (self.world.requirements(id), self.world.conflicts(id)) {
                (Ok(requirements), Ok(conflicts)) => (requirements, conflicts),
                (Err((field, error)), _) | (_, Err((field, error))) => {
                    let reason = format!("its `{field}` cannot be read: {error}");
                    return Dependencies::Unknown(self.pool.intern_string(reason));
                }
            };
        Dependencies::Known(KnownDependencies {
            requirements: requirements
                .into_iter()
                .map(|groups| ConditionalRequirement::from(self.requirement(groups)))
                .collect(),
            constrains: conflicts.into_iter().map(|conflict| self.constraint(conflict)).collect(),
        })
    }
}
