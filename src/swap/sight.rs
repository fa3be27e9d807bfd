//! A site, with what is seen of it.

use super::goal::{Decision, Gate, Goal, Known, PauseAfter, Purpose, Scope};
use super::platform::{GuestId, Health, Strangeness, Survey};
use super::refusal::Refusal;
use super::view::View;
use super::wanted::{Node, Role, Wanted};
use crate::definition::{Hostname, ImageName};

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
    pub(super) fn check(&self, goal: &Goal) -> Result<(), Decision> {
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

    pub(super) fn in_scope(&self, scope: &Scope) -> Result<Vec<&View<'a>>, Decision> {
        scope.roles.iter().try_for_each(|name| self.require_role(name))?;
        scope.nodes.iter().try_for_each(|name| self.require_node(name))?;
        Ok(self.views.iter().filter(|view| scope.holds(view.node)).collect())
    }

    /// Refuses where a node's guests may be on a host that is not there. A guest of which nothing tells whose it is
    /// may be any node's.
    pub(super) fn seen(&self, views: &[&View<'a>]) -> Result<(), Decision> {
        let refusals = views.iter().filter_map(|view| self.away(view.node));
        refusals.map(|refusal| Err(refusal.into())).next().unwrap_or(Ok(()))
    }

    /// Why it is not known what a node has, if it is not.
    pub(super) fn away(&self, node: &Node) -> Option<Refusal> {
        let unseen = self.survey.strangers.iter().find_map(|stranger| match &stranger.why {
            Strangeness::Unseen(Some(name))
                if !name.as_str().eq_ignore_ascii_case(node.name.as_str()) =>
            {
                None
            }
            Strangeness::Unseen(name) => Some((stranger, name.is_some())),
            _ => None,
        });
        let (host, what) = match unseen {
            Some((stranger, known)) => {
                let host = stranger.host.as_ref().map_or("its host", |host| host.as_str());
                let id = stranger.id;
                let guest = match known {
                    true => format!("its guest {id}"),
                    false => format!("guest {id}, which may be its,"),
                };
                (host, format!("{guest} is on {host}, which is offline"))
            }
            None if self.survey.away.contains(&node.host) => {
                (node.host.as_str(), format!("its host {} is offline", node.host))
            }
            None => return None,
        };
        Some(Refusal::HostAway { node: node.name.clone(), host: host.to_owned(), what })
    }

    /// The nodes that have to be there while one of `role` is away, as far as they are deployed.
    pub(super) fn voters(&self, role: &Role) -> Vec<&View<'a>> {
        let roles = self.wanted.electorate(role);
        let deployed = |view: &View| view.current().is_some() || self.away(view.node).is_some();
        let votes = |view: &&View| roles.contains(&view.role.name) && deployed(view);
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
            .filter(|it| !matches!(it.why, Strangeness::OtherSite(_) | Strangeness::Unseen(_)))
            .find(|stranger| stranger.name.as_ref().is_some_and(same))
            .map(|stranger| stranger.id)
    }
}
