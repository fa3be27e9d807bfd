//! Why the engine does not touch something, and how to mend it.

use std::fmt;

use super::platform::{Guest, GuestId};
use super::record::RecordError;
use super::wanted::Node;
use crate::definition::{GuestKind, Hostname, ImageName, VolumeName};

/// The place that a refusal is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At {
    /// The node.
    pub node: Hostname,
    /// The guest, if it is about one.
    pub guest: Option<GuestId>,
    /// The host.
    pub host: Hostname,
}

impl At {
    pub(super) fn node(node: &Node) -> Self {
        Self { node: node.name.clone(), guest: None, host: node.host.clone() }
    }

    pub(super) fn guest(guest: &Guest) -> Self {
        let node = guest.record.node.clone();
        Self { node, guest: Some(guest.id), host: guest.host.clone() }
    }
}

impl fmt::Display for At {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.guest {
            Some(guest) => write!(formatter, "{} (guest {guest} on {})", self.node, self.host),
            None => write!(formatter, "{} (on {})", self.node, self.host),
        }
    }
}

/// Why nothing more is done. Whatever was begun stays as it is and can be gone on with once the reason
/// is removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum Refusal {
    /// The cluster has no majority.
    #[error("the cluster has no quorum: no guest can be changed")]
    #[diagnostic(help(
        "bring the missing hosts back (`pvecm status` on a host), then run this again"
    ))]
    NoQuorum,

    /// The selection names something that the site does not have.
    #[error("the site has no {what} `{name}`")]
    #[diagnostic(help("it has: {known}"))]
    Unknown {
        /// `node` or `role`.
        what: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },

    /// A guest carries a record that cannot be read.
    #[error("guest {guest}{}: {error}", name.as_ref().map(|name| format!(" ({name})")).unwrap_or_default())]
    #[diagnostic(help("{}", match error {
        RecordError::Newer(_) => "use the imgbuild that wrote it, or a later one: this site was last changed by it",
        _ => "restore the record in its notes from a backup of the configuration; if the guest is none of this site, remove the record",
    }))]
    UnreadableRecord {
        /// The guest.
        guest: GuestId,
        /// Its name.
        name: Option<String>,
        /// What is wrong.
        error: RecordError,
    },

    /// Someone else's guest has the name of a node.
    #[error("the name {} is taken by guest {guest}, which has no record of this site", at.node)]
    #[diagnostic(help(
        "imgbuild touches only guests that it made; rename guest {guest}, or destroy it yourself, or give \
         the node another name in the overlay"
    ))]
    NameTaken {
        /// The node.
        at: At,
        /// The stranger.
        guest: GuestId,
    },

    /// No id is left for a new guest.
    #[error("{at}: all guest ids from {first} to {last} are taken")]
    #[diagnostic(help(
        "run `imgbuild prune` to destroy old guests, or widen `vmids` in the overlay"
    ))]
    NoFreeId {
        /// The node.
        at: At,
        /// The first of the range.
        first: GuestId,
        /// The last of the range.
        last: GuestId,
    },

    /// A guest's configuration is locked.
    #[error("{at} is locked ({lock})")]
    #[diagnostic(help(
        "wait until the task that locked it is over (a backup, a migration); if none is running, \
         `qm unlock` or `pct unlock` removes the lock"
    ))]
    Locked {
        /// The guest.
        at: At,
        /// By what.
        lock: String,
    },

    /// A task works on a guest, for too long.
    #[error("{at} is still busy: {task}")]
    #[diagnostic(help(
        "look at the task in Proxmox's task list; run this again when it has ended"
    ))]
    Busy {
        /// The guest.
        at: String,
        /// The task.
        task: String,
    },

    /// High availability would start and stop the guest on its own.
    #[error("{at} is managed by high availability")]
    #[diagnostic(help(
        "remove the guest from it for the time of the swap (`ha-managed remove`, or state `ignored`), \
         and add the new guest afterwards"
    ))]
    Managed {
        /// The guest.
        at: At,
    },

    /// The host does not say whether the guest runs.
    #[error("{at}: its host does not answer, so nobody knows whether the guest runs")]
    #[diagnostic(help(
        "bring the host back; a second guest of the node must not be started before"
    ))]
    HostUnknown {
        /// The guest.
        at: At,
    },

    /// The host of a node, or of a guest of it, is not there.
    #[error("{node}: {what}, so nobody knows what runs there")]
    #[diagnostic(help(
        "bring {host} back, or name the nodes to change whose guests are on other hosts"
    ))]
    HostAway {
        /// The node.
        node: Hostname,
        /// The host.
        host: String,
        /// What is not there: `its host pve2 is offline`.
        what: String,
    },

    /// A snapshot keeps a state volume from leaving its guest.
    #[error(
        "{at}: the snapshot `{snapshot}` holds the state volume `{volume}`, which therefore cannot be moved"
    )]
    #[diagnostic(help("delete the snapshot; a backup made with vzdump is no obstacle"))]
    Snapshot {
        /// The guest.
        at: At,
        /// The volume.
        volume: VolumeName,
        /// The snapshot.
        snapshot: String,
    },

    /// A state volume is on a guest of another host.
    #[error("{at} has the state volumes of the node, but the site puts the node on {wanted}")]
    #[diagnostic(help(
        "volumes can be moved only between guests of one host: migrate the guest to {wanted}, or write \
         `host = \"{}\"` in the overlay", at.host
    ))]
    OtherHost {
        /// The guest that has them.
        at: At,
        /// The host in the overlay, or that of the guest that should get them.
        wanted: Hostname,
    },

    /// State volumes cannot change from machines to containers or back.
    #[error("{at} is a {is} with state volumes, and the site wants a {wanted}")]
    #[diagnostic(help(
        "volumes cannot be moved between machines and containers: set `kind` back in the overlay, or bring \
         the node up beside the old one under a new name and copy the data within the service"
    ))]
    OtherKind {
        /// The guest that has them.
        at: At,
        /// What it is.
        is: GuestKind,
        /// What is wanted.
        wanted: GuestKind,
    },

    /// A node runs another role now.
    #[error("{at} runs the role {is}, and the site wants {wanted} there")]
    #[diagnostic(help(
        "the state of one role is not that of another: give the new node a name of its own, and remove the \
         guest of the old one yourself"
    ))]
    OtherRole {
        /// The guest.
        at: At,
        /// What it runs.
        is: ImageName,
        /// What is wanted.
        wanted: ImageName,
    },

    /// A state volume is gone.
    #[error("{at}: the state volume `{volume}` is on no guest of the node")]
    #[diagnostic(help(
        "look for it among unused disks and on other guests and attach it to guest {} again; imgbuild never makes an \
         empty one in its place", at.guest.map(|id| id.to_string()).unwrap_or_default()
    ))]
    VolumeMissing {
        /// The guest that should have it.
        at: At,
        /// The volume.
        volume: VolumeName,
    },

    /// Two guests of a node have a state volume of the same name.
    #[error("{at}: the state volume `{volume}` is on guest {other}, too")]
    #[diagnostic(help(
        "find out which of the two has the data, and detach the other from its guest; imgbuild does not choose"
    ))]
    VolumeTwice {
        /// One of them.
        at: At,
        /// The volume.
        volume: VolumeName,
        /// The other one.
        other: GuestId,
    },

    /// A node that was not asked for is in the middle of a swap.
    #[error("{at} is in the middle of a swap")]
    #[diagnostic(help(
        "finish it (`imgbuild swap --site SITE {node}`) or undo it (`imgbuild rollback --site SITE {node}`) first", node = at.node
    ))]
    Unfinished {
        /// Its guest.
        at: At,
    },

    /// Others of the role are not ready, so this one must not go.
    #[error("{at} has to stay while {others} not ready", others = list(others))]
    #[diagnostic(help("one node of a role may be away at a time; look after the other one first"))]
    OthersNotReady {
        /// The node.
        at: At,
        /// The others, and what they say.
        others: Vec<(Hostname, String)>,
    },

    /// At the end, some nodes are not ready.
    #[error("everything is in place, but {} not ready", list(nodes))]
    #[diagnostic(help(
        "look into the journal of these guests; `imgbuild rollback` brings the images before back"
    ))]
    NotReady {
        /// The nodes, and what they say.
        nodes: Vec<(Hostname, String)>,
    },

    /// Something else would be done than somebody has seen.
    #[error("this is not what {plan} says would be done:\n{}", lines.join("\n"))]
    #[diagnostic(help(
        "nothing was changed. The site, its definitions or its artifacts are not as they were: look at the plan of now, \
         `imgbuild plan --site {site} --out {plan}`"
    ))]
    NotExpected {
        /// The file with the plan that somebody has seen.
        plan: String,
        /// The site.
        site: String,
        /// What was to be done, with a minus, and what would be, with a plus.
        lines: Vec<String>,
    },

    /// There is no guest to go back to.
    #[error("{at} has no image to go back to")]
    #[diagnostic(help(
        "the guest that it replaced was never there or has been pruned; check out the definitions and the lock \
         of the image that you want, and swap"
    ))]
    NothingBefore {
        /// The node.
        at: At,
    },
}

fn list(nodes: &[(Hostname, String)]) -> String {
    let texts: Vec<_> = nodes.iter().map(|(node, text)| format!("{node} ({text})")).collect();
    format!("{} {}", texts.join(", "), if nodes.len() == 1 { "is" } else { "are" })
}
