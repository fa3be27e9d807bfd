//! What a run over a site says of itself.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;

use miette::{Report, Result, miette};

use super::context::Context;
use super::output::{DoneStep, Reason, RunReport, Word, told};
use crate::definition::Hostname;
use crate::swap::{Event, Gate, Outcome};

/// A gate stayed red, and the node runs what it ran before.
const ROLLED_BACK: u8 = 4;

/// What programs are told of a run besides how it has ended.
#[derive(Clone, Default)]
pub(super) struct More {
    /// The nodes that were given secrets and have theirs already; none where none can be given.
    pub(super) secrets_not_taken: Option<Vec<String>>,
    /// The directory of the lab.
    pub(super) lab: Option<PathBuf>,
}

impl More {
    pub(super) fn report(self, outcome: Word, reason: Reason, steps: Vec<DoneStep>) -> RunReport {
        let Self { secrets_not_taken, lab } = self;
        RunReport { outcome, reason, steps, secrets_not_taken, lab }
    }
}

/// Says what a run does: lines for people, and at the end one object for programs.
pub(super) struct Teller<'a> {
    context: &'a Context,
    steps: RefCell<Vec<DoneStep>>,
    /// The last thing said while waiting, so that it is not said every two seconds.
    waiting: RefCell<String>,
}

impl<'a> Teller<'a> {
    pub(super) fn new(context: &'a Context) -> Self {
        Self { context, steps: RefCell::default(), waiting: RefCell::default() }
    }

    pub(super) fn tell(&self, event: &Event<'_>) {
        match event {
            Event::Begun(step) => {
                self.waiting.take();
                self.context.say(format!("{}: {step}", step.node()));
            }
            Event::Done(step) => self
                .steps
                .borrow_mut()
                .push(DoneStep { node: step.node().to_string(), step: step.to_string() }),
            Event::Note(note) => self.once(format!("  {note}")),
            Event::Waiting { gate, limit, .. } => {
                self.once(format!("  waiting, up to {} s: {}", limit.as_secs(), gate_text(gate)));
            }
            Event::Retry { what, error, after } => {
                let after = after.as_secs();
                self.context.say(format!("  cannot {what}: {error}\n  trying again in {after} s"));
            }
            Event::Red { node, reason } => {
                self.context.say(format!("{node}: RED: {reason}; taking it back"));
            }
        }
    }

    fn once(&self, text: String) {
        if *self.waiting.borrow() != text {
            self.context.say(&text);
            self.waiting.replace(text);
        }
    }

    /// Says how it has ended; programs are told what else there is.
    pub(super) fn end(self, outcome: &Outcome, more: More) -> Result<ExitCode> {
        if self.context.json() {
            let (outcome, reason) = told(outcome);
            let steps = self.steps.into_inner();
            self.context.output(&more.report(outcome, reason, steps))?;
        }
        match outcome {
            Outcome::Done => {
                self.context.say("done");
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Paused => {
                self.context.say("paused where you wanted; run the same without it to go on");
                Ok(ExitCode::SUCCESS)
            }
            Outcome::RolledBack { node, reason, image } => {
                self.context.say(match image {
                    Some(image) => {
                        format!("{node} runs its old image again ({}): {reason}", image.short())
                    }
                    None => format!("{node} was never deployed and is stopped: {reason}"),
                });
                Ok(ROLLED_BACK.into())
            }
            Outcome::Refused(refusal) => Err(Report::new((**refusal).clone())),
            Outcome::Held(lease) => Err(miette!(
                help = "wait until that is done. If the process is gone, its right runs out by itself at that time",
                "somebody else is changing the site: {lease}"
            )),
            Outcome::Stuck(stuck) => Err(Report::new(stuck.clone())),
            Outcome::Interrupted(interruption) => Err(Report::new(interruption.clone())),
        }
    }
}

/// What is waited for, in one line.
pub(super) fn gate_text(gate: &Gate) -> String {
    let all = |nodes: &[(Hostname, String)]| {
        let nodes: Vec<_> = nodes.iter().map(|(node, says)| format!("{node} ({says})")).collect();
        nodes.join(", ")
    };
    match gate {
        Gate::Idle { at, task, .. } => format!("{task} works on {at}"),
        Gate::Others { others, .. } => format!("not ready: {}", all(others)),
        Gate::Ready { at, says, .. } => format!("{at} is not ready: {says}"),
        Gate::End { nodes } => format!("not ready: {}", all(nodes)),
    }
}
