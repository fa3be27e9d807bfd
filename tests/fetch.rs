//! Downloads from a server that misbehaves.

mod support;

use std::sync::Mutex;
use std::time::Duration;

use imgbuild::digest::Digest;
use imgbuild::fetch::{Error, FILE_LABEL, Failure, Fetcher, Network, Policy, Request, TOTAL_LABEL};
use imgbuild::progress::{Event, Progress, Silent};
use imgbuild::store::Store;
use support::http::{Fault, Server};

/// A store of its own, a server and an impatient fetcher.
struct Bench {
    server: Server,
    fetcher: Fetcher,
    store: Store,
    _directory: tempfile::TempDir,
}

/// Waits next to nothing between tries.
fn hasty() -> Policy {
    Policy {
        tries: 3,
        base_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(5),
        patience: Duration::from_secs(10),
        slowest: 1,
        proxy_from_environment: false,
    }
}

fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Some(&directory.path().join("store"))).unwrap();
    let fetcher = Fetcher::new(Network::Online, hasty());
    Bench { server: Server::start(), fetcher, store, _directory: directory }
}

/// Bytes that repeat nowhere, so that a wrong offset shows.
fn content(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
        .take(length)
        .collect()
}

fn request(content: &[u8], urls: &[String]) -> Request {
    Request {
        label: "thing 1.0".to_owned(),
        urls: urls.to_vec(),
        digest: Digest::of(content),
        size: content.len() as u64,
    }
}

impl Bench {
    fn fetch(&self, content: &[u8], urls: &[String]) -> Result<Vec<u8>, Error> {
        let files = self.fetcher.download(&[request(content, urls)], &self.store, 2, &Silent)?;
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].digest(), Digest::of(content));
        assert_eq!(files[0].size(), content.len() as u64);
        Ok(std::fs::read(files[0].path()).unwrap())
    }

    fn downloads(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.store.root().join("downloads")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Leaves the beginning of a download behind, as an interrupted run would.
    fn interrupt(&self, content: &[u8], beginning: &[u8], note: Option<&str>) {
        let mut partial = self.store.partial(&Digest::of(content)).unwrap();
        partial.append(beginning).unwrap();
        if let Some(note) = note {
            partial.set_note(note);
        }
    }
}

/// What each URL said when the first file failed.
fn failures(error: &Error) -> Vec<&Failure> {
    match error {
        Error::Download { failed, .. } => {
            failed[0].attempts.iter().map(|attempt| &attempt.failure).collect()
        }
        other => panic!("another error: {other}"),
    }
}

#[test]
fn a_file_is_fetched_once() {
    let bench = bench();
    let content = content(300_000);
    let url = bench.server.file("/x", content.clone());
    for _ in 0..3 {
        assert_eq!(bench.fetch(&content, std::slice::from_ref(&url)).unwrap(), content);
    }
    let seen = bench.server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].accept_encoding.as_deref(), Some("identity"));
    assert!(bench.downloads().is_empty());
}

#[test]
fn an_empty_file_is_a_file() {
    let bench = bench();
    let url = bench.server.file("/x", "");
    assert_eq!(bench.fetch(b"", &[url]).unwrap(), b"");
}

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
fn a_truncated_download_is_resumed_where_it_stopped() {
    let bench = bench();
    let content = content(100_000);
    let url = bench.server.file("/x", content.clone());
    bench.server.faults("/x", [Fault::Truncate(40_000), Fault::Truncate(20_000)]);
    assert_eq!(bench.fetch(&content, &[url]).unwrap(), content);
    let seen = bench.server.seen();
    let ranges: Vec<_> = seen.iter().map(|seen| seen.range.as_deref()).collect();
    assert_eq!(ranges, [None, Some("bytes=40000-"), Some("bytes=60000-")]);
    let tag = format!("\"{}\"", Digest::of(&content).short());
    assert_eq!(seen[1].if_range.as_ref(), Some(&tag));
}

