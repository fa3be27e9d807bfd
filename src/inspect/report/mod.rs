//! What there is to know of a role or a site, for a page that somebody reads who has neither the project nor
//! imgbuild. Nothing is built, fetched or run, and nothing in it depends on when or where it is made.

mod defined;
mod page;
mod role;
mod treemap;
mod usage;

use schemars::JsonSchema;
use serde::Serialize;

pub use page::page;
pub use role::{Known, describe};
pub use usage::{Part, Usage};

use super::Comparison;
use super::graph::Graph;
use crate::artifact::manifest::{Builder, Check, LayerKind};
use crate::artifact::name::Format;
use crate::digest::Digest;

/// All of it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Report {
    /// The site, if it is about one.
    pub site: Option<SiteReport>,
    /// The roles: the one that was asked for, or all that the site has nodes of.
    pub roles: Vec<RoleReport>,
}

/// A site.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SiteReport {
    /// Its name.
    pub name: String,
    /// What it is, in one line.
    pub summary: String,
    /// Its nodes.
    pub nodes: Vec<NodeRow>,
    /// Its public names, and the addresses that name servers give for them.
    pub names: Vec<NameRow>,
    /// Who connects to whom.
    pub graph: Graph,
    /// Its roles that were built as they are defined now.
    pub built: usize,
    /// Bytes of the artifacts of those.
    pub artifact_bytes: u64,
    /// Packages, each version once, of all roles.
    pub packages: usize,
    /// The roles that nothing can be said of.
    pub left_out: Vec<LeftOut>,
}

/// A role that nothing can be said of.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LeftOut {
    /// The role.
    pub role: String,
    /// Why.
    pub reason: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// A node of a site.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NodeRow {
    /// Its host name.
    pub name: String,
    /// Its role.
    pub role: String,
    /// Its address, with the length of the network's prefix.
    pub address: String,
    /// The Proxmox node that it lies on, if the site says so.
    pub host: Option<String>,
    /// In which format its role is deployed there.
    pub format: Format,
    /// The digest of its image, if that was built as it is defined now.
    pub digest: Option<Digest>,
}

/// A public name.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct NameRow {
    /// The name.
    pub name: String,
    /// Its address.
    pub address: String,
}

/// A role, or one image of it that was built.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RoleReport {
    /// The role.
    pub role: String,
    /// The version of its definition.
    pub version: String,
    /// What it is, in one line, if its definition is known.
    pub summary: Option<String>,
    /// The site that it is for, if any.
    pub site: Option<String>,
    /// The format that sizes, packages and files are of.
    pub format: Format,
    /// The digest of the image in that format; none if it was not built as it is defined now.
    pub digest: Option<Digest>,
    /// What is not known, and how to get to know it.
    pub notes: Vec<Note>,
    /// The artifacts that were built, in any format.
    pub artifacts: Vec<Artifact>,
    /// The layers, lowest first; last those of the image that disks boot with.
    pub layers: Vec<LayerRow>,
    /// What takes how much room, if all layers are in the store.
    pub usage: Option<Usage>,
    /// The packages.
    pub packages: Vec<PackageRow>,
    /// The parameters, with the values that they have.
    pub parameters: Vec<ParameterRow>,
    /// The volumes that outlive the image.
    pub volumes: Vec<VolumeRow>,
    /// What others connect to. None if the definition is not known.
    pub endpoints: Option<Vec<EndpointRow>>,
    /// The secrets that it needs when it runs. Their values are nowhere here.
    pub secrets: Vec<SecretRow>,
    /// Units that others start, and those that are masked. None if the files are not known.
    pub units: Option<Vec<UnitRow>>,
    /// Users. None if they are not known.
    pub users: Option<Vec<UserRow>>,
    /// The checks, each with whether the image has passed it.
    pub checks: Vec<Check>,
    /// Whether the image has passed `checks`; else a build is to run them.
    pub checked: bool,
    /// Where everything comes from.
    pub provenance: Provenance,
    /// What differs from the build before. None if there was none.
    pub difference: Option<Comparison>,
}

/// Something that is not known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Note {
    /// What, and why.
    pub text: String,
    /// The command that changes that, if one does.
    pub command: Option<String>,
}

/// A file that was built.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// The digest that its name is made of.
    pub digest: Digest,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// The size that a guest sees of a disk, in bytes.
    pub virtual_bytes: Option<u64>,
}

/// Which artifacts have a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Belongs {
    /// Templates and disks.
    Image,
    /// Disks.
    Disk,
    /// The image that disks boot with.
    Boot,
}

