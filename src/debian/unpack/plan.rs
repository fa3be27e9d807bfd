//! In which order packages are unpacked, scripts run and packages configured.
//!
//! dpkg unpacks one package after another, each after its `preinst` and after its
//! `Pre-Depends` are configured (Debian policy 6.6, 7.2). Only `preinst` can tell the
//! difference, so packages without one are unpacked together before everything else.
//!
//! In an empty root directory nothing can run before the essential packages are there. As with
//! debootstrap and mmdebstrap, these are unpacked first, with what they depend on; then their
//! `preinst` scripts run, and they are configured before any other script.

use std::collections::BTreeSet;

/// A package as far as the order depends on it. Other packages are given by their place in the
/// list of nodes; relations that the layers below satisfy are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Whether it is `Essential: yes`.
    pub essential: bool,
    /// Whether it has a `preinst` script.
    pub preinst: bool,
    /// Whether other packages need its links of directories: `base-files`, which makes `/bin`
    /// and its like links into `/usr`.
    pub foundation: bool,
    /// The packages that satisfy its `Pre-Depends`.
    pub pre_depends: Vec<usize>,
    /// The packages that satisfy its `Depends`.
    pub depends: Vec<usize>,
}

/// One step of an installation. The packages of a step are in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Unpack these packages together.
    Unpack(Vec<usize>),
    /// Run `preinst install` of these packages, one after another.
    Preinst(Vec<usize>),
    /// Configure these packages; all that they depend on is among them, or configured already.
    Configure(Vec<usize>),
}

/// Packages that wait for each other; see [`plan_batches`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circle(pub Vec<usize>);

/// Plans the unpacking of `nodes`. `bootstrap`: the root directory is empty.
///
/// # Errors
///
/// The packages that cannot be unpacked because what they pre-depend on cannot be configured
/// before them.
pub fn plan_batches(nodes: &[Node], bootstrap: bool) -> Result<Vec<Step>, Circle> {
    let planner = Planner { nodes };
    let mut steps = Vec::new();
    let all = 0..nodes.len();
    let essential = match bootstrap {
        true => planner.closure(all.clone().filter(|&index| nodes[index].essential)),
        false => BTreeSet::new(),
    };
    let is_foundation = |index: &usize| bootstrap && nodes[*index].foundation;
    let is_first = |index: &usize| !nodes[*index].preinst || essential.contains(index);
    let push = |steps: &mut Vec<Step>, step: Step| {
        let (Step::Unpack(list) | Step::Preinst(list) | Step::Configure(list)) = &step;
        if !list.is_empty() {
            steps.push(step);
        }
    };
    push(&mut steps, Step::Unpack(all.clone().filter(is_foundation).collect()));
    let first = all.clone().filter(|index| is_first(index) && !is_foundation(index));
    push(&mut steps, Step::Unpack(first.collect()));
    let scripts = essential.iter().copied().filter(|&index| nodes[index].preinst);
    push(&mut steps, Step::Preinst(planner.in_order(scripts)));

    let mut configured = BTreeSet::new();
    let mut left: BTreeSet<usize> =
        all.filter(|index| !is_first(index) && !is_foundation(index)).collect();
    if !left.is_empty() {
        push(&mut steps, Step::Configure(essential.iter().copied().collect()));
        configured = essential;
    }
    while !left.is_empty() {
        let needed = |index: usize| planner.closure(nodes[index].pre_depends.iter().copied());
        let ready: BTreeSet<usize> =
            left.iter().copied().filter(|&index| needed(index).is_disjoint(&left)).collect();
        if ready.is_empty() {
            return Err(Circle(left.into_iter().collect()));
        }
        let mut before: BTreeSet<usize> = ready.iter().flat_map(|&index| needed(index)).collect();
        before.retain(|index| !configured.contains(index));
        push(&mut steps, Step::Configure(before.iter().copied().collect()));
        configured.extend(before);
        push(&mut steps, Step::Preinst(planner.in_order(ready.iter().copied())));
        left.retain(|index| !ready.contains(index));
        push(&mut steps, Step::Unpack(ready.into_iter().collect()));
    }
    Ok(steps)
}

