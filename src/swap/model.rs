//! A cluster in memory, with what matters of Proxmox VE's behaviour, that fails on demand and notices
//! everything that must never be.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::execute::Clock;
use super::lease::Lease;
use super::platform::{
    CallError, Guest, GuestId, GuestKind, Halted, Health, NewGuest, Platform, Revision, Status,
    Strangeness, Stranger, Survey, Volume, Watch,
};
use super::record::{Phase, Reading, Record};
use super::wanted::{Node, Wanted};
use crate::debian::date::Moment;
use crate::definition::{Hostname, VolumeName};
use crate::digest::Digest;

/// How long a guest takes to become ready, in seconds.
const BOOT: u64 = 20;

/// How a call goes wrong.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// It does not reach the cluster.
    Lost,
    /// It is refused.
    Refused,
    /// Somebody else was faster.
    Conflict,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// There is no answer, and it is done so many seconds later.
    Late(u64),
    /// The process is killed before the call.
    KilledBefore,
    /// The process is killed after it.
    KilledAfter,
    /// The process is killed while the task runs, which ends so many seconds later.
    KilledDuring(u64),
    /// A guest does not shut down in time.
    Slow,
    /// A host is started again before the call; its number.
    Reboot(usize),
    /// A guest that is not proven yet stops by itself before the call.
    Crash,
    /// The process sleeps so many seconds before the call, and others do what [`Session::intruder`] says.
    Stall(u64),
}

struct ModelVolume {
    /// Stays the same, wherever the volume is moved.
    identity: u64,
    /// Changes when it is moved, as it has the number of its guest in it.
    name: String,
    size: u32,
}

struct ModelGuest {
    name: String,
    host: Hostname,
    kind: GuestKind,
    running: bool,
    started: u64,
    revision: u64,
    description: String,
    record: Option<Record>,
    starts_on_boot: bool,
    volumes: BTreeMap<VolumeName, ModelVolume>,
    busy: Option<String>,
}

#[derive(Clone)]
enum Effect {
    Create(Box<NewGuest>),
    Write(GuestId, Box<Record>),
    Start(GuestId),
    Shutdown(GuestId),
    Stop(GuestId),
    Move(VolumeName, GuestId, GuestId),
    Destroy(GuestId),
}

/// The cluster.
pub(super) struct World {
    wanted: Wanted,
    now: u64,
    guests: BTreeMap<GuestId, ModelGuest>,
    artifacts: BTreeSet<(Hostname, String)>,
    lease: Option<Lease>,
    lease_revision: u64,
    /// Tasks that run: when they end, their number, what they do.
    late: Vec<(u64, u64, Effect)>,
    results: BTreeMap<u64, Result<(), CallError>>,
    tasks: u64,
    volumes: BTreeMap<u64, (Hostname, VolumeName)>,
    deployed: BTreeSet<Hostname>,
    /// Images that never become ready on a node.
    pub(super) bad: BTreeSet<(Digest, Hostname)>,
    /// Nodes that have become ill, which is not our doing.
    pub(super) sick: BTreeSet<Hostname>,
    /// Nodes that the others of their role follow.
    pub(super) leaders: BTreeSet<Hostname>,
    /// What has happened.
    pub(super) history: Vec<String>,
    /// What must never happen, and has.
    pub(super) violations: Vec<String>,
}

