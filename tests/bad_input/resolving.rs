//! Wishes that cannot be fulfilled, and locks that do not fit.

use crate::support::archive::Archive;
use crate::support::package::Package;
use crate::support::project::Project;
use crate::{LOCK, refused};

/// A project that wants `install` (TOML) of `packages`.
fn project(packages: &[Package], install: &str) -> (Archive, Project) {
    let archive = Archive::new(packages);
    let project = Project::small(&archive, install, "");
    (archive, project)
}

#[test]
fn a_package_that_does_not_exist() {
    let (_archive, project) = project(&[Package::new("haproxy", "3.0")], r#"["harpoxy"]"#);
    refused("package_unknown", &project, &["lock"]);
}

#[test]
fn a_version_that_does_not_exist() {
    let (_archive, project) = project(&[Package::new("haproxy", "3.0")], r#"["haproxy (>= 3.2)"]"#);
    refused("version_unknown", &project, &["lock"]);
}

#[test]
fn something_that_is_no_relation() {
    let (_archive, project) = project(&[], r#"["haproxy => 3.2"]"#);
    refused("relation", &project, &["lock"]);
}

#[test]
fn a_dependency_that_cannot_be_fulfilled() {
    let packages = [
        Package::new("web", "1.0").field("Depends", "web-common (= 1.0)"),
        Package::new("web-common", "1.0").field("Depends", "libnet2 (>= 2.1)"),
        Package::new("libnet2", "2.0"),
    ];
    let (_archive, project) = project(&packages, r#"["web"]"#);
    refused("unsatisfiable", &project, &["lock"]);
}

#[test]
fn packages_that_conflict() {
    let packages = [
        Package::new("web", "1.0").field("Depends", "mail-agent"),
        Package::new("postfix", "3.9")
            .field("Provides", "mail-agent")
            .field("Conflicts", "mail-agent"),
        Package::new("monitor", "2.0").field("Depends", "exim (>= 4)"),
        Package::new("exim", "4.98").field("Conflicts", "postfix"),
    ];
    let (_archive, project) = project(&packages, r#"["web", "monitor"]"#);
    refused("conflict", &project, &["lock"]);
}

#[test]
fn a_package_that_is_excluded_and_needed() {
    let packages =
        [Package::new("web", "1.0").field("Depends", "dbus"), Package::new("dbus", "1.16")];
    let (_archive, project) = project(&packages, "[\"web\"]\nexclude = [\"dbus\"]");
    refused("excluded", &project, &["lock"]);
}

#[test]
fn an_update_of_something_that_is_not_locked() {
    let (_archive, project) = project(&[Package::new("web", "1.0")], r#"["web"]"#);
    project.succeed(&["lock"]);
    refused("update_unknown", &project, &["lock", "--update", "wbe"]);
}

#[test]
fn no_lock() {
    let (_archive, project) = project(&[Package::new("web", "1.0")], r#"["web"]"#);
    refused("lock_absent", &project, &["build", "app"]);
}

#[test]
fn a_lock_that_is_out_of_date() {
    let packages = [Package::new("web", "1.0"), Package::new("monitor", "1.0")];
    let (_archive, project) = project(&packages, r#"["web"]"#);
    project.succeed(&["lock"]);
    let definition = project.read("images/app/image.toml");
    project.write("images/app/image.toml", &definition.replace("\"web\"", "\"web\", \"monitor\""));
    refused("lock_old", &project, &["build", "app"]);
    refused("lock_old_check", &project, &["check"]);
}

#[test]
fn a_lock_with_a_merge_conflict() {
    let (_archive, project) = project(&[Package::new("web", "1.0")], r#"["web"]"#);
    project.succeed(&["lock"]);
    let lock = project.read(LOCK);
    project.write(LOCK, &lock.replace("[image.app]", "<<<<<<< HEAD\n[image.app]"));
    refused("lock_conflict", &project, &["build", "app"]);
}

#[test]
fn a_lock_that_leads_out_of_the_archive() {
    let (_archive, project) = project(&[Package::new("web", "1.0")], r#"["web"]"#);
    project.succeed(&["lock"]);
    project.write(LOCK, &project.read(LOCK).replace("pool/main/", "../../etc/"));
    refused("lock_path", &project, &["build", "app"]);
}
