//! Machines that are not as a build needs them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::archive::Archive;
use crate::support::base::base;
use crate::support::package::Package;
use crate::support::project::{Project, STORE_VARIABLE};
use crate::{LOCK, compare, refused};

fn project() -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    project.succeed(&["lock"]);
    (archive, project)
}

#[test]
fn a_store_below_a_file() {
    let (_archive, mut project) = project();
    project.store = project.scratch().join("file");
    fs::write(&project.store, "").unwrap();
    refused("store_file", &project, &["build", "app"]);
}

#[test]
fn a_store_that_is_something_else() {
    let (_archive, mut project) = project();
    project.store = project.scratch().join("photos");
    fs::create_dir(&project.store).unwrap();
    fs::write(project.store.join("holiday.jpeg"), "").unwrap();
    refused("store_foreign", &project, &["build", "app"]);
}

#[test]
fn a_store_that_may_not_be_written() {
    let (_archive, mut project) = project();
    // Not even root may write there.
    project.store = Path::new("/proc/imgbuild").to_owned();
    let ended = project.run(&["build", "app"]);
    assert_eq!(ended.code, 1);
    compare("store_unwritable", &project, &ended);
}

#[test]
fn a_place_for_artifacts_below_a_file() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &[]);
    let project = Project::on_base(base, &archive, "");
    project.succeed(&["lock"]);
    refused("out_file", &project, &["build", "app", "--out", "images/app/image.toml/out"]);
}

#[test]
fn a_project_that_cannot_be_written_to() {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    fs::create_dir(project.path().join(LOCK)).unwrap();
    refused("lock_directory", &project, &["lock"]);
}

/// Runs `imgbuild build app` as a user without any privilege, if this is root.
#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn a_user_without_subordinate_ids() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let (_archive, mut project) = project();
    let all = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    all(project.scratch());
    all(&project.path());
    project.store = project.scratch().join("other");
    fs::create_dir(&project.store).unwrap();
    all(&project.store);
    // The build directory need not be open to everybody.
    let program = project.scratch().join("imgbuild");
    fs::copy(env!("CARGO_BIN_EXE_imgbuild"), &program).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid=64321", "--regid=64321", "--clear-groups", "--inh-caps=-all"])
        .arg(&program)
        .args(["build", "app", "--quiet"])
        .current_dir(project.path())
        .env(STORE_VARIABLE, &project.store)
        .output()
        .unwrap();
    let ended = crate::Ended::from(output);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    compare("no_subordinate_ids", &project, &ended);
    assert!(project.artifacts().is_empty());
}
