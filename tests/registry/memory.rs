//! Against a registry that can do all that the specification knows, and against one that can do little.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use imgbuild::digest::Digest;
use imgbuild::fetch::Policy;
use imgbuild::progress::Silent;
use imgbuild::registry::document::{Descriptor, INDEX, Index, MANIFEST, Manifest};
use imgbuild::registry::{Error, OfferedBlob, Pushed, Repository, Settings, Which};

use super::support::oci::{
    Abilities, Fault, Reply, Server, in_memory, in_memory_without_tags_of_digests,
};
use super::{bytes, file, repository, settings, store, wanted};

const ALL: Abilities = Abilities { pieces: true, least: 0, page: 2 };

fn patches(server: &Server) -> Vec<(String, usize)> {
    let range = |asked: &super::support::oci::Asked| {
        (asked.header("content-range").unwrap_or("").to_owned(), asked.body.len())
    };
    server.take_seen().iter().filter(|asked| asked.method == "PATCH").map(range).collect()
}

#[test]
fn a_blob_goes_piece_by_piece_and_comes_back() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let content = bytes(2500);
    let digest = Digest::of(&content);
    assert!(!repository.has_blob(&digest).unwrap());
    let pushed = repository.push_blob(&digest, 2500, &file(&content)).unwrap();
    assert_eq!(pushed, Pushed { sent: 2500, was_there: false });
    let expected = [("0-999", 1000), ("1000-1999", 1000), ("2000-2499", 500)];
    assert_eq!(patches(&server), expected.map(|(range, length)| (range.to_owned(), length)));
    // Once is enough.
    let again = repository.push_blob(&digest, 2500, &file(&content)).unwrap();
    assert_eq!(again, Pushed { sent: 0, was_there: true });

    let (_directory, store) = store();
    let pulled = repository.pull_blob(wanted(&content), &store, &Silent).unwrap();
    assert_eq!(std::fs::read(pulled.path()).unwrap(), content);
    server.take_seen();
    repository.pull_blob(wanted(&content), &store, &Silent).unwrap();
    assert!(server.take_seen().is_empty(), "what is in the store is not asked for");
}

#[test]
fn an_upload_goes_on_at_the_byte_where_it_broke() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let content = bytes(2500);
    server.fault("PATCH", "", Fault::CutRequest(400));
    server.fault("PATCH", "state=400", Fault::Lose);
    let pushed = repository.push_blob(&Digest::of(&content), 2500, &file(&content)).unwrap();
    assert!(!server.has_faults());
    let ranges: Vec<_> = patches(&server).into_iter().map(|(range, _)| range).collect();
    assert_eq!(ranges, ["0-999", "400-1399", "1400-2399", "2400-2499"]);
    // The first piece left this machine whole, though only 400 bytes arrived.
    assert_eq!(pushed.sent, 2500 + 600);
}

#[test]
fn pieces_are_as_long_as_the_registry_wants() {
    let server = in_memory(Abilities { least: 1500, ..ALL });
    let repository = repository(&server.host(), settings());
    let content = bytes(2500);
    repository.push_blob(&Digest::of(&content), 2500, &file(&content)).unwrap();
    let lengths: Vec<_> = patches(&server).into_iter().map(|(_, length)| length).collect();
    assert_eq!(lengths, [1500, 1000]);
}

#[test]
fn a_registry_that_takes_no_pieces_is_sent_the_whole() {
    let server = in_memory(Abilities { pieces: false, ..ALL });
    let repository = repository(&server.host(), settings());
    let content = bytes(2500);
    server.fault("PUT", "", Fault::CutRequest(700));
    repository.push_blob(&Digest::of(&content), 2500, &file(&content)).unwrap();
    assert!(repository.has_blob(&Digest::of(&content)).unwrap());
    assert!(!server.has_faults());
}

#[test]
fn a_lost_answer_to_the_end_of_an_upload_does_no_harm() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let content = bytes(10);
    server.fault("PUT", "", Fault::Lose);
    let pushed = repository.push_blob(&Digest::of(&content), 10, &file(&content)).unwrap();
    assert_eq!(pushed.sent, 10);
}

