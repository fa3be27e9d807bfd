//! The client of registries: against one in memory that keeps to the specification, against Debian's
//! `docker-registry`, and through a proxy that lies.
#![allow(missing_docs)]

#[path = "../support/mod.rs"]
mod support;

mod debian;
mod exchanged;
mod images;
mod layers;
mod lies;
mod login;
mod memory;
mod signed;

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use imgbuild::digest::Digest;
use imgbuild::fetch::Policy;
use imgbuild::registry::{
    Access, CredentialFiles, Location, Registry, Repository, Settings, WantedBlob,
};
use imgbuild::store::Store;

/// Settings of tests: nobody's login, and little patience.
fn settings() -> Settings {
    let policy = Policy {
        tries: 3,
        base_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(50),
        patience: Duration::from_secs(10),
        ..Policy::default()
    };
    let credentials = CredentialFiles::none();
    Settings { credentials, policy, piece: 1000, ..Settings::new(Access::Push) }
}

/// The repository `a/b` of the registry at `host`.
fn repository(host: &str, settings: Settings) -> Repository {
    let location: Location = format!("{host}/a/b").parse().unwrap();
    Registry::new(location.origin(), settings).repository(&location)
}

/// Bytes that differ from place to place.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

/// A file of these bytes.
fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Some(directory.path())).unwrap();
    (directory, store)
}

fn wanted(bytes: &[u8]) -> WantedBlob {
    WantedBlob { label: "it".to_owned(), digest: Digest::of(bytes), size: bytes.len() as u64 }
}
