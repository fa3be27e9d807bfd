//! The loop: survey, decide, one step, again, while the lease is held.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use super::clock::Clock;
use super::decide::decide;
use super::goal::{Decision, Gate, Goal, Known, Scope};
use super::lease::{Denied, Held, Holder};
use super::outcome::{Event, Interruption, Outcome, Stop, Stuck};
use super::plan::{Standing, differences};
use super::platform::{
    CallError, Guest, GuestId, Halted, Health, Platform, Revision, Survey, Watch,
};
use super::record::Phase;
use super::refusal::Refusal;
use super::settings::Settings;
use super::step::Step;
use super::wanted::Wanted;
use crate::definition::Hostname;

/// How often a step that fails with a clear answer is tried again.
const SECOND_CHANCES: u32 = 2;

/// How often a guest is started in one run.
const STARTS: u32 = 4;

/// How often in a row guests may turn out to be changed by someone else.
const CONFLICTS: u32 = 20;

/// Whether to go on from what a run finds when nobody else may change the site any more.
pub type Admit<'a> = dyn Fn(&Survey) -> Result<(), Box<Refusal>> + 'a;

/// For whoever goes for a goal by whatever steps.
///
/// # Errors
/// Never.
pub fn admit_all(_: &Survey) -> Result<(), Box<Refusal>> {
    Ok(())
}

/// Somebody who changes a site.
pub struct Operator<'a> {
    /// Where.
    pub platform: &'a dyn Platform,
    /// The time.
    pub clock: &'a dyn Clock,
    /// What the site should be.
    pub wanted: &'a Wanted,
    /// Who it is.
    pub holder: Holder,
    /// How patient.
    pub settings: Settings,
    /// Whether it should stop.
    pub stop: &'a dyn Fn() -> Stop,
    /// Is asked once, with the first survey under the lease and before anything is changed. What it refuses is not begun.
    pub admit: &'a Admit<'a>,
    /// Is told what happens.
    pub tell: &'a dyn Fn(&Event<'_>),
}

impl Operator<'_> {
    /// Goes for `goal` until it is reached or something stands in the way. `purpose` is what another
    /// operator reads who comes at the same time.
    ///
    /// Every outcome leaves the site in a state from which any goal can be gone for, from any machine.
    pub fn run(&self, goal: &Goal, purpose: &str) -> Outcome {
        let lifetime = self.settings.lease;
        let held = Held::acquire(self.platform, self.clock, &self.holder, purpose, lifetime);
        let lease = match held {
            Ok(lease) => lease,
            Err(Denied::Held(Some(lease))) => return Outcome::Held(lease),
            Err(denied) => return Outcome::Interrupted(interruption(denied)),
        };
        let mut run = Run {
            operator: self,
            lease: RefCell::new(lease),
            goal: goal.clone(),
            admitted: false,
            red: None,
            waiting: None,
            unanswered: 0,
            failed: 0,
            conflicts: 0,
            starts: BTreeMap::new(),
        };
        let outcome = run.until_the_end();
        if !matches!(outcome, Outcome::Interrupted(Interruption::LeaseLost(_))) {
            run.lease.into_inner().release();
        }
        outcome
    }
}

fn interruption(denied: Denied) -> Interruption {
    match denied {
        Denied::Held(lease) => Interruption::LeaseLost(lease),
        Denied::Call(error) => Interruption::Unreachable {
            what: "take or renew the lease of the site".to_owned(),
            error,
        },
    }
}

/// The end of a run, found deep inside it.
type Ended<T = ()> = Result<T, Outcome>;

struct Run<'o, 'a> {
    operator: &'o Operator<'a>,
    lease: RefCell<Held<'a>>,
    goal: Goal,
    /// Whether it may go on from what it has found.
    admitted: bool,
    /// The node whose swap is taken back, and why.
    red: Option<(Hostname, String)>,
    /// The gate that is waited for, and since when.
    waiting: Option<(Gate, Duration)>,
    unanswered: u32,
    failed: u32,
    conflicts: u32,
    /// How often each guest was started: one that does not stay up is not started for ever.
    starts: BTreeMap<GuestId, u32>,
}