/// How often each method was used.
fn methods(server: &Server) -> impl Fn(&str) -> usize {
    let seen = server.take_seen();
    move |method| seen.iter().filter(|asked| asked.method == method).count()
}

#[test]
fn a_registry_may_take_longer_than_usual_to_put_a_blob_together() {
    let memory = in_memory(ALL);
    let inner = Server::before(&memory.host());
    // The blob is there when it is told, and not before: otherwise it would be found by whoever gave up waiting.
    let server = Server::start(Box::new(move |asked| {
        if asked.method == "PUT" {
            std::thread::sleep(Duration::from_secs(5));
        }
        inner.hand_on(asked)
    }));
    let policy = Policy { patience: Duration::from_secs(2), ..settings().policy };
    let repository = repository(&server.host(), Settings { policy, ..settings() });
    let content = bytes(2500);
    repository.push_blob(&Digest::of(&content), 2500, &file(&content)).unwrap();
    let used = methods(&server);
    assert_eq!((used("PUT"), used("DELETE")), (1, 0));
}

#[test]
fn an_upload_that_a_proxy_does_not_wait_for_is_neither_ended_nor_made_again() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let content = bytes(2500);
    // Done, but not told, and not there for a while. The first look is before the upload.
    server.fault("PUT", "", Fault::Change(Box::new(|_| Reply::new(504))));
    for _ in 0..3 {
        server.fault("HEAD", "blobs", Fault::Change(Box::new(|_| Reply::new(404))));
    }
    repository.push_blob(&Digest::of(&content), 2500, &file(&content)).unwrap();
    assert!(!server.has_faults());
    let used = methods(&server);
    assert_eq!((used("POST"), used("PUT"), used("DELETE")), (1, 1, 0));
}

#[test]
fn pieces_and_blobs_that_a_proxy_finds_too_large_are_sent_in_smaller_ones() {
    let memory = in_memory(ALL);
    let inner = Server::before(&memory.host());
    let server = Server::start(Box::new(move |asked| {
        if asked.body.len() > 300 {
            return Some(Reply::new(413));
        }
        inner.hand_on(asked)
    }));
    let repository = repository(&server.host(), settings());
    for length in [2500, 900] {
        let content = bytes(length);
        repository.push_blob(&Digest::of(&content), length as u64, &file(&content)).unwrap();
        assert!(repository.has_blob(&Digest::of(&content)).unwrap());
    }
    let used = methods(&server);
    assert!(used("PATCH") > 13, "in pieces of 250 and 225 bytes");
}

#[test]
fn whoever_asks_to_be_left_alone_is_left_alone_where_a_blob_is_sent() {
    let memory = in_memory(ALL);
    let inner = Server::before(&memory.host());
    // Busy for half a second from the first blob on.
    let first = Mutex::new(None::<Instant>);
    let server = Server::start(Box::new(move |asked| {
        let mut first = first.lock().unwrap();
        if asked.method == "PUT"
            && first.get_or_insert_with(Instant::now).elapsed() < Duration::from_millis(500)
        {
            return Some(Reply::new(429).header("Retry-After", "1"));
        }
        inner.hand_on(asked)
    }));
    let policy = Policy { max_delay: Duration::from_secs(2), ..settings().policy };
    let repository = repository(&server.host(), Settings { policy, ..settings() });
    repository.push_bytes(b"x").unwrap();
    assert_eq!(methods(&server)("PUT"), 2);
}

#[test]
fn passing_trouble_is_waited_out_and_refusals_are_not_repeated() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let content = bytes(10);
    for _ in 0..2 {
        server.fault("POST", "", Fault::Instead(Reply::new(503).header("Retry-After", "0")));
    }
    repository.push_blob(&Digest::of(&content), 10, &file(&content)).unwrap();
    assert!(!server.has_faults());

    let (other, reasons) =
        (bytes(11), r#"{"errors":[{"code":"DENIED","message":"not\u001b you"}]}"#);
    server.take_seen();
    server.fault("POST", "", Fault::Instead(Reply::new(403).body(reasons)));
    let error = repository.push_blob(&Digest::of(&other), 11, &file(&other)).unwrap_err();
    assert!(error.to_string().ends_with("status 403: DENIED, not  you"), "{error}");
    let posts = server.take_seen().iter().filter(|asked| asked.method == "POST").count();
    assert_eq!(posts, 1);
}