struct Planner<'a> {
    nodes: &'a [Node],
}

impl Planner<'_> {
    fn relations(&self, index: usize) -> impl DoubleEndedIterator<Item = usize> {
        let node = &self.nodes[index];
        node.pre_depends.iter().chain(&node.depends).copied()
    }

    /// The packages and all that they depend on, directly or not.
    fn closure(&self, packages: impl Iterator<Item = usize>) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut open: Vec<usize> = packages.collect();
        while let Some(index) = open.pop() {
            if found.insert(index) {
                open.extend(self.relations(index));
            }
        }
        found
    }

    /// The packages, each after those of them that it depends on; where dependencies form a
    /// circle, in the order of the list.
    fn in_order(&self, packages: impl Iterator<Item = usize>) -> Vec<usize> {
        enum Visit {
            Enter(usize),
            Leave(usize),
        }
        let wanted: BTreeSet<usize> = packages.collect();
        let mut seen = BTreeSet::new();
        let mut order = Vec::new();
        let mut open: Vec<Visit> = wanted.iter().rev().copied().map(Visit::Enter).collect();
        while let Some(visit) = open.pop() {
            match visit {
                Visit::Leave(index) if wanted.contains(&index) => order.push(index),
                Visit::Leave(_) => {}
                Visit::Enter(index) if seen.insert(index) => {
                    open.push(Visit::Leave(index));
                    open.extend(self.relations(index).rev().map(Visit::Enter));
                }
                Visit::Enter(_) => {}
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::Step::{Configure, Preinst, Unpack};
    use super::*;

    fn node(preinst: bool, pre_depends: &[usize], depends: &[usize]) -> Node {
        let (pre_depends, depends) = (pre_depends.to_vec(), depends.to_vec());
        Node { preinst, pre_depends, depends, ..Node::default() }
    }

    #[test]
    fn packages_without_scripts_are_unpacked_together_and_first() {
        let nodes = [node(false, &[2], &[1]), node(false, &[], &[0]), node(true, &[], &[])];
        assert_eq!(
            plan_batches(&nodes, false).unwrap(),
            [Unpack(vec![0, 1]), Preinst(vec![2]), Unpack(vec![2])]
        );
        assert_eq!(plan_batches(&nodes[..0], false).unwrap(), []);
    }

    #[test]
    fn pre_dependencies_are_configured_with_all_they_need() {
        // 0 pre-depends on 1, which depends on 2, which has a script of its own.
        let nodes = [
            node(true, &[1], &[]),
            node(false, &[], &[2]),
            node(true, &[], &[]),
            node(false, &[], &[]),
        ];
        assert_eq!(
            plan_batches(&nodes, false).unwrap(),
            [
                Unpack(vec![1, 3]),
                Preinst(vec![2]),
                Unpack(vec![2]),
                Configure(vec![1, 2]),
                Preinst(vec![0]),
                Unpack(vec![0]),
            ]
        );
    }

    #[test]
    fn the_essential_packages_come_first_in_an_empty_root() {
        // 0 essential, pre-depends on 1 (with a script), 2 base-files, 3 a daemon with a script.
        let mut nodes = [
            node(true, &[1], &[]),
            node(true, &[], &[]),
            node(true, &[], &[]),
            node(true, &[], &[]),
        ];
        nodes[0].essential = true;
        nodes[2].essential = true;
        nodes[2].foundation = true;
        assert_eq!(
            plan_batches(&nodes, true).unwrap(),
            [
                Unpack(vec![2]),
                Unpack(vec![0, 1]),
                Preinst(vec![1, 0, 2]),
                Configure(vec![0, 1, 2]),
                Preinst(vec![3]),
                Unpack(vec![3]),
            ]
        );
        assert_eq!(plan_batches(&nodes[..3], true).unwrap().len(), 3);
    }

    #[test]
    fn a_circle_of_pre_dependencies_is_reported() {
        let nodes = [node(true, &[1], &[]), node(true, &[0], &[]), node(true, &[], &[])];
        assert_eq!(plan_batches(&nodes, false), Err(Circle(vec![0, 1])));
    }
}
