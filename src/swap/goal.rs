//! What can be asked of the engine, and what it can answer.

use std::collections::BTreeMap;

use super::platform::{GuestId, Health};
use super::refusal::{At, Refusal};
use super::step::Step;
use super::wanted::Node;
use crate::definition::{Hostname, ImageName};

/// Which nodes are meant: those named and those of the named roles, or all if nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Roles.
    pub roles: Vec<ImageName>,
    /// Nodes.
    pub nodes: Vec<Hostname>,
}

/// Where a swap stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PauseAfter {
    /// Once this node has its image.
    Node(Hostname),
    /// Once all nodes of this role have theirs.
    Role(ImageName),
}

/// What is to be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Every node in scope runs the image that the site wants.
    Deploy {
        /// Which nodes.
        scope: Scope,
        /// Only one node of each role.
        canary: bool,
        /// Where to stop.
        pause_after: Option<PauseAfter>,
    },
    /// No node in scope is in the middle of a swap: what was begun is taken back.
    Undo {
        /// Which nodes.
        scope: Scope,
        /// Why, if a gate stayed red: it is noted on the guest.
        reason: Option<String>,
    },
    /// The nodes in scope run the image before. Without nodes named one by one, those that run the
    /// image that came last to their role; the others have not changed. Nothing goes back twice.
    Rollback {
        /// Which nodes.
        scope: Scope,
    },
    /// Guests that are no longer needed are gone.
    Prune {
        /// Which nodes.
        scope: Scope,
        /// Whether the artifacts that they were made from go as well, where nobody else needs them.
        artifacts: bool,
    },
}

/// What nodes have said of their health since something was last changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(pub BTreeMap<Hostname, Health>);

/// Why the health of nodes is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To choose the node that is replaced next.
    Order,
    /// Before one of them is taken down.
    Others,
    /// To prove a guest that has been started.
    Proof,
    /// To see that all is well at the end.
    End,
}

/// What has to become true before the next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// No task works on the guest any more.
    Idle {
        /// The guest, for people.
        at: String,
        /// Its number.
        guest: GuestId,
        /// The task.
        task: String,
    },
    /// The other nodes are ready.
    Others {
        /// The node that is to be taken down.
        at: At,
        /// Those that are not ready, and what they say.
        others: Vec<(Hostname, String)>,
    },
    /// A started guest is ready.
    Ready {
        /// The guest.
        at: At,
        /// What it says.
        says: String,
        /// Whether it is a new one, so that the node can be given back if it never is.
        new: bool,
    },
    /// At the end all are ready.
    End {
        /// Those that are not, and what they say.
        nodes: Vec<(Hostname, String)>,
    },
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The goal is reached.
    Settled,
    /// The place where the operator wanted to stop is reached; there would be more to do.
    Paused,
    /// Do this.
    Do(Step),
    /// Find out how these nodes are.
    Ask {
        /// The nodes.
        nodes: Vec<Hostname>,
        /// What for.
        purpose: Purpose,
    },
    /// Wait.
    Await(Gate),
    /// Stop here.
    Refused(Box<Refusal>),
}

impl From<Refusal> for Decision {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl Goal {
    /// Which nodes it is about.
    pub fn scope(&self) -> &Scope {
        match self {
            Self::Deploy { scope, .. }
            | Self::Undo { scope, .. }
            | Self::Rollback { scope }
            | Self::Prune { scope, .. } => scope,
        }
    }
}

impl Scope {
    /// Exactly this node.
    pub fn node(node: &Hostname) -> Self {
        Self { roles: Vec::new(), nodes: vec![node.clone()] }
    }

    pub(super) fn is_all(&self) -> bool {
        self.roles.is_empty() && self.nodes.is_empty()
    }

    pub(super) fn names(&self, node: &Node) -> bool {
        self.nodes.iter().any(|name| name.as_str().eq_ignore_ascii_case(node.name.as_str()))
    }

    /// Whether `node` is meant.
    pub fn holds(&self, node: &Node) -> bool {
        self.is_all() || self.roles.contains(&node.role) || self.names(node)
    }
}
