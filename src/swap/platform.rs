//! What the engine needs of whatever runs the guests, and the terms in which they talk.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::ControlFlow;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lease::Lease;
use super::record::{Record, RecordError};
use super::wanted::Node;
use crate::debian::date::Moment;
use crate::definition::{GuestKind, Hostname, SiteName, VolumeName};

/// The number of a guest, unique among all guests of the cluster.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct GuestId(pub u32);

impl fmt::Display for GuestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a guest's configuration was when it was read. Whoever changes the guest says which one he has
/// read, and is refused when it is not the one there is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision(pub String);

/// Whether a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It runs.
    Running,
    /// It does not.
    Stopped,
    /// Its host does not say.
    Unknown,
}

/// A state volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its size, in GiB, as the guest's configuration gives it.
    pub size_gib: u32,
    /// The snapshots of the guest that hold it: it cannot leave the guest while there are any.
    pub snapshots: Vec<String>,
}

/// A guest that has a record of this site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its number.
    pub id: GuestId,
    /// The host it lies on.
    pub host: Hostname,
    /// What it is.
    pub kind: GuestKind,
    /// Whether it runs.
    pub status: Status,
    /// The revision of its configuration.
    pub revision: Revision,
    /// What stands in its description.
    pub record: Record,
    /// The size of its root, in GiB, if it has one of a fixed size.
    pub root_gib: Option<u32>,
    /// The state volumes that it has.
    pub volumes: BTreeMap<VolumeName, Volume>,
    /// Disks that it has and that imgbuild did not give it. It is never destroyed while it has any.
    pub other_disks: Vec<String>,
    /// What its configuration is locked by, such as `backup`.
    pub lock: Option<String>,
    /// A task that is at work on it.
    pub busy: Option<String>,
    /// Whether high availability starts and stops it.
    pub managed: bool,
    /// Whether it is protected from being destroyed.
    pub protected: bool,
}

/// A guest that is none of ours, or that cannot be told to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// Its number, which no new guest can have.
    pub id: GuestId,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// The host it lies on, if known.
    pub host: Option<Hostname>,
    /// A task that is at work on it: one that is being made has no record yet.
    pub busy: Option<String>,
    /// Why it is a stranger.
    pub why: Strangeness,
}

/// Why a guest is a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strangeness {
    /// It has no record.
    NoRecord,
    /// It belongs to another site.
    OtherSite(SiteName),
    /// It has a record that cannot be read.
    Unreadable(RecordError),
    /// It is ours, but its host is not there, so its record cannot be read. With the node that it is of, if
    /// something tells.
    Unseen(Option<Hostname>),
}

/// What is seen of the cluster at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// The time of the cluster.
    pub now: Moment,
    /// Whether the cluster has a majority of its hosts, without which no configuration can be written.
    pub quorate: bool,
    /// The guests of the site.
    pub guests: Vec<Guest>,
    /// All other guests of the cluster that can be seen.
    pub strangers: Vec<Stranger>,
    /// The hosts that are not there: nobody can look at their guests, or change them.
    pub away: BTreeSet<Hostname>,
    /// Which artifacts are there already, by host and file name, and how long they are, in bytes.
    pub artifacts: BTreeMap<(Hostname, String), u64>,
}

/// What a guest says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// It does its work.
    Ready {
        /// Whether the others of its role follow it: it is replaced last.
        leads: bool,
    },
    /// It answers that it does not, and why, in one line.
    NotReady(String),
    /// It does not answer, and how that was found out, in one line.
    Silent(String),
}

/// A guest to be made. It is made stopped, is not started when its host starts, and has its record from
/// the beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGuest {
    /// Its number.
    pub id: GuestId,
    /// The host it is made on.
    pub host: Hostname,
    /// What it is.
    pub kind: GuestKind,
    /// The file name of the artifact it is made from.
    pub artifact: String,
    /// Its record: node, role, image, generation.
    pub record: Record,
    /// New, empty state volumes for it, with their sizes in GiB. The others are moved to it.
    pub fresh: BTreeMap<VolumeName, u32>,
}

