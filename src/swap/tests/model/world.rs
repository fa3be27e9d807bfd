//! The cluster: what it has, and what it does when asked.

use std::collections::{BTreeMap, BTreeSet};

use crate::debian::date::Moment;
use crate::definition::{GuestKind, Hostname, VolumeName};
use crate::digest::Digest;
use crate::swap::lease::Lease;
use crate::swap::platform::{
    CallError, Guest, GuestId, Health, NewGuest, Revision, Status, Strangeness, Stranger, Survey,
    Volume,
};
use crate::swap::record::{Phase, Reading, Record};
use crate::swap::wanted::Wanted;

/// How long a guest takes to become ready, in seconds.
pub const BOOT: u64 = 20;

pub struct ModelVolume {
    /// Stays the same, wherever the volume is moved.
    pub identity: u64,
    /// Changes when it is moved, as it has the number of its guest in it.
    pub name: String,
    pub size: u32,
}

pub struct ModelGuest {
    pub name: String,
    pub host: Hostname,
    pub kind: GuestKind,
    pub running: bool,
    pub started: u64,
    pub revision: u64,
    pub description: String,
    pub record: Option<Record>,
    pub starts_on_boot: bool,
    pub volumes: BTreeMap<VolumeName, ModelVolume>,
    pub busy: Option<String>,
}

#[derive(Clone)]
pub enum Effect {
    Create(Box<NewGuest>),
    Write(GuestId, Box<Record>),
    Start(GuestId),
    Shutdown(GuestId),
    Stop(GuestId),
    Move(VolumeName, GuestId, GuestId),
    Destroy(GuestId),
}

/// The cluster.
pub struct World {
    pub wanted: Wanted,
    pub now: u64,
    pub guests: BTreeMap<GuestId, ModelGuest>,
    pub artifacts: BTreeMap<(Hostname, String), u64>,
    pub lease: Option<Lease>,
    pub lease_revision: u64,
    /// Tasks that run: when they end, their number, what they do.
    pub late: Vec<(u64, u64, Effect)>,
    pub results: BTreeMap<u64, Result<(), CallError>>,
    pub tasks: u64,
    pub volumes: BTreeMap<u64, (Hostname, VolumeName)>,
    pub deployed: BTreeSet<Hostname>,
    /// Images that never become ready on a node.
    pub bad: BTreeSet<(Digest, Hostname)>,
    /// Nodes that have become ill, which is not our doing.
    pub sick: BTreeSet<Hostname>,
    /// Nodes that the others of their role follow.
    pub leaders: BTreeSet<Hostname>,
    /// How runs have ended.
    pub endings: BTreeSet<&'static str>,
    /// What has happened.
    pub history: Vec<String>,
    /// What must never happen, and has.
    pub violations: Vec<String>,
}

impl World {
    pub fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            now: 1_800_000_000,
            guests: BTreeMap::new(),
            artifacts: BTreeMap::new(),
            lease: None,
            lease_revision: 0,
            late: Vec::new(),
            results: BTreeMap::new(),
            tasks: 0,
            volumes: BTreeMap::new(),
            deployed: BTreeSet::new(),
            bad: BTreeSet::new(),
            sick: BTreeSet::new(),
            leaders: BTreeSet::new(),
            endings: BTreeSet::new(),
            history: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Adds a guest of someone else.
    pub fn add_stranger(&mut self, id: GuestId, name: &str, host: &Hostname) {
        let guest = ModelGuest {
            name: name.to_owned(),
            host: host.clone(),
            kind: GuestKind::Machine,
            running: true,
            started: 0,
            revision: 0,
            description: "Somebody's mail server".to_owned(),
            record: None,
            starts_on_boot: true,
            volumes: BTreeMap::new(),
            busy: None,
        };
        self.guests.insert(id, guest);
    }

    /// Changes what the site should be.
    pub fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub fn now(&self) -> u64 {
        self.now
    }

    pub fn violate(&mut self, text: String) {
        self.history.push(format!("{}: VIOLATION {text}", self.now));
        self.violations.push(text);
    }

    /// A guest of ours, at this revision, with which something can be done.
    pub fn ours(
        &mut self,
        id: GuestId,
        revision: Option<&Revision>,
    ) -> Result<&mut ModelGuest, CallError> {
        match self.guests.get(&id).map(|guest| guest.record.is_some()) {
            None => return Err(CallError::Conflict(format!("guest {id} does not exist"))),
            Some(false) => {
                self.violate(format!("guest {id} of somebody else was touched"));
                return Err(CallError::Failed("not ours".to_owned()));
            }
            Some(true) => {}
        }
        let guest = self.guests.get_mut(&id).expect("it was there");
        if revision.is_some_and(|revision| revision.0 != guest.revision.to_string()) {
            return Err(CallError::Conflict("detected modified configuration".to_owned()));
        }
        match &guest.busy {
            Some(task) => Err(CallError::Failed(format!("can't lock file: {task}"))),
            None => Ok(guest),
        }
    }

