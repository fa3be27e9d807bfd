//! Signatures of artifacts, in the form that every operator has a program for: SSH's.
//!
//! What is signed is a list of files ([`Sums`]). The signature ([`Signature`]) is one that `ssh-keygen -Y verify` checks,
//! and who may sign ([`AllowedSigners`]), and which keys no longer do ([`RevokedKeys`]), stand in files that it reads. Keys ([`Signer`]) lie in files or in an agent.

mod agent;
mod allowed;
mod envelope;
pub mod files;
mod identity;
mod key;
mod revoked;
mod sums;
mod wire;

use std::time::Duration;

pub use allowed::{AllowedSigners, NotAllowed};
pub use envelope::Signature;
pub use identity::Identity;
pub use key::{Error, Keys, Signer};
pub use revoked::RevokedKeys;
pub use sums::{NoSums, Sums};

/// What signatures are for. A key that signs files or mails for others signs no artifact by that.
pub const NAMESPACE: &str = "imgbuild";

/// What the name of a list of sums ends with, behind the stem of the artifact.
pub const SUMS: &str = ".sha256sums";

/// What the name of a signature ends with, behind the stem of the artifact.
pub const SIGNATURE: &str = ".sha256sums.sig";

/// The most bytes of a list of sums, and of a signature.
pub const MOST_BYTES: u64 = 64 << 10;

/// How far clocks may differ between who signs and who looks.
pub const TOLERANCE: Duration = Duration::from_secs(300);

/// Bytes that are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {0}")]
pub struct Malformed(pub &'static str);