#[test]
fn an_upload_is_not_sent_where_the_registry_should_not_have_it() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    for (location, told) in
        [("ftp://elsewhere/u?key=secret", "neither http"), ("http://a b/", "no URL")]
    {
        server.fault(
            "POST",
            "",
            Fault::Change(Box::new(move |reply| reply.header("Location", location))),
        );
        let error = repository.push_blob(&Digest::of("x"), 1, &file(b"x")).unwrap_err();
        assert!(matches!(error, Error::Address { .. }), "{error}");
        assert!(
            error.to_string().contains(told) && !error.to_string().contains("secret"),
            "{error}"
        );
    }
}

#[test]
fn a_file_that_became_shorter_is_told_from_a_broken_connection() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let error = repository.push_blob(&Digest::of("xy"), 2, &file(b"x")).unwrap_err();
    assert!(matches!(error, Error::Read(_)), "{error}");
}

#[test]
fn other_bytes_than_the_digest_are_refused_by_the_registry() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let error = repository.push_blob(&Digest::of("xy"), 2, &file(b"xz")).unwrap_err();
    assert!(error.to_string().contains("DIGEST_INVALID"), "{error}");
}

#[test]
fn many_blobs_go_at_once_and_the_first_error_ends_it() {
    let server = in_memory(ALL);
    let repository = repository(&server.host(), settings());
    let contents: Vec<_> = (0..20).map(|index| bytes(500 + 200 * index)).collect();
    let files: Vec<_> = contents.iter().map(|content| file(content)).collect();
    let offered: Vec<_> = contents
        .iter()
        .zip(&files)
        .map(|(content, file)| OfferedBlob {
            label: "it",
            digest: Digest::of(content),
            size: content.len() as u64,
            file,
        })
        .collect();
    let pushed = repository.push_blobs(&offered, 4, &Silent).unwrap();
    let sent: Vec<_> = pushed.iter().map(|pushed| pushed.sent).collect();
    assert_eq!(sent, contents.iter().map(|content| content.len() as u64).collect::<Vec<_>>());
    let (_directory, store) = store();
    let wanted: Vec<_> = contents.iter().map(|content| wanted(content)).collect();
    let pulled = repository.pull_blobs(&wanted, &store, 4, &Silent).unwrap();
    let digests = |index: usize| (pulled[index].digest(), offered[index].digest);
    assert!((0..20).map(digests).all(|(got, expected)| got == expected));

    let bad = OfferedBlob { digest: Digest::of("no"), ..offered[0] };
    assert!(repository.push_blobs(&[bad], 4, &Silent).is_err());
}

#[test]
fn what_is_about_a_manifest_is_listed_by_any_registry() {
    for page in [0, 2] {
        let server = in_memory(Abilities { page, ..ALL });
        let repository = repository(&server.host(), settings());
        let subject = Descriptor::of(MANIFEST, b"{}");
        let mut digests = Vec::new();
        for index in 0..5 {
            let kind = if index == 4 { "application/y" } else { "application/x" };
            let layer = Descriptor::of("text/plain", &[index]);
            let manifest = Manifest::new(kind, vec![layer]).about(subject.clone()).to_bytes();
            let digest = Digest::of(&manifest);
            for _ in 0..2 {
                let which = Which::Digest(digest);
                let put = repository.put_manifest(&which, MANIFEST, &manifest).unwrap();
                assert_eq!((put.digest, put.listed), (digest, page == 0));
            }
            digests.push(digest);
        }
        let list = |kind: Option<&str>| {
            let fits =
                |it: &Descriptor| kind.is_none_or(|kind| it.artifact_type.as_deref() == Some(kind));
            let listed = repository.referrers(&subject.digest, &fits, 9).unwrap();
            let mut digests: Vec<_> = listed.iter().map(|it| it.digest).collect();
            digests.sort();
            digests
        };
        let sorted = |digests: &[Digest]| {
            let mut digests = digests.to_vec();
            digests.sort();
            digests
        };
        assert_eq!(list(None), sorted(&digests), "page {page}");
        assert_eq!(list(Some("application/x")), sorted(&digests[..4]));
        assert_eq!(list(Some("application/z")), []);
        assert_eq!(repository.referrers(&subject.digest, &|_| true, 3).unwrap().len(), 3);
        assert!(repository.delete_manifest(&subject.digest, &digests[0]).unwrap());
        assert!(!repository.delete_manifest(&subject.digest, &digests[0]).unwrap());
        assert_eq!(list(None), sorted(&digests[1..]));
    }
}

