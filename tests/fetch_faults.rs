//! Downloads from servers that misbehave, and onto a disk that is full.

mod support;

use std::time::Duration;

use imgbuild::digest::Digest;
use imgbuild::fetch::{Error, Failure, Fetcher, Network, Policy, Request};
use imgbuild::progress::Silent;
use imgbuild::store::{self, Store};
use support::bench::{bench, content, failures, hasty, request};
use support::disk::SmallDisk;
use support::http::Fault;

#[test]
fn passing_trouble_is_outlasted() {
    let content = content(5_000);
    for faults in [
        vec![Fault::Status(500), Fault::Status(502)],
        vec![Fault::Busy(3_600), Fault::Status(429)],
        vec![Fault::Hangup, Fault::Hangup],
        vec![Fault::Truncate(10), Fault::Truncate(10)],
        vec![Fault::Truncate(10), Fault::WrongRange],
        vec![Fault::Truncate(4_999), Fault::Status(416)],
        vec![Fault::Truncate(10), Fault::IgnoreRange],
    ] {
        let bench = bench();
        let url = bench.server.file("/x", content.clone());
        bench.server.faults("/x", faults.clone());
        assert_eq!(bench.fetch(&content, &[url]).unwrap(), content, "{faults:?}");
        assert!(bench.downloads().is_empty(), "{faults:?}");
    }
}

#[test]
fn what_one_mirror_lacks_or_spoils_the_next_one_has() {
    let content = content(50_000);
    for fault in [
        Fault::Status(404),
        Fault::Status(410),
        Fault::Status(403),
        Fault::Corrupt,
        Fault::Overlong(1),
        Fault::Redirect("ftp://elsewhere/x".to_owned()),
    ] {
        let bench = bench();
        let mirror = bench.server.file("/mirror/x", content.clone());
        let snapshot = bench.server.file("/snapshot/x", content.clone());
        bench.server.faults("/mirror/x", [fault.clone()]);
        assert_eq!(bench.fetch(&content, &[mirror, snapshot]).unwrap(), content, "{fault:?}");
        assert_eq!(bench.server.count("/mirror/x"), 1, "{fault:?}");
        assert_eq!(bench.server.count("/snapshot/x"), 1, "{fault:?}");
    }
}

#[test]
fn the_error_says_what_every_url_said() {
    let bench = bench();
    let content = content(5_000);
    let gone = bench.server.url("/gone");
    let corrupt = bench.server.file("/corrupt", content.clone());
    bench.server.faults("/corrupt", [Fault::Corrupt]);
    let short = bench.server.file("/short", &content[..4_000]);
    let cut = bench.server.file("/cut", content.clone());
    bench.server.faults("/cut", vec![Fault::Truncate(0); 3]);
    let ftp = "ftp://host/x".to_owned();
    let urls = [gone, corrupt, short, cut, ftp];
    let error = bench.fetch(&content, &urls).unwrap_err();
    let got = Digest::of(content.iter().map(|byte| byte ^ 0xff).collect::<Vec<_>>());
    let expected = Digest::of(&content);
    assert_eq!(
        error.to_string(),
        format!(
            "cannot download `thing 1.0`\
             \n  {}: not found\
             \n  {}: wrong sha256: got {got}, expected {expected}\
             \n  {}: wrong size: got 4000 bytes, expected 5000\
             \n  {}: truncated at 0 of 5000 bytes\
             \n  {}: not a URL that can be fetched: expected http://, https:// or file://",
            urls[0], urls[1], urls[2], urls[3], urls[4]
        )
    );
    let help = miette::Diagnostic::help(&error).unwrap().to_string();
    assert!(help.contains("imgbuild lock --update") && help.contains("snapshot"), "{help}");
    assert!(bench.store.blob(&expected).is_none());
    assert!(bench.store.blob(&got).is_none(), "wrong bytes never get into the store");
}

#[test]
fn never_more_bytes_are_kept_than_were_locked() {
    let bench = bench();
    let content = content(1_000);
    let url = bench.server.file("/x", content.clone());
    bench.server.faults("/x", [Fault::Overlong(10_000_000)]);
    let error = bench.fetch(&content, &[url]).unwrap_err();
    assert!(matches!(failures(&error)[..], [Failure::TooLong { limit: 1_000 }]), "{error}");
    for name in bench.downloads() {
        let path = bench.store.root().join("downloads").join(&name);
        assert!(path.metadata().unwrap().len() <= 1_000, "{name}");
    }
}

#[test]
fn a_manifest_is_never_large() {
    let bench = bench();
    let content = content(5 << 20);
    let path = format!("/v2/a/manifests/sha256:{}", Digest::of(&content));
    let url = bench.server.file(&path, content.clone());
    let request = Request { size: None, ..request(&content, &[url]) };
    let fetcher = Fetcher::new(Network::Online, hasty());
    let error = fetcher.download(&[request], &bench.store, 1, &Silent).unwrap_err();
    assert!(matches!(failures(&error)[..], [Failure::TooLong { limit: 4_194_304 }]), "{error}");
}

