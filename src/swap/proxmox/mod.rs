//! The engine's [`Platform`] on Proxmox VE: calls of the API for what the engine asks for.
//!
//! What is where:
//!
//! | what | Proxmox VE |
//! |---|---|
//! | record | in the guest's description (notes) |
//! | revision | the digest of the guest's configuration |
//! | state volume of a machine | the disk with the serial number `state-NAME` |
//! | state volume of a container | the mount point at the volume's directory |
//! | secrets | the disk with the serial number `imgbuild-secrets`, the mount point `/etc/imgbuild/secrets`: a volume like the others |
//! | lease | the description of a machine without disks, `imgbuild-SITE-lease`, with the first number of the site |
//! | artifact | a file on the storage for artifacts, content `import` or `vztmpl` |

mod calls;
mod commands;
mod deliver;
mod lease;
mod make;
mod preflight;
mod survey;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use preflight::{Check, Finding};

use super::platform::{CallError, GuestId};
use super::secrets::NodeSecrets;
use crate::definition::{
    BridgeName, GuestKind, Hostname, ImageName, InterfaceAddress, PoolName, SiteName, VolumeName,
};
use crate::digest::Digest;
use crate::proxmox::{Client, Error, NodeName, Reason, StorageName, Vmid};

/// The name of the volume that holds the secrets of a node. No state volume of a site may have it
/// (`check` sees to that).
pub const SECRETS: &str = crate::definition::SECRETS_VOLUME;

/// The serial number of the disk that holds secrets (`docs/disk.md`).
const SECRETS_SERIAL: &str = "imgbuild-secrets";

/// Where guests look for their secrets.
const SECRETS_DIRECTORY: &str = "/etc/imgbuild/secrets";

/// Where the guests of a site live, as Proxmox VE needs to know it.
pub struct Place {
    /// The site.
    pub site: SiteName,
    /// The number of the machine that holds the lease.
    pub lease: GuestId,
    /// The numbers that guests of the site may have.
    pub ids: std::ops::RangeInclusive<GuestId>,
    /// The pool that guests are put into.
    pub pool: Option<PoolName>,
    /// The storage for artifacts.
    pub artifacts: StorageName,
    /// The resolvers that guests are told.
    pub name_servers: Vec<std::net::IpAddr>,
    /// The domain that guests search names in.
    pub search_domain: Option<Hostname>,
    /// What guests of each role are.
    pub roles: BTreeMap<ImageName, RoleShape>,
    /// Where each node is in the network.
    pub nodes: BTreeMap<Hostname, NodeAddress>,
    /// The files of artifacts, by name.
    pub files: BTreeMap<String, ArtifactFile>,
}

/// What guests of a role are.
pub struct RoleShape {
    /// The number of their processors.
    pub cores: u16,
    /// Their memory.
    pub memory_mib: u32,
    /// The size of a container's root.
    pub root_gib: u32,
    /// Where their roots lie.
    pub storage: StorageName,
    /// The bridge that they are on.
    pub bridge: BridgeName,
    /// The VLAN.
    pub vlan: Option<u16>,
    /// State volumes: where they lie, and the directory in the guest.
    pub volumes: BTreeMap<VolumeName, (StorageName, String)>,
}

/// Where a node is in the network.
pub struct NodeAddress {
    /// The host that its guests lie on.
    pub host: Hostname,
    /// Its address.
    pub address: InterfaceAddress,
    /// What its guests are.
    pub kind: GuestKind,
    /// The role that it runs.
    pub role: ImageName,
    /// Its router.
    pub gateway: Option<std::net::IpAddr>,
    /// The port on which it answers for its health.
    pub health_port: u16,
}

/// A file to upload.
pub struct ArtifactFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub size_bytes: u64,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    /// The size of the disk that it becomes; containers choose theirs.
    pub disk_bytes: Option<u64>,
}

/// A site on Proxmox VE.
pub struct Proxmox {
    client: Client,
    place: Place,
    secrets: NodeSecrets,
}

/// The name of the machine that holds the lease of a site.
fn lease_name(site: &SiteName) -> String {
    format!("imgbuild-{site}-lease")
}

impl Proxmox {
    /// The site of `place`, looked after through `client`.
    pub fn new(client: Client, place: Place) -> Self {
        Self { client, place, secrets: NodeSecrets::new() }
    }

    /// The API that it talks to.
    pub fn client(&self) -> &Client {
        &self.client
    }
}

/// What a failed call of the API means for the engine. The help belongs to the message: whoever reads it
/// has to mend it there.
fn failed(error: &Error) -> CallError {
    let mut text = error.to_string();
    if let Some(help) = miette::Diagnostic::help(error) {
        text = format!("{text}\n  {help}");
    }
    match error.reason() {
        Reason::Modified | Reason::AlreadyExists => CallError::Conflict(text),
        Reason::Unreachable
        | Reason::Interrupted
        | Reason::NodeUnreachable(_)
        | Reason::StillRunning { .. } => CallError::Unreachable(text),
        // Held for a moment: what was read is not what there is now.
        Reason::Locked(crate::proxmox::Lock::Busy) => CallError::Unreachable(text),
        // A task that has failed has given its answer.
        Reason::Task { .. } => CallError::Failed(text),
        _ if error.may_have_happened() => CallError::Unreachable(text),
        _ => CallError::Failed(text),
    }
}

fn vmid(id: GuestId) -> Result<Vmid, CallError> {
    Vmid::new(id.0)
        .ok_or_else(|| CallError::Failed(format!("{id} cannot be the number of a guest")))
}

fn node(host: &Hostname) -> Result<NodeName, CallError> {
    host.as_str().parse().map_err(|error| CallError::Failed(format!("{error}")))
}
