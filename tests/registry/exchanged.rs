//! Images that fit together, and are not those that were meant.

use std::fs;

use imgbuild::digest::Digest;
use imgbuild::registry::{MANIFEST, Which};

use super::images::{ALL, all_files, built, hostile, object, repository, stem};
use super::support::finished::finished_as;
use super::support::oci::in_memory;
use super::support::project::Project;

#[test]
fn an_artifact_exchanged_together_with_its_manifest_replaces_nothing_unasked() {
    let (project, artifact) = built();
    let server = in_memory(ALL);
    let (repository, to) = (repository(&server), format!("{}/campus", server.host()));
    let pushed = object(&project.succeed(&["push", &artifact, "--to", &to, "--json"]));
    let text = |key: &str| pushed[key].as_str().unwrap().to_owned();
    let (by_digest, by_tag) = (text("reference"), pushed["tags"][0].as_str().unwrap().to_owned());
    let other = Project::new();
    other.succeed(&["pull", &by_tag]);

    let own_tag = by_tag.rsplit(':').next().unwrap().parse().unwrap();
    let exchanged = hostile(&repository, (&project, stem(&artifact)), &|_, manifest, artifact| {
        *artifact = b"another".to_vec();
        manifest["artifact"]["sha256"] = Digest::of("another").to_string().into();
        manifest["artifact"]["size"] = 7.into();
    });
    let found = repository.manifest(&exchanged).unwrap().unwrap();
    repository.put_manifest(&Which::Tag(own_tag), MANIFEST, &found.bytes).unwrap();
    let ended = other.run(&["pull", &by_tag]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("`out` has other bytes in"), "{}", ended.stderr);
    assert_eq!(all_files(&other.out()), all_files(&project.out()));

    // Whoever asks for it gets it; by its digest it is the one that was pushed.
    other.succeed(&["pull", &by_tag, "--replace"]);
    assert_ne!(all_files(&other.out()), all_files(&project.out()));
    other.succeed(&["pull", &by_digest, "--replace"]);
    assert_eq!(all_files(&other.out()), all_files(&project.out()));
}

#[test]
fn an_image_of_another_role_than_the_repository_is_for_replaces_nothing() {
    let (project, artifact) = built();
    let server = in_memory(ALL);
    let repository = repository(&server);
    let hostile_project = Project::new();
    let web = finished_as("web", &hostile_project.out(), b"hostile");
    hostile(&repository, (&hostile_project, &web), &|_, _, _| ());
    assert_eq!(finished_as("web", &project.out(), b"honest"), web);
    let before = all_files(&project.out());
    let reference = format!("{}/campus/app:x", server.host());
    for more in [None, Some("--replace")] {
        let arguments: Vec<&str> = ["pull", &reference].into_iter().chain(more).collect();
        let ended = project.run(&arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{}", ended.stderr);
        assert!(ended.stderr.contains("it is an image of the role `web`"), "{}", ended.stderr);
        assert_eq!(all_files(&project.out()), before);
    }
    assert!(fs::exists(project.path().join(&artifact)).unwrap());
    // Under its own name it is one like any other.
    let other = Project::new();
    other.succeed(&["pull", &format!("{}/campus/web:x", server.host())]);
    assert_eq!(fs::read(other.out().join(format!("{web}.tar.zst"))).unwrap(), b"hostile");
}
