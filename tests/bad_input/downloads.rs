//! Package files that cannot be had, or are not what was locked.

use crate::refused;
use crate::support::archive::{Archive, pool_path};
use crate::support::base::base;
use crate::support::http::{Fault, Server};
use crate::support::package::Package;
use crate::support::project::Project;

fn web() -> Package {
    Package::new("web", "1.0").file("usr/share/web/index.html", "<p>It works\n")
}

/// A locked project that wants the package `web`.
fn locked() -> (Archive, Project) {
    let archive = Archive::new(&[web()]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    project.succeed(&["lock"]);
    (archive, project)
}

#[test]
fn other_bytes_than_were_locked() {
    let (archive, project) = locked();
    archive.server.faults(&format!("/{}", pool_path(&web())), [Fault::Corrupt]);
    refused("wrong_hash", &project, &["build", "app"]);
}

#[test]
fn a_file_of_another_size() {
    let (archive, project) = locked();
    archive.server.file(&format!("/{}", pool_path(&web())), "not even a package\n");
    refused("wrong_size", &project, &["build", "app"]);
}

#[test]
fn a_download_that_always_ends_early() {
    let (archive, project) = locked();
    let path = format!("/{}", pool_path(&web()));
    archive.server.faults(&path, std::iter::repeat_n(Fault::Truncate(100), 20));
    refused("truncated", &project, &["build", "app"]);
}

#[test]
fn a_version_that_the_mirror_no_longer_has() {
    let (archive, project) = locked();
    archive.server.remove(&format!("/{}", pool_path(&web())));
    refused("gone", &project, &["build", "app"]);
}

#[test]
fn a_version_that_not_even_the_archive_of_past_states_has() {
    let archive = Archive::new(&[web()]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    let snapshots = Server::start();
    let definition = project.read("images/app/image.toml");
    let with_snapshot = format!("snapshot = \"{}\"\nsuite =", snapshots.url("/archive"));
    project.write("images/app/image.toml", &definition.replace("suite =", &with_snapshot));
    project.succeed(&["lock"]);
    archive.server.remove(&format!("/{}", pool_path(&web())));
    refused("gone_everywhere", &project, &["build", "app"]);
}

#[test]
fn nothing_is_fetched_offline() {
    let (_archive, project) = locked();
    refused("offline", &project, &["build", "app", "--offline"]);
}

#[test]
fn a_version_that_only_the_archive_of_past_states_has_is_built() {
    let Some(base) = base() else { return };
    // Not in the shared store yet, whatever ran before.
    let package = web().file("usr/share/web/run", &format!("{:?}", std::time::SystemTime::now()));
    let archive = Archive::with_base(base, std::slice::from_ref(&package));
    let project = Project::on_base(base, &archive, "[packages]\ninstall = [\"web\"]\n");
    let snapshots = Server::start();
    let definition = project.read("images/base/image.toml");
    let with_snapshot = format!("snapshot = \"{}\"\nsuite =", snapshots.url("/archive"));
    project.write("images/base/image.toml", &definition.replace("suite =", &with_snapshot));
    project.succeed(&["lock"]);
    let path = format!("/{}", pool_path(&package));
    archive.server.remove(&path);
    let lock = project.read(crate::LOCK);
    let moment = lock.lines().find_map(|line| line.strip_prefix("snapshot = ")).unwrap();
    let old = format!("/archive/{}{path}", moment.trim_matches('"'));
    snapshots.file(&old, package.deb());
    project.succeed(&["build", "app"]);
    assert_eq!(snapshots.count(&old), 1);
    assert_eq!(project.artifacts().len(), 2);
}
