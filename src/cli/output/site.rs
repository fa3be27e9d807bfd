//! What verbs hand over that look after a running site.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Output;
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::swap::{Ending, GuestId, Outcome, Phase, Standing, Status};

/// What a swap would do.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(in crate::cli) struct SitePlan {
    /// The site.
    pub(in crate::cli) site: String,
    /// Every node of the site.
    pub(in crate::cli) nodes: Vec<NodeStanding>,
    /// What would be done, in order.
    pub(in crate::cli) steps: Vec<PlannedStep>,
    /// The secrets that guests would be made without, though they need them.
    pub(in crate::cli) secrets: Vec<NodeSecrets>,
    /// How it would end.
    pub(in crate::cli) ending: Ended,
    /// Why it would not even begin, if so.
    pub(in crate::cli) refusal: Option<String>,
}

impl Output for SitePlan {
    const VERBS: &'static [&'static str] = &["plan", "lab plan"];
}

/// How a plan ends.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Ended {
    /// Everything is as it was wanted.
    Done,
    /// It stops where it was to.
    Paused,
    /// Something stands in the way.
    Refused,
    /// It has no end: a mistake in imgbuild.
    Endless,
}

impl From<&Ending> for Ended {
    fn from(ending: &Ending) -> Self {
        match ending {
            Ending::Done => Self::Done,
            Ending::Paused => Self::Paused,
            Ending::Refused(_) => Self::Refused,
            Ending::Endless => Self::Endless,
        }
    }
}

/// A node, what it runs, and what the site says.
#[derive(PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(in crate::cli) struct NodeStanding {
    /// The node.
    pub(in crate::cli) node: String,
    /// Its role.
    pub(in crate::cli) role: String,
    /// The host that it belongs on.
    pub(in crate::cli) host: String,
    /// The guest that has it.
    pub(in crate::cli) guest: Option<GuestId>,
    /// The image that the guest runs.
    pub(in crate::cli) runs: Option<Digest>,
    /// The image that the definitions say; none if no artifact is up to date.
    pub(in crate::cli) wanted: Option<Digest>,
    /// What that comes to.
    pub(in crate::cli) standing: Standing,
}

/// One step of a plan.
#[derive(PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(in crate::cli) struct PlannedStep {
    /// The node that it is about; empty if that is all.
    pub(in crate::cli) node: String,
    /// What is done, in words.
    pub(in crate::cli) step: String,
    /// Whether it changes anything; if not, something is waited for.
    pub(in crate::cli) changes: bool,
    /// What an operator would type for the same on the hosts.
    pub(in crate::cli) commands: Vec<String>,
}

/// Secrets that a node needs.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(in crate::cli) struct NodeSecrets {
    /// The node.
    pub(in crate::cli) node: String,
    /// The names of the secrets.
    pub(in crate::cli) names: Vec<String>,
}

/// What a change of a site has come to.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct RunReport {
    /// How it has ended.
    pub(in crate::cli) outcome: Word,
    /// Why, unless it is done.
    #[serde(flatten)]
    pub(in crate::cli) reason: Reason,
    /// What was done, in order.
    pub(in crate::cli) steps: Vec<DoneStep>,
    /// The nodes that were given secrets and have theirs already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) secrets_not_taken: Option<Vec<String>>,
    /// The directory of the lab.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) lab: Option<PathBuf>,
}

impl Output for RunReport {
    const VERBS: &'static [&'static str] =
        &["swap", "rollback", "prune", "lab up", "lab swap", "lab rollback", "lab prune"];
}

/// How a change has ended, in a word.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(in crate::cli) enum Word {
    /// Everything is as it was wanted.
    Done,
    /// It stopped where it was to.
    Paused,
    /// A gate stayed red, and the node runs what it ran before.
    RolledBack,
    /// Something stands in the way.
    Refused,
    /// Somebody else is changing the site.
    Held,
    /// A person has to look.
    Stuck,
    /// It was interrupted; the next run goes on.
    Interrupted,
}

