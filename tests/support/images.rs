//! The project's own images, built for the site of `tests/lab/overlay.toml`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use imgbuild::artifact::name::Format;

use super::lab::succeed;

/// Locks and builds `haproxy` and `galera` of a copy of the project. Returns where the artifacts are.
pub fn build(format: &str) -> PathBuf {
    build_roles(&format!("project-{format}"), format, &["haproxy", "galera"], &[])
}

/// Locks and builds roles of a copy of the project, of the given name: the committed lock is for the day
/// it was made. `sources` are values of `--source`. Test programs run one after the other, so they can
/// share a store. Returns where the artifacts are.
pub fn build_roles(copy: &str, format: &str, roles: &[&str], sources: &[String]) -> PathBuf {
    let project = copy_of_the_project(copy);
    let work = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot");
    let imgbuild = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command.current_dir(&project);
        command
    };
    let out = project.join("out");
    // The others need repositories that may be out of reach.
    succeed(imgbuild().arg("lock").args(roles).arg("--store").arg(work.join("store")));
    succeed(
        imgbuild()
            .arg("build")
            .args(roles)
            .args(["--site", "lab", "--format", format, "--out"])
            .arg(&out)
            .args(sources.iter().flat_map(|source| ["--source", source]))
            .arg("--store")
            .arg(work.join("store")),
    );
    out
}

/// A copy of the project, of the given name, with the site of `tests/lab/overlay.toml`.
pub fn copy_of_the_project(copy: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot").join(copy);
    let _ = fs::remove_dir_all(&project);
    fs::create_dir_all(&project).unwrap();
    succeed(
        Command::new("cp")
            .arg("-a")
            .args([source.join("images"), source.join("overlays")])
            .arg(&project),
    );
    fs::create_dir_all(project.join("overlays/lab")).unwrap();
    fs::copy(source.join("tests/lab/overlay.toml"), project.join("overlays/lab/overlay.toml"))
        .unwrap();
    project
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
