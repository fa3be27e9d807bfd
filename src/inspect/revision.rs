//! The project as a revision of its git repository has it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::Error;

/// What a project consists of.
pub(super) const PARTS: [&str; 3] = ["images", "overlays", "imgbuild.lock"];

/// A copy of the project at some revision. It is deleted when this is dropped.
pub struct Checkout {
    directory: TempDir,
}

impl Checkout {
    /// Copies what the repository that `project` lies in has of it in `revision`, which may be whatever
    /// git-rev-parse(1) understands. Neither the working tree nor the index is touched.
    ///
    /// # Errors
    /// There is no `git`, no repository, or no such revision.
    pub fn new(project: &Path, revision: &str) -> Result<Self, Error> {
        let directory = tempfile::Builder::new().prefix("imgbuild-revision-").tempdir();
        let directory = directory.map_err(|source| failed(&std::env::temp_dir(), source))?;
        let root = directory.path().join("project");
        fs::create_dir(&root).map_err(|source| failed(&root, source))?;
        let git = Git { revision, directory: project, index: directory.path().join("index") };
        let commit = format!("{revision}^{{commit}}");
        let commit = git.ask(&["rev-parse", "--verify", "--end-of-options", &commit])?;
        let below = git.ask(&["rev-parse", "--show-prefix"])?;
        let top = PathBuf::from(git.ask(&["rev-parse", "--show-toplevel"])?);
        let git = Git { directory: &top, ..git };
        // An index of its own, as if the project were the whole repository.
        git.ask(&["read-tree", &format!("{commit}:{below}")])?;
        let files = git.run(&[&["ls-files", "-z", "--"][..], &PARTS].concat(), &[])?;
        let prefix = format!("--prefix={}/", root.display());
        git.run(&["checkout-index", &prefix, "-z", "--stdin"], &files)?;
        Ok(Self { directory })
    }

    /// The directory of the project.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("project")
    }
}

/// `git`, about one revision.
struct Git<'a> {
    revision: &'a str,
    directory: &'a Path,
    index: PathBuf,
}

impl Git<'_> {
    /// The one line that git answers.
    fn ask(&self, arguments: &[&str]) -> Result<String, Error> {
        let answer = self.run(arguments, &[])?;
        Ok(String::from_utf8_lossy(&answer).trim_end_matches('\n').to_owned())
    }

    /// What git writes when it reads `input`.
    fn run(&self, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, Error> {
        let mut command = Command::new("git");
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"] {
            command.env_remove(name);
        }
        command.arg("-C").arg(self.directory).args(arguments);
        command.env("GIT_INDEX_FILE", &self.index).env("LC_ALL", "C");
        command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::NoGit)?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // What git does not read is no error: it says why.
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output()
        });
        let output = output.map_err(Error::NoGit)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        let line = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let line = line.trim().trim_start_matches("fatal: ");
        Err(Error::Git { revision: self.revision.to_owned(), message: line.to_owned() })
    }
}

fn failed(path: &Path, source: std::io::Error) -> Error {
    Error::Checkout { path: path.to_owned(), source }
}
