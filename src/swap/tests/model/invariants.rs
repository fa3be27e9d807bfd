//! What must be true at every moment.

use std::collections::BTreeMap;

use super::world::{BOOT, ModelGuest, World};
use crate::definition::Hostname;
use crate::swap::platform::GuestId;
use crate::swap::record::{Phase, Record};

impl World {
    pub fn available(&self, node: &Hostname) -> bool {
        let serves = |guest: &ModelGuest| {
            let Some(record) = &guest.record else { return false };
            record.node == *node && guest.running && self.complaint(guest, record).is_none()
        };
        self.guests.values().any(serves)
    }

    /// Why a running guest is not ready, apart from illness.
    pub fn complaint(&self, guest: &ModelGuest, record: &Record) -> Option<&'static str> {
        if self.now < guest.started + BOOT {
            return Some("starting");
        }
        if self.bad.contains(&(record.image, record.node.clone())) {
            return Some("the service does not start");
        }
        if !record.volumes.iter().all(|name| guest.volumes.contains_key(name)) {
            return Some("a state volume is missing");
        }
        None
    }

    /// A guest that has its node is going to stop: all others that vote with it have to be there.
    pub fn others_are_there(&mut self, id: GuestId) {
        let Some(record) = self.guests.get(&id).and_then(|guest| guest.record.as_ref()) else {
            return;
        };
        let Some(node) = self.wanted.node(record.node.as_str()) else { return };
        if record.phase != Phase::Current || !self.available(&node.name) {
            return;
        }
        let voters = self.wanted.electorate(self.wanted.role(node));
        let others = self.wanted.nodes().iter().filter(|other| {
            other.name != node.name
                && voters.contains(&other.role)
                && self.deployed.contains(&other.name)
        });
        let away =
            others.filter(|other| !self.available(&other.name) || self.sick.contains(&other.name));
        let away: Vec<_> = away.map(|other| other.name.to_string()).collect();
        if !away.is_empty() {
            let text = format!("{} was taken down without {}", node.name, away.join(", "));
            self.violate(text);
        }
    }

    /// What must be true at every moment.
    pub fn check(&mut self) {
        let mut wrong = Vec::new();
        let mut running: BTreeMap<&Hostname, GuestId> = BTreeMap::new();
        let mut attached: BTreeMap<u64, u32> = BTreeMap::new();
        for (id, guest) in &self.guests {
            for volume in guest.volumes.values() {
                *attached.entry(volume.identity).or_default() += 1;
                if !volume.name.starts_with(&format!("vm-{id}-")) {
                    wrong.push(format!("{} is attached to guest {id}", volume.name));
                }
            }
            let Some(record) = &guest.record else { continue };
            if guest.running
                && let Some(other) = running.insert(&record.node, *id)
            {
                wrong.push(format!("guests {other} and {id} of {} run at once", record.node));
            }
        }
        for (identity, (node, name)) in &self.volumes {
            match attached.get(identity) {
                Some(1) => {}
                count => wrong.push(format!("{name} of {node} is attached {count:?} times")),
            }
        }
        for role in self.wanted.roles() {
            let voters = self.wanted.electorate(role);
            let nodes = self.wanted.nodes().iter();
            let nodes = nodes.filter(|node| voters.contains(&node.role));
            let away = nodes
                .filter(|node| self.deployed.contains(&node.name) && !self.available(&node.name));
            let away: Vec<_> = away.map(|node| node.name.to_string()).collect();
            if away.len() > 1 {
                wrong.push(format!("{} are away at once", away.join(", ")));
            }
        }
        wrong.into_iter().for_each(|text| self.violate(text));
    }
}
