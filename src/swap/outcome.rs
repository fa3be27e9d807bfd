//! What a run tells, and how it ends.

use std::time::Duration;

use super::goal::Gate;
use super::lease::Lease;
use super::platform::CallError;
use super::refusal::Refusal;
use super::step::Step;
use crate::definition::Hostname;
use crate::digest::Digest;

/// What a run tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A step begins.
    Begun(&'a Step),
    /// A step is done.
    Done(&'a Step),
    /// A step goes on: `312 of 700 MiB`.
    Note(&'a str),
    /// A gate is not green yet.
    Waiting {
        /// The gate.
        gate: &'a Gate,
        /// For how long now.
        since: Duration,
        /// How long it may take.
        limit: Duration,
    },
    /// A call has failed and is tried again.
    Retry {
        /// What was tried, for people.
        what: &'a str,
        /// Why it failed.
        error: &'a CallError,
        /// When it is tried again.
        after: Duration,
    },
    /// A gate stays red: what was begun on the node is taken back.
    Red {
        /// The node.
        node: &'a Hostname,
        /// Why.
        reason: &'a str,
    },
}

/// Why a run has ended before its time. What was begun stays as it is; the next run goes on from there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum Interruption {
    /// The operator wanted it.
    #[error("interrupted")]
    #[diagnostic(help(
        "`imgbuild status` shows how far it has got; run the same again to go on, or `imgbuild rollback`"
    ))]
    Signal,
    /// The lease is another's.
    #[error("this process was held up for so long that {} has taken over", .0.as_ref().map_or_else(|| "somebody else".to_owned(), |lease| lease.holder.to_string()))]
    #[diagnostic(help("leave the site to them, or run this again when they have finished"))]
    LeaseLost(Option<Box<Lease>>),
    /// The platform does not answer.
    #[error("cannot {what}: {error}")]
    #[diagnostic(help(
        "nothing is lost: look after the connection and run the same again; it goes on from what is on the guests"
    ))]
    Unreachable {
        /// What was tried.
        what: String,
        /// Why it failed.
        error: CallError,
    },
}

/// A node that can be brought neither forward nor back without somebody's help. It stays as it is, with all
/// its state; both ways are open once the reason is removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{node}: {reason}")]
#[diagnostic(help(
    "nothing is lost: its state volumes are on its guests; remove the reason, then run `imgbuild swap` to go on, \
     or `imgbuild rollback` for {node} to go back"
))]
pub struct Stuck {
    /// The node.
    pub node: Hostname,
    /// What was tried, and why it failed.
    pub reason: String,
}

/// Whether a run should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It should not.
    No,
    /// Before the next node is begun.
    BetweenNodes,
    /// As soon as possible, even if a node stays away until the next run.
    AtOnce,
}

/// How a run has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The goal is reached.
    Done,
    /// At the place where the operator wanted to stop.
    Paused,
    /// A gate stayed red, and the node has the guest again that it had.
    RolledBack {
        /// The node.
        node: Hostname,
        /// Why.
        reason: String,
        /// The image that it runs; none if it had never been deployed and is stopped now.
        image: Option<Digest>,
    },
    /// Something stands in the way.
    Refused(Box<Refusal>),
    /// Another operator is at work.
    Held(Box<Lease>),
    /// Neither forward nor back: somebody has to look at it.
    Stuck(Stuck),
    /// The run has ended before its time.
    Interrupted(Interruption),
}
