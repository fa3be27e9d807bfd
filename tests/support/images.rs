//! The project's own images, built for the site of `tests/lab/overlay.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imgbuild::artifact::name::Format;

use super::lab::succeed;
use super::meetings;

/// Locks and builds `haproxy` and `galera` of a copy of the project. Returns where the artifacts are.
pub fn build(format: &str) -> PathBuf {
    build_roles(&format!("project-{format}"), format, &["haproxy", "galera"], &[])
}

/// Locks and builds roles of a copy of the project, of the given name: the committed lock is for the day
/// it was made. `sources` are values of `--source`. All tests share a store, so what several have is built once.
/// Returns where the artifacts are.
pub fn build_roles(copy: &str, format: &str, roles: &[&str], sources: &[String]) -> PathBuf {
    let project = Copy::new(copy, &[]);
    project.lock(roles);
    project.build(format, roles, sources);
    project.out()
}

/// The roles whose sources only their authors may hand out, as far as whoever runs the test has them, and the options of
/// `build` that name these: `IMGBUILD_TEST_MOODLE` is a directory with Moodle's tree, and what `tests/scalelite.rs` names
/// is Scalelite. Says which roles are left out.
pub fn with_given_sources() -> (Vec<&'static str>, Vec<String>) {
    let moodle = std::env::var("IMGBUILD_TEST_MOODLE");
    let moodle = moodle.map(|path| vec![format!("moodle={path}")]);
    let moodle = moodle.map_err(|_| "IMGBUILD_TEST_MOODLE is not set".to_owned());
    let (mut roles, mut options) = (Vec::new(), Vec::new());
    for (role, sources) in [("moodle", moodle), ("scalelite", meetings::sources())] {
        match sources {
            Ok(sources) => {
                roles.push(role);
                options.extend(sources.iter().map(|source| format!("--source={source}")));
            }
            Err(reason) => eprintln!("{role} is left out: {reason}"),
        }
    }
    (roles, options)
}

/// A copy of the project, with the site of `tests/lab/overlay.toml` as `lab`.
pub struct Copy {
    path: PathBuf,
    store: PathBuf,
}

impl Copy {
    /// A new one of this name, in which the first of each pair is a file with some more text, the second.
    pub fn new(name: &str, more: &[(&str, &str)]) -> Self {
        let source = Path::new(env!("CARGO_MANIFEST_DIR"));
        let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot");
        let path = work.join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        succeed(
            Command::new("cp")
                .arg("-a")
                .args([source.join("images"), source.join("overlays")])
                .arg(&path),
        );
        fs::create_dir_all(path.join("overlays/lab")).unwrap();
        fs::copy(source.join("tests/lab/overlay.toml"), path.join("overlays/lab/overlay.toml"))
            .unwrap();
        let copy = Self { path, store: work.join("store") };
        more.iter().for_each(|(file, text)| copy.append(file, text));
        copy
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The store that tests share.
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// Where its artifacts go.
    pub fn out(&self) -> PathBuf {
        self.path.join("out")
    }

    /// The command, in it.
    pub fn imgbuild(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command.current_dir(&self.path).env("IMGBUILD_STORE", &self.store);
        command
    }

    /// Locks these roles: the others need repositories that may be out of reach.
    pub fn lock(&self, roles: &[&str]) {
        succeed(self.imgbuild().arg("lock").args(roles));
    }

    /// Builds roles for the lab. Returns the paths of the artifacts, below this directory.
    pub fn build(&self, format: &str, roles: &[&str], sources: &[String]) -> Vec<String> {
        let mut command = self.imgbuild();
        command.arg("build").args(roles).args(["--site", "lab", "--format", format]);
        command.args(sources.iter().flat_map(|source| ["--source", source]));
        succeed(&mut command).lines().map(str::to_owned).collect()
    }

    /// Adds to a file.
    pub fn append(&self, file: &str, text: &str) {
        self.edit(file, |old| old + text);
    }

    /// Changes a file.
    pub fn edit(&self, file: &str, change: impl FnOnce(String) -> String) {
        let path = self.path.join(file);
        let old = fs::read_to_string(&path).unwrap_or_default();
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, change(old)).unwrap();
    }
}

/// The artifact of a role in `directory`.
pub fn artifact(directory: &Path, role: &str, format: Format) -> PathBuf {
    let start = format!("imgbuild-{role}-");
    let mut found =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap_or_default();
            name.starts_with(&start) && name.ends_with(format.extension())
        });
    found.next().unwrap_or_else(|| panic!("no {format:?} of {role} in {}", directory.display()))
}
