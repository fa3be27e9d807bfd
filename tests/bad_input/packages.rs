//! Package files that would lead out of the image, or are none.

use std::fs;

use crate::refused;
use crate::support::archive::Archive;
use crate::support::package::Package;
use crate::support::project::Project;

/// Builds an image of `package`, which must be refused as in the snapshot `name`.
#[track_caller]
fn unpack(name: &str, package: impl FnOnce(&str, Package) -> Package) {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let package = package(target, Package::new("evil", "1.0").file("usr/share/evil/good", "x"));
    let archive = Archive::new(&[package]);
    let project = Project::small(&archive, r#"["evil"]"#, "");
    project.succeed(&["lock"]);
    refused(name, &project, &["build", "app"]);
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "it wrote outside the image");
}

#[test]
fn a_member_that_climbs_out() {
    unpack("member_parent", |_, package| package.file_at("./usr/../../evil", "x"));
}

#[test]
fn a_member_with_an_absolute_name() {
    unpack("member_absolute", |_, package| package.file_at("/etc/evil", "x"));
}

#[test]
fn a_member_behind_an_absolute_link() {
    unpack("member_link_absolute", |outside, package| {
        package.link("./usr/share/way", outside).file_at("./usr/share/way/evil", "x")
    });
}

#[test]
fn a_member_behind_a_link_that_climbs_out() {
    unpack("member_link_parent", |outside, package| {
        let target = format!("../../../../../../..{outside}");
        package.link("./usr/share/way", &target).file_at("./usr/share/way/evil", "x")
    });
}

#[test]
fn a_hard_link_to_a_file_outside() {
    unpack("member_hard_link", |_, package| package.hard_link("./etc/evil", "../../etc/shadow"));
}

#[test]
fn a_file_that_is_no_package() {
    let archive = Archive::new(&[]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    let mut archive = archive;
    let stanza = crate::support::package::stanza(
        &Package::new("web", "1.0").control(),
        "pool/main/web_1.0_amd64.deb",
        b"<html>hotel wifi</html>\n",
    );
    archive.add_stanza(&stanza);
    archive.server.file("/pool/main/web_1.0_amd64.deb", "<html>hotel wifi</html>\n");
    archive.publish(&crate::support::archive::Release::GOOD);
    project.succeed(&["lock"]);
    refused("no_package", &project, &["build", "app"]);
}
