//! A registry that lies, and a way to it that breaks.

use imgbuild::digest::Digest;
use imgbuild::progress::Silent;
use imgbuild::registry::document::MANIFEST;
use imgbuild::registry::{Error, Which};

use super::support::oci::{Abilities, Fault, Reply, Server, in_memory};
use super::{bytes, file, repository, settings, store, wanted};

fn server() -> Server {
    in_memory(Abilities { pieces: true, least: 0, page: 0 })
}

const DOCUMENT: &[u8] =
    br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json"}"#;

#[test]
fn wrong_blobs_are_refused_and_forgotten() {
    type Change = fn(Reply) -> Reply;
    let changes: [(&str, Change, &str); 6] = [
        (
            "other bytes",
            |mut reply| {
                reply.body[100] ^= 1;
                reply
            },
            "wrong sha256",
        ),
        (
            "shorter",
            |mut reply| {
                reply.body.truncate(2000);
                reply
            },
            "wrong size: got 2000",
        ),
        (
            "longer",
            |mut reply| {
                reply.body.push(0);
                reply
            },
            "wrong size: got 2501",
        ),
        (
            "longer than it says",
            |reply| {
                let mut body = reply.body.clone();
                body.extend([0; 100]);
                reply.header("Transfer-Encoding", "chunked").header("Content-Length", "").body(
                    [format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n\r\n"].concat(),
                )
            },
            "longer than",
        ),
        ("nothing", |_| Reply::new(200), "truncated at 0 of 2500"),
        ("gone", |_| Reply::new(404), "not found"),
    ];
    for (name, change, told) in changes {
        let server = server();
        let repository = repository(&server.host(), settings());
        let content = bytes(2500);
        repository.push_blob(&Digest::of(&content), 2500, &file(&content)).unwrap();
        // However often it is asked.
        for _ in 0..8 {
            server.fault("GET", "blobs/sha256:", Fault::Change(Box::new(change)));
        }
        let (directory, store) = store();
        let error = repository.pull_blob(wanted(&content), &store, &Silent).unwrap_err();
        assert!(matches!(error, Error::Blobs { .. }), "{name}: {error}");
        assert!(error.to_string().contains(told), "{name}: {error}");
        assert!(store.blob(&Digest::of(&content)).is_none());
        let kept = std::fs::read_dir(directory.path().join("downloads")).unwrap().flatten();
        let kept: u64 = kept.map(|entry| entry.metadata().unwrap().len()).sum();
        assert_eq!(kept, 0, "{name}: wrong bytes are kept");
    }
}

#[test]
fn a_download_goes_on_at_the_byte_where_it_broke() {
    let server = server();
    let repository = repository(&server.host(), settings());
    let content = bytes(2500);
    repository.push_blob(&Digest::of(&content), 2500, &file(&content)).unwrap();
    server.fault("GET", "blobs/sha256:", Fault::CutAnswer(1100));
    server.fault("GET", "blobs/sha256:", Fault::CutAnswer(600));
    server.take_seen();
    let (_directory, store) = store();
    repository.pull_blob(wanted(&content), &store, &Silent).unwrap();
    let ranges: Vec<_> = server
        .take_seen()
        .iter()
        .map(|asked| asked.header("range").unwrap_or("all").to_owned())
        .collect();
    assert_eq!(ranges, ["all", "bytes=1100-", "bytes=1700-"]);
}

#[test]
fn wrong_manifests_are_refused() {
    let other = br#"{"schemaVersion":2}"#;
    let index = "application/vnd.oci.image.index.v1+json";
    type Change = Box<dyn Fn(Reply) -> Reply + Send>;
    let digest = || Which::Digest(Digest::of(DOCUMENT));
    let tag = || Which::Tag("x".parse().unwrap());
    let honest = format!("sha256:{}", Digest::of(other));
    let cases: Vec<(&str, Which, Change, &str)> = vec![
        (
            "another one",
            digest(),
            Box::new(move |it| it.body(other).header("Docker-Content-Digest", honest.clone())),
            "the sha256 of what it gives is",
        ),
        (
            "another header",
            tag(),
            Box::new(|it| it.header("Docker-Content-Digest", format!("sha256:{}", Digest::of("")))),
            "its header says",
        ),
        (
            "no digest in the header",
            tag(),
            Box::new(|it| it.header("Docker-Content-Digest", "sha256:x")),
            "its header says",
        ),
        (
            "another kind",
            tag(),
            Box::new(move |it| it.header("Content-Type", index)),
            "it says that it is",
        ),
        (
            "a large one",
            tag(),
            Box::new(|it| it.body(vec![b' '; (4 << 20) + 1])),
            "longer than 4194304 bytes",
        ),
    ];
    for (name, which, change, told) in cases {
        let server = server();
        let repository = repository(&server.host(), settings());
        repository.put_manifest(&tag(), MANIFEST, DOCUMENT).unwrap();
        server.fault("GET", "manifests", Fault::Change(change));
        let error = repository.manifest(&which).unwrap_err();
        assert!(matches!(error, Error::Lie { .. } | Error::Document { .. }), "{name}: {error}");
        assert!(error.to_string().contains(told), "{name}: {error}");
        // It was the way there that lied.
        assert_eq!(repository.manifest(&which).unwrap().unwrap().bytes, DOCUMENT);
    }
}

#[test]
fn other_algorithms_in_a_header_say_nothing() {
    let server = server();
    let repository = repository(&server.host(), settings());
    let tag = Which::Tag("x".parse().unwrap());
    repository.put_manifest(&tag, MANIFEST, DOCUMENT).unwrap();
    server.fault(
        "GET",
        "manifests",
        Fault::Change(Box::new(|it| it.header("Docker-Content-Digest", "sha512:0"))),
    );
    assert_eq!(repository.manifest(&tag).unwrap().unwrap().digest, Digest::of(DOCUMENT));
    let none = Which::Tag("none".parse().unwrap());
    assert_eq!(repository.manifest(&none).unwrap(), None);
}

#[test]
fn a_manifest_that_is_cut_short_is_asked_for_again() {
    let server = server();
    let repository = repository(&server.host(), settings());
    let tag = Which::Tag("x".parse().unwrap());
    repository.put_manifest(&tag, MANIFEST, DOCUMENT).unwrap();
    server.fault("GET", "manifests", Fault::CutAnswer(10));
    assert_eq!(repository.manifest(&tag).unwrap().unwrap().bytes, DOCUMENT);
}

#[test]
fn a_blob_of_another_length_is_not_taken_for_the_one_that_is_pushed() {
    let server = server();
    let repository = repository(&server.host(), settings());
    server.fault("HEAD", "blobs", Fault::Instead(Reply::new(200).header("Content-Length", "7")));
    let error = repository.push_blob(&Digest::of("x"), 1, &file(b"x")).unwrap_err();
    assert!(matches!(error, Error::Lie { .. }), "{error}");
}

#[test]
fn a_registry_that_says_it_has_more_than_was_sent_is_not_believed() {
    let server = server();
    let repository = repository(&server.host(), settings());
    let content = bytes(2500);
    server.fault("PATCH", "", Fault::Change(Box::new(|it| it.header("Range", "0-2499"))));
    let pushed = repository.push_blob(&Digest::of(&content), 2500, &file(&content)).unwrap();
    assert_eq!(pushed.sent, 3500, "it started over");
}
