//! Does what docs/first-run.md says, command for command: builds, boots, deploys in a lab, changes, swaps, takes back.
//! Needs what `tests/boot.rs` needs; without, it says so and passes.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod support;

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use support::images::Copy;
use support::lab::{succeed, unavailable};

/// Its blocks for a shell, in order, each with what the page says that it prints.
fn commands() -> Vec<(String, Option<String>)> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/first-run.md");
    let page = fs::read_to_string(page).unwrap();
    let block = |text: &str| text.split_once("\n```").unwrap().0.to_owned();
    page.split("\n```sh,lab\n")
        .skip(1)
        .map(|part| (block(part), part.split_once("\n```text\n").map(|(_, text)| block(text))))
        .collect()
}

/// Words without what differs from run to run: digests, moments, sizes, and who leads, which is a matter of seconds.
fn words(text: &str) -> Vec<String> {
    let differs = |word: &str| {
        let digits = |part: &str| part.len() >= 12 && part.bytes().all(|it| it.is_ascii_hexdigit());
        word.split(|letter: char| !letter.is_ascii_alphanumeric()).any(digits)
            || word.contains('T') && word.contains("Z:")
            || word.contains('.') && word.parse::<f64>().is_ok()
    };
    let word = |word: &str| if differs(word) { "#".to_owned() } else { word.to_owned() };
    // What an earlier run has built is told by its digest.
    let text = text.replace("not built yet", "0.0 0.0 KiB").replace(", leads", "");
    text.split_whitespace().map(word).collect()
}

/// A shell in the project that finds the program under test.
fn shell(project: &Copy, script: &str) -> Command {
    let program = Path::new(env!("CARGO_BIN_EXE_imgbuild"));
    let directory = program.parent().unwrap().to_owned();
    let others = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([directory].into_iter().chain(env::split_paths(&others))).unwrap();
    let mut shell = Command::new("bash");
    shell.args(["-euc", script]).current_dir(project.path());
    shell.env("IMGBUILD_STORE", project.store()).env("PATH", path);
    for who in ["GIT_AUTHOR", "GIT_COMMITTER"] {
        shell.env(format!("{who}_NAME"), "x").env(format!("{who}_EMAIL"), "x@example.invalid");
    }
    shell
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
    for (script, told) in commands() {
        let printed = succeed(&mut shell(&lab.0, &script));
        eprintln!("{script}\n{printed}");
        // `boot` tells people only, and how long it took.
        if !printed.trim().is_empty() {
            assert_eq!(words(&printed), words(&told.unwrap_or_default()), "{script}");
            compared += 1;
        }
    }
    assert!(compared >= 6, "the page shows less than it did");
    assert!(!Path::new("/var/lib/imgbuild/lab/first-run").exists());
}