    /// Whether the cluster takes the call.
    pub fn accept(&mut self, effect: &Effect, revisions: &[&Revision]) -> Result<(), CallError> {
        for (id, revision) in effect.guests().into_iter().zip(revisions) {
            self.ours(id, Some(revision))?;
        }
        // Whoever falls ill while the guest drains is not the operator's fault.
        if let Effect::Shutdown(id) | Effect::Stop(id) = effect {
            self.others_are_there(*id);
        }
        if let Effect::Create(new) = effect {
            let pending = self.late.iter().any(
                |(_, _, effect)| matches!(effect, Effect::Create(other) if other.id == new.id),
            );
            if pending || self.guests.contains_key(&new.id) {
                return Err(CallError::Conflict(format!("VM {} already exists", new.id)));
            }
        }
        Ok(())
    }

    pub fn apply(&mut self, effect: &Effect) -> Result<(), CallError> {
        let result = self.apply_unchecked(effect);
        self.check();
        result
    }

    fn apply_unchecked(&mut self, effect: &Effect) -> Result<(), CallError> {
        let failed = |text: &str| Err(CallError::Failed(text.to_owned()));
        let now = self.now;
        match effect {
            Effect::Create(new) => self.create(new),
            Effect::Write(id, record) => {
                if record.phase == Phase::Current {
                    self.deployed.insert(record.node.clone());
                }
                let guest = self.ours(*id, None)?;
                guest.describe(record);
                Ok(())
            }
            Effect::Start(id) => {
                let guest = self.ours(*id, None)?;
                if guest.running {
                    return failed("already running");
                }
                (guest.running, guest.started) = (true, now);
                Ok(())
            }
            Effect::Shutdown(id) | Effect::Stop(id) => {
                let guest = self.ours(*id, None)?;
                if !guest.running {
                    return failed("not running");
                }
                guest.running = false;
                Ok(())
            }
            Effect::Move(volume, from, to) => self.move_volume(volume, *from, *to),
            Effect::Destroy(id) => {
                let guest = self.ours(*id, None)?;
                if guest.running {
                    return failed("is running - destroy failed");
                }
                let lost: Vec<_> = guest.volumes.keys().map(ToString::to_string).collect();
                self.guests.remove(id);
                if !lost.is_empty() {
                    self.violate(format!("guest {id} was destroyed with {}", lost.join(", ")));
                }
                Ok(())
            }
        }
    }

    fn create(&mut self, new: &NewGuest) -> Result<(), CallError> {
        if self.guests.contains_key(&new.id) {
            return Err(CallError::Conflict(format!("VM {} already exists", new.id)));
        }
        if !self.artifacts.contains_key(&(new.host.clone(), new.artifact.clone())) {
            return Err(CallError::Failed(format!("volume {} does not exist", new.artifact)));
        }
        let mut guest = ModelGuest {
            name: new.record.node.to_string(),
            host: new.host.clone(),
            kind: new.kind,
            running: false,
            started: 0,
            revision: 0,
            description: String::new(),
            record: None,
            starts_on_boot: false,
            volumes: BTreeMap::new(),
            busy: None,
        };
        guest.describe(&new.record);
        for (count, (name, size)) in new.fresh.iter().enumerate() {
            let what = (new.record.node.clone(), name.clone());
            if self.volumes.values().any(|other| *other == what) {
                self.violate(format!("a second volume {name} of {} was made", what.0));
            }
            let identity = self.volumes.len() as u64;
            self.volumes.insert(identity, what);
            let volume =
                ModelVolume { identity, name: format!("vm-{}-disk-{count}", new.id), size: *size };
            guest.volumes.insert(name.clone(), volume);
        }
        self.guests.insert(new.id, guest);
        Ok(())
    }

    fn move_volume(
        &mut self,
        volume: &VolumeName,
        from: GuestId,
        to: GuestId,
    ) -> Result<(), CallError> {
        let failed = |text: &str| Err(CallError::Failed(text.to_owned()));
        let target = self.ours(to, None)?;
        let (host, kind, node) = (target.host.clone(), target.kind, target.name.clone());
        if target.volumes.contains_key(volume) {
            return failed("Target disk key is already in use");
        }
        if target.running {
            self.violate(format!("{volume} was plugged into the running guest {to}"));
        }
        let source = self.ours(from, None)?;
        if source.running {
            return failed("Cannot move disk while the source VM is running - detach first");
        }
        if source.host != host {
            return failed("Both VMs need to be on the same node");
        }
        if source.kind != kind {
            return failed("machines and containers have different volumes");
        }
        let other = source.name != node;
        let Some(mut moved) = source.volumes.remove(volume) else {
            return failed("disk does not exist");
        };
        source.revision += 1;
        if other {
            self.violate(format!("{volume} was moved to another node"));
        }
        let target = self.ours(to, None)?;
        moved.name = format!("vm-{to}-disk-{}", target.volumes.len());
        target.volumes.insert(volume.clone(), moved);
        target.revision += 1;
        Ok(())
    }