/// What became of a shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halted {
    /// The guest is stopped.
    Stopped,
    /// The time is over and it still runs.
    StillRunning,
}

/// Why a call has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The guest is not what it was when it was read, or the id of a new guest is taken. Nothing has
    /// happened.
    #[error("{0}")]
    Conflict(String),
    /// No answer. Nobody knows whether it has happened; if it still goes on, the guest is
    /// [busy](Guest::busy).
    #[error("{0}")]
    Unreachable(String),
    /// It was refused or has failed, and trying the same again is unlikely to help.
    #[error("{0}")]
    Failed(String),
    /// [`Watch::tick`] has said to stop waiting. What was begun goes on.
    #[error("given up waiting")]
    Abandoned,
}

/// Is called while a call waits for something, at least every ten seconds.
pub trait Watch {
    /// `note` is what there is to tell, such as `312 of 700 MiB`. On `Break` the call gives up waiting and
    /// returns [`CallError::Abandoned`].
    fn tick(&mut self, note: &str) -> ControlFlow<()>;
}

/// Whatever runs the guests. Calls block until what they ask for is done.
///
/// Those that take a [`Revision`] compare it as late as they can, at the latest right before they act, and
/// return [`CallError::Conflict`] if it is not the guest's. No call touches a guest without a record of the
/// site. No call takes longer than ten seconds without a [`Watch::tick`].
pub trait Platform {
    /// Removes what an interrupted run has left behind that is on no guest. Called once, when a run has the lease and has found
    /// what it may go on from.
    fn tidy(&self) -> Result<(), CallError> {
        Ok(())
    }

    /// What there is.
    fn survey(&self) -> Result<Survey, CallError>;

    /// The time by which leases expire.
    fn server_time(&self) -> Result<Moment, CallError>;

    /// Makes the artifact with this file name available to `host`. Does nothing where it is.
    fn ensure_artifact(
        &self,
        host: &Hostname,
        artifact: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError>;

    /// Removes the artifact with this file name from where `host` has it. Does nothing where it is not. Guests that were
    /// made from it do not need it.
    fn discard_artifact(&self, host: &Hostname, artifact: &str) -> Result<(), CallError>;

    /// Makes a guest. A taken id is a [`CallError::Conflict`].
    fn create(&self, guest: &NewGuest, watch: &mut dyn Watch) -> Result<(), CallError>;

    /// Writes `record`, its [tags](Record::tags) and whether the guest is
    /// [started with its host](Record::starts_on_boot), in one step.
    fn write_record(
        &self,
        guest: GuestId,
        revision: &Revision,
        record: &Record,
    ) -> Result<(), CallError>;

    /// Starts a stopped guest. Success says only that it runs.
    fn start(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError>;

    /// Asks a running guest to drain and stop, and waits for it no longer than `patience`.
    fn shutdown(
        &self,
        guest: GuestId,
        revision: &Revision,
        patience: Duration,
        watch: &mut dyn Watch,
    ) -> Result<Halted, CallError>;

    /// Stops a guest as if its power were cut.
    fn stop(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError>;

    /// Moves a state volume from one stopped guest to another on the same host. It is never copied.
    fn move_volume(
        &self,
        volume: &VolumeName,
        from: (GuestId, &Revision),
        to: (GuestId, &Revision),
        watch: &mut dyn Watch,
    ) -> Result<(), CallError>;

    /// Destroys a stopped guest that has no state volume, with its root.
    fn destroy(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError>;

    /// What the nodes say of themselves, in their order. A node that cannot be asked is silent.
    fn health(&self, nodes: &[&Node]) -> Vec<Health>;

    /// The lease of the site, if there is one, and the revision of what holds it.
    fn read_lease(&self) -> Result<(Option<Lease>, Revision), CallError>;

    /// Replaces the lease that has `revision`.
    fn write_lease(&self, lease: Option<&Lease>, revision: &Revision) -> Result<(), CallError>;
}
