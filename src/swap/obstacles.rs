//! Everything that the engine would refuse, at once instead of one after the other.

use std::collections::BTreeSet;

use super::goal::{Goal, Known, Scope};
use super::plan::{Ending, plan};
use super::platform::{Guest, Status, Strangeness, Survey};
use super::record::Phase;
use super::refusal::{At, Refusal};
use super::sight::Sight;
use super::wanted::Wanted;

/// All reasons for which a swap of the site, or of one of its nodes, would be refused. A swap stops at the
/// first; whoever prepares one wants to know of the last, too.
pub fn obstacles(wanted: &Wanted, survey: &Survey, known: &Known) -> Vec<Refusal> {
    let mut found = Vec::new();
    if !survey.quorate {
        found.push(Refusal::NoQuorum);
    }
    found.extend(strangers(wanted, survey, known));
    found.extend(guests(survey));
    // Without a majority nothing else would be found out.
    let sighted = Survey { quorate: true, ..survey.clone() };
    for node in wanted.nodes() {
        let scope = Scope { nodes: vec![node.name.clone()], ..Scope::default() };
        let goal = Goal::Deploy { scope, canary: false, pause_after: None };
        if let Ending::Refused(refusal) = plan(wanted, &goal, &sighted, known).ending {
            found.push(*refusal);
        }
    }
    let mut told = BTreeSet::new();
    found.retain(|refusal| told.insert(refusal.to_string()));
    found
}

/// Names that are taken, and records that cannot be read.
fn strangers(wanted: &Wanted, survey: &Survey, known: &Known) -> Vec<Refusal> {
    let mut found = Vec::new();
    for stranger in &survey.strangers {
        let named = stranger.name.as_deref().is_some_and(|name| wanted.node(name).is_some());
        if let Strangeness::Unreadable(error) = &stranger.why
            && (named || wanted.ids().contains(&stranger.id))
        {
            let (guest, name) = (stranger.id, stranger.name.clone());
            found.push(Refusal::UnreadableRecord { guest, name, error: error.clone() });
        }
    }
    let sight = Sight::new(wanted, survey, known);
    found.extend(wanted.nodes().iter().filter_map(|node| {
        let guest = sight.namesake(node)?;
        Some(Refusal::NameTaken { at: At::node(node), guest })
    }));
    found
}

/// What holds guests of the site, also those that are replaced only later. As for a swap, what holds those that
/// only lie there does not matter.
fn guests(survey: &Survey) -> Vec<Refusal> {
    let mut found = Vec::new();
    let lies = |guest: &&Guest| {
        matches!(guest.record.phase, Phase::Old | Phase::Failed)
            && guest.status == Status::Stopped
            && guest.volumes.is_empty()
    };
    for guest in survey.guests.iter().filter(|guest| !lies(guest)) {
        let at = || At::guest(guest);
        if let Some(lock) = &guest.lock {
            found.push(Refusal::Locked { at: at(), lock: lock.clone() });
        }
        if guest.managed {
            found.push(Refusal::Managed { at: at() });
        }
        for (volume, held) in &guest.volumes {
            found.extend(held.snapshots.iter().map(|snapshot| Refusal::Snapshot {
                at: at(),
                volume: volume.clone(),
                snapshot: snapshot.clone(),
            }));
        }
    }
    found
}
