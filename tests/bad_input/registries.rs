//! Registries that cannot be reached, do not let in, or lie, and names that are none.

use std::fs;

use crate::support::archive::Archive;
use crate::support::finished::finished;
use crate::support::oci::{Abilities, Fault, Reply, Server, auth_file, in_memory};
use crate::support::package::Package;
use crate::support::project::Project;
use crate::{compare, refused};

fn registry() -> Server {
    in_memory(Abilities { pieces: true, least: 0, page: 1 })
}

/// A project with an artifact, and the path of it.
fn built() -> (Project, String) {
    let project = Project::new();
    let stem = finished(&project.out(), b"an artifact");
    (project, format!("out/{stem}.tar.zst"))
}

/// The command fails with the message in the snapshot, and what is built stays as it is.
#[track_caller]
fn fails(name: &str, project: &Project, arguments: &[&str]) {
    let before = project.artifacts();
    let ended = project.run(arguments);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{}", ended.stderr);
    assert_eq!(project.artifacts(), before);
    compare(name, project, &ended);
}

#[test]
fn references_that_are_none() {
    let project = Project::new();
    refused("reference_without_registry", &project, &["pull", "campus/haproxy:1.0.0"]);
    refused("reference_without_tag", &project, &["pull", "registry.example/campus/haproxy"]);
    refused(
        "reference_with_password",
        &project,
        &["pull", "jane:secret@registry.example/haproxy:1"],
    );
    refused("reference_in_capitals", &project, &["pull", "registry.example/Campus/haproxy:1"]);
    refused("tag_with_plus", &project, &["push", "a.qcow2", "--to", "r.example/a", "--tag", "1+2"]);
    refused("no_registry", &project, &["push", "a.qcow2"]);
}

#[test]
fn places_for_layers_that_are_none() {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, "[\"web\"]", "");
    project.succeed(&["lock"]);
    refused("layers_without_registry", &project, &["build", "app", "--layers-to", "layers"]);
    project.write("policy.toml", "[signatures]\nrequired = true\n");
    project.write("allowed_signers", "");
    refused(
        "layers_without_key",
        &project,
        &["build", "app", "--layers-to", "registry.example/campus/layers"],
    );
}

#[test]
fn a_tag_that_nothing_has() {
    let server = registry();
    let reference = format!("{}/campus/app:none", server.host());
    refused("no_such_tag", &Project::new(), &["pull", &reference]);
}

#[test]
fn something_else_under_a_tag() {
    let server = registry();
    let image = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let kind = "application/vnd.oci.image.index.v1+json";
    let reply = Reply::new(200).header("Content-Type", kind).body(image);
    server.fault("GET", "manifests", Fault::Instead(reply));
    let reference = format!("{}/campus/app:1", server.host());
    refused("no_image_of_imgbuild", &Project::new(), &["pull", &reference]);
}

#[test]
fn a_login_that_is_refused() {
    let server = Server::start(Box::new(|_| {
        Some(Reply::new(401).header("WWW-Authenticate", "Basic realm=\"test\""))
    }));
    let project = Project::new();
    let file = project.scratch().join("auth.json");
    let reference = format!("{}/campus/app:1", server.host());
    let ended = |name: &str| {
        let mut command = project.command(&["pull", &reference, "--quiet"]);
        let output = command.env("REGISTRY_AUTH_FILE", &file).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        compare(name, &project, &output.into());
    };
    fs::write(&file, auth_file(&server.host(), "jane", "wrong")).unwrap();
    ended("login_refused");
    fs::write(&file, "{}").unwrap();
    ended("no_login");
    fs::write(&file, "{\"auths\":").unwrap();
    ended("login_unreadable");
}

#[test]
fn a_registry_that_does_not_answer() {
    // A port that nobody listens at: it was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let reference = format!("127.0.0.1:{port}/campus/app:1");
    refused("registry_unreachable", &Project::new(), &["pull", &reference]);
}

#[test]
fn a_registry_that_lies() {
    let (project, artifact) = built();
    let server = registry();
    let to = format!("{}/campus", server.host());
    let reference = project.succeed(&["push", &artifact, "--to", &to]);
    let reference = reference.trim_end();
    let damage = |mut reply: Reply| {
        reply.body[0] ^= 1;
        reply
    };
    server.fault("GET", "/blobs/", Fault::Change(Box::new(damage)));
    refused("registry_lies", &Project::new(), &["pull", reference]);
    server.fault("GET", "/manifests/", Fault::Change(Box::new(|reply| reply.body("{}"))));
    refused("registry_lies_about_manifest", &Project::new(), &["pull", reference]);
}

#[test]
fn files_that_a_pull_would_replace() {
    let (project, artifact) = built();
    let server = registry();
    let to = format!("{}/campus", server.host());
    let reference = project.succeed(&["push", &artifact, "--to", &to]);
    fs::write(project.path().join(&artifact), "another").unwrap();
    fails("pull_over_others", &project, &["pull", reference.trim_end()]);
    assert_eq!(project.read(&artifact), "another");
}

#[test]
fn an_image_of_another_role() {
    let (project, artifact) = built();
    let server = registry();
    let to = format!("{}/campus", server.host());
    project.succeed(&["push", &artifact, "--to", &to, "--tag", "1"]);
    // All repositories of this registry have the same things.
    let reference = format!("{}/campus/web:1", server.host());
    refused("pull_another_role", &Project::new(), &["pull", &reference]);
}

#[test]
fn a_registry_that_redirects_to_a_login() {
    let challenge = "Bearer realm=\"https://elsewhere.example/token\"";
    let other = Server::start(Box::new(move |_| {
        Some(Reply::new(401).header("WWW-Authenticate", challenge))
    }));
    let to = format!("http://{}/elsewhere", other.host());
    let server =
        Server::start(Box::new(move |_| Some(Reply::new(307).header("Location", to.clone()))));
    let reference = format!("{}/campus/app:1", server.host());
    refused("registry_redirects_to_login", &Project::new(), &["pull", &reference]);
}

#[test]
fn what_cannot_be_pushed() {
    let (project, artifact) = built();
    let server = registry();
    let to = format!("{}/campus", server.host());
    fails("push_to_no_host", &project, &["push", &artifact, "--to", "campus"]);
    fails("push_offline", &project, &["push", &artifact, "--to", &to, "--offline"]);
    fails("push_no_artifact", &project, &["push", "images/app/image.toml", "--to", &to]);
    fails("push_digest", &project, &["push", "0123456789ab", "--to", &to]);
    let denied = Reply::new(403).body(r#"{"errors":[{"code":"DENIED","message":"read only"}]}"#);
    // Both of its blobs: they go at once.
    for _ in 0..2 {
        server.fault("POST", "uploads", Fault::Instead(denied.clone()));
    }
    fails("push_denied", &project, &["push", &artifact, "--to", &to]);
    fs::write(project.path().join(&artifact), "changed").unwrap();
    fails("push_changed", &project, &["push", &artifact, "--to", &to]);
    fs::remove_file(project.path().join(&artifact)).unwrap();
    fails("push_gone", &project, &["push", &artifact, "--to", &to]);
}

#[test]
fn a_role_that_was_not_built() {
    let web = Package::new("web", "1.0").file("usr/share/web/index.html", "<p>It works\n");
    let archive = Archive::new(&[web]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    project.succeed(&["lock"]);
    fails("push_not_built", &project, &["push", "app", "--to", "localhost:1"]);
}
