//! A project in a directory of its own, and the command that works on it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use super::archive::Archive;
use super::base::{self, Base};

/// Names the store.
pub const STORE_VARIABLE: &str = "IMGBUILD_STORE";

/// A project, with a store and a place for artifacts beside it.
pub struct Project {
    directory: TempDir,
    /// Where the store is. Beside the project unless a test says otherwise.
    pub store: PathBuf,
}

/// How a command has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Project {
    /// An empty one.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("project")).unwrap();
        let store = directory.path().join("store");
        Self { directory, store }
    }

    /// One whose only image is the role `app`, which uses `archive` and installs these packages
    /// (TOML). `more` is added to its definition.
    pub fn small(archive: &Archive, install: &str, more: &str) -> Self {
        let project = Self::new();
        project.write("images/app/keys/archive.asc", &Archive::keyring());
        let debian = archive.debian("");
        let definition = format!(
            "summary = \"An application\"\nversion = \"1.0.0\"\nrole = true\n\n{debian}\n\
             [packages]\ninstall = {install}\n{more}"
        );
        project.write("images/app/image.toml", &definition);
        project
    }

    /// A role `app` on an image `base` in which scripts can run, with the store that all tests share.
    pub fn on_base(base: &Base, archive: &Archive, app: &str) -> Self {
        let mut project = Self::new();
        project.store = base.store.clone();
        project.write("images/base/keys/archive.asc", &Archive::keyring());
        let (debian, install) = (archive.debian(""), base::install());
        let definition = format!(
            "summary = \"What scripts need\"\nversion = \"1.0.0\"\n\n{debian}\n\
             [packages]\ninstall = {install}\n"
        );
        project.write("images/base/image.toml", &definition);
        let definition = format!(
            "summary = \"An application\"\nversion = \"1.0.0\"\nextends = \"base\"\nrole = true\n\n{app}"
        );
        project.write("images/app/image.toml", &definition);
        project
    }

    /// The project's directory.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("project")
    }

    /// The directory that holds the project, its store and whatever else the test needs.
    pub fn scratch(&self) -> &Path {
        self.directory.path()
    }

    /// Where artifacts go.
    pub fn out(&self) -> PathBuf {
        self.path().join("out")
    }

    /// Writes a file of the project.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Adds to a file of the project.
    pub fn append(&self, path: &str, content: &str) {
        let old = self.read(path);
        self.write(path, &(old + content));
    }

    /// Reads a file of the project.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path().join(path)).unwrap()
    }

    /// The command with these arguments, started in the project.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command
            .args(arguments)
            .current_dir(self.path())
            .env(STORE_VARIABLE, &self.store)
            .env_remove("XDG_CACHE_HOME")
            .env("NO_PROXY", "127.0.0.1");
        command
    }

    /// Runs the command. `--quiet`, because how progress is told depends on the time it takes.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).arg("--quiet").output().unwrap())
    }

    /// Runs the command, which must succeed, and returns its standard output.
    pub fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "imgbuild {arguments:?}:\n{}", ended.stderr);
        ended.stdout
    }

    /// The names of everything in the directory for artifacts, hidden files included.
    pub fn artifacts(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.out()) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}
