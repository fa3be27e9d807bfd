//! What comes next, for one node.

use super::goal::{Decision, Gate, Purpose};
use super::platform::{Guest, GuestId, NewGuest, Status};
use super::record::{Origin, Phase, Record, Replaced, one_line};
use super::refusal::{At, Refusal};
use super::sight::Sight;
use super::step::{Change, Step};
use super::view::{View, returning};
use crate::definition::{GuestKind, Hostname};

/// What a node is brought to.
pub(super) enum Aim<'a> {
    /// The image that the site wants.
    Deploy,
    /// No swap in progress; the reason, if a gate stayed red.
    Undo(Option<&'a str>),
    /// The image before.
    Rollback,
}

/// What comes next on the way to `aim`.
pub(super) fn proposal(sight: &Sight, view: &View, aim: &Aim) -> Decision {
    Proposal { sight, view }.decide(aim).unwrap_or_else(|decision| decision)
}

/// Chooses the next step of one node. Functions return `Err` once they have found it, so that `?` reads
/// as "unless this comes first".
struct Proposal<'s, 'a> {
    sight: &'s Sight<'a>,
    view: &'s View<'a>,
}

type Found<T = ()> = Result<T, Decision>;

impl<'a> Proposal<'_, 'a> {
    fn decide(&self, aim: &Aim) -> Found<Decision> {
        self.unobstructed()?;
        match aim {
            Aim::Deploy => self.deploy()?,
            Aim::Undo(reason) => self.undo(*reason)?,
            Aim::Rollback => self.rollback()?,
        }
        Ok(Decision::Settled)
    }

    fn deploy(&self) -> Found {
        if let Some(new) = self.candidate()? {
            return match self.view.fits(new) {
                true => self.converge(new, true),
                false => {
                    Err(self.give_up(new, None, "another image was wanted before it was ready"))
                }
            };
        }
        match self.view.current() {
            Some(current) if self.view.fits(current) => self.converge(current, false),
            Some(current) if returning(self.view, current) => self.converge(current, false),
            Some(current) => self.replace(current),
            None => self.first(),
        }
    }

    fn undo(&self, reason: Option<&str>) -> Found {
        if let Some(new) = self.candidate()? {
            return Err(self.give_up(new, reason, "taken back by an operator"));
        }
        match self.view.current() {
            Some(current) => self.converge(current, true),
            None => self.halt_all_but(None),
        }
    }

    fn rollback(&self) -> Found {
        if let Some(new) = self.candidate()? {
            return match new.record.origin {
                Origin::Rollback => self.converge(new, true),
                Origin::Swap => Err(self.give_up(new, None, "taken back by an operator")),
            };
        }
        match self.view.current() {
            Some(current) if returning(self.view, current) => self.converge(current, true),
            Some(current) if self.view.phase(Phase::Current).nth(1).is_some() => {
                self.converge(current, true)
            }
            Some(current) => self.go_back(current),
            None => self.halt_all_but(None),
        }
    }

    /// The guest that is to get the node, once it is the only one.
    fn candidate(&self) -> Found<Option<&'a Guest>> {
        let Some(chosen) = self.view.candidate() else { return Ok(None) };
        if let Some(other) = self.view.phase(Phase::New).find(|other| other.id != chosen.id) {
            return Err(self.give_up(other, None, "made twice"));
        }
        let late = |current: &Guest| current.record.generation >= chosen.record.generation;
        match self.view.current().is_some_and(late) {
            true => Err(self.give_up(chosen, None, "came too late")),
            false => Ok(Some(chosen)),
        }
    }

    /// Nothing and nobody else works on the node's guests. What is done to those that lie there, such as a
    /// backup, does not matter.
    fn unobstructed(&self) -> Found {
        let lies = |guest: &Guest| {
            matches!(guest.record.phase, Phase::Old | Phase::Failed)
                && guest.status == Status::Stopped
                && guest.volumes.is_empty()
        };
        self.view.guests.iter().filter(|guest| !lies(guest)).try_for_each(|guest| free(guest))?;
        if let Some(guest) = self.sight.namesake(self.view.node) {
            return Err(Refusal::NameTaken { at: At::node(self.view.node), guest }.into());
        }
        Ok(())
    }

    /// Every state volume is there once and can get to a guest of this kind on this host.
    fn state_can_move(&self, to: Option<GuestId>, host: &Hostname, kind: GuestKind) -> Found {
        let volumes = self.view.volumes();
        for (volume, had) in volumes {
            let mut holders =
                self.view.guests.iter().filter(|guest| guest.volumes.contains_key(volume));
            let (volume, at) = (volume.clone(), At::guest(had));
            let Some(holder) = holders.next() else {
                return Err(Refusal::VolumeMissing { at, volume }.into());
            };
            let at = At::guest(holder);
            if let Some(other) = holders.next() {
                return Err(Refusal::VolumeTwice { at, volume, other: other.id }.into());
            }
            if to == Some(holder.id) {
                continue;
            }
            if holder.host != *host {
                return Err(Refusal::OtherHost { at, wanted: host.clone() }.into());
            }
            if holder.kind != kind {
                return Err(Refusal::OtherKind { at, is: holder.kind, wanted: kind }.into());
            }
            if let Some(snapshot) = holder.volumes[&volume].snapshots.first().cloned() {
                return Err(Refusal::Snapshot { at, volume, snapshot }.into());
            }
        }
        Ok(())
    }

    /// All others of the role, and those who vote with it, are ready.
    fn others_ready(&self) -> Found {
        let others = self.sight.voters(self.view.role);
        let others = others.into_iter().filter(|view| view.node.name != self.view.node.name);
        let others = self.sight.unready(others.map(|view| view.node), Purpose::Others)?;
        match others.is_empty() {
            true => Ok(()),
            false => Err(Decision::Await(Gate::Others { at: At::node(self.view.node), others })),
        }
    }

    /// A node that has never been deployed, or whose guests are all given up.
    fn first(&self) -> Found {
        let mut failed = self.view.phase(Phase::Failed).filter(|guest| self.view.fits(guest));
        match failed.next() {
            Some(guest) => {
                free(guest)?;
                self.halt_all_but(Some(guest.id))?;
                self.state_can_move(Some(guest.id), &guest.host, guest.kind)?;
                Err(self.revive(guest, Origin::Swap, guest.record.replaces.clone()))
            }
            None => {
                self.halt_all_but(None)?;
                self.create(None)
            }
        }
    }

    /// A node whose guest has another image.
    fn replace(&self, current: &Guest) -> Found {
        if current.record.role != self.view.role.name {
            let (is, wanted) = (current.record.role.clone(), self.view.role.name.clone());
            return Err(Refusal::OtherRole { at: At::guest(current), is, wanted }.into());
        }
        self.state_can_move(None, &self.view.node.host, self.view.role.kind)?;
        self.others_ready()?;
        // What the last attempt has left would only take room.
        let left = self.view.phase(Phase::Failed).find(|guest| {
            guest.record.origin == Origin::Swap
                && guest.volumes.is_empty()
                && guest.other_disks.is_empty()
                && !guest.protected
                && free(guest).is_ok()
        });
        if let Some(guest) = left {
            return Err(Decision::Do(Step::destroy(guest)));
        }
        self.create(Some(current))
    }

    fn create(&self, current: Option<&Guest>) -> Found {
        let (node, role) = (self.view.node, self.view.role);
        self.state_can_move(None, &node.host, role.kind)?;
        let (host, artifact) = (node.host.clone(), role.artifact.clone());
        if !self.sight.survey.artifacts.contains_key(&(host.clone(), artifact.clone())) {
            let node = node.name.clone();
            return Err(Decision::Do(Step::Upload { node, host, artifact }));
        }
        let Some(id) = self.sight.free_id() else {
            let (first, last) = (*self.sight.wanted.ids().start(), *self.sight.wanted.ids().end());
            return Err(Refusal::NoFreeId { at: At::node(node), first, last }.into());
        };
        let there = self.view.volumes();
        let fresh = role.volumes.iter().filter(|(name, _)| !there.contains_key(name));
        let record = Record {
            site: self.sight.wanted.site().clone(),
            node: node.name.clone(),
            role: role.name.clone(),
            image: role.image,
            artifact: artifact.clone(),
            generation: self.view.generation(),
            phase: Phase::New,
            since: self.sight.survey.now,
            origin: Origin::Swap,
            volumes: there.keys().copied().chain(role.volumes.keys()).cloned().collect(),
            replaces: current.map(replaced),
            successor: None,
            reason: None,
        };
        let fresh = fresh.map(|(name, size)| (name.clone(), *size)).collect();
        let kind = role.kind;
        Err(Decision::Do(Step::Create(Box::new(NewGuest {
            id,
            host,
            kind,
            artifact,
            record,
            fresh,
        }))))
    }

    /// Brings the guest back whose place `current` has taken.
    fn go_back(&self, current: &Guest) -> Found {
        if !self.view.goes_back() {
            return Ok(());
        }
        let before = self.view.before();
        let Some(before) = before else {
            return Err(Refusal::NothingBefore { at: At::guest(current) }.into());
        };
        free(before)?;
        self.state_can_move(Some(before.id), &before.host, before.kind)?;
        self.others_ready()?;
        Err(self.revive(before, Origin::Rollback, Some(replaced(current))))
    }

    /// Makes `target` the one guest of the node: alone, with all state, running, proven if asked for.
    fn converge(&self, target: &Guest, prove: bool) -> Found {
        let current = self.view.current().filter(|current| current.id != target.id);
        let new = target.record.phase == Phase::New;
        self.state_can_move(Some(target.id), &target.host, target.kind)?;
        if let Some(current) = current.filter(|_| new)
            && current.record.successor != Some(target.id)
        {
            self.others_ready()?;
            let record = Record { successor: Some(target.id), ..current.record.clone() };
            return Err(write(current, record, Change::Yield));
        }
        self.halt_all_but(Some(target.id))?;
        self.gather(target)?;
        let returned = !new && target.record.successor.is_some();
        let reclaim = || {
            let record = Record { successor: None, ..target.record.clone() };
            Err(write(target, record, Change::Reclaim))
        };
        if returned && !prove {
            return reclaim();
        }
        if target.status == Status::Stopped {
            let (node, revision) = (self.view.node.name.clone(), target.revision.clone());
            return Err(Decision::Do(Step::Start { node, guest: target.id, revision }));
        }
        if prove || new {
            self.proven(target)?;
        }
        if returned {
            return reclaim();
        }
        if new {
            let (phase, since) = (Phase::Current, self.sight.survey.now);
            let record =
                Record { phase, since, successor: None, reason: None, ..target.record.clone() };
            return Err(write(target, record, Change::Commit));
        }
        match self.view.phase(Phase::Current).find(|guest| guest.id != target.id) {
            Some(guest) => {
                let (phase, since) = (Phase::Old, self.sight.survey.now);
                let record = Record { phase, since, successor: None, ..guest.record.clone() };
                Err(write(guest, record, Change::Retire))
            }
            None => Ok(()),
        }
    }

    /// Stops whatever else runs. Before the guest that has the node is stopped, the others of its role
    /// are asked once more.
    fn halt_all_but(&self, target: Option<GuestId>) -> Found {
        let mut running = self
            .view
            .guests
            .iter()
            .filter(|guest| Some(guest.id) != target && guest.status == Status::Running);
        let Some(guest) = running.next() else { return Ok(()) };
        if guest.record.phase == Phase::Current {
            self.others_ready()?;
        }
        Err(Decision::Do(Step::Halt {
            node: self.view.node.name.clone(),
            guest: guest.id,
            revision: guest.revision.clone(),
            patience: self.view.role.patience,
            force: guest.record.phase == Phase::Failed,
        }))
    }

    fn gather(&self, target: &Guest) -> Found {
        for guest in self.view.guests.iter().filter(|guest| guest.id != target.id) {
            if let Some(volume) = guest.volumes.keys().next() {
                return Err(Decision::Do(Step::Move {
                    node: self.view.node.name.clone(),
                    volume: volume.clone(),
                    from: (guest.id, guest.revision.clone()),
                    to: (target.id, target.revision.clone()),
                }));
            }
        }
        Ok(())
    }

    fn proven(&self, target: &Guest) -> Found {
        let unready = self.sight.unready(std::iter::once(self.view.node), Purpose::Proof)?;
        match unready.into_iter().next() {
            None => Ok(()),
            Some((_, says)) => {
                let new = target.record.phase == Phase::New;
                Err(Decision::Await(Gate::Ready { at: At::guest(target), says, new }))
            }
        }
    }

    /// Takes the node away from a guest that has not got it yet. One that a rollback brought back and
    /// that nothing is wrong with can be brought back again.
    fn give_up(&self, guest: &Guest, red: Option<&str>, otherwise: &str) -> Decision {
        let innocent = guest.record.origin == Origin::Rollback && red.is_none();
        let record = Record {
            phase: if innocent { Phase::Old } else { Phase::Failed },
            since: self.sight.survey.now,
            reason: (!innocent).then(|| one_line(red.unwrap_or(otherwise))),
            ..guest.record.clone()
        };
        write(guest, record, Change::GiveUp)
    }

    fn revive(&self, guest: &Guest, origin: Origin, replaces: Option<Replaced>) -> Decision {
        let volumes = self.view.volumes();
        let record = Record {
            generation: self.view.generation(),
            phase: Phase::New,
            since: self.sight.survey.now,
            origin,
            volumes: volumes.into_keys().cloned().collect(),
            replaces,
            successor: None,
            reason: None,
            ..guest.record.clone()
        };
        write(guest, record, Change::Revive)
    }
}

/// Nothing and nobody else works on the guest.
fn free(guest: &Guest) -> Found {
    let at = At::guest(guest);
    if let Some(task) = &guest.busy {
        let (at, guest, task) = (at.to_string(), guest.id, task.clone());
        return Err(Decision::Await(Gate::Idle { at, guest, task }));
    }
    if guest.status == Status::Unknown {
        return Err(Refusal::HostUnknown { at }.into());
    }
    if guest.managed {
        return Err(Refusal::Managed { at }.into());
    }
    match guest.lock.clone() {
        Some(lock) => Err(Refusal::Locked { at, lock }.into()),
        None => Ok(()),
    }
}

fn replaced(guest: &Guest) -> Replaced {
    Replaced { guest: guest.id, image: guest.record.image }
}

fn write(guest: &Guest, record: Record, change: Change) -> Decision {
    Decision::Do(Step::Write {
        guest: guest.id,
        revision: guest.revision.clone(),
        record: Box::new(record),
        change,
    })
}
