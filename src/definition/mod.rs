//! Definitions, overlays, and what they say together: the [`Plan`] of one role at one site.
//!
//! A project is a directory with `images/NAME/image.toml` (one definition each) and
//! `overlays/SITE/overlay.toml` (values and nodes of one site). [`Project::load`] reads all of
//! them, [`Project::plan`] settles every value for one role. Both are pure functions of the
//! files: no network, no clock, no environment.
//!
//! The files are read through a small reader of our own over `toml`'s parsed document instead of
//! `serde`: every key and value keeps its place in the file, so that whatever is wrong, at any
//! depth and in values whose type another file declares, is shown underlined where it stands.

mod acceptance;
mod account;
pub(crate) mod container;
mod debian;
mod document;
mod endpoint;
mod error;
mod hosting;
mod image;
pub mod lint;
mod name;
mod network;
mod overlay;
mod parameter;
mod place;
mod plan;
mod policy;
mod project;
pub mod schema;
mod secret;
pub mod site;
mod stack;
mod state;
mod suggest;
mod swap;
mod upstream;
mod value;

pub use acceptance::Acceptance;
pub use account::{Accounts, Group, User};
pub use container::ContainerImage;
pub use debian::{Debian, Keyring, Repository};
pub use endpoint::{Clients, Connection, Endpoint, PortSource, Protocol};
pub use error::{Error, Located, Problem, Result};
pub use hosting::{
    ApiUrl, BridgeName, GuestKind, GuestShape, Hosting, PoolName, SECRETS_VOLUME, Trust,
    VolumeShape,
};
pub use image::{Boot, Check, FileRule, Health, Image, Machine, Packages, Relation, Run, Secret};
pub use name::{
    AbsolutePath, Account, CommitId, EndpointName, Hostname, ImageName, InvalidText, Mode,
    PackageName, ParameterName, SiteName, SourceName, UnitName, Version, VolumeName,
};
pub use network::{InterfaceAddress, Network};
pub use overlay::{Node, Overlay};
pub use parameter::{Field, Parameter, RESERVED_NAMES, Type};
pub use place::{Place, Source};
pub(crate) use place::{read_text, refuse_links};
pub use plan::{DiskPlan, Layer, Plan};
pub use policy::{Forbidden, POLICY, Policy, Signatures};
pub use project::Project;
pub use site::{Admitted, OpenEndpoint, PublicName, Site};
pub use stack::Setting;
pub use state::State;
pub(crate) use suggest::did_you_mean;
pub use swap::{Cluster, Swap};
pub use upstream::{Pin, Upstream, UpstreamKind};

#[cfg(test)]
pub(crate) mod tests;