/// Why a change has not come to its end.
#[derive(Default, Serialize, JsonSchema)]
pub(in crate::cli) struct Reason {
    /// The node that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    /// What is the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// The image that the node runs again.
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<Digest>,
    /// Who else is changing the site.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

impl Reason {
    /// Of something that is the matter with no node in particular.
    pub(in crate::cli) fn only(reason: impl ToString) -> Self {
        Self { reason: Some(reason.to_string()), ..Self::default() }
    }
}

/// The word and the reason for how a run has ended.
pub(in crate::cli) fn told(outcome: &Outcome) -> (Word, Reason) {
    match outcome {
        Outcome::Done => (Word::Done, Reason::default()),
        Outcome::Paused => (Word::Paused, Reason::default()),
        Outcome::RolledBack { node, reason, image } => {
            let node = Some(node.to_string());
            (Word::RolledBack, Reason { node, image: *image, ..Reason::only(reason) })
        }
        Outcome::Refused(refusal) => (Word::Refused, Reason::only(refusal)),
        Outcome::Held(lease) => {
            (Word::Held, Reason { by: Some(lease.holder.to_string()), ..Reason::default() })
        }
        Outcome::Stuck(stuck) => {
            let node = Some(stuck.node.to_string());
            (Word::Stuck, Reason { node, ..Reason::only(&stuck.reason) })
        }
        Outcome::Interrupted(interruption) => (Word::Interrupted, Reason::only(interruption)),
    }
}

/// One step that was done.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct DoneStep {
    /// The node that it was about.
    pub(in crate::cli) node: String,
    /// What was done, in words.
    pub(in crate::cli) step: String,
}

/// What runs at a site.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct SiteStatus {
    /// Whether the cluster has a majority; without, nothing can be changed.
    pub(in crate::cli) quorate: bool,
    /// Every node of the site.
    pub(in crate::cli) nodes: Vec<NodeStatus>,
    /// Guests that had a node.
    pub(in crate::cli) others: Vec<OtherGuest>,
    /// The directory of the lab.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) lab: Option<PathBuf>,
    /// The process of the lab's host, if it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(in crate::cli) host: Option<u32>,
}

impl Output for SiteStatus {
    const VERBS: &'static [&'static str] = &["status", "lab status"];
}

/// A node, and how it is.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct NodeStatus {
    /// The node.
    pub(in crate::cli) node: String,
    /// Its role.
    pub(in crate::cli) role: String,
    /// What its guest and the definitions come to.
    pub(in crate::cli) standing: Standing,
    /// The guest that has it.
    pub(in crate::cli) guest: Option<RunningGuest>,
    /// Whether it says that it is ready.
    pub(in crate::cli) ready: bool,
    /// Whether it leads its group.
    pub(in crate::cli) leads: bool,
    /// What it says, in words; none if it was not asked.
    pub(in crate::cli) health: Option<String>,
}

/// The guest of a node.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct RunningGuest {
    /// Its number.
    pub(in crate::cli) id: GuestId,
    /// The host that it lies on.
    pub(in crate::cli) host: String,
    /// Whether it runs.
    pub(in crate::cli) status: Status,
    /// The image that it was made of.
    pub(in crate::cli) image: Digest,
    /// The artifact that it was made of.
    pub(in crate::cli) artifact: String,
    /// The how manieth guest of the node it is.
    pub(in crate::cli) generation: u32,
    /// Since how many days it has been what it is.
    pub(in crate::cli) days: u64,
    /// Its state volumes.
    pub(in crate::cli) volumes: Vec<String>,
}

/// A guest that had a node.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct OtherGuest {
    /// Its number.
    pub(in crate::cli) guest: GuestId,
    /// The node that it had.
    pub(in crate::cli) node: String,
    /// What it is.
    pub(in crate::cli) phase: Phase,
    /// The image that it was made of.
    pub(in crate::cli) image: Digest,
    /// Since when it has been that.
    pub(in crate::cli) since: Moment,
    /// Why `prune` keeps it; none if it would destroy it.
    pub(in crate::cli) kept: Option<String>,
}

/// A guest that was ended.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct Killed {
    /// Its node.
    pub(in crate::cli) killed: String,
}

impl Output for Killed {
    const VERBS: &'static [&'static str] = &["lab kill"];
}

/// A lab that was removed.
#[derive(Serialize, JsonSchema)]
pub(in crate::cli) struct Removed {
    /// Its directory.
    pub(in crate::cli) removed: PathBuf,
}

impl Output for Removed {
    const VERBS: &'static [&'static str] = &["lab down"];
}
