//! What is about an image: of all that anybody has said, a pull brings what belongs together.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use imgbuild::debian::date::Moment;
use imgbuild::digest::Digest;
use imgbuild::registry::{Descriptor, MANIFEST, Manifest, Repository, Which};
use imgbuild::signature::files::{CYCLONEDX, DOCUMENTS, PROVENANCE, SPDX};
use imgbuild::signature::{Keys, SIGNATURE, SUMS, Signer, Sums};
use serde_json::Value;
use ssh_key::private::{Ed25519Keypair, PrivateKey};

use super::images::{ALL, all_files, built, object, repository, stem};
use super::support::oci::{Fault, Reply, Server, in_memory};
use super::support::project::Project;

const KIND: &str = "application/vnd.imgbuild.signature.v1";
const SIGNED: &str = "application/vnd.imgbuild.sshsig";

/// A minute of a day that is over.
pub fn minute(minute: u64) -> Moment {
    let day = Moment::parse_rfc3339("2025-06-01T00:00:00Z").unwrap();
    Moment::from_unix(day.unix() + 60 * minute)
}

/// A key of its own for each `seed`.
fn key(seed: u8) -> PrivateKey {
    PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
}

/// The signature of `text` by the key of `seed`.
fn signature(text: &str, seed: u8) -> String {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key");
    fs::write(&path, key(seed).to_openssh(ssh_key::LineEnding::LF).unwrap()).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let keys = Keys { key: path, ..Keys::default() };
    Signer::open(&keys, minute(0)).unwrap().sign(text.as_bytes()).unwrap()
}

/// The list of all files in `directory` that belong to the image.
fn sums(directory: &Path, stem: &str, signed: Moment) -> Sums {
    let manifest = fs::read(directory.join(format!("{stem}.manifest.json"))).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let mut endings = vec![".tar.zst", ".manifest.json"];
    endings.extend(DOCUMENTS);
    let file = |ending: &str| {
        let name = format!("{stem}{ending}");
        let digest = Digest::of(fs::read(directory.join(&name)).unwrap());
        (name, digest)
    };
    let files = endings.into_iter().map(file).collect();
    Sums { image: manifest["digest"].as_str().unwrap().parse().unwrap(), signed, files }
}

/// Writes what `sign` leaves beside an artifact: documents that tell `what`, unless they are there, and a signature of
/// that moment.
pub fn sign(directory: &Path, stem: &str, what: &str, signed: Moment) {
    for ending in DOCUMENTS {
        let path = directory.join(format!("{stem}{ending}"));
        if !path.exists() {
            fs::write(&path, format!("{{\"{what}\": \"{ending}\"}}\n")).unwrap();
        }
    }
    let sums = sums(directory, stem, signed).to_string();
    let signature = signature(&sums, 7);
    fs::write(directory.join(format!("{stem}{SUMS}")), sums).unwrap();
    fs::write(directory.join(format!("{stem}{SIGNATURE}")), signature).unwrap();
}

/// Says something about `subject` by hand: files by the ends of their names, with their kinds.
fn say(
    repository: &Repository,
    (subject, stem): (&Descriptor, &str),
    kind: &str,
    files: &[(&str, &str, &str)],
) {
    let layer = |(ending, media_type, text): &(&str, &str, &str)| {
        repository.push_bytes(text.as_bytes()).unwrap();
        Descriptor::of(media_type, text.as_bytes()).titled(&format!("{stem}{ending}"))
    };
    let layers = files.iter().map(layer).collect();
    let manifest = Manifest::new(kind, layers).about(subject.clone());
    let bytes = manifest.to_bytes();
    repository.put_manifest(&Which::Digest(Digest::of(&bytes)), MANIFEST, &bytes).unwrap();
}

/// Has somebody say that this is a list of sums with its signature.
fn forge(repository: &Repository, about: (&Descriptor, &str), sums: &str, signature: &str) {
    let files = [(SUMS, "text/plain", sums), (SIGNATURE, SIGNED, signature)];
    say(repository, about, KIND, &files);
}

/// An image that was pushed with a signature of the first minute.
struct Pushed {
    project: Project,
    stem: String,
    reference: String,
    subject: Descriptor,
}

impl Pushed {
    fn to(server: &Server) -> Self {
        let (project, artifact) = built();
        let stem = stem(&artifact).to_owned();
        sign(&project.out(), &stem, "ours", minute(1));
        let to = format!("{}/campus", server.host());
        let pushed = object(&project.succeed(&["push", &artifact, "--to", &to, "--json"]));
        let reference = pushed["reference"].as_str().unwrap().to_owned();
        let digest = pushed["digest"].as_str().unwrap().parse().unwrap();
        let found = repository(server).manifest(&Which::Digest(digest)).unwrap().unwrap();
        Self { project, stem, reference, subject: found.descriptor() }
    }

    fn about(&self) -> (&Descriptor, &str) {
        (&self.subject, &self.stem)
    }

    fn text(&self, ending: &str) -> String {
        fs::read_to_string(self.project.out().join(format!("{}{ending}", self.stem))).unwrap()
    }