#[test]
fn a_chunk_that_is_cut_is_no_end_of_what_has_no_known_length() {
    let bench = bench();
    let content = content(5_000);
    let url = bench.server.file("/x", content.clone());
    bench.server.faults("/x", [Fault::CutChunk(2_000)]);
    let request = Request { size: None, ..request(&content, &[url]) };
    let fetcher = Fetcher::new(Network::Online, hasty());
    let got = fetcher.download(&[request], &bench.store, 1, &Silent).unwrap();
    assert_eq!(std::fs::read(got[0].path()).unwrap(), content);
    let ranges: Vec<_> = bench.server.seen().into_iter().map(|seen| seen.range).collect();
    assert_eq!(ranges, [None, Some("bytes=2000-".to_owned())]);
}

#[test]
fn a_stalled_server_is_given_up() {
    let bench = bench();
    let content = content(5_000);
    let url = bench.server.file("/x", content.clone());
    bench.server.faults("/x", vec![Fault::Stall(100); 2]);
    let policy = Policy { patience: Duration::from_millis(200), tries: 2, ..hasty() };
    let fetcher = Fetcher::new(Network::Online, policy);
    let requests = [request(&content, std::slice::from_ref(&url))];
    let error = fetcher.download(&requests, &bench.store, 1, &Silent).unwrap_err();
    assert!(matches!(failures(&error)[..], [Failure::Timeout]), "{error}");
    assert_eq!(bench.fetch(&content, &[url]).unwrap(), content, "the next run goes on");
    assert_eq!(bench.server.seen()[2].range.as_deref(), Some("bytes=200-"));
}

#[test]
fn a_server_that_dribbles_is_given_up() {
    let bench = bench();
    let content = content(5_000);
    let slow = bench.server.file("/slow", content.clone());
    let good = bench.server.file("/good", content.clone());
    bench.server.faults("/slow", [Fault::Dribble(Duration::from_millis(10))]);
    let policy =
        Policy { patience: Duration::from_millis(200), slowest: 1_000_000, tries: 1, ..hasty() };
    let fetcher = Fetcher::new(Network::Online, policy);
    let requests = [request(&content, &[slow, good])];
    fetcher.download(&requests, &bench.store, 1, &Silent).unwrap();
    assert_eq!(bench.server.count("/good"), 1);
}

#[test]
fn a_server_that_breaks_off_and_cannot_resume_is_given_up() {
    let bench = bench();
    let content = content(4 << 20);
    let url = bench.server.file("/x", content.clone());
    for _ in 0..50 {
        bench.server.faults("/x", [Fault::Truncate(3 << 20), Fault::WrongRange]);
    }
    let error = bench.fetch(&content, &[url]).unwrap_err();
    assert!(matches!(failures(&error)[..], [Failure::Truncated { .. }]), "{error}");
    assert!(bench.server.count("/x") < 10);
}

#[test]
fn a_full_disk_ends_all_downloads_with_the_reason() {
    let Some(disk) = SmallDisk::mount() else { return };
    let bench = bench();
    let store = Store::open(Some(&disk.path().join("store"))).unwrap();
    let content = content(4 << 20);
    let url = bench.server.file("/x", content.clone());
    let requests = [request(&content, &[url])];
    let error = bench.fetcher.download(&requests, &store, 1, &Silent).unwrap_err();
    assert!(matches!(error, Error::Store(store::Error::Full { .. })), "{error}");
    assert!(miette::Diagnostic::help(&error).unwrap().to_string().contains("imgbuild gc"));
    assert_eq!(bench.server.count("/x"), 1, "it would be as full the next time");
}

#[test]
fn redirects_are_followed_but_not_forever() {
    let bench = bench();
    let content = content(5_000);
    let end = bench.server.file("/end", content.clone());
    let start = bench.server.url("/start");
    bench.server.faults("/start", [Fault::Redirect(end)]);
    assert_eq!(bench.fetch(&content, &[start]).unwrap(), content);

    let circle = bench.server.url("/circle");
    bench.server.faults("/circle", vec![Fault::Redirect(circle.clone()); 100]);
    let other = b"other".to_vec();
    assert!(bench.fetch(&other, &[circle]).is_err());
    assert!(bench.server.count("/circle") < 10);
}

#[test]
fn a_file_that_fails_does_not_keep_the_others_away() {
    let bench = bench();
    let (one, two) = (content(1_000), content(2_000));
    let requests = [
        request(&one, &[bench.server.url("/gone")]),
        request(&two, &[bench.server.file("/two", two.clone())]),
    ];
    let error = bench.fetcher.download(&requests, &bench.store, 1, &Silent).unwrap_err();
    assert!(matches!(failures(&error)[..], [Failure::NotFound]), "{error}");
    assert!(bench.store.blob(&Digest::of(&two)).is_some());
}

#[test]
fn a_silent_mirror_costs_its_tries_once() {
    let bench = bench();
    // A port that was free a moment ago: connections are refused.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let contents: Vec<_> = (0..10).map(|index| content(1_000 + index)).collect();
    let requests: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(index, content)| {
            let good = bench.server.file(&format!("/{index}"), content.clone());
            request(content, &[format!("http://127.0.0.1:{port}/{index}"), good])
        })
        .collect();
    assert_eq!(bench.fetcher.download(&requests, &bench.store, 2, &Silent).unwrap().len(), 10);

    let other = b"other".to_vec();
    let error = bench.fetch(&other, &[format!("http://127.0.0.1:{port}/x")]).unwrap_err();
    assert!(matches!(failures(&error)[..], [Failure::Io(_)]), "{error}");
    let help = miette::Diagnostic::help(&error).unwrap().to_string();
    assert!(help.contains("goes on where it stopped"), "{help}");
}