/// A layer.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LayerRow {
    /// What people call it: `haproxy files`.
    pub name: String,
    /// The definition that it comes from.
    pub image: String,
    /// What makes it.
    pub kind: LayerKind,
    /// Which artifacts have it.
    pub belongs: Belongs,
    /// Its digest, if it was built.
    pub digest: Option<Digest>,
    /// Bytes of its archive, if it was built.
    pub bytes: Option<u64>,
    /// Paths that it has, if it is in the store.
    pub paths: Option<usize>,
    /// Its part of the archives of all layers, from 0 to 1, if they were built.
    pub share: Option<f64>,
}

/// A package.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PackageRow {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture.
    pub architecture: String,
    /// The definition whose packages layer installs it.
    pub image: String,
    /// The repository, or the source, that it comes from, if the lock is known.
    pub from: Option<String>,
    /// Bytes of its files, if they are known.
    pub bytes: Option<u64>,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The default of its declaration.
    Default,
    /// A definition that stands on the one which declares it.
    Definition,
    /// An overlay.
    Overlay,
}

/// A parameter.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ParameterRow {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: serde_json::Value,
    /// Where the value comes from, if the definitions are known.
    pub origin: Option<Origin>,
    /// The file and line of the value, if they are known.
    pub place: Option<String>,
    /// What it is for, if its definition is known.
    pub doc: Option<String>,
}

/// A volume.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct VolumeRow {
    /// Its name.
    pub name: String,
    /// Where it is mounted.
    pub path: String,
    /// The user that owns its root.
    pub owner: String,
    /// The group of its root.
    pub group: String,
    /// The mode of its root.
    pub mode: String,
    /// How large the site makes it, in GiB.
    pub gib: Option<u32>,
    /// What it holds, if its definition is known.
    pub doc: Option<String>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EndpointRow {
    /// Its name.
    pub name: String,
    /// The first port; none for a protocol without ports.
    pub port: Option<u16>,
    /// The last port, if it is a range.
    pub last_port: Option<u16>,
    /// What it speaks: `tcp`, `udp`, `vrrp`.
    pub protocol: String,
    /// Who may connect: networks. None if that is everybody.
    pub clients: Option<Vec<String>>,
    /// What it is for.
    pub doc: String,
}

/// A secret, without its value.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SecretRow {
    /// Its name.
    pub name: String,
    /// Where it is in a guest, if its definition is known.
    pub path: Option<String>,
    /// Whether a service cannot start without it, if its definition is known.
    pub required: Option<bool>,
    /// What it is for, if its definition is known.
    pub doc: Option<String>,
}

/// A unit.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UnitRow {
    /// Its name.
    pub name: String,
    /// `wanted by multi-user.target`, `masked`.
    pub reasons: Vec<String>,
}

/// A user.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct UserRow {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the primary group.
    pub gid: u32,
    /// The home directory.
    pub home: String,
    /// The login shell.
    pub shell: String,
}

/// Where everything comes from.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Provenance {
    /// The program that built it; none if it was not built.
    pub builder: Option<Builder>,
    /// The lock, if it is known.
    pub lock: Option<LockSummary>,
    /// The repositories, if the definitions are known.
    pub repositories: Vec<RepositoryRow>,
    /// What is in no package of a repository.
    pub sources: Vec<SourceRow>,
    /// What was given by hand, and is not what the lock pins.
    pub unpinned: Vec<String>,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LockSummary {
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// When it was resolved: `20261123T090000Z`.
    pub snapshot: String,
}

/// A repository.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RepositoryRow {
    /// Its name.
    pub name: String,
    /// Its URL.
    pub url: String,
    /// The suite.
    pub suite: String,
    /// The components.
    pub components: Vec<String>,
    /// Fingerprints of the keys of which one has signed it.
    pub signed_by: Vec<String>,
    /// The date of its Release file, if the lock knows it.
    pub date: Option<String>,
    /// The SHA-256 of its InRelease file, if the lock knows it.
    pub release: Option<Digest>,
    /// How many packages of the role come from it, if the lock is known.
    pub packages: usize,
}

/// Something that is in no package of a repository.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct SourceRow {
    /// Its name.
    pub name: String,
    /// What it is: `archive`, `file`, `git`, `oci`, `package`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What its bytes are: a SHA-256, a commit, the digest of an OCI image. None if nobody has verified them.
    pub pin: Option<String>,
    /// How to verify it, where nobody has.
    pub unverified: Option<String>,
    /// Where the pin was published.
    pub published: Option<String>,
    /// Where it may be had.
    pub urls: Vec<String>,
    /// The definition that has it.
    pub image: String,
}