    /// The node's guests: number, phase, image, whether it runs, whether it starts with its host, volumes.
    pub fn guests_of(&self, node: &Hostname) -> Vec<(GuestId, &Record, bool, bool, usize)> {
        let guests = self.guests.iter().filter_map(|(id, guest)| {
            let record = guest.record.as_ref()?;
            let facts = (guest.running, guest.starts_on_boot, guest.volumes.len());
            (record.node == *node).then_some((*id, record, facts.0, facts.1, facts.2))
        });
        guests.collect()
    }

    pub fn survey(&self) -> Survey {
        let (mut guests, mut strangers) = (Vec::new(), Vec::new());
        for (id, guest) in &self.guests {
            let Some(record) = guest.record.clone() else {
                strangers.push(Stranger {
                    id: *id,
                    name: Some(guest.name.clone()),
                    host: Some(guest.host.clone()),
                    busy: guest.busy.clone(),
                    why: Strangeness::NoRecord,
                });
                continue;
            };
            let volume = |(name, volume): (&VolumeName, &ModelVolume)| {
                (name.clone(), Volume { size_gib: volume.size, snapshots: Vec::new() })
            };
            guests.push(Guest {
                id: *id,
                host: guest.host.clone(),
                kind: guest.kind,
                status: if guest.running { Status::Running } else { Status::Stopped },
                revision: Revision(guest.revision.to_string()),
                record,
                volumes: guest.volumes.iter().map(volume).collect(),
                root_gib: None,
                other_disks: Vec::new(),
                lock: None,
                busy: guest.busy.clone(),
                managed: false,
                protected: false,
            });
        }
        for (_, _, effect) in &self.late {
            if let Effect::Create(new) = effect {
                strangers.push(Stranger {
                    id: new.id,
                    name: None,
                    host: Some(new.host.clone()),
                    busy: Some("qmcreate".to_owned()),
                    why: Strangeness::NoRecord,
                });
            }
        }
        let (artifacts, now) = (self.artifacts.clone(), Moment::from_unix(self.now));
        let away = std::collections::BTreeSet::new();
        Survey { now, quorate: true, guests, strangers, away, artifacts }
    }

    pub fn health(&self, node: &Hostname) -> Health {
        let runs = |guest: &&ModelGuest| {
            guest.running && guest.record.as_ref().is_some_and(|record| record.node == *node)
        };
        let Some(guest) = self.guests.values().find(runs) else {
            return Health::Silent("no answer".to_owned());
        };
        let record = guest.record.as_ref().expect("it was found by it");
        match self.complaint(guest, record) {
            Some("starting") => Health::Silent("no answer".to_owned()),
            Some(text) => Health::NotReady(text.to_owned()),
            None if self.sick.contains(node) => Health::NotReady("ill".to_owned()),
            None => Health::Ready { leads: self.leaders.contains(node) },
        }
    }
}

impl ModelGuest {
    pub fn describe(&mut self, record: &Record) {
        self.description = record.describe(&self.description).expect("it is short");
        self.record = match Record::read(&format!("{}\n", self.description)) {
            Reading::Record(record) => Some(*record),
            _ => None,
        };
        assert_eq!(self.record.as_ref(), Some(record), "what was written is not what is read");
        self.starts_on_boot = record.starts_on_boot();
        self.revision += 1;
    }
}

impl std::fmt::Debug for Effect {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name();
        match self {
            Self::Create(new) => {
                let (id, record) = (new.id, &new.record);
                write!(formatter, "{name} {id} for {} ({})", record.node, record.image.short())
            }
            Self::Write(id, record) => write!(
                formatter,
                "{name} {id} of {}: {:?} {} {:?} successor {:?}",
                record.node, record.phase, record.generation, record.origin, record.successor
            ),
            Self::Move(volume, from, to) => write!(formatter, "{name} {volume} {from} to {to}"),
            Self::Start(id) | Self::Shutdown(id) | Self::Stop(id) | Self::Destroy(id) => {
                write!(formatter, "{name} {id}")
            }
        }
    }
}

impl Effect {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Write(..) => "write",
            Self::Start(_) => "start",
            Self::Shutdown(_) => "shutdown",
            Self::Stop(_) => "stop",
            Self::Move(..) => "move",
            Self::Destroy(_) => "destroy",
        }
    }

    /// The guests that have to be there.
    pub fn guests(&self) -> Vec<GuestId> {
        match self {
            Self::Create(_) => Vec::new(),
            Self::Move(_, from, to) => vec![*from, *to],
            Self::Write(id, _)
            | Self::Start(id)
            | Self::Shutdown(id)
            | Self::Stop(id)
            | Self::Destroy(id) => vec![*id],
        }
    }
}
