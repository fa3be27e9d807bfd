//! How imgbuild and what it builds get to machines: pipelines, their script, releases, and the flake.
#![allow(clippy::print_stderr, reason = "what is skipped is said")]

mod flake;
mod forge;
mod pipelines;
mod recorder;
mod release;
mod script;
#[path = "../support/mod.rs"]
mod support;
mod toolchain;

use std::fs;
use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether the program `name` can be started. Says so if not.
fn has(name: &str) -> bool {
    let there = Command::new(name).arg("--version").output().is_ok();
    if !there {
        eprintln!("skipped: there is no {name}");
    }
    there
}