/// Puts something about `subject`, and returns its digest.
fn put(repository: &Repository, subject: &Descriptor, index: u8) -> Digest {
    let layer = Descriptor::of("text/plain", &[index]);
    let manifest = Manifest::new("application/x", vec![layer]).about(subject.clone()).to_bytes();
    let digest = Digest::of(&manifest);
    repository.put_manifest(&Which::Digest(digest), MANIFEST, &manifest).unwrap();
    digest
}

/// The digests of what is listed about `subject`.
fn listed(repository: &Repository, subject: &Descriptor) -> Vec<Digest> {
    let listed = repository.referrers(&subject.digest, &|_| true, 9).unwrap();
    listed.iter().map(|it| it.digest).collect()
}

#[test]
fn what_others_deleted_does_not_keep_a_list_from_growing() {
    let server = in_memory(Abilities { page: 0, ..ALL });
    let repository = repository(&server.host(), settings());
    let subject = Descriptor::of(MANIFEST, b"{}");
    let deleted = put(&repository, &subject, 1);
    // By somebody who knows of no list.
    let another = Digest::of("another subject");
    assert!(repository.delete_manifest(&another, &deleted).unwrap());
    assert_eq!(listed(&repository, &subject), [deleted]);
    let added = put(&repository, &subject, 2);
    assert_eq!(listed(&repository, &subject), [added]);
    // Interrupted before it was deleted: it is not in the list, and that is all that matters.
    server.fault("DELETE", "manifests", Fault::Instead(Reply::new(403)));
    assert!(repository.delete_manifest(&subject.digest, &added).is_err());
    assert_eq!(listed(&repository, &subject), []);
}

#[test]
fn a_list_has_another_tag_where_a_registry_takes_its_tag_for_the_image() {
    let server = in_memory_without_tags_of_digests(Abilities { page: 0, ..ALL });
    let repository = repository(&server.host(), settings());
    let image = Manifest::new("application/image", Vec::new()).to_bytes();
    let subject = Descriptor::of(MANIFEST, &image);
    repository.put_manifest(&Which::Digest(subject.digest), MANIFEST, &image).unwrap();
    assert_eq!(listed(&repository, &subject), []);
    let first = put(&repository, &subject, 1);
    let second = put(&repository, &subject, 2);
    assert_eq!(listed(&repository, &subject).len(), 2);
    assert!(repository.delete_manifest(&subject.digest, &first).unwrap());
    assert_eq!(listed(&repository, &subject), [second]);
}

#[test]
fn a_registry_that_knows_no_lists_may_say_so_in_many_ways() {
    let page = || Reply::new(200).header("Content-Type", "text/html").body("<html>");
    let mut answers: Vec<_> = [400, 404, 405, 406, 501].into_iter().map(Reply::new).collect();
    answers.push(page());
    for answer in answers {
        let memory = in_memory(Abilities { page: 0, ..ALL });
        let inner = Server::before(&memory.host());
        let status = answer.status;
        let server =
            Server::start(Box::new(move |asked| match asked.path.contains("/referrers/") {
                true => Some(answer.clone()),
                false => inner.hand_on(asked),
            }));
        let repository = repository(&server.host(), settings());
        let subject = Descriptor::of(MANIFEST, b"{}");
        let digest = put(&repository, &subject, 1);
        assert_eq!(listed(&repository, &subject), [digest], "{status}");
        assert!(repository.delete_manifest(&subject.digest, &digest).unwrap(), "{status}");
        assert_eq!(listed(&repository, &subject), [], "{status}");
    }
}

