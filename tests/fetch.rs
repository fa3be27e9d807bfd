//! Downloads: resumed, shared, in order, offline.

mod support;

use std::sync::Mutex;

use imgbuild::digest::Digest;
use imgbuild::fetch::{Error, FILE_LABEL, Fetcher, Network, TOTAL_LABEL};
use imgbuild::progress::{Event, Progress, Silent};
use imgbuild::store::Store;
use support::bench::{bench, content, hasty, request};
use support::http::Fault;

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