#[test]
fn a_later_run_resumes_even_from_another_mirror() {
    let bench = bench();
    let content = content(100_000);
    bench.interrupt(&content, &content[..70_000], Some("http://elsewhere/x\n\"tag\""));
    let url = bench.server.file("/x", content.clone());
    assert_eq!(bench.fetch(&content, &[url]).unwrap(), content);
    let seen = bench.server.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].range.as_deref(), Some("bytes=70000-"));
    assert_eq!(seen[0].if_range, None, "the tag is another server's");
}

#[test]
fn a_file_that_changed_under_the_same_url_starts_over() {
    let bench = bench();
    let content = content(100_000);
    let url = bench.server.file("/x", content.clone());
    bench.interrupt(&content, &[7; 500], Some(&format!("{url}\n\"old tag\"")));
    assert_eq!(bench.fetch(&content, &[url]).unwrap(), content);
    assert_eq!(bench.server.count("/x"), 1, "If-Range saves the second request");
}

#[test]
fn a_wrong_beginning_is_not_blamed_on_the_mirror() {
    let bench = bench();
    let content = content(100_000);
    let url = bench.server.file("/x", content.clone());
    bench.interrupt(&content, &[7; 500], None);
    assert_eq!(bench.fetch(&content, &[url]).unwrap(), content);
    let ranges: Vec<_> = bench.server.seen().into_iter().map(|seen| seen.range).collect();
    assert_eq!(ranges, [Some("bytes=500-".to_owned()), None]);
}

#[test]
fn a_complete_part_needs_no_request() {
    let bench = bench();
    let content = content(1_000);
    bench.interrupt(&content, &content, None);
    assert_eq!(bench.fetch(&content, &[bench.server.url("/x")]).unwrap(), content);
    assert!(bench.server.seen().is_empty());
}

#[test]
fn an_overlong_part_is_thrown_away() {
    let bench = bench();
    let content = content(1_000);
    let url = bench.server.file("/x", content.clone());
    bench.interrupt(&content, &[7; 2_000], None);
    assert_eq!(bench.fetch(&content, &[url]).unwrap(), content);
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
fn many_files_come_in_order_over_few_connections() {
    let bench = bench();
    let contents: Vec<_> = (0..100).map(|index| content(1_000 + index * 37)).collect();
    let requests: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(index, content)| {
            let path = format!("/{index}");
            let url = bench.server.file(&path, content.clone());
            if index % 10 == 0 {
                bench.server.faults(&path, [Fault::Truncate(10), Fault::Status(503)]);
            }
            request(content, &[url])
        })
        .collect();
    let files = bench.fetcher.download(&requests, &bench.store, 8, &Silent).unwrap();
    for (file, content) in files.iter().zip(&contents) {
        assert_eq!(&std::fs::read(file.path()).unwrap(), content);
    }
    assert_eq!(files.len(), 100);
    // Ten were cut and cost a connection each; otherwise each thread keeps its own.
    assert!(bench.server.connections() <= 8 + 10, "{}", bench.server.connections());
}

#[test]
fn the_same_file_twice_in_one_call_is_fetched_once() {
    let bench = bench();
    let content = content(200_000);
    let url = bench.server.file("/x", content.clone());
    let requests = vec![request(&content, &[url]); 4];
    let files = bench.fetcher.download(&requests, &bench.store, 4, &Silent).unwrap();
    assert_eq!(files.len(), 4);
    assert_eq!(bench.server.count("/x"), 1);
}

#[test]
fn two_builds_at_once_share_their_downloads() {
    let bench = bench();
    let contents: Vec<_> = (0..20).map(|index| content(50_000 + index)).collect();
    let requests: Vec<_> = contents
        .iter()
        .enumerate()
        .map(|(index, content)| {
            request(content, &[bench.server.file(&format!("/{index}"), content.clone())])
        })
        .collect();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                // A store opened anew has locks of its own, like one of another process.
                let store = Store::open(Some(bench.store.root())).unwrap();
                let fetcher = Fetcher::new(Network::Online, hasty());
                let files = fetcher.download(&requests, &store, 3, &Silent).unwrap();
                for (file, content) in files.iter().zip(&contents) {
                    assert_eq!(&std::fs::read(file.path()).unwrap(), content);
                }
            });
        }
    });
    assert_eq!(bench.server.seen().len(), 20);
    assert!(bench.downloads().is_empty());
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