    /// Whether a pull brings what was pushed, and nothing else.
    #[track_caller]
    fn assert_comes_back(&self, what: &str) {
        let other = Project::new();
        other.succeed(&["pull", &self.reference]);
        assert_eq!(names(&other), names(&self.project), "{what}");
        assert!(all_files(&other.out()) == all_files(&self.project.out()), "{what}");
    }
}

fn names(project: &Project) -> Vec<String> {
    project.artifacts()
}

#[test]
fn where_nothing_is_deleted_the_newest_signature_comes_with_its_documents() {
    let memory = in_memory(ALL);
    let server = Server::before(&memory.host());
    let pushed = Pushed::to(&server);
    for round in 2..10 {
        for _ in 0..4 * round {
            server.fault("DELETE", "manifests", Fault::Instead(Reply::new(405)));
        }
        for ending in DOCUMENTS {
            fs::remove_file(pushed.project.out().join(format!("{}{ending}", pushed.stem))).unwrap();
        }
        sign(&pushed.project.out(), &pushed.stem, &format!("round {round}"), minute(round));
        let artifact = format!("out/{}.tar.zst", pushed.stem);
        let to = format!("{}/campus", server.host());
        pushed.project.succeed(&["push", &artifact, "--to", &to]);
        pushed.assert_comes_back(&format!("round {round}"));
    }
    let kept = repository(&server).referrers(&pushed.subject.digest, &|_| true, 100).unwrap();
    assert_eq!(kept.len(), 4 * 9, "nothing was deleted");
}

/// The same artifact, with other documents and a signature of that moment.
fn signed_anew(pushed: &Pushed, moment: Moment) -> Project {
    let project = Project::new();
    fs::create_dir_all(project.out()).unwrap();
    for name in names(&pushed.project) {
        fs::copy(pushed.project.out().join(&name), project.out().join(&name)).unwrap();
    }
    for ending in DOCUMENTS {
        fs::remove_file(project.out().join(format!("{}{ending}", pushed.stem))).unwrap();
    }
    sign(&project.out(), &pushed.stem, "anew", moment);
    project
}

#[test]
fn a_push_that_is_interrupted_leaves_the_signature_that_was_there_with_its_documents() {
    let memory = in_memory(ALL);
    let server = Server::before(&memory.host());
    let pushed = Pushed::to(&server);
    let anew = signed_anew(&pushed, minute(2));
    let to = format!("{}/campus", server.host());
    let push = ["push", &format!("out/{}.tar.zst", pushed.stem), "--to", &to];
    // The image, its three documents, its signature: each time one of them is refused.
    for passed in 0..5 {
        for _ in 0..passed {
            server.fault("PUT", "/manifests/sha256:", Fault::Change(Box::new(|reply| reply)));
        }
        server.fault("PUT", "/manifests/sha256:", Fault::Instead(Reply::new(403)));
        assert_eq!(anew.run(&push).code, 1, "{passed}");
        assert!(!server.has_faults(), "{passed}");
        pushed.assert_comes_back(&format!("after {passed} documents"));
    }
    // Nor while the earlier ones are deleted, one after the other.
    for deleted in 0..4 {
        for _ in 0..deleted {
            server.fault("DELETE", "/manifests/", Fault::Change(Box::new(|reply| reply)));
        }
        server.fault("DELETE", "/manifests/", Fault::Instead(Reply::new(403)));
        anew.succeed(&push);
        let other = Project::new();
        other.succeed(&["pull", &pushed.reference]);
        assert!(all_files(&other.out()) == all_files(&anew.out()), "{deleted}");
    }
}

#[test]
fn a_push_without_a_signature_takes_no_document_from_one_that_is_there() {
    let server = in_memory(ALL);
    let pushed = Pushed::to(&server);
    let anew = signed_anew(&pushed, minute(2));
    for ending in [SUMS, SIGNATURE] {
        fs::remove_file(anew.out().join(format!("{}{ending}", pushed.stem))).unwrap();
    }
    let to = format!("{}/campus", server.host());
    anew.succeed(&["push", &format!("out/{}.tar.zst", pushed.stem), "--to", &to]);
    pushed.assert_comes_back("unsigned documents came later");
}

