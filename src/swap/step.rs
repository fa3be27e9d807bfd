//! One change to one guest, and what it will have done.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::platform::{Guest, GuestId, NewGuest, Revision, Status, Survey, Volume};
use super::record::{Phase, Record};
use crate::definition::{Hostname, VolumeName};

/// What writing a record means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// The guest makes room for its successor: from now on it does not start with its host.
    Yield,
    /// The new guest is proven and has the node. The point of no return for `swap`.
    Commit,
    /// The replaced guest is kept for the time of grace.
    Retire,
    /// A new guest is given up.
    GiveUp,
    /// The guest whose place was to be taken has the node again.
    Reclaim,
    /// The guest that was replaced, or one that had been given up, is to have the node.
    Revive,
}

/// One change, to one guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Bring the artifact to a host.
    Upload {
        /// The node it is for.
        node: Hostname,
        /// The host.
        host: Hostname,
        /// The artifact's file name.
        artifact: String,
    },
    /// Make a guest.
    Create(Box<NewGuest>),
    /// Write a record.
    Write {
        /// The guest.
        guest: GuestId,
        /// Its revision.
        revision: Revision,
        /// The record.
        record: Box<Record>,
        /// What it means.
        change: Change,
    },
    /// Let a guest drain and shut down.
    Halt {
        /// The node.
        node: Hostname,
        /// The guest.
        guest: GuestId,
        /// Its revision.
        revision: Revision,
        /// How long it may take.
        patience: Duration,
        /// Whether it is stopped hard after that: only guests that were given up.
        force: bool,
    },
    /// Move a state volume.
    Move {
        /// The node.
        node: Hostname,
        /// The volume.
        volume: VolumeName,
        /// The guest that has it.
        from: (GuestId, Revision),
        /// The guest that gets it.
        to: (GuestId, Revision),
    },
    /// Start a guest.
    Start {
        /// The node.
        node: Hostname,
        /// The guest.
        guest: GuestId,
        /// Its revision.
        revision: Revision,
    },
    /// Remove an artifact that no guest will be made from any more.
    Discard {
        /// The node of the guest that was made from it.
        node: Hostname,
        /// The host.
        host: Hostname,
        /// The artifact's file name.
        artifact: String,
        /// Its length in bytes.
        size_bytes: u64,
    },
    /// Destroy a guest without state.
    Destroy {
        /// The node it was.
        node: Hostname,
        /// The guest.
        guest: GuestId,
        /// Its revision.
        revision: Revision,
        /// The size of its root, in GiB, if it has one of a fixed size.
        root_gib: Option<u32>,
    },
}

impl Step {
    /// The end of a guest.
    pub(super) fn destroy(guest: &Guest) -> Self {
        Self::Destroy {
            node: guest.record.node.clone(),
            guest: guest.id,
            revision: guest.revision.clone(),
            root_gib: guest.root_gib,
        }
    }

    /// The node that it is about.
    pub fn node(&self) -> &Hostname {
        match self {
            Self::Create(new) => &new.record.node,
            Self::Write { record, .. } => &record.node,
            Self::Upload { node, .. }
            | Self::Halt { node, .. }
            | Self::Move { node, .. }
            | Self::Start { node, .. }
            | Self::Discard { node, .. }
            | Self::Destroy { node, .. } => node,
        }
    }

    /// Changes `survey` to what is seen after the step. Revisions stay: no step of a plan is executed.
    pub(super) fn predict(&self, survey: &mut Survey) {
        match self {
            Self::Upload { host, artifact, .. } => {
                survey.artifacts.insert((host.clone(), artifact.clone()), 0);
            }
            Self::Discard { host, artifact, .. } => {
                survey.artifacts.remove(&(host.clone(), artifact.clone()));
            }
            Self::Create(new) => survey.guests.push(made(new)),
            Self::Write { guest, record, .. } => {
                change(survey, *guest, |guest| guest.record = Record::clone(record));
            }
            Self::Halt { guest, .. } => {
                change(survey, *guest, |guest| guest.status = Status::Stopped);
            }
            Self::Start { guest, .. } => {
                change(survey, *guest, |guest| guest.status = Status::Running);
            }
            Self::Move { volume, from, to, .. } => {
                let mut moved = None;
                change(survey, from.0, |guest| moved = guest.volumes.remove(volume));
                if let Some(moved) = moved {
                    change(survey, to.0, |guest| {
                        guest.volumes.insert(volume.clone(), moved);
                    });
                }
            }
            Self::Destroy { guest, .. } => survey.guests.retain(|other| other.id != *guest),
        }
    }
}

fn change(survey: &mut Survey, id: GuestId, change: impl FnOnce(&mut Guest)) {
    if let Some(guest) = survey.guests.iter_mut().find(|guest| guest.id == id) {
        change(guest);
    }
}

fn made(new: &NewGuest) -> Guest {
    let volume = |(name, size): (&VolumeName, &u32)| {
        (name.clone(), Volume { size_gib: *size, snapshots: Vec::new() })
    };
    Guest {
        id: new.id,
        host: new.host.clone(),
        kind: new.kind,
        status: Status::Stopped,
        revision: Revision(String::new()),
        record: new.record.clone(),
        root_gib: None,
        volumes: new.fresh.iter().map(volume).collect::<BTreeMap<_, _>>(),
        other_disks: Vec::new(),
        lock: None,
        busy: None,
        managed: false,
        protected: false,
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload { host, artifact, .. } => write!(formatter, "bring {artifact} to {host}"),
            Self::Create(new) => {
                write!(formatter, "create {} {} from {}", new.kind, new.id, new.artifact)?;
                if !new.fresh.is_empty() {
                    let names: Vec<_> = new.fresh.keys().map(VolumeName::as_str).collect();
                    write!(formatter, " with empty state: {}", names.join(", "))?;
                }
                Ok(())
            }
            Self::Write { guest, record, change, .. } => match change {
                Change::Yield => write!(formatter, "note that guest {guest} makes room"),
                Change::Commit => write!(formatter, "give the node to guest {guest}"),
                Change::Retire => write!(formatter, "keep guest {guest} as the old one"),
                Change::GiveUp if record.phase == Phase::Failed => {
                    write!(formatter, "give guest {guest} up")
                }
                Change::GiveUp => write!(formatter, "put guest {guest} back among the old ones"),
                Change::Reclaim => write!(formatter, "give the node back to guest {guest}"),
                Change::Revive => write!(formatter, "choose guest {guest} again"),
            },
            Self::Halt { guest, force: false, .. } => {
                write!(formatter, "drain guest {guest} and shut it down")
            }
            Self::Halt { guest, .. } => write!(formatter, "stop guest {guest}"),
            Self::Move { volume, from, to, .. } => {
                write!(formatter, "move the state volume {volume} from {} to {}", from.0, to.0)
            }
            Self::Start { guest, .. } => write!(formatter, "start guest {guest}"),
            Self::Discard { host, artifact, size_bytes, .. } => {
                let size = size_bytes.div_ceil(1 << 20);
                write!(formatter, "remove {artifact} from {host}, which frees {size} MiB")
            }
            Self::Destroy { guest, root_gib: None, .. } => {
                write!(formatter, "destroy guest {guest}")
            }
            Self::Destroy { guest, root_gib: Some(size), .. } => {
                write!(formatter, "destroy guest {guest} and its root of {size} GiB")
            }
        }
    }
}
