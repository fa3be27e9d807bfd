//! What comes next, for a site: from what is wanted and what is seen, and from nothing else.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::node::{Aim, View, proposal};
use super::platform::{Guest, GuestId, Health, Status, Strangeness, Survey};
use super::record::{Origin, Phase};
use super::refusal::{At, Refusal};
use super::step::Step;
use super::wanted::{Node, Role, Wanted};
use crate::definition::{Hostname, ImageName};
use crate::digest::Digest;

/// Which nodes are meant: those named and those of the named roles, or all if nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Roles.
    pub roles: Vec<ImageName>,
    /// Nodes.
    pub nodes: Vec<Hostname>,
}

/// Where a swap stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PauseAfter {
    /// Once this node has its image.
    Node(Hostname),
    /// Once all nodes of this role have theirs.
    Role(ImageName),
}

/// What is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Every node in scope runs the image that the site wants.
    Deploy {
        /// Which nodes.
        scope: Scope,
        /// Only one node of each role.
        canary: bool,
        /// Where to stop.
        pause_after: Option<PauseAfter>,
    },
    /// No node in scope is in the middle of a swap: what was begun is taken back.
    Undo {
        /// Which nodes.
        scope: Scope,
        /// Why, if a gate stayed red: it is noted on the guest.
        reason: Option<String>,
    },
    /// The nodes in scope run the image before. Without nodes named one by one, those that run the
    /// image that came last to their role; the others have not changed.
    Rollback {
        /// Which nodes.
        scope: Scope,
    },
    /// Guests that are no longer needed are gone.
    Prune {
        /// Which nodes.
        scope: Scope,
    },
}

/// What nodes have said of their health since something was last changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(pub BTreeMap<Hostname, Health>);

/// Why the health of nodes is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To choose the node that is replaced next.
    Order,
    /// Before one of them is taken down.
    Others,
    /// To prove a guest that has been started.
    Proof,
    /// To see that all is well at the end.
    End,
}

/// What has to become true before the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// No task works on the guest any more.
    Idle {
        /// The guest, for people.
        at: String,
        /// Its number.
        guest: GuestId,
        /// The task.
        task: String,
    },
    /// The other nodes are ready.
    Others {
        /// The node that is to be taken down.
        at: At,
        /// Those that are not ready, and what they say.
        others: Vec<(Hostname, String)>,
    },
    /// A started guest is ready.
    Ready {
        /// The guest.
        at: At,
        /// What it says.
        says: String,
        /// Whether it is a new one, so that the node can be given back if it never is.
        new: bool,
    },
    /// At the end all are ready.
    End {
        /// Those that are not, and what they say.
        nodes: Vec<(Hostname, String)>,
    },
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The goal is reached.
    Settled,
    /// The place where the operator wanted to stop is reached; there would be more to do.
    Paused,
    /// Do this.
    Do(Step),
    /// Find out how these nodes are.
    Ask {
        /// The nodes.
        nodes: Vec<Hostname>,
        /// What for.
        purpose: Purpose,
    },
    /// Wait.
    Await(Gate),
    /// Stop here.
    Refused(Box<Refusal>),
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// What comes next on the way to `goal`. The same arguments always give the same answer, and each step is
/// chosen so that the answer after it, or after its failure, leads on.
pub fn decide(wanted: &Wanted, goal: &Goal, survey: &Survey, known: &Known) -> Decision {
    let sight = Sight::new(wanted, survey, known);
    let checked = sight.check(goal).and_then(|()| sight.in_scope(goal.scope()));
    let views = match checked {
        Ok(views) => views,
        Err(decision) => return decision,
    };
    match goal {
        Goal::Deploy { scope, canary, pause_after } => {
            deploy(&sight, &views, scope, *canary, pause_after.as_ref())
        }
        Goal::Undo { reason, .. } => undo(&sight, &views, reason.as_deref()),
        Goal::Rollback { scope } => rollback(&sight, &views, scope),
        Goal::Prune { scope } => prune(&sight, scope),
    }
}

impl Goal {
    /// Which nodes it is about.
    pub fn scope(&self) -> &Scope {
        match self {
            Self::Deploy { scope, .. }
            | Self::Undo { scope, .. }
            | Self::Rollback { scope }
            | Self::Prune { scope } => scope,
        }
    }
}

impl Scope {
    /// Exactly this node.
    pub fn node(node: &Hostname) -> Self {
        Self { roles: Vec::new(), nodes: vec![node.clone()] }
    }

    fn is_all(&self) -> bool {
        self.roles.is_empty() && self.nodes.is_empty()
    }

    fn names(&self, node: &Node) -> bool {
        self.nodes.iter().any(|name| name.as_str().eq_ignore_ascii_case(node.name.as_str()))
    }

    fn holds(&self, node: &Node) -> bool {
        self.is_all() || self.roles.contains(&node.role) || self.names(node)
    }
}

/// The survey, by nodes.
pub(super) struct Sight<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) survey: &'a Survey,
    pub(super) known: &'a Known,
    pub(super) views: Vec<View<'a>>,
}

impl<'a> Sight<'a> {
    pub(super) fn new(wanted: &'a Wanted, survey: &'a Survey, known: &'a Known) -> Self {
        let view = |node| View { node, role: wanted.role(node), guests: Vec::new() };
        let mut views: Vec<View> = wanted.nodes().iter().map(view).collect();
        for guest in &survey.guests {
            if let Some(position) = wanted.position(guest.record.node.as_str()) {
                views[position].guests.push(guest);
            }
        }
        Self { wanted, survey, known, views }
    }

