//! Images that were built: to a registry, and back to where a build would have put them.

use std::fs;
use std::path::Path;

use imgbuild::artifact::name::Format;
use imgbuild::digest::Digest;
use imgbuild::publish::{self, DESCRIPTION, Destination, IMAGE, TEMPLATE};
use imgbuild::registry::{Descriptor, MANIFEST, Manifest, Repository, Which};
use serde_json::Value;

use super::signed::{minute, sign};
use super::support::finished::finished;
use super::support::oci::{Abilities, DockerRegistry, Fault, Server, in_memory};
use super::support::project::Project;
use super::{settings, store};
use imgbuild::registry::{Location, Registry};

pub const ALL: Abilities = Abilities { pieces: true, least: 0, page: 2 };

/// A project with a template of a role `app` in its `out/`, and its path.
pub fn built() -> (Project, String) {
    let project = Project::new();
    let stem = finished(&project.out(), &super::bytes(10_000));
    (project, format!("out/{stem}.tar.zst"))
}

pub fn stem(path: &str) -> &str {
    path.strip_prefix("out/").unwrap().strip_suffix(".tar.zst").unwrap()
}

pub fn object(text: &str) -> Value {
    serde_json::from_str::<Value>(text).unwrap()["images"][0].clone()
}

pub fn all_files(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap())
        })
        .collect();
    files.sort();
    files
}

/// Pushes and pulls by the command, at the registry at `host`.
fn goes_there_and_comes_back(host: &str) -> String {
    let (project, artifact) = built();
    let stem = stem(&artifact);
    sign(&project.out(), stem, "first", minute(1));
    let to = format!("{host}/campus");
    let pushed =
        object(&project.succeed(&["push", &artifact, "--to", &to, "--tag", "stable", "--json"]));
    let tag = stem.strip_prefix("imgbuild-app-").unwrap();
    assert_eq!(pushed["tags"][0], format!("{to}/app:{tag}"));
    assert_eq!(pushed["tags"][1], format!("{to}/app:stable"));
    assert_eq!(pushed["attached"].as_array().unwrap().len(), 4);
    assert!(pushed["sent"].as_u64().unwrap() > 0);
    let digest = pushed["digest"].as_str().unwrap().to_owned();

    let other = Project::new();
    let reference = format!("{to}/app:{tag}");
    let pulled = object(&other.succeed(&["pull", &reference, "--json"]));
    assert_eq!(pulled["digest"], digest);
    assert_eq!(all_files(&other.out()), all_files(&project.out()));
    let files = pulled["files"].as_array().unwrap();
    assert_eq!(files.len(), 7);
    assert!(files.iter().all(|file| file["reused"] == false));
    // The path alone is for programs, and another time nothing is fetched.
    let path = other.succeed(&["pull", &format!("{to}/app@sha256:{digest}")]);
    assert_eq!(path.trim_end(), format!("out/{stem}.tar.zst"));
    let again = object(&other.succeed(&["pull", &format!("{to}/app:stable"), "--json"]));
    assert!(again["files"].as_array().unwrap().iter().all(|file| file["reused"] == true));

    // Whoever pushes what was pulled pushes the same.
    let path = format!("out/{stem}.manifest.json");
    let mut push = other.command(&["push", &path, "--json", "--quiet"]);
    let output = push.env("IMGBUILD_REGISTRY", &to).output().unwrap();
    let again = object(&String::from_utf8(output.stdout).unwrap());
    assert_eq!((&again["digest"], &again["sent"]), (&pushed["digest"], &0.into()));
    assert_eq!(again["attached"][0]["digest"], pushed["attached"][0]["digest"]);

    // What is about it is replaced, and a damaged file is fetched again.
    fs::remove_file(project.out().join(format!("{stem}.spdx.json"))).unwrap();
    sign(&project.out(), stem, "second", minute(2));
    project.succeed(&["push", &artifact, "--to", &to]);
    fs::write(other.out().join(format!("{stem}.tar.zst")), "damaged").unwrap();
    other.succeed(&["pull", &reference, "--replace"]);
    assert_eq!(all_files(&other.out()), all_files(&project.out()));
    digest
}

#[test]
fn an_image_goes_to_any_registry_and_comes_back() {
    let full = goes_there_and_comes_back(&in_memory(ALL).host());
    let poor = in_memory(Abilities { pieces: false, least: 0, page: 0 });
    assert_eq!(goes_there_and_comes_back(&poor.host()), full, "the same image has the same digest");
    let directory = tempfile::tempdir().unwrap();
    let Some(registry) = DockerRegistry::start(directory.path(), false) else { return };
    assert_eq!(goes_there_and_comes_back(registry.host()), full);
}