#[test]
fn offline_names_what_is_missing_and_still_reads_local_mirrors() {
    let bench = bench();
    let (one, two) = (content(1_000), content(2_000));
    let offline = Fetcher::new(Network::Offline, hasty());
    let directory = tempfile::tempdir().unwrap();
    let local = directory.path().join("a b");
    std::fs::write(&local, &two).unwrap();
    let local = format!("file://{}", local.display()).replace(' ', "%20");

    let remote = bench.server.file("/x", one.clone());
    let requests =
        [request(&one, std::slice::from_ref(&remote)), request(&two, &[remote.clone(), local])];
    let error = offline.download(&requests, &bench.store, 1, &Silent).unwrap_err();
    assert_eq!(error.to_string(), format!("offline, but not in the store: `thing 1.0` ({remote})"));
    assert_eq!(offline.download(&requests[1..], &bench.store, 1, &Silent).unwrap().len(), 1);
    assert!(matches!(offline.get(&[remote], 10), Err(Error::Offline { .. })));
    assert!(bench.server.seen().is_empty());
}

#[test]
fn small_files_of_unknown_content_are_got_within_a_limit() {
    let bench = bench();
    let url = bench.server.file("/InRelease", "Origin: Debian\n");
    let gone = bench.server.url("/gone");
    let get = |urls: &[&String], limit| {
        let urls: Vec<_> = urls.iter().map(|url| (*url).clone()).collect();
        bench.fetcher.get(&urls, limit)
    };
    bench.server.faults("/InRelease", [Fault::Truncate(3), Fault::Status(500)]);
    assert_eq!(get(&[&gone, &url], 15).unwrap(), b"Origin: Debian\n");
    assert!(matches!(get(&[&gone, &gone], 15), Err(Error::NotFound { .. })));
    let error = get(&[&gone, &url], 14).unwrap_err();
    assert!(error.to_string().contains("longer than 14 bytes"), "{error}");
    bench.server.faults("/InRelease", vec![Fault::Truncate(3); 3]);
    let error = get(&[&url], 15).unwrap_err();
    assert!(error.to_string().contains("truncated at 3 of 15 bytes"), "{error}");
}

/// Adds up what a watcher is told.
#[derive(Default)]
struct Tally(Mutex<Vec<Event>>);

impl Progress for Tally {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

#[test]
fn progress_adds_up_in_spite_of_new_starts() {
    let bench = bench();
    let content = content(100_000);
    let url = bench.server.file("/x", content.clone());
    bench.server.faults("/x", [Fault::Truncate(40_000), Fault::IgnoreRange]);
    let tally = Tally::default();
    let requests = [request(&content, &[url])];
    bench.fetcher.download(&requests, &bench.store, 1, &tally).unwrap();
    let events = tally.0.into_inner().unwrap();
    for prefix in [TOTAL_LABEL, FILE_LABEL] {
        let step = events
            .iter()
            .find_map(|event| match event {
                Event::Started { step, label, total: Some(100_000) }
                    if label.starts_with(prefix) =>
                {
                    Some(*step)
                }
                _ => None,
            })
            .unwrap();
        let bytes: u64 = events
            .iter()
            .map(|event| match event {
                Event::Advanced { step: moved, bytes } if *moved == step => *bytes,
                _ => 0,
            })
            .sum();
        assert_eq!(bytes, 100_000, "{prefix}");
        let finished = |event: &&Event| matches!(event, Event::Finished { step: ended, detail } if *ended == step && detail.is_empty());
        assert_eq!(events.iter().filter(finished).count(), 1, "{prefix}");
    }
}
