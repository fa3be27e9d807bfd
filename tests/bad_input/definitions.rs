//! Definitions, overlays and templates, and the names of projects, roles and sites.

use crate::support::archive::Archive;
use crate::support::project::Project;
use crate::{compare, refused};

/// A project with the role `app`, which can be checked up to its lock.
fn project() -> Project {
    Project::small(&Archive::new(&[]), "[]", "")
}

#[test]
fn an_unknown_key() {
    let project = project();
    project.append("images/app/image.toml", "instal = [\"haproxy\"]\n");
    refused("unknown_key", &project, &["check"]);
}

#[test]
fn a_value_of_the_wrong_type() {
    let project = project();
    let definition = project.read("images/app/image.toml");
    project.write("images/app/image.toml", &definition.replace("role = true", "role = \"yes\""));
    refused("wrong_type", &project, &["build", "app"]);
}

#[test]
fn several_mistakes_at_once() {
    let project = project();
    project.append("images/app/image.toml", "exlude = []\n[user.app]\nuid = 990\n");
    refused("several", &project, &["check"]);
}

#[test]
fn a_parent_that_is_not_there() {
    let project = project();
    project.write(
        "images/web/image.toml",
        "summary = \"Web\"\nversion = \"1.0.0\"\nextends = \"ap\"\nrole = true\n",
    );
    refused("extends_unknown", &project, &["build", "web"]);
}

#[test]
fn parents_that_go_round_in_a_circle() {
    let project = project();
    for (name, parent) in [("a", "b"), ("b", "c"), ("c", "a")] {
        let text = format!("summary = \"{name}\"\nversion = \"1\"\nextends = \"{parent}\"\n");
        project.write(&format!("images/{name}/image.toml"), &text);
    }
    refused("extends_circle", &project, &["check"]);
}

#[test]
fn a_variable_that_nothing_declares() {
    let project = project();
    project.append(
        "images/app/image.toml",
        "[parameters.listen_port]\ntype = \"port\"\ndefault = 80\ndoc = \"Where it listens\"\n",
    );
    project.write("images/app/files/etc/app.conf.hbs", "# app\nlisten {{listen_prot}}\n");
    refused("template_variable", &project, &["check"]);
}

#[test]
fn an_overlay_that_sets_what_nothing_declares() {
    let project = project();
    project.append(
        "images/app/image.toml",
        "[parameters.listen_port]\ntype = \"port\"\ndefault = 80\ndoc = \"Where it listens\"\n",
    );
    project.write(
        "overlays/campus/overlay.toml",
        "summary = \"Campus\"\n[images.app]\nlisten_prot = 8080\n",
    );
    refused("overlay_undeclared", &project, &["build", "app", "--site", "campus"]);
}

#[test]
fn two_layers_that_disagree_on_what_a_path_is() {
    let project = project();
    project.write("images/app/files/etc/app", "a file\n");
    project.write(
        "images/web/image.toml",
        "summary = \"Web\"\nversion = \"1\"\nextends = \"app\"\nrole = true\n",
    );
    project.write("images/web/files/etc/app/web.conf", "a file in a directory\n");
    refused("types_disagree", &project, &["check"]);
}

#[test]
fn a_required_parameter_without_a_value() {
    let project = project();
    project.append(
        "images/app/image.toml",
        "[parameters.domain]\ntype = \"hostname\"\ndoc = \"The domain\"\n",
    );
    project.write("overlays/campus/overlay.toml", "summary = \"Campus\"\n");
    refused("no_value", &project, &["check"]);
}

#[test]
fn a_role_and_a_site_that_are_not_there() {
    let project = project();
    project.write(
        "images/base/image.toml",
        "summary = \"Base\"\nversion = \"1\"\nextends = \"app\"\n",
    );
    project.write("overlays/campus/overlay.toml", "summary = \"Campus\"\n");
    project.succeed(&["lock"]);
    refused("unknown_role", &project, &["build", "ap"]);
    refused("not_a_role", &project, &["build", "base"]);
    refused("unknown_site", &project, &["build", "app", "--site", "campsu"]);
}

#[test]
fn no_project() {
    let project = project();
    let mut command = project.command(&["check"]);
    let ended = command.current_dir(project.scratch()).output().unwrap().into();
    compare("no_project", &project, &ended);
    let elsewhere = project.scratch().join("elsewhere");
    refused("no_such_project", &project, &["check", "--project", elsewhere.to_str().unwrap()]);
}