#[test]
fn nothing_half_written_is_left_of_a_pull_that_breaks_and_the_next_one_goes_on() {
    let (project, artifact) = built();
    let server = in_memory(ALL);
    let to = format!("{}/campus", server.host());
    let pushed = object(&project.succeed(&["push", &artifact, "--to", &to, "--json"]));
    let reference = pushed["reference"].as_str().unwrap();
    let blob = format!("blobs/sha256:{}", pushed["sha256"].as_str().unwrap());
    let half = pushed["size"].as_u64().unwrap() as usize / 2;
    server.fault("GET", &blob, Fault::CutAnswer(half));
    // One request, and three more tries.
    for _ in 0..3 {
        server.fault("GET", &blob, Fault::CutAnswer(0));
    }
    let other = Project::new();
    assert_eq!(other.run(&["pull", reference]).code, 1);
    assert_eq!(other.artifacts(), Vec::<String>::new());
    assert!(!server.has_faults());
    server.take_seen();
    other.succeed(&["pull", reference]);
    assert_eq!(all_files(&other.out()), all_files(&project.out()));
    let seen = server.take_seen();
    let ranges: Vec<_> = seen.iter().filter(|it| it.path.ends_with(&blob)).collect();
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0].header("range"), Some(format!("bytes={half}-").as_str()));
}

/// A repository of a registry in memory.
pub fn repository(server: &Server) -> Repository {
    let location: Location = format!("{}/campus/app", server.host()).parse().unwrap();
    Registry::new(location.origin(), settings()).repository(&location)
}

/// Pushes an image by hand that `change` has changed.
pub fn hostile(
    repository: &Repository,
    (project, stem): (&Project, &str),
    change: &dyn Fn(&mut Manifest, &mut Value, &mut Vec<u8>),
) -> Which {
    let mut artifact = fs::read(project.out().join(format!("{stem}.tar.zst"))).unwrap();
    let text = fs::read(project.out().join(format!("{stem}.manifest.json"))).unwrap();
    let mut description: Value = serde_json::from_slice(&text).unwrap();
    // Once to change the blobs, and once more to change what points to them.
    change(&mut Manifest::new(IMAGE, Vec::new()), &mut description, &mut artifact);
    let text = serde_json::to_vec(&description).unwrap();
    let layers = vec![
        Descriptor::of(TEMPLATE, &artifact).titled(&format!("{stem}.tar.zst")),
        Descriptor::of(DESCRIPTION, &text).titled(&format!("{stem}.manifest.json")),
    ];
    let mut manifest = Manifest::new(IMAGE, layers);
    change(&mut manifest, &mut description, &mut artifact);
    repository.push_bytes(&artifact).unwrap();
    repository.push_bytes(&text).unwrap();
    let bytes = manifest.to_bytes();
    let which = Which::Tag("x".parse().unwrap());
    repository.put_manifest(&which, MANIFEST, &bytes).unwrap();
    which
}

