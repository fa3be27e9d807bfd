//! What a run will do, found out by letting [`decide`] run on predicted surveys.

use std::collections::BTreeMap;

use super::decide::{decide, kept};
use super::goal::{Decision, Gate, Goal, Known, Purpose};
use super::platform::{Guest, Health, Status, Survey};
use super::refusal::Refusal;
use super::sight::Sight;
use super::step::Step;
use super::wanted::{Node, Role, Wanted};
use crate::definition::Hostname;

/// For questions that have nothing to do with health.
static NOTHING: Known = Known(BTreeMap::new());

/// What a run will do, provided that every gate becomes green and nobody else changes anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What is done, in order.
    pub steps: Vec<Planned>,
    /// How it ends.
    pub ending: Ending,
}

/// One thing that a run will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// A change. Revisions in it are those of now, or empty.
    Step(Step),
    /// Waits until these nodes are ready.
    Ready {
        /// The nodes.
        nodes: Vec<Hostname>,
        /// What for.
        purpose: Purpose,
    },
    /// Waits for something that is not so now, and can only be hoped for.
    Wait(Gate),
}

/// How a plan ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The goal is reached.
    Done,
    /// At the place where the operator wanted to stop.
    Paused,
    /// At something that stands in the way already.
    Refused(Box<Refusal>),
    /// The plan does not end: a mistake in this program.
    Endless,
}

/// What a run with this goal will do. `known` is what nodes say of themselves now; those that are not in it
/// are taken to be ready if they run.
pub fn plan(wanted: &Wanted, goal: &Goal, survey: &Survey, known: &Known) -> Plan {
    let mut survey = survey.clone();
    let mut said = known.0.clone();
    let mut known = Known::default();
    let mut steps = Vec::new();
    // A guest has some fifteen steps at most, each with a few questions.
    let limit = 100 * (wanted.nodes().len() + survey.guests.len() + 1);
    for _ in 0..limit {
        let ending = match decide(wanted, goal, &survey, &known) {
            Decision::Settled => Ending::Done,
            Decision::Paused => Ending::Paused,
            Decision::Refused(refusal) => Ending::Refused(refusal),
            Decision::Do(step) => {
                step.predict(&mut survey);
                said.remove(step.node());
                known.0.clear();
                steps.push(Planned::Step(step));
                continue;
            }
            Decision::Ask { nodes, purpose } => {
                for node in &nodes {
                    let health = said.get(node).cloned().unwrap_or_else(|| expected(&survey, node));
                    known.0.insert(node.clone(), health);
                }
                if purpose != Purpose::Order {
                    steps.push(Planned::Ready { nodes, purpose });
                }
                continue;
            }
            Decision::Await(gate) => {
                hope(&gate, &mut survey, &mut said);
                known.0.clear();
                steps.push(Planned::Wait(gate));
                continue;
            }
        };
        return Plan { steps, ending };
    }
    Plan { steps, ending: Ending::Endless }
}

fn expected(survey: &Survey, node: &Hostname) -> Health {
    let runs = |guest: &&Guest| guest.record.node == *node && guest.status == Status::Running;
    match survey.guests.iter().find(runs) {
        Some(_) => Health::Ready { leads: false },
        None => Health::Silent("it does not run".to_owned()),
    }
}

/// Makes `gate` green.
fn hope(gate: &Gate, survey: &mut Survey, said: &mut BTreeMap<Hostname, Health>) {
    let mut ready = |node: &Hostname| {
        said.insert(node.clone(), Health::Ready { leads: false });
    };
    match gate {
        Gate::Idle { guest, .. } => {
            let guests = survey.guests.iter_mut().filter(|other| other.id == *guest);
            guests.for_each(|guest| guest.busy = None);
            let strangers = survey.strangers.iter_mut().filter(|other| other.id == *guest);
            strangers.for_each(|stranger| stranger.busy = None);
        }
        Gate::Ready { at, .. } => ready(&at.node),
        Gate::Others { others: nodes, .. } | Gate::End { nodes } => {
            nodes.iter().for_each(|(node, _)| ready(node));
        }
    }
}

/// How a node stands against what the site wants.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Its host, or that of a guest that may be its, is not there.
    Unknown,
    /// It has no guest that ever had the node.
    Missing,
    /// It is in the middle of a swap, or on its way back.
    Unfinished,
    /// It has the wanted image, and is stopped.
    Stopped,
    /// It has another image.
    Outdated,
    /// It has the wanted image, and runs.
    UpToDate,
}

/// What runs on a node, beside what the site says.
#[derive(Clone, Debug)]
pub struct Difference<'a> {
    /// The node.
    pub node: &'a Node,
    /// Its role, with the wanted image.
    pub role: &'a Role,
    /// The guest that has the node.
    pub current: Option<&'a Guest>,
    /// Its other guests: new, given up and old ones.
    pub others: Vec<&'a Guest>,
    /// How it stands.
    pub standing: Standing,
}

/// What runs and what the site says, for each node.
pub fn differences<'a>(wanted: &'a Wanted, survey: &'a Survey) -> Vec<Difference<'a>> {
    let sight = Sight::new(wanted, survey, &NOTHING);
    let away: Vec<bool> = sight.views.iter().map(|view| sight.away(view.node).is_some()).collect();
    let difference = |(view, away): (super::view::View<'a>, bool)| {
        let current = view.current();
        let standing = match current {
            _ if away => Standing::Unknown,
            _ if view.unfinished() => Standing::Unfinished,
            None => Standing::Missing,
            Some(_) if view.up_to_date() => Standing::UpToDate,
            Some(guest) if guest.record.image != view.role.image => Standing::Outdated,
            Some(guest) if guest.kind != view.role.kind => Standing::Outdated,
            Some(_) => Standing::Stopped,
        };
        let id = current.map(|guest| guest.id);
        let others = view.guests.iter().copied().filter(|guest| Some(guest.id) != id).collect();
        Difference { node: view.node, role: view.role, current, others, standing }
    };
    sight.views.into_iter().zip(away).map(difference).collect()
}

/// The guests of nodes that the site does not have any more. Only a prune touches them, and only those that
/// had lost their node before.
pub fn orphans<'a>(wanted: &Wanted, survey: &'a Survey) -> Vec<&'a Guest> {
    let known = |guest: &&Guest| wanted.node(guest.record.node.as_str()).is_none();
    survey.guests.iter().filter(known).collect()
}

/// Every guest that does not have its node, with the reason why a prune would keep it now; none for those
/// that it would destroy.
pub fn remains<'a>(wanted: &Wanted, survey: &'a Survey) -> Vec<(&'a Guest, Option<String>)> {
    let sight = Sight::new(wanted, survey, &NOTHING);
    let guests = survey.guests.iter().map(|guest| (guest, kept(&sight, guest)));
    guests.filter(|(guest, _)| guest.record.phase != super::record::Phase::Current).collect()
}
