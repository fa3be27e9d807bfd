//! What goes on by itself: tasks, hosts that start again, guests that stop.

use std::collections::BTreeSet;

use super::world::{BOOT, Effect, ModelGuest, World};
use crate::swap::platform::{CallError, GuestId};
use crate::swap::record::Phase;

impl World {
    pub fn advance(&mut self, seconds: u64) {
        self.now += seconds;
        loop {
            let due = self.late.iter().filter(|(at, ..)| *at <= self.now);
            let Some(task) = due.min_by_key(|(at, task, _)| (*at, *task)).map(|(_, task, _)| *task)
            else {
                return;
            };
            let result = self.finish(task);
            self.results.insert(task, result);
        }
    }

    /// Begins a task that takes so many seconds.
    pub fn task(&mut self, effect: Effect, seconds: u64) -> u64 {
        for id in effect.guests() {
            if let Some(guest) = self.guests.get_mut(&id) {
                guest.busy = Some("a task".to_owned());
            }
        }
        self.tasks += 1;
        self.late.push((self.now + seconds, self.tasks, effect));
        self.tasks
    }

    /// Ends a task, or says how it has ended.
    pub fn finish(&mut self, task: u64) -> Result<(), CallError> {
        let Some(at) = self.late.iter().position(|(_, other, _)| *other == task) else {
            let gone = Err(CallError::Failed("the task was interrupted".to_owned()));
            return self.results.remove(&task).unwrap_or(gone);
        };
        let (_, _, effect) = self.late.remove(at);
        for id in effect.guests() {
            if let Some(guest) = self.guests.get_mut(&id) {
                guest.busy = None;
            }
        }
        self.history.push(format!("{}: {effect:?}", self.now));
        self.apply(&effect)
    }

    pub fn reboot(&mut self, host: usize) {
        let hosts: BTreeSet<_> = self.guests.values().map(|guest| guest.host.clone()).collect();
        let Some(host) = hosts.iter().nth(host % hosts.len().max(1)).cloned() else { return };
        self.history.push(format!("{}: {host} starts again", self.now));
        let here = |id: &GuestId| self.guests.get(id).is_some_and(|guest| guest.host == host);
        self.late.retain(|(_, _, effect)| match effect {
            Effect::Create(new) => new.host != host,
            effect => !effect.guests().iter().any(here),
        });
        for guest in self.guests.values_mut().filter(|guest| guest.host == host) {
            guest.running = guest.starts_on_boot;
            guest.started = self.now - BOOT;
            guest.busy = None;
        }
        self.check();
    }

    pub fn crash(&mut self) {
        let new = |guest: &&mut ModelGuest| {
            guest.running && guest.record.as_ref().is_some_and(|record| record.phase == Phase::New)
        };
        if let Some(guest) = self.guests.values_mut().find(new) {
            guest.running = false;
            self.history.push(format!("{}: a guest of {} stops", self.now, guest.name));
        }
    }
}