    /// What stands in the way of any change to the site.
    fn check(&self, goal: &Goal) -> Result<(), Decision> {
        if !self.survey.quorate {
            return Err(Refusal::NoQuorum.into());
        }
        for stranger in &self.survey.strangers {
            let ours = self.wanted.ids().contains(&stranger.id);
            let name = stranger.name.as_deref();
            let named = name.is_some_and(|name| self.wanted.node(name).is_some());
            if let (Strangeness::Unreadable(error), true) = (&stranger.why, ours || named) {
                let (guest, name) = (stranger.id, stranger.name.clone());
                return Err(Refusal::UnreadableRecord { guest, name, error: error.clone() }.into());
            }
            if let (Some(task), true) = (&stranger.busy, ours) {
                let at = format!("guest {}", stranger.id);
                let (guest, task) = (stranger.id, task.clone());
                return Err(Decision::Await(Gate::Idle { at, guest, task }));
            }
        }
        match goal {
            Goal::Deploy { pause_after: Some(PauseAfter::Node(name)), .. } => {
                self.require_node(name)
            }
            Goal::Deploy { pause_after: Some(PauseAfter::Role(name)), .. } => {
                self.require_role(name)
            }
            _ => Ok(()),
        }
    }

    fn require_node(&self, name: &Hostname) -> Result<(), Decision> {
        if self.wanted.node(name.as_str()).is_some() {
            return Ok(());
        }
        let known: Vec<_> = self.wanted.nodes().iter().map(|node| node.name.as_str()).collect();
        let (name, known) = (name.to_string(), known.join(", "));
        Err(Refusal::Unknown { what: "node", name, known }.into())
    }

    fn require_role(&self, name: &ImageName) -> Result<(), Decision> {
        if self.wanted.role_named(name.as_str()).is_some() {
            return Ok(());
        }
        let known: Vec<_> = self.wanted.roles().map(|role| role.name.as_str()).collect();
        let (name, known) = (name.to_string(), known.join(", "));
        Err(Refusal::Unknown { what: "role", name, known }.into())
    }

    fn in_scope(&self, scope: &Scope) -> Result<Vec<&View<'a>>, Decision> {
        scope.roles.iter().try_for_each(|name| self.require_role(name))?;
        scope.nodes.iter().try_for_each(|name| self.require_node(name))?;
        Ok(self.views.iter().filter(|view| scope.holds(view.node)).collect())
    }

    /// The nodes that have to be there while one of `role` is away, as far as they are deployed.
    pub(super) fn voters(&self, role: &Role) -> Vec<&View<'a>> {
        let roles = self.wanted.electorate(role);
        let votes = |view: &&View| roles.contains(&view.role.name) && view.current().is_some();
        self.views.iter().filter(votes).collect()
    }

    /// How `nodes` are: those that are not ready, or what to ask first.
    pub(super) fn unready<'b>(
        &self,
        nodes: impl Iterator<Item = &'b Node>,
        purpose: Purpose,
    ) -> Result<Vec<(Hostname, String)>, Decision> {
        let (mut unknown, mut unready) = (Vec::new(), Vec::new());
        for node in nodes {
            match self.known.0.get(&node.name) {
                None => unknown.push(node.name.clone()),
                Some(Health::Ready { .. }) => {}
                Some(Health::NotReady(text) | Health::Silent(text)) => {
                    unready.push((node.name.clone(), text.clone()));
                }
            }
        }
        if unknown.is_empty() {
            Ok(unready)
        } else {
            Err(Decision::Ask { nodes: unknown, purpose })
        }
    }

    /// An id for a new guest: the one after the highest of ours, since backups and statistics are kept by
    /// id; when the range is at its end, the lowest that is free.
    pub(super) fn free_id(&self) -> Option<GuestId> {
        let range = self.wanted.ids();
        let strangers = self.survey.strangers.iter().map(|stranger| stranger.id);
        let ours = self.survey.guests.iter().map(|guest| guest.id);
        let taken: std::collections::BTreeSet<_> =
            strangers.chain(ours.clone()).filter(|id| range.contains(id)).collect();
        let first = range.start().0;
        let after = ours.filter(|id| range.contains(id)).max().map_or(first, |id| id.0 + 1);
        let mut ids = (after..=range.end().0).chain(first..=range.end().0).map(GuestId);
        ids.find(|id| !taken.contains(id))
    }

    /// A guest of someone else that has the name of `node`.
    pub(super) fn namesake(&self, node: &Node) -> Option<GuestId> {
        let same = |name: &String| name.eq_ignore_ascii_case(node.name.as_str());
        let strangers = self.survey.strangers.iter();
        strangers
            .filter(|stranger| !matches!(stranger.why, Strangeness::OtherSite(_)))
            .find(|stranger| stranger.name.as_ref().is_some_and(same))
            .map(|stranger| stranger.id)
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
    let first = undeployed.min_by_key(|view| {
        (Reverse(view.role.order), &view.role.name, view.node.number, &view.node.name)
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
    let guests = views.flat_map(|view| &view.guests).filter(|guest| guest.record.phase != Phase::Old);
    let last = guests.max_by_key(|guest| (guest.record.since, guest.record.generation))?;
    match (last.record.origin, &last.record.replaces) {
        (Origin::Rollback, Some(replaced)) => Some(replaced.image),
        _ => Some(last.record.image),
    }
}

fn prune(sight: &Sight, scope: &Scope) -> Decision {
    let doomed = sight.survey.guests.iter().find(|guest| {
        let position = sight.wanted.position(guest.record.node.as_str());
        let inside = match position {
            Some(position) => scope.holds(sight.views[position].node),
            None => scope.is_all(),
        };
        inside && kept(sight, guest).is_none()
    });
    match doomed {
        Some(guest) => Decision::Do(Step::Destroy {
            node: guest.record.node.clone(),
            guest: guest.id,
            revision: guest.revision.clone(),
        }),
        None => Decision::Settled,
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

