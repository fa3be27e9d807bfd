//! Release files, right and wrong.

use super::*;

const DIGEST: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// A Release file like those of Debian's security archive.
fn text() -> String {
    format!(
        "Origin: Debian\nSuite: stable-security\nCodename: trixie-security\n\
         Date: Sat, 12 Sep 2026 07:55:41 UTC\nValid-Until: Sat, 19 Sep 2026 07:55:41 UTC\n\
         Acquire-By-Hash: yes\nArchitectures: all amd64\nComponents: updates/main contrib\n\
         SHA256:\n {DIGEST} 3 main/binary-amd64/Packages\n {DIGEST}  2 main/binary-amd64/Packages.xz\n \
         {DIGEST} 3 main/binary-all/Packages\n {DIGEST} 1 main/binary-all/Packages.gz"
    )
}

fn expectation() -> Expectation<'static> {
    let now = Moment::parse_rfc3339("2026-09-13T00:00:00Z").unwrap();
    Expectation { suite: Some("trixie-security"), not_before: None, now }
}

#[test]
fn what_a_release_says_is_understood() {
    let release = Release::parse(&text(), &expectation()).unwrap();
    assert_eq!(release.date.to_string(), "2026-09-12T07:55:41Z");
    assert!(release.acquire_by_hash);
    let indexes = release.indexes("trixie-security", "main", "amd64").unwrap();
    let found: Vec<_> = indexes
        .iter()
        .map(|it| (it.path.as_str(), it.packed.size, it.plain.unwrap().size))
        .collect();
    assert_eq!(
        found,
        [("main/binary-amd64/Packages.xz", 2, 3), ("main/binary-all/Packages.gz", 1, 3)]
    );
    // Debian lists packages for all architectures twice.
    let text = text().replace("SHA256", "No-Support-for-Architecture-all: Packages\nSHA256");
    let release = Release::parse(&text, &expectation()).unwrap();
    assert_eq!(release.indexes("trixie-security", "main", "amd64").unwrap().len(), 1);
    let error = release.indexes("trixie-security", "contrib", "amd64").unwrap_err();
    assert!(matches!(error, Error::NoIndex { .. }), "{error}");
}

#[test]
fn suites_go_by_either_name() {
    for (suite, is_good) in [
        ("trixie-security", true),
        ("stable-security", true),
        ("trixie", false),
        ("bookworm-security", false),
    ] {
        let expectation = Expectation { suite: Some(suite), ..expectation() };
        assert_eq!(Release::parse(&text(), &expectation).is_ok(), is_good, "{suite}");
    }
    let nameless = text().replace("Suite", "X").replace("Codename", "Y");
    let error = Release::parse(&nameless, &expectation()).unwrap_err();
    assert!(matches!(error, Error::WrongSuite { .. }), "{error}");
}

#[test]
fn releases_out_of_their_time_are_refused() {
    let moment = |text| Moment::parse_rfc3339(text).unwrap();
    let at = |now| Release::parse(&text(), &Expectation { now: moment(now), ..expectation() });
    assert!(at("2026-09-19T07:55:41Z").is_ok());
    assert!(matches!(at("2026-09-19T07:55:42Z"), Err(Error::Expired(_))));
    assert!(at("2026-09-12T07:30:00Z").is_ok());
    assert!(matches!(at("2026-09-12T07:00:00Z"), Err(Error::Future(_))));
    let after = |seen| {
        let not_before = Some(moment(seen));
        Release::parse(&text(), &Expectation { not_before, ..expectation() })
    };
    assert!(after("2026-09-12T07:55:41Z").is_ok());
    assert!(matches!(after("2026-09-12T07:55:42Z"), Err(Error::RolledBack { .. })));
}

#[test]
fn malformed_releases_are_refused() {
    for (from, to) in [
        ("Date: Sat, 12", "Date: 12"),
        ("Date:", "Data:"),
        ("Valid-Until: Sat, 19 Sep", "Valid-Until: Sat, 39 Sep"),
        ("SHA256:", "SHA1:"),
        ("  2 main/", "  x main/"),
        ("  2 main/binary-amd64/Packages.xz", "  2"),
        ("  2 main/binary-amd64/Packages.xz", "  2 main/binary-amd64/Packages"),
        ("  2 main", "  2 two main"),
        ("ba78", "ba7"),
        ("Origin: Debian", "Origin"),
        ("Origin: Debian", "Suite: trixie-security"),
    ] {
        let text = text();
        assert!(text.contains(from), "{from}");
        let error = Release::parse(&text.replacen(from, to, 1), &expectation());
        assert!(error.is_err(), "{from} -> {to}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(place in 0..800usize, insertion in "[ -~\n]{0,3}") {
        let mut text = text();
        text.insert_str(place.min(text.len()), &insertion);
        if let Ok(release) = Release::parse(&text, &expectation()) {
            let _ = release.indexes("trixie-security", "main", "amd64");
        }
    }
}
