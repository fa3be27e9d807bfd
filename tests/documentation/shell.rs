//! Blocks of shell: executed in a copy of the project, or taken down word by word without executing anything.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use regex::{Captures, Regex};
use tempfile::TempDir;

use crate::root;

/// Says what a shell would execute, instead of executing it: names of programs are looked for in a directory that is not there.
/// A record has no line end, at which a shell would write it in two pieces: programs of a pipe write at the same time.
const TAKE_DOWN: &str = r#"
command_not_found_handle() { printf '%s\0' "$@" $'\x1e' >> "$TAKEN_DOWN"; }
cd() { command_not_found_handle cd "$@"; }
PATH=/nonexistent
"#;

/// The commands that `block` would execute, each as its words, after what the shell makes of them. What is written to goes
/// below a directory that is thrown away.
pub fn commands(block: &str) -> Result<Vec<Vec<String>>, String> {
    let directory = tempfile::tempdir().unwrap();
    let taken_down = directory.path().join("commands");
    fs::write(&taken_down, "").unwrap();
    let script =
        format!("{TAKE_DOWN}{}{}", programs_by_path(block), below(block, directory.path()));
    let output = bash(&script, directory.path())
        .env_clear()
        .env("TAKEN_DOWN", &taken_down)
        .env("HOME", directory.path())
        .env("USER", "anna")
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let text = fs::read_to_string(&taken_down).unwrap();
    let words = |record: &str| record.split_terminator('\0').map(str::to_owned).collect();
    Ok(text.split_terminator("\x1e\0").map(words).collect())
}

/// Functions for the programs that `block` names by their path: a shell asks nobody where those are.
fn programs_by_path(block: &str) -> String {
    let program = Regex::new(r"(?m)^\s*(?:\w+=\S*\s+)*([\w./-]*/[\w./-]+)").unwrap();
    let define = |found: Captures<'_>| {
        let name = &found[1];
        format!("{name}() {{ command_not_found_handle {name} \"$@\"; }}\n")
    };
    program.captures_iter(block).map(define).collect()
}

/// `block`, with what it writes to written below `directory`.
fn below(block: &str, directory: &Path) -> String {
    let target = Regex::new(r"(>\s*)(/?[\w./-]+)").unwrap();
    let redirected = target.replace_all(block, |found: &Captures<'_>| {
        let path = directory.join(found[2].trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        format!("{}{}", &found[1], path.display())
    });
    redirected.into_owned()
}

/// A copy of the project under version control, with a store and a home of its own.
pub struct Copy {
    directory: TempDir,
}

impl Copy {
    pub fn new() -> Self {
        let copy = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir(copy.path("project")).unwrap();
        fs::create_dir(copy.path("home")).unwrap();
        let project = root().display();
        let output = copy.run(&format!(
            "cp -a {project}/images {project}/overlays {project}/imgbuild.lock .\n\
             git init --quiet --initial-branch main\n\
             git add --all\n\
             git commit --quiet --message first\n\
             git tag first"
        ));
        assert!(output.status.success(), "{output:?}");
        copy
    }

    /// Makes it what it was at first.
    pub fn renew(&self) {
        let output = self.run("git reset --quiet --hard first; git clean -dffxq");
        assert!(output.status.success(), "{output:?}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Executes `block` in the copy, with the program under test.
    pub fn run(&self, block: &str) -> Output {
        let mut programs = vec![Path::new(env!("CARGO_BIN_EXE_imgbuild")).parent().unwrap().into()];
        programs.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        let mut shell = bash(block, &self.path("project"));
        shell.env("PATH", std::env::join_paths(programs).unwrap());
        shell.env("IMGBUILD_STORE", self.path("store")).env("HOME", self.path("home"));
        for who in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            shell.env(format!("{who}_NAME"), "x").env(format!("{who}_EMAIL"), "x@example.invalid");
        }
        shell.output().unwrap()
    }
}

fn bash(script: &str, directory: &Path) -> Command {
    // Its path is looked up with the environment of the test, also where the shell gets an empty one.
    let mut shell = Command::new("/bin/bash");
    shell.args(["-euc", script]).current_dir(directory);
    shell
}
