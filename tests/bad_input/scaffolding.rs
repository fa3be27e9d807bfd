//! New projects and new roles that cannot be.

use std::fs;

use crate::refused;
use crate::support::archive::Archive;
use crate::support::package::Package;
use crate::support::project::Project;

/// A project of one role without `node`.
fn small() -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    (archive, project)
}

/// What `init` makes.
fn whole() -> Project {
    let project = Project::new();
    project.succeed(&["init"]);
    project
}

#[test]
fn a_place_that_is_taken() {
    let (_archive, project) = small();
    project.write("README.md", "mine\n");
    refused("init_taken", &project, &["init"]);
    assert_eq!(project.read("README.md"), "mine\n");
    refused("init_below_a_file", &project, &["init", "README.md/campus"]);
    assert_eq!(fs::read_dir(project.path()).unwrap().count(), 2, "something was left behind");
}

#[test]
fn names_that_no_role_can_have() {
    let project = whole();
    refused("new_name", &project, &["new", "Bibliothèque de Dakar"]);
    refused("new_name_out", &project, &["new", "../web"]);
    refused("new_reserved", &project, &["new", "operators"]);
    refused("new_foundation", &project, &["new", "machine"]);
    refused("new_exists", &project, &["new", "hello"]);
}

#[test]
fn images_that_no_role_can_stand_on() {
    let project = whole();
    refused("new_extends", &project, &["new", "web", "--extends", "nod"]);
    refused("new_on_boot", &project, &["new", "web", "--extends", "boot"]);
    refused("new_does_not_fit", &project, &["new", "web", "--extends", "hello"]);
    assert!(!project.path().join("images/web").exists());
    let (_archive, project) = small();
    refused("new_no_node", &project, &["new", "web"]);
}

#[test]
fn no_project_to_add_to() {
    let project = Project::new();
    refused("new_no_project", &project, &["new", "web"]);
}

#[test]
fn a_directory_in_the_way_of_a_role() {
    let project = whole();
    project.write("images/web/notes.txt", "mine\n");
    // Without a definition in it, the project is not in order, which is said first.
    refused("new_taken", &project, &["new", "web"]);
    assert_eq!(project.read("images/web/notes.txt"), "mine\n");
}
