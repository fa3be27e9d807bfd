//! A node, with what is seen of its guests.

use std::collections::BTreeMap;

use super::platform::{Guest, Status};
use super::record::{Origin, Phase};
use super::wanted::{Node, Role};
use crate::definition::VolumeName;

/// A node and the guests that it has or had.
pub(super) struct View<'a> {
    pub(super) node: &'a Node,
    pub(super) role: &'a Role,
    pub(super) guests: Vec<&'a Guest>,
}

impl<'a> View<'a> {
    /// The guest that has the node. Of two it is the one of the higher generation: the process that
    /// committed it was interrupted before it retired the other.
    pub(super) fn current(&self) -> Option<&'a Guest> {
        let claims = self.phase(Phase::Current);
        claims.max_by_key(|guest| (guest.record.generation, guest.id))
    }

    pub(super) fn phase(&self, phase: Phase) -> impl Iterator<Item = &'a Guest> {
        self.guests.iter().copied().filter(move |guest| guest.record.phase == phase)
    }

    /// The guest that is to get the node. There may be two if a creation was thought to have failed; then
    /// the one that has got further.
    pub(super) fn candidate(&self) -> Option<&'a Guest> {
        let successor = self.current().and_then(|guest| guest.record.successor);
        self.phase(Phase::New).max_by_key(|guest| {
            let further = guest.status == Status::Running || !guest.volumes.is_empty();
            let chosen = successor == Some(guest.id);
            (chosen, further, guest.record.generation, std::cmp::Reverse(guest.id))
        })
    }

    /// Whether a swap, or taking one back, is in progress.
    pub(super) fn unfinished(&self) -> bool {
        self.phase(Phase::New).next().is_some()
            || self.phase(Phase::Current).nth(1).is_some()
            || match self.current() {
                Some(current) => returning(self, current),
                None => self.guests.iter().any(|guest| guest.status == Status::Running),
            }
    }

    /// Whether the node runs the image that the site wants, and nothing is in progress.
    pub(super) fn up_to_date(&self) -> bool {
        self.serves() && !self.unfinished() && self.current().is_some_and(|guest| self.fits(guest))
    }

    /// Whether the guest that has the node runs.
    pub(super) fn serves(&self) -> bool {
        self.current().is_some_and(|guest| guest.status == Status::Running)
    }

    /// Whether the node has the image that the site wants, and is stopped.
    pub(super) fn standing_still(&self) -> bool {
        self.current().is_some_and(|guest| self.fits(guest)) && !self.serves()
    }

    pub(super) fn fits(&self, guest: &Guest) -> bool {
        guest.record.image == self.role.image && guest.kind == self.role.kind
    }

    /// A guest that was given up after the one that has the node came.
    pub(super) fn undone(&self) -> Option<&'a Guest> {
        let generation = self.current().map(|guest| guest.record.generation);
        self.phase(Phase::Failed).find(|guest| Some(guest.record.generation) > generation)
    }

    /// Whether a rollback has something to do here: not where it was done already, and not where the
    /// last swap was taken back.
    pub(super) fn goes_back(&self) -> bool {
        let undone = self.undone().is_some_and(|guest| guest.record.origin == Origin::Swap);
        self.current().is_some_and(|guest| guest.record.origin == Origin::Swap) && !undone
    }

    /// The guest that had the node before the current one, if it is still there with its image.
    pub(super) fn before(&self) -> Option<&'a Guest> {
        let replaced = self.current()?.record.replaces.as_ref()?;
        let kept = |guest: &Guest| match guest.record.phase {
            Phase::Old => true,
            Phase::Failed => guest.record.origin == Origin::Rollback,
            Phase::New | Phase::Current => false,
        };
        let mut guests = self.guests.iter().copied();
        guests.find(|guest| {
            guest.id == replaced.guest && guest.record.image == replaced.image && kept(guest)
        })
    }

    pub(super) fn generation(&self) -> u32 {
        self.guests.iter().map(|guest| guest.record.generation).max().unwrap_or(0).saturating_add(1)
    }

    /// The state volumes that the node has to have, with a guest that had each.
    pub(super) fn volumes(&self) -> BTreeMap<&'a VolumeName, &'a Guest> {
        let current = self.current();
        let holders = self.guests.iter().copied().filter(|guest| {
            // What an old guest had, its successor has: unless there is none.
            current.is_none() || guest.record.phase != Phase::Old
        });
        let mut volumes = BTreeMap::new();
        for guest in holders.chain(current) {
            volumes.extend(guest.record.volumes.iter().map(|name| (name, guest)));
        }
        for guest in &self.guests {
            volumes.extend(guest.volumes.keys().map(|name| (name, *guest)));
        }
        volumes
    }
}

/// Whether the node is on its way back to `current`.
pub(super) fn returning(view: &View, current: &Guest) -> bool {
    let astray = |guest: &&&Guest| {
        guest.id != current.id && (guest.status == Status::Running || !guest.volumes.is_empty())
    };
    let stays_down = current.status == Status::Stopped && view.undone().is_some();
    current.record.successor.is_some()
        || stays_down
        || view.guests.iter().any(|guest| astray(&guest))
}
