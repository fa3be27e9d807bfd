//! What one process sees of the cluster, and what goes wrong for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;

use super::world::{Effect, World};
use crate::debian::date::Moment;
use crate::definition::{Hostname, VolumeName};
use crate::swap::clock::Clock;
use crate::swap::lease::Lease;
use crate::swap::outcome::{Interruption, Outcome};
use crate::swap::platform::{
    CallError, GuestId, Halted, Health, NewGuest, Platform, Revision, Survey, Watch,
};
use crate::swap::record::Record;
use crate::swap::wanted::Node;

/// How a call goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
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

/// Which calls are counted to say when something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counted {
    /// All.
    Calls,
    /// Those that change a guest.
    Changes,
}

/// What goes wrong, and when.
pub type Faults = BTreeMap<(Counted, u64), Fault>;

/// Somebody who changes the cluster at the same time.
pub type Intruder<'w> = dyn Fn(&RefCell<World>) + 'w;

/// What one process sees of the cluster.
pub struct Session<'w> {
    pub world: &'w RefCell<World>,
    /// What goes wrong.
    pub faults: RefCell<Faults>,
    /// What others do while this process sleeps.
    pub intruder: Option<&'w Intruder<'w>>,
    calls: Cell<u64>,
    changes: Cell<u64>,
    dead: Cell<bool>,
    asleep: Cell<u64>,
}

impl<'w> Session<'w> {
    pub fn new(world: &'w RefCell<World>, faults: Faults) -> Self {
        Self {
            world,
            faults: RefCell::new(faults),
            intruder: None,
            calls: Cell::new(0),
            changes: Cell::new(0),
            dead: Cell::new(false),
            asleep: Cell::new(0),
        }
    }

    pub fn is_dead(&self) -> bool {
        self.dead.get()
    }

    /// Notes how a run has ended.
    pub fn ended(&self, who: &str, outcome: &Outcome) {
        let mut world = self.world.borrow_mut();
        world.endings.insert(match outcome {
            Outcome::Done => "done",
            Outcome::Paused => "paused",
            Outcome::RolledBack { .. } => "rolled back",
            Outcome::Refused(_) => "refused",
            Outcome::Held(_) => "held",
            Outcome::Stuck(_) => "stuck",
            Outcome::Interrupted(Interruption::LeaseLost(_)) => "lease lost",
            Outcome::Interrupted(_) => "interrupted",
        });
        let (now, calls) = (world.now, self.calls.get());
        world.history.push(format!("{now}: {who} ends after {calls} calls: {outcome:?}"));
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
        let mut fault = self.faults.borrow_mut().remove(&(Counted::Calls, number));
        if task {
            let number = self.changes.replace(self.changes.get() + 1);
            let other = self.faults.borrow_mut().remove(&(Counted::Changes, number));
            fault = fault.or(other);
        }
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
        self.world.borrow_mut().artifacts.insert((host.clone(), artifact.to_owned()), 1 << 20);
        self.end(fault.as_ref(), Ok(()))
    }

    fn discard_artifact(&self, host: &Hostname, artifact: &str) -> Result<(), CallError> {
        let fault = self.begin("discard", false)?;
        if matches!(fault, Some(Fault::Refused)) {
            return Err(CallError::Failed("it is in use".to_owned()));
        }
        self.world.borrow_mut().artifacts.remove(&(host.clone(), artifact.to_owned()));
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
