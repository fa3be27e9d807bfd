//! What comes next, for a site: from what is wanted and what is seen, and from nothing else.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::goal::{Decision, Gate, Goal, Known, PauseAfter, Purpose, Scope};
use super::node::{Aim, proposal};
use super::platform::{Guest, Health, Status, Survey};
use super::record::{Origin, Phase};
use super::refusal::{At, Refusal};
use super::sight::Sight;
use super::step::Step;
use super::view::View;
use super::wanted::{Role, Wanted};
use crate::definition::ImageName;
use crate::digest::Digest;

/// What comes next on the way to `goal`. The same arguments always give the same answer, and each step is
/// chosen so that the answer after it, or after its failure, leads on.
pub fn decide(wanted: &Wanted, goal: &Goal, survey: &Survey, known: &Known) -> Decision {
    let sight = Sight::new(wanted, survey, known);
    let checked = sight.check(goal).and_then(|()| sight.in_scope(goal.scope()));
    let views = match checked {
        Ok(views) => views,
        Err(decision) => return decision,
    };
    if !matches!(goal, Goal::Prune { .. })
        && let Err(decision) = sight.seen(&views)
    {
        return decision;
    }
    match goal {
        Goal::Deploy { scope, canary, pause_after } => {
            deploy(&sight, &views, scope, *canary, pause_after.as_ref())
        }
        Goal::Undo { reason, .. } => undo(&sight, &views, reason.as_deref()),
        Goal::Rollback { scope } => rollback(&sight, &views, scope),
        Goal::Prune { scope, artifacts } => prune(&sight, scope, *artifacts),
    }
}

/// Refuses while a node outside of the scope is in the middle of a swap.
fn finished_elsewhere(sight: &Sight, scope: &Scope) -> Result<(), Decision> {
    let outside = sight.views.iter().filter(|view| !scope.holds(view.node));
    match outside.filter(|view| view.unfinished()).find_map(|view| view.guests.last()) {
        Some(guest) => Err(Refusal::Unfinished { at: At::guest(guest) }.into()),
        None => Ok(()),
    }
}

fn deploy(
    sight: &Sight,
    views: &[&View],
    scope: &Scope,
    canary: bool,
    pause_after: Option<&PauseAfter>,
) -> Decision {
    if let Err(decision) = finished_elsewhere(sight, scope) {
        return decision;
    }
    if let Some(view) = views.iter().find(|view| view.unfinished()) {
        return proposal(sight, view, &Aim::Deploy);
    }
    let canaries = |role: &Role| {
        canary && views.iter().any(|view| view.role.name == role.name && view.up_to_date())
    };
    let todo = views.iter().filter(|view| !view.up_to_date() && !canaries(view.role));
    let todo: Vec<&View> = todo.copied().collect();
    if todo.is_empty() {
        return end(sight, views.iter().filter(|view| view.current().is_some()).copied());
    }
    if pause_after.is_some_and(|pause| reached(views, pause)) {
        return Decision::Paused;
    }
    // Those that only have to be started, which the others may be waiting for.
    if let Some(view) = todo.iter().find(|view| view.standing_still()) {
        return proposal(sight, view, &Aim::Deploy);
    }
    let undeployed = todo.iter().filter(|view| view.current().is_none());
    // Those first that the others need to become ready.
    let first = undeployed.min_by_key(|view| {
        let role = view.role;
        let depth = sight.wanted.depth(role);
        (depth, Reverse(role.order), &role.name, view.node.number, &view.node.name)
    });
    if let Some(view) = first {
        return proposal(sight, view, &Aim::Deploy);
    }
    match next_in_order(sight, &todo) {
        Ok(view) => proposal(sight, view, &Aim::Deploy),
        Err(decision) => decision,
    }
}

fn reached(views: &[&View], pause: &PauseAfter) -> bool {
    views
        .iter()
        .filter(|view| match pause {
            PauseAfter::Node(name) => view.node.name == *name,
            PauseAfter::Role(name) => view.role.name == *name,
        })
        .all(|view| view.up_to_date())
}

/// The node of `todo` that is replaced next: of the role with the lowest order, or of one that votes with
/// it, one that is not ready, since its going costs nothing and the others wait for it; then the highest
/// number of that role, and last of all the one that leads.
fn next_in_order<'a, 'b>(sight: &Sight, todo: &[&'b View<'a>]) -> Result<&'b View<'a>, Decision> {
    let order = |view: &View<'a>| (view.role.order, view.role.name.clone());
    let Some(first) = todo.iter().min_by_key(|view| order(view)) else {
        return Err(Decision::Settled);
    };
    let voters = sight.wanted.electorate(first.role);
    let votes = |view: &&&'b View<'a>| voters.contains(&view.role.name);
    let candidates: Vec<_> = todo.iter().filter(votes).copied().collect();
    if let [only] = candidates[..] {
        return Ok(only);
    }
    let known = |view: &View| sight.known.0.get(&view.node.name);
    sight.unready(candidates.iter().map(|view| view.node), Purpose::Order)?;
    let rank = |view: &&&View<'a>| {
        let standing = match known(view) {
            Some(Health::Ready { leads: false }) => 1,
            Some(Health::Ready { leads: true }) => 2,
            _ => 0,
        };
        let order = (standing > 0).then(|| order(view));
        (order, standing, Reverse(view.node.number), view.node.name.clone())
    };
    Ok(candidates.iter().min_by_key(rank).copied().unwrap_or(first))
}

