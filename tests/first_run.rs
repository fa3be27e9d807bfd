//! Does what docs/first-run.md says, command for command: builds, boots, deploys in a lab, changes, swaps, takes back.
//! Needs what `tests/boot.rs` needs; without, it says so and passes.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use support::images::Copy;
use support::lab::{succeed, unavailable};
use support::page;

/// A shell in the project that finds the program under test.
fn shell(project: &Copy, script: &str) -> Command {
    page::shell(project.path(), project.store(), script)
}

/// Ends the lab of a test that failed.
struct Lab(Copy);

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = shell(&self.0, "imgbuild lab down --site first-run").output();
    }
}

#[test]
fn a_new_user_gets_from_nothing_to_a_swapped_guest() {
    if let Some(reason) = unavailable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let project = Copy::new("project-first-run", &[]);
    let lock = "imgbuild.lock";
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(lock), project.path().join(lock)).unwrap();
    // The mirror may have newer packages than on the day of the last commit; other repositories may be out of reach.
    let prepare = "imgbuild lock --update || true; git init --quiet; git add --all; git commit --quiet -m first";
    succeed(&mut shell(&project, prepare));
    let lab = Lab(project);
    let mut compared = 0;
    for (script, told) in page::commands("docs/first-run.md") {
        let printed = succeed(&mut shell(&lab.0, &script));
        eprintln!("{script}\n{printed}");
        // `boot` tells people only, and how long it took.
        if !printed.trim().is_empty() {
            assert_eq!(page::words(&printed), page::words(&told.unwrap_or_default()), "{script}");
            compared += 1;
        }
    }
    assert!(compared >= 6, "the page shows less than it did");
    assert!(!Path::new("/var/lib/imgbuild/lab/first-run").exists());
}