#[test]
fn images_that_do_not_fit_together_are_refused_and_leave_nothing() {
    let (project, artifact) = built();
    let stem = stem(&artifact);
    let server = in_memory(ALL);
    let repository = repository(&server);
    type Change = Box<dyn Fn(&mut Manifest, &mut Value, &mut Vec<u8>)>;
    let title = |index: usize, name: &'static str| -> Change {
        Box::new(move |manifest, _, _| {
            if let Some(layer) = manifest.layers.get_mut(index) {
                *layer = layer.clone().titled(name);
            }
        })
    };
    let field = |pointer: &'static str, value: Value| -> Change {
        Box::new(move |_, description, _| {
            *description.pointer_mut(pointer).unwrap() = value.clone()
        })
    };
    let cases: Vec<(Change, &str)> = vec![
        (title(0, "../evil.tar.zst"), "a file is called `../evil.tar.zst`"),
        (title(0, "/etc/passwd"), "a file is called `/etc/passwd`"),
        (title(1, "other.manifest.json"), "a file is called"),
        (
            Box::new(|it, _, _| it.layers.iter_mut().for_each(|it| it.annotations.clear())),
            "a file is called ``",
        ),
        (Box::new(|it, _, _| it.layers.truncate(1)), "it has 1 blobs"),
        (
            Box::new(|it, _, _| it.artifact_type = Some("application/x".to_owned())),
            "about `application/x`",
        ),
        (Box::new(|it, _, _| it.artifact_type = None), "about `application/vnd.oci.empty.v1+json`"),
        (
            Box::new(|it, _, _| {
                it.layers.iter_mut().for_each(|it| it.media_type = "x/y".to_owned())
            }),
            "its description is `x/y`",
        ),
        (Box::new(|_, _, artifact| artifact.push(0)), "its manifest is of sha256:"),
        (field("/artifact/size", 7.into()), "of 7 bytes"),
        (
            field("/artifact/name", "../../evil.tar.zst".into()),
            "its manifest calls it `../../evil.tar.zst`",
        ),
        (field("/role", "../evil".into()), "cannot be part of an artifact's name"),
        (field("/version", "2.0.0".into()), "its manifest calls it"),
        (field("/layers/0/digest", "0".repeat(64).into()), "do not make the image"),
        (field("/schema", 99.into()), "schema"),
    ];
    let (_directory, store) = store();
    let out = tempfile::tempdir().unwrap();
    let out = out.path().join("a/b");
    let to = Destination { directory: &out, replace: false };
    let rules = &|_: Option<&str>| Ok(Vec::new());
    for (change, told) in cases {
        let which = hostile(&repository, (&project, stem), &*change);
        let silent = imgbuild::progress::Silent;
        let error = publish::pull(&repository, &which, to, rules, &store, &silent).unwrap_err();
        assert!(error.to_string().contains(told), "{told}: {error}");
        assert!(!out.exists(), "{told}");
    }
    let which = hostile(&repository, (&project, stem), &|_, _, _| ());
    publish::pull(&repository, &which, to, rules, &store, &imgbuild::progress::Silent).unwrap();

    // A tag that says what it is on must be right.
    let found = repository.manifest(&which).unwrap().unwrap();
    let moved = Which::Tag("0.9.0-0123456789ab".parse().unwrap());
    repository.put_manifest(&moved, MANIFEST, &found.bytes).unwrap();
    let silent = imgbuild::progress::Silent;
    let error = publish::pull(&repository, &moved, to, rules, &store, &silent).unwrap_err();
    assert!(error.to_string().contains("is not what it says: it is `1.0.0-"), "{error}");
}

#[test]
fn what_others_say_about_an_image_is_neither_pulled_nor_replaced() {
    let (project, artifact) = built();
    let stem = stem(&artifact);
    sign(&project.out(), stem, "ours", minute(1));
    let server = in_memory(ALL);
    let repository = repository(&server);
    let to = format!("{}/campus", server.host());
    let pushed = object(&project.succeed(&["push", &artifact, "--to", &to, "--json"]));
    let reference = pushed["reference"].as_str().unwrap();
    let digest: Digest = pushed["digest"].as_str().unwrap().parse().unwrap();
    let subject = repository.manifest(&Which::Digest(digest)).unwrap().unwrap().descriptor();
    let kind = "application/spdx+json";
    let own = format!("{stem}.spdx.json");
    // Another tool's, one with a name that leads out, one of our name that nobody signed.
    for name in ["trivy.json", "../evil.spdx.json", &own] {
        let text = format!("by others: {name}");
        repository.push_bytes(text.as_bytes()).unwrap();
        let layer = Descriptor::of(kind, text.as_bytes()).titled(name);
        let bytes = Manifest::new(kind, vec![layer]).about(subject.clone()).to_bytes();
        repository.put_manifest(&Which::Digest(Digest::of(&bytes)), MANIFEST, &bytes).unwrap();
    }
    let other = Project::new();
    other.succeed(&["pull", reference]);
    assert_eq!(all_files(&other.out()), all_files(&project.out()));
    project.succeed(&["push", &artifact, "--to", &to]);
    let is_kind = |it: &Descriptor| it.artifact_type.as_deref() == Some(kind);
    assert_eq!(repository.referrers(&digest, &is_kind, 100).unwrap().len(), 4);
}

#[test]
fn an_artifact_is_found_by_role_site_format_and_what_it_was_made_of() {
    let (project, artifact) = built();
    let out = project.out();
    fs::write(out.join("a.manifest.json"), "{}").unwrap();
    let find =
        |role, site, format, current| publish::find(&out, (role, site), format, &|_| current);
    let found = find("app", Some("campus"), Format::LxcTemplate, true).unwrap();
    assert_eq!(found.path, project.path().join(&artifact));
    assert_eq!(format!("imgbuild-app-{}", found.tag()), stem(&artifact));
    for missing in [
        find("app", None, Format::LxcTemplate, true),
        find("web", Some("campus"), Format::LxcTemplate, true),
        find("app", Some("campus"), Format::Qcow2, true),
        find("app", Some("campus"), Format::LxcTemplate, false),
    ] {
        assert!(missing.is_err());
    }
}