impl World {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            wanted,
            now: 1_800_000_000,
            guests: BTreeMap::new(),
            artifacts: BTreeSet::new(),
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
            history: Vec::new(),
            violations: Vec::new(),
        }
    }

    /// Adds a guest of someone else.
    pub(super) fn add_stranger(&mut self, id: GuestId, name: &str, host: &Hostname) {
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
    pub(super) fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    pub(super) fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    pub(super) fn now(&self) -> u64 {
        self.now
    }

    pub(super) fn advance(&mut self, seconds: u64) {
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
    fn task(&mut self, effect: Effect, seconds: u64) -> u64 {
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
    fn finish(&mut self, task: u64) -> Result<(), CallError> {
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

    fn reboot(&mut self, host: usize) {
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

    fn crash(&mut self) {
        let new = |guest: &&mut ModelGuest| {
            guest.running && guest.record.as_ref().is_some_and(|record| record.phase == Phase::New)
        };
        if let Some(guest) = self.guests.values_mut().find(new) {
            guest.running = false;
            self.history.push(format!("{}: a guest of {} stops", self.now, guest.name));
        }
    }

    fn violate(&mut self, text: String) {
        self.history.push(format!("{}: VIOLATION {text}", self.now));
        self.violations.push(text);
    }

    /// A guest of ours, at this revision, with which something can be done.
    fn ours(
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
    fn accept(&mut self, effect: &Effect, revisions: &[&Revision]) -> Result<(), CallError> {
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

    fn apply(&mut self, effect: &Effect) -> Result<(), CallError> {
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
        if !self.artifacts.contains(&(new.host.clone(), new.artifact.clone())) {
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

    fn available(&self, node: &Hostname) -> bool {
        let serves = |guest: &ModelGuest| {
            let Some(record) = &guest.record else { return false };
            record.node == *node && guest.running && self.complaint(guest, record).is_none()
        };
        self.guests.values().any(serves)
    }

    /// Why a running guest is not ready, apart from illness.
    fn complaint(&self, guest: &ModelGuest, record: &Record) -> Option<&'static str> {
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
    fn others_are_there(&mut self, id: GuestId) {
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
        let away = others.filter(|other| {
            !self.available(&other.name) || self.sick.contains(&other.name)
        });
        let away: Vec<_> = away.map(|other| other.name.to_string()).collect();
        if !away.is_empty() {
            let text = format!("{} was taken down without {}", node.name, away.join(", "));
            self.violate(text);
        }
    }

    /// What must be true at every moment.
    fn check(&mut self) {
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
            if guest.running {
                if let Some(other) = running.insert(&record.node, *id) {
                    wrong.push(format!("guests {other} and {id} of {} run at once", record.node));
                }
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
            let away = nodes.filter(|node| {
                self.deployed.contains(&node.name) && !self.available(&node.name)
            });
            let away: Vec<_> = away.map(|node| node.name.to_string()).collect();
            if away.len() > 1 {
                wrong.push(format!("{} are away at once", away.join(", ")));
            }
        }
        wrong.into_iter().for_each(|text| self.violate(text));
    }

    /// The node's guests: number, phase, image, whether it runs, whether it starts with its host, volumes.
    pub(super) fn guests_of(&self, node: &Hostname) -> Vec<(GuestId, &Record, bool, bool, usize)> {
        let guests = self.guests.iter().filter_map(|(id, guest)| {
            let record = guest.record.as_ref()?;
            let facts = (guest.running, guest.starts_on_boot, guest.volumes.len());
            (record.node == *node).then_some((*id, record, facts.0, facts.1, facts.2))
        });
        guests.collect()
    }

    pub(super) fn survey(&self) -> Survey {
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
        Survey { now, quorate: true, guests, strangers, artifacts }
    }

    pub(super) fn health(&self, node: &Hostname) -> Health {
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
    fn describe(&mut self, record: &Record) {
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
    fn name(&self) -> &'static str {
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
    fn guests(&self) -> Vec<GuestId> {
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

/// What one process sees of the cluster.
pub(super) struct Session<'w> {
    pub(super) world: &'w RefCell<World>,
    /// What goes wrong, by the number of the call.
    pub(super) faults: RefCell<BTreeMap<u64, Fault>>,
    /// What others do while this process sleeps.
    pub(super) intruder: Option<&'w dyn Fn(&RefCell<World>)>,
    calls: Cell<u64>,
    dead: Cell<bool>,
    asleep: Cell<u64>,
}

impl<'w> Session<'w> {
    pub(super) fn new(world: &'w RefCell<World>, faults: BTreeMap<u64, Fault>) -> Self {
        Self {
            world,
            faults: RefCell::new(faults),
            intruder: None,
            calls: Cell::new(0),
            dead: Cell::new(false),
            asleep: Cell::new(0),
        }
    }

    pub(super) fn is_dead(&self) -> bool {
        self.dead.get()
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.get()
    }

    fn lost<T>(&self) -> Result<T, CallError> {
        Err(CallError::Unreachable("no answer".to_owned()))
    }

    /// One call begins: what goes wrong with it?
    fn begin(&self, what: &str, task: bool) -> Result<Option<Fault>, CallError> {
        let number = self.calls.replace(self.calls.get() + 1);
        if self.dead.get() {
            return self.lost();
        }
        self.world.borrow_mut().advance(1);
        if number > 20_000 {
            self.world.borrow_mut().violate(format!("a run does not end: {what}"));
            self.dead.set(true);
        }
        let fault = self.faults.borrow_mut().remove(&number);
        if let Some(fault) = &fault {
            let mut world = self.world.borrow_mut();
            let now = world.now;
            world.history.push(format!("{now}: {fault:?} at {what}"));
        }
        match fault {
            Some(Fault::Lost) => self.lost(),
            Some(Fault::KilledDuring(_)) if !task => {
                self.dead.set(true);
                self.lost()
            }
            Some(Fault::KilledBefore) => {
                self.dead.set(true);
                self.lost()
            }
            Some(Fault::Reboot(host)) => {
                self.world.borrow_mut().reboot(host);
                Ok(None)
            }
            Some(Fault::Crash) => {
                self.world.borrow_mut().crash();
                Ok(None)
            }
            Some(Fault::Stall(seconds)) => {
                self.world.borrow_mut().advance(seconds);
                if let Some(intruder) = self.intruder {
                    intruder(self.world);
                }
                Ok(None)
            }
            fault => Ok(fault),
        }
    }

    fn end<T>(&self, fault: Option<&Fault>, result: Result<T, CallError>) -> Result<T, CallError> {
        match fault {
            Some(Fault::KilledAfter) => {
                self.dead.set(true);
                self.lost()
            }
            Some(Fault::AnswerLost) => self.lost(),
            _ => result,
        }
    }

    fn read<T>(&self, what: &str, read: impl FnOnce(&World) -> T) -> Result<T, CallError> {
        let fault = self.begin(what, false)?;
        let result = read(&self.world.borrow());
        self.end(fault.as_ref(), Ok(result))
    }

    fn act(
        &self,
        effect: Effect,
        revisions: &[&Revision],
        seconds: u64,
        watch: &mut dyn Watch,
    ) -> Result<Halted, CallError> {
        let fault = self.begin(effect.name(), true)?;
        match fault {
            Some(Fault::Refused) => return Err(CallError::Failed("refused".to_owned())),
            Some(Fault::Conflict) => {
                return Err(CallError::Conflict("detected modified configuration".to_owned()));
            }
            _ => {}
        }
        self.world.borrow_mut().accept(&effect, revisions)?;
        if let Some(Fault::Late(seconds) | Fault::KilledDuring(seconds)) = fault {
            self.world.borrow_mut().task(effect, seconds);
            self.dead.set(matches!(fault, Some(Fault::KilledDuring(_))));
            return self.lost();
        }
        if matches!((&fault, &effect), (Some(Fault::Slow), Effect::Shutdown(_))) {
            return Ok(Halted::StillRunning);
        }
        // The process looks at the task now and then.
        let task = self.world.borrow_mut().task(effect, seconds);
        for _ in 0..seconds.div_ceil(10) {
            self.world.borrow_mut().advance(10);
            if watch.tick("").is_break() {
                return Err(CallError::Abandoned);
            }
            if self.dead.get() {
                return self.lost();
            }
        }
        let result = self.world.borrow_mut().finish(task);
        self.end(fault.as_ref(), result.map(|()| Halted::Stopped))
    }
}

/// For calls that take no time.
struct Nobody;

impl Watch for Nobody {
    fn tick(&mut self, _: &str) -> std::ops::ControlFlow<()> {
        std::ops::ControlFlow::Continue(())
    }
}

impl Platform for Session<'_> {
    fn survey(&self) -> Result<Survey, CallError> {
        self.read("survey", World::survey)
    }

    fn server_time(&self) -> Result<Moment, CallError> {
        self.read("time", |world| Moment::from_unix(world.now))
    }

    fn ensure_artifact(
        &self,
        host: &Hostname,
        artifact: &str,
        _: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let fault = self.begin("upload", false)?;
        if matches!(fault, Some(Fault::Refused)) {
            return Err(CallError::Failed("no space left".to_owned()));
        }
        self.world.borrow_mut().artifacts.insert((host.clone(), artifact.to_owned()));
        self.end(fault.as_ref(), Ok(()))
    }

    fn create(&self, guest: &NewGuest, watch: &mut dyn Watch) -> Result<(), CallError> {
        self.act(Effect::Create(Box::new(guest.clone())), &[], 30, watch).map(drop)
    }

    fn write_record(
        &self,
        guest: GuestId,
        revision: &Revision,
        record: &Record,
    ) -> Result<(), CallError> {
        let effect = Effect::Write(guest, Box::new(record.clone()));
        self.act(effect, &[revision], 0, &mut Nobody).map(drop)
    }

    fn start(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        self.act(Effect::Start(guest), &[revision], 3, watch).map(drop)
    }

    fn shutdown(
        &self,
        guest: GuestId,
        revision: &Revision,
        _: Duration,
        watch: &mut dyn Watch,
    ) -> Result<Halted, CallError> {
        self.act(Effect::Shutdown(guest), &[revision], 45, watch)
    }

    fn stop(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        self.act(Effect::Stop(guest), &[revision], 1, watch).map(drop)
    }

    fn move_volume(
        &self,
        volume: &VolumeName,
        from: (GuestId, &Revision),
        to: (GuestId, &Revision),
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let effect = Effect::Move(volume.clone(), from.0, to.0);
        self.act(effect, &[from.1, to.1], 2, watch).map(drop)
    }

    fn destroy(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        self.act(Effect::Destroy(guest), &[revision], 5, watch).map(drop)
    }

    fn health(&self, nodes: &[&Node]) -> Vec<Health> {
        let answers = self.read("health", |world| {
            nodes.iter().map(|node| world.health(&node.name)).collect::<Vec<_>>()
        });
        let silent = |_| nodes.iter().map(|_| Health::Silent("no answer".to_owned())).collect();
        answers.unwrap_or_else(silent)
    }

    fn read_lease(&self) -> Result<(Option<Lease>, Revision), CallError> {
        self.read("lease", |world| {
            let text = Lease::describe(world.lease.as_ref(), "");
            let lease = Lease::read(&text).expect("it was just written");
            (lease, Revision(world.lease_revision.to_string()))
        })
    }

    fn write_lease(&self, lease: Option<&Lease>, revision: &Revision) -> Result<(), CallError> {
        let fault = self.begin("write lease", false)?;
        let mut world = self.world.borrow_mut();
        let stale = revision.0 != world.lease_revision.to_string();
        let result = if stale || matches!(fault, Some(Fault::Conflict)) {
            Err(CallError::Conflict("detected modified configuration".to_owned()))
        } else {
            world.lease = lease.cloned();
            world.lease_revision += 1;
            Ok(())
        };
        drop(world);
        self.end(fault.as_ref(), result)
    }
}

impl Clock for Session<'_> {
    fn now(&self) -> Duration {
        Duration::from_secs(self.world.borrow().now + self.asleep.get())
    }

    fn sleep(&self, time: Duration) {
        let seconds = time.as_secs().max(1);
        // A process that was killed does not know it. Nothing waits for it.
        match self.dead.get() {
            true => self.asleep.set(self.asleep.get() + seconds),
            false => self.world.borrow_mut().advance(seconds),
        }
    }
}