#[test]
fn what_is_no_signature_of_an_image_keeps_no_true_one_from_being_pulled() {
    let server = in_memory(ALL);
    let pushed = Pushed::to(&server);
    let repository = repository(&server);
    let (true_sums, true_signature) = (pushed.text(SUMS), pushed.text(SIGNATURE));
    let good = sums(&pushed.project.out(), &pushed.stem, minute(5));
    let lower = (0..).map(|number| format!("garbage {number}\n"));
    let lower = { lower }.find(|text| Digest::of(text) < Digest::of(&true_sums)).unwrap();
    let changed = |change: &dyn Fn(&mut Sums)| {
        let mut sums = good.clone();
        change(&mut sums);
        let sums = sums.to_string();
        let signature = signature(&sums, 9);
        (sums, signature)
    };
    let next_year = Moment::from(std::time::SystemTime::now()).unix() + 365 * 24 * 3600;
    let cases = [
        ("a list with a lower digest", (lower, true_signature.clone())),
        ("a changed list", (good.to_string(), true_signature)),
        ("the signature of another list", (true_sums, signature("another", 9))),
        ("no signature", (good.to_string(), "none".to_owned())),
        ("a time to come", changed(&|it| it.signed = Moment::from_unix(next_year))),
        ("another image", changed(&|it| it.image = Digest::of("another"))),
        ("another artifact", changed(&|it| it.files[0].1 = Digest::of("another"))),
        ("another manifest", changed(&|it| it.files[1].1 = Digest::of("another"))),
        ("a document that is not there", changed(&|it| it.files[2].1 = Digest::of("another"))),
        ("a document less", changed(&|it| drop(it.files.pop()))),
        ("a file more", changed(&|it| it.files.push(("x".to_owned(), Digest::of("x"))))),
    ];
    for (what, (sums, signature)) in &cases {
        forge(&repository, pushed.about(), sums, signature);
        pushed.assert_comes_back(what);
    }
    let kinds = ["application/spdx+json", "application/vnd.cyclonedx+json"];
    for (kind, ending) in kinds.into_iter().zip([SPDX, CYCLONEDX]) {
        say(&repository, pushed.about(), kind, &[(ending, kind, "by others")]);
    }
    say(
        &repository,
        pushed.about(),
        "application/vnd.in-toto+json",
        &[(PROVENANCE, "application/vnd.in-toto+json", "by others")],
    );
    pushed.assert_comes_back("documents that nobody has signed");
}

#[test]
fn what_is_said_to_be_a_signature_and_is_none_is_left_out_and_told() {
    let server = in_memory(ALL);
    let (project, artifact) = built();
    let to = format!("{}/campus", server.host());
    let pushed = object(&project.succeed(&["push", &artifact, "--to", &to, "--json"]));
    let digest = pushed["digest"].as_str().unwrap().parse().unwrap();
    let repository = repository(&server);
    let subject = repository.manifest(&Which::Digest(digest)).unwrap().unwrap().descriptor();
    forge(&repository, (&subject, stem(&artifact)), "garbage\n", "none");
    let other = Project::new();
    let reference = pushed["reference"].as_str().unwrap();
    let output = other.command(&["pull", reference]).output().unwrap();
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("is left out: the list of sums: line 1"), "{told}");
    assert_eq!(all_files(&other.out()), all_files(&project.out()));
}

#[test]
fn of_several_signers_one_whom_the_policy_allows_goes_before_a_newer_one() {
    let server = in_memory(ALL);
    let pushed = Pushed::to(&server);
    let newer = sums(&pushed.project.out(), &pushed.stem, minute(9)).to_string();
    forge(&repository(&server), pushed.about(), &newer, &signature(&newer, 9));
    let pulled = |project: &Project| {
        project.succeed(&["pull", &pushed.reference]);
        fs::read_to_string(project.out().join(format!("{}{SUMS}", pushed.stem))).unwrap()
    };
    assert_eq!(pulled(&Project::new()), newer, "nobody says who may sign");
    let project = Project::new();
    fs::create_dir(project.path().join("images")).unwrap();
    project.write("policy.toml", "[signatures]\n");
    let public = key(7).public_key().to_openssh().unwrap();
    project.write("allowed_signers", &format!("ci@campus.example {public}\n"));
    assert_eq!(pulled(&project), pushed.text(SUMS));
}

#[test]
fn large_lists_of_sums_and_signatures_are_neither_pushed_nor_pulled() {
    let server = in_memory(ALL);
    let pushed = Pushed::to(&server);
    let large = "x".repeat(64 * 1024 + 1);
    let repository = repository(&server);
    forge(&repository, pushed.about(), &large, "small");
    forge(&repository, pushed.about(), "small", &large);
    server.take_seen();
    pushed.assert_comes_back("large ones");
    let blob = format!("blobs/sha256:{}", Digest::of(&large));
    assert!(server.take_seen().iter().all(|asked| !asked.path.ends_with(&blob)));

    fs::write(pushed.project.out().join(format!("{}{SUMS}", pushed.stem)), large).unwrap();
    let artifact = format!("out/{}.tar.zst", pushed.stem);
    let to = format!("{}/campus", server.host());
    let ended = pushed.project.run(&["push", &artifact, "--to", &to]);
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("longer than the 65536 bytes"), "{}", ended.stderr);
}

#[test]
fn no_more_than_a_bounded_number_of_things_about_an_image_is_looked_at() {
    let server = in_memory(super::images::ALL);
    let pushed = Pushed::to(&server);
    let repository = repository(&server);
    for number in 0..70 {
        let text = format!("by others: {number}");
        let kind = "application/spdx+json";
        say(&repository, pushed.about(), kind, &[(SPDX, kind, &text)]);
    }
    server.take_seen();
    let other = Project::new();
    let output = other.command(&["pull", &pushed.reference]).output().unwrap();
    assert!(output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("no more than 64 of it is looked at"), "{told}");
    let seen = server.take_seen();
    let manifests = seen.iter().filter(|asked| asked.path.contains("/manifests/")).count();
    assert_eq!(manifests, 65, "the image, and what is about it");
}