/// The goal is reached, if all of `views` are ready.
fn end<'a, 'b: 'a>(sight: &Sight, views: impl Iterator<Item = &'a View<'b>>) -> Decision {
    match sight.unready(views.map(|view| view.node), Purpose::End) {
        Err(decision) => decision,
        Ok(nodes) if nodes.is_empty() => Decision::Settled,
        Ok(nodes) => Decision::Await(Gate::End { nodes }),
    }
}

fn undo(sight: &Sight, views: &[&View], reason: Option<&str>) -> Decision {
    if let Some(view) = views.iter().find(|view| view.unfinished()) {
        return proposal(sight, view, &Aim::Undo(reason));
    }
    // Those that were just given back, or some time ago.
    let undone = views.iter().filter(|view| view.current().is_some() && view.undone().is_some());
    end(sight, undone.copied())
}

fn rollback(sight: &Sight, views: &[&View], scope: &Scope) -> Decision {
    if let Err(decision) = finished_elsewhere(sight, scope) {
        return decision;
    }
    if let Some(view) = views.iter().find(|view| view.unfinished()) {
        return proposal(sight, view, &Aim::Rollback);
    }
    let mut leave: BTreeMap<&ImageName, Option<Digest>> = BTreeMap::new();
    let mut todo = Vec::new();
    for view in views.iter().filter(|view| view.goes_back()) {
        let image = view.current().map(|guest| guest.record.image);
        let last = leave.entry(&view.role.name).or_insert_with(|| latest(sight, view.role));
        // A whole site goes back as far as it can; what is named has to.
        let first = view.current().is_none_or(|guest| guest.record.replaces.is_none());
        if scope.is_all() && first {
            continue;
        }
        if scope.names(view.node) || image == *last {
            todo.push(*view);
        }
    }
    if todo.is_empty() {
        return Decision::Settled;
    }
    // Found out now and not when half of the nodes have gone back.
    let stays = todo.iter().filter(|view| view.before().is_none());
    if let Some(guest) = stays.filter_map(|view| view.current()).next() {
        return Refusal::NothingBefore { at: At::guest(guest) }.into();
    }
    match next_in_order(sight, &todo) {
        Ok(view) => proposal(sight, view, &Aim::Rollback),
        Err(decision) => decision,
    }
}

/// The image that came last to a role, whether or not it stayed.
fn latest(sight: &Sight, role: &Role) -> Option<Digest> {
    let views = sight.views.iter().filter(|view| view.role.name == role.name);
    let guests =
        views.flat_map(|view| &view.guests).filter(|guest| guest.record.phase != Phase::Old);
    let last = guests.max_by_key(|guest| (guest.record.since, guest.record.generation))?;
    match (last.record.origin, &last.record.replaces) {
        (Origin::Rollback, Some(replaced)) => Some(replaced.image),
        _ => Some(last.record.image),
    }
}

fn prune(sight: &Sight, scope: &Scope, artifacts: bool) -> Decision {
    let is_doomed = |guest: &Guest| {
        let position = sight.wanted.position(guest.record.node.as_str());
        let inside = match position {
            Some(position) => scope.holds(sight.views[position].node),
            None => scope.is_all(),
        };
        inside && kept(sight, guest).is_none()
    };
    let guests = &sight.survey.guests;
    let Some(doomed) = guests.iter().find(|guest| is_doomed(guest)) else {
        return Decision::Settled;
    };
    // Before the guest: it is what tells that the artifact was ours.
    let artifact = &doomed.record.artifact;
    let is_wanted = !artifacts || sight.wanted.roles().any(|role| role.artifact == *artifact);
    let is_named = guests.iter().any(|it| it.record.artifact == *artifact && !is_doomed(it));
    let mut stored = sight.survey.artifacts.iter();
    match stored.find(|((_, name), _)| name == artifact) {
        Some(((host, _), size_bytes)) if !is_wanted && !is_named => Decision::Do(Step::Discard {
            node: doomed.record.node.clone(),
            host: host.clone(),
            artifact: artifact.clone(),
            size_bytes: *size_bytes,
        }),
        _ => Decision::Do(Step::destroy(doomed)),
    }
}

/// Why `guest` is not destroyed by a prune; none if it is.
pub(super) fn kept(sight: &Sight, guest: &Guest) -> Option<String> {
    let until = guest.record.since.after(sight.wanted.grace());
    let view = sight.wanted.position(guest.record.node.as_str()).map(|at| &sight.views[at]);
    let text = match guest.record.phase {
        Phase::Current => "it has the node",
        Phase::New => "it is in the middle of a swap",
        Phase::Old if sight.survey.now < until => return Some(format!("it is kept until {until}")),
        _ if guest.status != Status::Stopped => "it is not stopped",
        _ if !guest.volumes.is_empty() => "it has state volumes",
        _ if !guest.other_disks.is_empty() => "it has disks that imgbuild did not give it",
        _ if guest.protected => "it is protected",
        _ if guest.managed => "it is managed by high availability",
        _ if guest.lock.is_some() || guest.busy.is_some() => "it is locked or busy",
        _ if view.is_some_and(|view| view.unfinished()) => "its node is in the middle of a swap",
        _ if view.is_some_and(|view| !view.serves()) => "its node has no other guest that runs",
        _ => return None,
    };
    Some(text.to_owned())
}
