//! Images in registries: what was built goes there, and comes back to where a build would have put it. And
//! [`layers`], which machines share while they build.
//!
//! # Form
//!
//! An artifact is a manifest of the OCI image specification with [`IMAGE`] as its `artifactType`, the empty document as
//! its config, and two blobs: the artifact's file ([`TEMPLATE`] or [`DISK`]) and its manifest ([`DESCRIPTION`]), each
//! annotated with the name of its file. Files beside the artifact that are about it ([`ATTACHMENTS`]) are manifests of
//! their own whose `subject` it is. No time, and nothing else that differs from machine to machine, is in any of them: the
//! same files have the same digests everywhere.
//!
//! What comes back is held against the digests in the manifest, and the artifact against its own manifest. Names of files
//! are computed from that, and a registry that has other names for them is refused, or an image of another role than the
//! repository is called after. Who made it is not known by that: whoever may push may push anything, an artifact with a
//! manifest that fits it, too.

mod attached;
mod error;
mod finished;
pub mod layers;
mod pull;
mod push;

pub use attached::RulesOf;
pub use error::Error;
pub use finished::{Finished, find, open};
pub use pull::{Destination, Pulled, PulledFile, pull};
pub use push::{Attached, Pushed, push};

use crate::artifact::name::Format;
use crate::signature::files::{CYCLONEDX, MANIFEST, PROVENANCE, SPDX};
use crate::signature::{self, SIGNATURE, SUMS};

/// What kind of thing an image is.
pub const IMAGE: &str = "application/vnd.imgbuild.image.v1";

/// An LXC template.
pub const TEMPLATE: &str = "application/vnd.imgbuild.template.v1.tar+zstd";

/// A disk.
pub const DISK: &str = "application/vnd.imgbuild.disk.v1.qcow2";

/// The manifest that a build writes.
pub const DESCRIPTION: &str = "application/vnd.imgbuild.manifest.v2+json";

/// A list of sums and its signature.
pub const SIGNED: &str = "application/vnd.imgbuild.signature.v1";

/// The annotation with a version (OCI image specification, "Pre-Defined Annotation Keys").
const VERSION: &str = "org.opencontainers.image.version";

/// Most bytes of a manifest of an image, or of a file that is about it.
const MOST_DOCUMENT: u64 = 64 << 20;

/// Transfers at once.
const TRANSFERS: usize = 4;

/// Something about an artifact, in files beside it.
pub struct Attachment {
    /// What kind of thing it is.
    pub artifact_type: &'static str,
    /// What the names of its files end with, and what kind of thing each of them is.
    pub files: &'static [(&'static str, &'static str)],
    /// The most bytes of each of them.
    pub most: u64,
}

/// All that is known. Media types of documents are those that are registered for them
/// (<https://www.iana.org/assignments/media-types>).
pub const ATTACHMENTS: &[Attachment] = &[
    Attachment {
        artifact_type: "application/spdx+json",
        files: &[(SPDX, "application/spdx+json")],
        most: MOST_DOCUMENT,
    },
    Attachment {
        artifact_type: "application/vnd.cyclonedx+json",
        files: &[(CYCLONEDX, "application/vnd.cyclonedx+json")],
        most: MOST_DOCUMENT,
    },
    Attachment {
        artifact_type: "application/vnd.in-toto+json",
        files: &[(PROVENANCE, "application/vnd.in-toto+json")],
        most: MOST_DOCUMENT,
    },
    // A list without its signature says nothing, so they go together.
    Attachment {
        artifact_type: SIGNED,
        files: &[(SUMS, "text/plain"), (SIGNATURE, "application/vnd.imgbuild.sshsig")],
        most: signature::MOST_BYTES,
    },
];

/// What kind of thing the file of an artifact is.
fn media_type(format: Format) -> &'static str {
    match format {
        Format::LxcTemplate => TEMPLATE,
        Format::Qcow2 => DISK,
    }
}
