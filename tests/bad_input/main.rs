//! Bad input: exactly what the user sees, and that nothing half-written is left.
//!
//! Everything goes through the command, as a user would. The archives are made by the tests; where
//! scripts have to run they lie on a few real packages of Debian (`support::base`).

#[path = "../support/mod.rs"]
mod support;

mod archives;
mod auditing;
mod building;
mod definitions;
mod downloads;
mod inspecting;
mod lints;
mod machine;
mod packages;
mod registries;
mod resolving;
mod scaffolding;
mod signing;
mod sites;
mod sources;

use std::fs;
use std::path::Path;

use imgbuild::digest::Digest;
use support::project::{Ended, Project};

/// The name of the lock file.
const LOCK: &str = "imgbuild.lock";

/// Runs the command, which must fail with the message in the snapshot `name` and leave nothing
/// half-written.
#[track_caller]
fn refused(name: &str, project: &Project, arguments: &[&str]) {
    let lock = fs::read(project.path().join(LOCK)).ok();
    let ended = project.run(arguments);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert_eq!(ended.stdout, "", "a program must not take this for a result");
    assert!(project.artifacts().is_empty(), "left behind: {:?}", project.artifacts());
    assert_eq!(fs::read(project.path().join(LOCK)).ok(), lock, "the lock has changed");
    assert_blobs_are_whole(&project.store);
    compare(name, project, &ended);
}

/// Compares the message with a snapshot. What differs from run to run is replaced.
#[track_caller]
fn compare(name: &str, project: &Project, ended: &Ended) {
    let mut settings = insta::Settings::clone_current();
    let scratch = project.scratch().display().to_string();
    // Also as the end of the path reads where the beginning is cut off.
    for (path, shown) in [(project.store.display().to_string(), "[STORE]"), (scratch, "[DIR]")] {
        settings.add_filter(&path.replace('.', "\\."), shown);
    }
    settings.add_filter(r"127\.0\.0\.1:\d+", "[SERVER]");
    settings.add_filter(r"\b[0-9a-f]{64}\b", "[SHA256]");
    settings.add_filter(r"-[0-9a-f]{12}\.log", "-[KEY].log");
    settings.add_filter(r"work/[^/\s]+/", "work/[NAME]/");
    settings.add_filter(r"/\d{8}T\d{6}Z/", "/[MOMENT]/");
    settings.set_omit_expression(true);
    assert!(ended.stderr.contains("help: "), "what to do about it?\n{}", ended.stderr);
    settings.bind(|| insta::assert_snapshot!(name, ended.stderr));
}

/// No blob of a store that was made for this test is other than its name says.
#[track_caller]
fn assert_blobs_are_whole(store: &Path) {
    if store.starts_with(env!("CARGO_TARGET_TMPDIR")) {
        return;
    }
    for entry in walkdir::WalkDir::new(store.join("blobs")).into_iter().flatten() {
        if entry.file_type().is_file() {
            let content = fs::read(entry.path()).unwrap();
            assert_eq!(*entry.file_name(), *Digest::of(content).to_string());
        }
    }
}
