//! A program that takes down how it was called, in the place of one that would do something.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory with programs that take down their words, and what they are told on standard input.
pub struct Recorder {
    directory: TempDir,
}

impl Recorder {
    /// Programs of these names, each with what it answers.
    pub fn new(programs: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let recorder = Self { directory };
        fs::create_dir(recorder.path("bin")).unwrap();
        for (name, answer) in programs {
            fs::write(recorder.path(&format!("{name}.answer")), answer).unwrap();
            let answer = format!("cat {}/{name}.answer", recorder.directory.path().display());
            recorder.answers(name, &answer);
        }
        recorder
    }

    /// Has the program `name` execute these lines of bash after it has taken down its words, which are `$@`.
    pub fn answers(&self, name: &str, lines: &str) {
        let here = self.directory.path().display();
        let script = format!(
            "#!/bin/bash\n\
             printf '%s\\0' {name} \"$@\" $'\\x1e' >>{here}/taken-down\n\
             [ {name} != curl ] || cat >>{here}/input\n\
             {lines}\n"
        );
        executable(&self.program(name), &script);
    }

    /// The `PATH` with the programs before all others.
    pub fn before_others(&self) -> String {
        format!("{}:{}", self.programs().display(), std::env::var("PATH").unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory with the programs, and the one called `name`.
    pub fn programs(&self) -> PathBuf {
        self.path("bin")
    }

    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// The words of each call since the last time, with the program before them.
    pub fn taken_down(&self) -> Vec<Vec<String>> {
        let path = self.path("taken-down");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let _ = fs::remove_file(path);
        let words = |record: &str| record.split_terminator('\0').map(str::to_owned).collect();
        text.split_terminator("\x1e\0").map(words).collect()
    }

    /// What `curl` was told on standard input.
    pub fn input(&self) -> String {
        fs::read_to_string(self.path("input")).unwrap_or_default()
    }
}

/// Writes a program. Another process does it: a child that another thread starts meanwhile would have the file open for
/// writing, too, and what is open for writing cannot be executed.
pub fn executable(path: &Path, text: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}