impl Run<'_, '_> {
    fn until_the_end(&mut self) -> Outcome {
        loop {
            if let Err(outcome) = self.once() {
                return outcome;
            }
        }
    }

    /// From one survey to the next.
    fn once(&mut self) -> Ended {
        self.keep_lease()?;
        let survey = match self.operator.platform.survey() {
            Ok(survey) => survey,
            Err(error) => return self.try_again("survey the site", error),
        };
        if (self.operator.stop)() == Stop::BetweenNodes && at_rest(self.operator.wanted, &survey) {
            return Err(Outcome::Interrupted(Interruption::Signal));
        }
        if !self.admitted {
            self.begin(&survey)?;
        }
        let surveyed = self.operator.clock.now();
        let mut known = Known::default();
        loop {
            match decide(self.operator.wanted, &self.goal, &survey, &known) {
                Decision::Settled => return Err(self.settled(&survey)),
                Decision::Paused => return Err(Outcome::Paused),
                Decision::Refused(refusal) => return Err(Outcome::Refused(refusal)),
                Decision::Ask { nodes, .. } => self.ask(&nodes, &mut known),
                Decision::Do(step) => return self.perform(&step, &survey),
                Decision::Await(gate) => {
                    let again = matches!(gate, Gate::Idle { .. });
                    self.wait(gate, &survey)?;
                    known.0.clear();
                    let age = self.operator.clock.now().saturating_sub(surveyed);
                    if again || age >= self.operator.settings.survey {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// What comes once, before the first step. The survey that is admitted is the one that the first step is decided from.
    fn begin(&mut self, survey: &Survey) -> Ended {
        (self.operator.admit)(survey).map_err(Outcome::Refused)?;
        self.admitted = true;
        // What is left over does not keep anybody from going back.
        if let Err(error) = self.operator.platform.tidy() {
            let note = format!("cannot remove what an interrupted run has left behind: {error}");
            (self.operator.tell)(&Event::Note(&note));
        }
        Ok(())
    }

    fn settled(&self, survey: &Survey) -> Outcome {
        let Some((node, reason)) = self.red.clone() else { return Outcome::Done };
        let serves =
            |guest: &&Guest| guest.record.node == node && guest.record.phase == Phase::Current;
        let image = survey.guests.iter().find(serves).map(|guest| guest.record.image);
        Outcome::RolledBack { node, reason, image }
    }

    fn ask(&self, names: &[Hostname], known: &mut Known) {
        let wanted = self.operator.wanted;
        let nodes: Vec<_> = names.iter().filter_map(|name| wanted.node(name.as_str())).collect();
        let mut answers = self.operator.platform.health(&nodes).into_iter();
        for name in names {
            let silent = || Health::Silent("nobody has asked it".to_owned());
            known.0.insert(name.clone(), answers.next().unwrap_or_else(silent));
        }
    }

    fn keep_lease(&self) -> Ended {
        if (self.operator.stop)() == Stop::AtOnce {
            return Err(Outcome::Interrupted(Interruption::Signal));
        }
        let kept = self.lease.borrow_mut().keep();
        kept.map_err(|denied| Outcome::Interrupted(interruption(denied)))
    }

    /// Waits a little for `gate`, or finds that it stays red.
    fn wait(&mut self, gate: Gate, survey: &Survey) -> Ended {
        let now = self.operator.clock.now();
        let begun = match self.waiting.take() {
            Some((other, begun)) if same(&other, &gate) => begun,
            _ => now,
        };
        let (since, limit) = (now.saturating_sub(begun), self.limit(&gate));
        if since >= limit {
            return self.stays_red(gate, survey, limit);
        }
        (self.operator.tell)(&Event::Waiting { gate: &gate, since, limit });
        self.waiting = Some((gate, begun));
        self.sleep(self.operator.settings.poll)
    }

    fn limit(&self, gate: &Gate) -> Duration {
        let ready_within = |node: &Hostname| {
            let node = self.operator.wanted.node(node.as_str());
            node.map_or(Duration::ZERO, |node| self.operator.wanted.role(node).ready_within)
        };
        match gate {
            Gate::Idle { .. } => self.operator.settings.idle,
            Gate::Others { .. } => self.operator.settings.others,
            Gate::Ready { at, .. } => ready_within(&at.node),
            Gate::End { nodes } => {
                nodes.iter().map(|(node, _)| ready_within(node)).max().unwrap_or_default()
            }
        }
    }

    fn stays_red(&mut self, gate: Gate, survey: &Survey, limit: Duration) -> Ended {
        Err(Outcome::Refused(Box::new(match gate {
            Gate::Idle { at, task, .. } => Refusal::Busy { at, task },
            Gate::Others { at, others } => Refusal::OthersNotReady { at, others },
            Gate::End { nodes } => Refusal::NotReady { nodes },
            Gate::Ready { at, says, .. } => {
                let reason = format!("not ready after {} s: {says}", limit.as_secs());
                return self.turn_back(&at.node, reason, survey);
            }
        })))
    }

    /// Takes back what was begun on `node`, if there is something to take back and that is not what has
    /// just failed.
    fn turn_back(&mut self, node: &Hostname, reason: String, survey: &Survey) -> Ended {
        let begun = |guest: &Guest| guest.record.node == *node && guest.record.phase == Phase::New;
        if matches!(self.goal, Goal::Undo { .. }) || !survey.guests.iter().any(begun) {
            return Err(Outcome::Stuck(Stuck { node: node.clone(), reason }));
        }
        (self.operator.tell)(&Event::Red { node, reason: &reason });
        self.goal = Goal::Undo { scope: Scope::node(node), reason: Some(reason.clone()) };
        self.red = Some((node.clone(), reason));
        (self.unanswered, self.failed, self.conflicts, self.waiting) = (0, 0, 0, None);
        Ok(())
    }

    fn sleep(&self, time: Duration) -> Ended {
        let end = self.operator.clock.now() + time;
        loop {
            self.keep_lease()?;
            match end.saturating_sub(self.operator.clock.now()) {
                Duration::ZERO => return Ok(()),
                rest => self.operator.clock.sleep(rest.min(Duration::from_secs(2))),
            }
        }
    }

    /// After a call without an answer: waits, unless that was too often.
    fn try_again(&mut self, what: &str, error: CallError) -> Ended {
        self.unanswered += 1;
        if self.unanswered > self.operator.settings.retries {
            let what = what.to_owned();
            return Err(Outcome::Interrupted(Interruption::Unreachable { what, error }));
        }
        self.pause(what, &error, self.unanswered)
    }

    fn pause(&self, what: &str, error: &CallError, attempt: u32) -> Ended {
        let after = Duration::from_secs(1 << attempt.min(5));
        (self.operator.tell)(&Event::Retry { what, error, after });
        self.sleep(after)
    }

    fn perform(&mut self, step: &Step, survey: &Survey) -> Ended {
        self.waiting = None;
        self.keep_lease()?;
        if let Step::Start { node, guest, .. } = step
            && self.starts.get(guest) >= Some(&STARTS)
        {
            let reason = format!("guest {guest} was started {STARTS} times and is stopped again");
            return self.turn_back(node, reason, survey);
        }
        (self.operator.tell)(&Event::Begun(step));
        let ended = Cell::new(None);
        let result = self.call(step, &mut Patience { run: self, ended: &ended });
        let what = step.to_string();
        match result {
            Ok(Halted::Stopped) => {
                (self.operator.tell)(&Event::Done(step));
                if let Step::Start { guest, .. } = step {
                    *self.starts.entry(*guest).or_default() += 1;
                }
                (self.unanswered, self.failed, self.conflicts) = (0, 0, 0);
                Ok(())
            }
            Ok(Halted::StillRunning) => {
                let reason = "it did not stop in the time that it has for draining".to_owned();
                self.turn_back(step.node(), reason, survey)
            }
            Err(CallError::Abandoned) => {
                Err(ended.into_inner().unwrap_or(Outcome::Interrupted(Interruption::Signal)))
            }
            Err(error @ CallError::Unreachable(_)) => self.try_again(&what, error),
            Err(error @ CallError::Conflict(_)) => {
                self.conflicts += 1;
                match self.conflicts > CONFLICTS {
                    true => Err(Outcome::Interrupted(Interruption::Unreachable { what, error })),
                    false => self.pause(&what, &error, 0),
                }
            }
            Err(error @ CallError::Failed(_)) => {
                self.failed += 1;
                match self.failed > SECOND_CHANCES {
                    true => {
                        let reason = format!("cannot {what}: {error}");
                        self.turn_back(step.node(), reason, survey)
                    }
                    false => self.pause(&what, &error, self.failed),
                }
            }
        }
    }

    fn call(&self, step: &Step, watch: &mut dyn Watch) -> Result<Halted, CallError> {
        let platform = self.operator.platform;
        let done = match step {
            Step::Upload { host, artifact, .. } => platform.ensure_artifact(host, artifact, watch),
            Step::Discard { host, artifact, .. } => platform.discard_artifact(host, artifact),
            Step::Create(new) => platform.create(new, watch),
            Step::Write { guest, revision, record, .. } => {
                platform.write_record(*guest, revision, record)
            }
            Step::Halt { guest, revision, patience, force, .. } => {
                return halt(platform, (*guest, revision), *patience, *force, watch);
            }
            Step::Move { volume, from, to, .. } => {
                platform.move_volume(volume, (from.0, &from.1), (to.0, &to.1), watch)
            }
            Step::Start { guest, revision, .. } => platform.start(*guest, revision, watch),
            Step::Destroy { guest, revision, .. } => platform.destroy(*guest, revision, watch),
        };
        done.map(|()| Halted::Stopped)
    }
}

/// Whether no node is in the middle of anything.
fn at_rest(wanted: &Wanted, survey: &Survey) -> bool {
    differences(wanted, survey).iter().all(|node| node.standing != Standing::Unfinished)
}

fn halt(
    platform: &dyn Platform,
    (guest, revision): (GuestId, &Revision),
    patience: Duration,
    force: bool,
    watch: &mut dyn Watch,
) -> Result<Halted, CallError> {
    match platform.shutdown(guest, revision, patience, watch)? {
        Halted::StillRunning if force => {
            platform.stop(guest, revision, watch).map(|()| Halted::Stopped)
        }
        halted => Ok(halted),
    }
}

/// Whether two gates are one that is still red.
fn same(one: &Gate, other: &Gate) -> bool {
    match (one, other) {
        (Gate::Idle { guest, .. }, Gate::Idle { guest: other, .. }) => guest == other,
        (Gate::Others { at, .. }, Gate::Others { at: other, .. })
        | (Gate::Ready { at, .. }, Gate::Ready { at: other, .. }) => at == other,
        (Gate::End { .. }, Gate::End { .. }) => true,
        _ => false,
    }
}

/// Keeps the lease while a call waits.
struct Patience<'r, 'o, 'a> {
    run: &'r Run<'o, 'a>,
    ended: &'r Cell<Option<Outcome>>,
}

impl Watch for Patience<'_, '_, '_> {
    fn tick(&mut self, note: &str) -> ControlFlow<()> {
        if !note.is_empty() {
            (self.run.operator.tell)(&Event::Note(note));
        }
        match self.run.keep_lease() {
            Ok(()) => ControlFlow::Continue(()),
            Err(outcome) => {
                self.ended.set(Some(outcome));
                ControlFlow::Break(())
            }
        }
    }
}
