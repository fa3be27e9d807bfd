//! Everything that reads bytes from elsewhere, as targets of a fuzzer: `tests/fuzz` runs them under libFuzzer,
//! and the tests of this module give them damaged seeds. Only there is this compiled.
//!
//! A target takes any bytes and must come to an end, soon and in little memory: with a result or with an
//! error, never with a panic. Where a result has a property that whatever comes later relies on (no path
//! leads out, what is written is read again the same), the target panics if it has not.

mod builder;
mod debian;
mod document;
mod layer;
mod network;
mod scratch;
mod source;
mod supply;
mod tar;
#[cfg(test)]
mod tests;

pub(crate) use builder::Choices;
pub(crate) use scratch::Scratch;

use crate::artifact::disk::fuzzing as disk;

/// A reader of foreign bytes.
pub struct Target {
    /// Its name, and that of the program that runs it.
    pub name: &'static str,
    /// Reads bytes.
    pub run: fn(&[u8]),
    /// Bytes that it understands, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "deb", run: debian::deb, seeds: debian::deb_seeds },
    Target { name: "packages", run: debian::packages, seeds: debian::packages_seeds },
    Target { name: "release", run: debian::release, seeds: debian::release_seeds },
    Target { name: "inrelease", run: debian::inrelease, seeds: debian::inrelease_seeds },
    Target { name: "keyring", run: debian::keyring, seeds: debian::keyring_seeds },
    Target { name: "database", run: debian::database, seeds: debian::database_seeds },
    Target { name: "layer", run: layer::archive, seeds: layer::archive_seeds },
    Target { name: "erofs", run: layer::erofs, seeds: layer::erofs_seeds },
    Target { name: "source_archive", run: source::archive, seeds: source::archive_seeds },
    Target { name: "oci_layers", run: source::oci_layers, seeds: source::oci_layers_seeds },
    Target {
        name: "oci_documents",
        run: source::oci_documents,
        seeds: source::oci_documents_seeds,
    },
    Target { name: "record", run: document::record, seeds: document::record_seeds },
    Target { name: "lock", run: document::lock, seeds: document::lock_seeds },
    Target { name: "manifest", run: document::manifest, seeds: document::manifest_seeds },
    Target { name: "definition", run: document::definition, seeds: document::definition_seeds },
    Target { name: "proxmox", run: network::proxmox, seeds: network::proxmox_seeds },
    Target { name: "guest_agent", run: network::guest_agent, seeds: network::guest_agent_seeds },
    Target { name: "registry", run: network::registry, seeds: network::registry_seeds },
    Target { name: "signature", run: supply::signature, seeds: supply::signature_seeds },
    Target { name: "signers", run: supply::signers, seeds: supply::signers_seeds },
    Target {
        name: "shared_layers",
        run: supply::shared_layers,
        seeds: supply::shared_layers_seeds,
    },
    Target { name: "tracker", run: supply::tracker, seeds: supply::tracker_seeds },
    Target { name: "qcow2", run: disk::qcow2, seeds: disk::qcow2_seeds },
    Target { name: "gpt", run: disk::gpt, seeds: disk::gpt_seeds },
    Target { name: "segment", run: disk::segment, seeds: disk::segment_seeds },
];

/// The target called `name`.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The parts of `bytes` between bytes that no UTF-8 has.
fn parts(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == SEPARATOR)
}

/// Puts together what [`parts`] takes apart.
fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.join(&SEPARATOR)
}

const SEPARATOR: u8 = 0xff;
