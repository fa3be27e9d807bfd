//! What a set of wishes pulls in when choices are made as a person would make them: what has to
//! be there anyway is taken first, and only then alternatives are decided, in order.
//!
//! Used twice: before solving, to tell the solver which alternatives to try first, and after it,
//! to drop what nothing needs.

use std::collections::{HashSet, VecDeque};

use super::Request;
use super::world::{Group, World};
use crate::debian::packages::PackageId;

/// The packages that wishes most likely need: the best version of each, contradictions not
/// regarded.
pub(super) fn likely(world: &World<'_>, request: &Request<'_>) -> HashSet<PackageId> {
    let allowed = |id: PackageId| {
        let name = world.package(id).name;
        world.excluded(name).is_none() && world.candidates(name).first() == Some(&id)
    };
    Closure::of(world, request, &allowed).selected
}

/// Those of `chosen`, a solution, that something needs.
pub(super) fn needed(
    world: &World<'_>,
    request: &Request<'_>,
    chosen: &HashSet<PackageId>,
) -> Vec<PackageId> {
    Closure::of(world, request, &|id| chosen.contains(&id)).order
}

struct Closure<'a> {
    world: &'a World<'a>,
    allowed: &'a dyn Fn(PackageId) -> bool,
    selected: HashSet<PackageId>,
    /// What was selected, in that order.
    order: Vec<PackageId>,
    /// Relations to look at: the packages that satisfy each, the best first.
    open: VecDeque<Vec<PackageId>>,
    /// Relations that leave a choice.
    choices: VecDeque<Vec<PackageId>>,
}

impl<'a> Closure<'a> {
    fn of(
        world: &'a World<'a>,
        request: &Request<'a>,
        allowed: &'a dyn Fn(PackageId) -> bool,
    ) -> Self {
        let mut closure = Self {
            world,
            allowed,
            selected: HashSet::new(),
            order: Vec::new(),
            open: VecDeque::new(),
            choices: VecDeque::new(),
        };
        for given in world.given(request) {
            closure.add(&[given]);
        }
        for relation in request.wanted {
            if let Some(groups) = world.wanted(relation) {
                closure.add(&groups);
            }
        }
        closure.run();
        closure
    }

    fn add(&mut self, groups: &[Group<'_>]) {
        let options = groups.iter().flat_map(|group| &group.packages).copied();
        self.open.push_back(options.filter(|&id| (self.allowed)(id)).collect());
    }

    fn run(&mut self) {
        loop {
            while let Some(options) = self.open.pop_front() {
                match options.as_slice() {
                    [] => {}
                    _ if self.is_satisfied(&options) => {}
                    [only] => self.select(*only),
                    _ => self.choices.push_back(options),
                }
            }
            let Some(options) = self.choices.pop_front() else { return };
            if !self.is_satisfied(&options) {
                let preferred =
                    |id: &&PackageId| self.world.is_preferred(self.world.package(**id).name);
                let choice = options.iter().find(preferred).unwrap_or(&options[0]);
                self.select(*choice);
            }
        }
    }

    fn is_satisfied(&self, options: &[PackageId]) -> bool {
        options.iter().any(|id| self.selected.contains(id))
    }

    fn select(&mut self, id: PackageId) {
        self.selected.insert(id);
        self.order.push(id);
        // What cannot be read is the solver's to explain.
        for groups in self.world.requirements(id).unwrap_or_default() {
            self.add(&groups);
        }
    }
}
