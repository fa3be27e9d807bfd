//! Archives that must not be believed.

use crate::refused;
use crate::support::archive::{Archive, Release, release_path};
use crate::support::http::Fault;
use crate::support::package::Package;
use crate::support::project::Project;

/// An archive with one package, and a project that wants it.
fn project() -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    (archive, project)
}

#[test]
fn a_release_file_that_was_changed() {
    let (archive, project) = project();
    let signed = String::from_utf8(archive.server.content(&release_path())).unwrap();
    archive.publish_text(signed.replace("Components: main", "Components: mine").as_bytes());
    refused("release_changed", &project, &["lock"]);
}

#[test]
fn a_release_file_that_somebody_else_signed() {
    let (archive, project) = project();
    archive.publish(&Release { key: 2, ..Release::GOOD });
    refused("release_stranger", &project, &["lock"]);
}

#[test]
fn a_release_file_that_nobody_signed() {
    let (archive, project) = project();
    archive.publish_text(b"Suite: trixie\n");
    refused("release_unsigned", &project, &["lock"]);
}

#[test]
fn a_release_file_that_has_expired() {
    let (archive, project) = project();
    archive
        .publish(&Release { valid_until: Some("Sun, 08 Jun 2025 00:00:00 UTC"), ..Release::GOOD });
    refused("release_expired", &project, &["lock"]);
}

#[test]
fn a_release_file_that_is_older_than_the_last_one() {
    let (mut archive, project) = project();
    project.succeed(&["lock"]);
    archive.add(&Package::new("web", "1.1"));
    archive.publish(&Release { date: "Sat, 31 May 2025 00:00:00 UTC", ..Release::GOOD });
    refused("release_rolled_back", &project, &["lock", "--update"]);
}

#[test]
fn a_suite_that_is_not_there() {
    let (_archive, project) = project();
    let definition = project.read("images/app/image.toml");
    project.write("images/app/image.toml", &definition.replace("\"trixie\"", "\"trixi\""));
    refused("suite_unknown", &project, &["lock"]);
}

#[test]
fn a_component_that_is_not_there() {
    let (_archive, project) = project();
    let definition = project.read("images/app/image.toml");
    project.write("images/app/image.toml", &definition.replace("[\"main\"]", "[\"contrib\"]"));
    refused("component_unknown", &project, &["lock"]);
}

#[test]
fn an_index_that_the_release_file_does_not_vouch_for() {
    let (archive, project) = project();
    archive.server.file("/dists/trixie/main/binary-amd64/Packages.xz", "Package: evil\n");
    refused("index_wrong", &project, &["lock"]);
}

#[test]
fn a_mirror_that_cannot_be_reached() {
    let (archive, project) = project();
    archive.server.faults(&release_path(), std::iter::repeat_n(Fault::Hangup, 10));
    refused("mirror_down", &project, &["lock"]);
}

#[test]
fn a_keyring_without_keys() {
    let (_archive, project) = project();
    project.write("images/app/keys/archive.asc", "not a key\n");
    refused("keyring", &project, &["lock"]);
}
