//! The API of Proxmox VE, 8.4 and 9, as far as replacing guests needs it. Knows nothing of sites.
//!
//! [`Client`] makes the calls. Each call has its place in the API in its documentation; what the server
//! promises about it was read in the sources of Proxmox (named there), because the API's own description
//! says little about errors and order. None of it was tried on a real node; `tests/proxmox.rs` runs all of
//! it against a fake that holds requests against the API's schema.
//!
//! Three things hold everywhere:
//!
//! - The server has proved who it is before a byte of the token is sent ([`Trust`]).
//! - Only reads are repeated. After any other call that broke, look before doing it again
//!   ([`Error::may_have_happened`]).
//! - No call can destroy a volume, but for [`Client::destroy`], which destroys those that a guest owns *and*
//!   refers to, and [`Client::delete_artifact`].

mod classify;
mod client;
mod cluster;
mod config;
mod create;
mod drive;
mod error;
mod guest;
pub(crate) mod http;
mod json;
mod names;
mod property;
mod request;
mod storage;
mod task;
mod token;
mod trust;
mod upload;

pub use client::{Client, Pace, UrlError};
pub use cluster::{ClusterStatus, GuestSummary, HaResource, Node, Pool, Version};
pub use config::{Config, ConfigChange, ConfigDigest, DESCRIPTION_LIMIT, Pending, Snapshot, owned};
pub use create::{Addresses, Card, CloudInit, NewContainer, NewMachine, NewVolume, Resolving};
pub use drive::Drive;
pub use error::{Error, Lock, Method, Reason};
pub use guest::{GuestStatus, Interface, MoveVolume};
pub use names::{Guest, GuestKind, NameError, NodeName, StorageName, Vmid, VolumeId};
pub use property::{Properties, PropertyError};
pub use storage::{Content, Storage, StoredVolume};
pub use task::{ParseUpidError, TaskLog, TaskState, Upid};
pub use token::{ParseTokenError, Token};
pub use trust::{AuthoritiesError, Fingerprint, ParseFingerprintError, Trust};
pub use upload::Upload;