#[test]
fn what_others_wrote_in_a_list_stays_there_and_hides_nothing() {
    let server = in_memory(Abilities { page: 0, ..ALL });
    let repository = repository(&server.host(), settings());
    let subject = Descriptor::of(MANIFEST, b"{}");
    let tag = Which::Tag(format!("sha256-{}", subject.digest).parse().unwrap());
    let other = serde_json::json!({ "mediaType": MANIFEST, "digest": format!("sha512:{}", "0".repeat(128)),
        "size": 7, "artifactType": "application/x", "platform": { "os": "linux" } });
    let list = serde_json::json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [other],
        "annotations": { "whose": "theirs" } });
    repository.put_manifest(&tag, INDEX, list.to_string().as_bytes()).unwrap();
    let digest = put(&repository, &subject, 1);
    assert_eq!(listed(&repository, &subject), [digest]);
    let found = repository.manifest(&tag).unwrap().unwrap();
    let found: serde_json::Value = serde_json::from_slice(&found.bytes).unwrap();
    assert_eq!(found["annotations"], list["annotations"]);
    assert!(found["manifests"].as_array().unwrap().contains(&other), "{found}");
    assert!(repository.delete_manifest(&subject.digest, &digest).unwrap());
    let left = repository.manifest(&tag).unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&left.bytes).unwrap(), list);
}

#[test]
fn an_entry_that_somebody_else_wrote_over_is_listed_again() {
    let server = in_memory(Abilities { page: 0, ..ALL });
    let repository = repository(&server.host(), settings());
    let subject = Descriptor::of(MANIFEST, b"{}");
    // Somebody else's list arrives just after ours.
    let other = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
    let stale = move |reply: Reply| {
        let digest = format!("sha256:{}", Digest::of(other));
        let kind = "application/vnd.oci.image.index.v1+json";
        reply.header("Content-Type", kind).header("Docker-Content-Digest", digest).body(other)
    };
    server.fault("GET", "manifests/sha256-", Fault::Change(Box::new(|_| Reply::new(404))));
    server.fault("GET", "manifests/sha256-", Fault::Change(Box::new(stale)));
    let manifest = Manifest::new("application/x", Vec::new()).about(subject.clone()).to_bytes();
    let which = Which::Digest(Digest::of(&manifest));
    repository.put_manifest(&which, MANIFEST, &manifest).unwrap();
    assert!(!server.has_faults());
    let lists = server.take_seen();
    let puts = lists.iter().filter(|it| it.method == "PUT" && it.path.contains("/sha256-")).count();
    assert_eq!(puts, 2);
}

#[test]
fn a_list_without_end_is_read_no_further_than_needed() {
    // Each page has one entry that is wanted, one that is not, and much that nobody asked for.
    let server = Server::start(Box::new(|asked| {
        let entry = |kind: &str| {
            let mut entry = Descriptor::of(MANIFEST, asked.path.as_bytes());
            entry.artifact_type = Some(kind.to_owned());
            entry.annotations.insert("more".to_owned(), "x".repeat(1000));
            entry
        };
        let manifests = vec![entry("application/y"), entry("application/x")];
        let index = Index { manifests, ..Index::default() };
        let next = format!("<{}x>; rel=\"next\"", asked.path);
        Some(Reply::new(200).header("Link", next).body(index.to_bytes()))
    }));
    let repository = repository(&server.host(), settings());
    let digest = Digest::of("subject");
    let fits = |it: &Descriptor| it.artifact_type.as_deref() == Some("application/x");
    let listed = repository.referrers(&digest, &fits, 5).unwrap();
    assert_eq!(listed.len(), 5);
    assert!(listed.iter().all(|it| fits(it) && it.annotations.is_empty()));
    assert_eq!(server.take_seen().len(), 5);
    let error = repository.referrers(&digest, &|_| false, 5).unwrap_err();
    assert!(error.to_string().contains("more than 100 pages"), "{error}");
}
