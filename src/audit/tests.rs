//! What is read of the tracker's data, and what follows from it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::debian::date::Moment;
use crate::definition::Acceptance;

/// An excerpt in the form in which the tracker writes it.
const DATA: &str = r#"{"curl":{"CVE-2026-0001":{"releases":{"trixie":{"status":"open","repositories":{"trixie":"8.14.1-2"},"urgency":"low"}}}},
"linux":{"CVE-2026-0002":{"scope":"local","releases":{"bullseye":{"status":"resolved","repositories":{"bullseye":"5.10.1-1","bullseye-security":"5.10.9-1"},"fixed_version":"5.10.9-1","urgency":"not yet assigned"}}}},
"openssl":{
"CVE-2026-1001":{"description":"A double\tfree \u001b[31min\u202e CMS","debianbug":1100001,"scope":"remote","releases":{
  "bookworm":{"status":"open","repositories":{"bookworm":"3.0.17-1~deb12u2"},"urgency":"high**"},
  "trixie":{"status":"resolved","repositories":{"trixie":"3.5.1-1","trixie-security":"3.5.1-1+deb13u1"},"fixed_version":"3.5.1-1+deb13u1","urgency":"high**"},
  "sid":{"status":"resolved","repositories":{"sid":"3.5.4-1"},"fixed_version":"3.5.2-1","urgency":"high**"}}},
"CVE-2026-1002":{"releases":{"trixie":{"status":"open","repositories":{"trixie":"3.5.1-1"},"urgency":"not yet assigned","nodsa":"Minor issue","nodsa_reason":"postponed","next_point_update":true}}},
"CVE-2026-1003":{"scope":"local","releases":{"trixie":{"status":"undetermined","repositories":{"trixie":"3.5.1-1"},"urgency":"end-of-life"}}},
"TEMP-0000000-A1B2C3":{"releases":{"trixie":{"status":"open","repositories":{"trixie":"3.5.1-1"},"urgency":"unimportant","nodsa":"","nodsa_reason":"ignored"}}},
"CVE-2026-1004":{"releases":{"bookworm":{"status":"open","repositories":{},"urgency":"low"}}}
}}"#;

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn read(text: &str) -> serde_json::Result<Tracker> {
    Tracker::read(text.as_bytes(), &set(&["openssl", "bash"]), &set(&["trixie"]))
}

#[test]
fn only_what_was_asked_for_is_kept_and_every_release_is_known() {
    let tracker = read(DATA).unwrap();
    assert_eq!(tracker.releases, set(&["bookworm", "bullseye", "sid", "trixie"]));
    assert_eq!(tracker.issues.keys().collect::<Vec<_>>(), ["openssl"]);
    let issues = &tracker.issues["openssl"];
    let ids: Vec<&str> = issues.iter().map(|issue| issue.id.as_str()).collect();
    assert_eq!(ids, ["CVE-2026-1001", "CVE-2026-1002", "CVE-2026-1003", "TEMP-0000000-A1B2C3"]);
    assert_eq!(issues[0].description.as_deref(), Some("A double free [31min CMS"));
    assert_eq!(issues[0].scope, Some(Scope::Remote));
    let [first, second, third, fourth] = [0, 1, 2, 3].map(|it| &issues[it].states["trixie"]);
    assert_eq!(
        *first,
        State {
            status: Status::Resolved,
            fixed: Some("3.5.1-1+deb13u1".to_owned()),
            urgency: Urgency::High,
            no_dsa: None,
            versions: vec!["3.5.1-1".to_owned(), "3.5.1-1+deb13u1".to_owned()],
        }
    );
    let no_dsa = |decision: &str, reason: &str| {
        Some(NoDsa { decision: decision.to_owned(), reason: reason.to_owned() })
    };
    assert_eq!(second.no_dsa, no_dsa("postponed", "Minor issue"));
    assert_eq!((third.status, third.urgency), (Status::Undetermined, Urgency::EndOfLife));
    assert_eq!((&fourth.no_dsa, fourth.urgency), (&no_dsa("ignored", ""), Urgency::Unimportant));
}

#[test]
fn what_has_another_form_is_refused_with_its_place() {
    for (text, message, line) in [
        ("", "EOF while parsing a value", 1),
        ("[]", "invalid type: sequence, expected an object of source packages", 1),
        ("{\"a\": 1}", "invalid type: integer `1`, expected an object of issues", 1),
        (
            "{\"a\": {\"b\": []}}",
            "invalid type: sequence, expected an object that describes an issue",
            1,
        ),
        (
            "{\"a\":{\"b\":{\"releases\":[]}}}",
            "invalid type: sequence, expected an object of releases",
            1,
        ),
        (
            "{\"openssl\":\n{\"CVE-1\":{\"releases\":{\"trixie\":{\"status\":\"mended\"}}}}}",
            "unknown variant `mended`, expected one of `open`, `resolved`, `undetermined`",
            2,
        ),
        ("{\"openssl\":{\"CVE-1 \\u001b\":{}}}", "`CVE-1` is not the name of an issue", 1),
        ("{} {}", "trailing characters", 1),
        ("{\"openssl\":{\"CVE-1\":{", "EOF while parsing an object", 1),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{message} at line {line} ")), "{error}");
    }
    // Whatever is of other packages is not looked at so closely.
    assert!(
        read("{\"x\":{\"CVE-1\":{\"releases\":{\"trixie\":{\"status\":\"mended\"}}}}}").is_ok()
    );
    // Nesting ends somewhere, wherever it is.
    let deep = format!("{{\"a\":{{\"b\":{{\"c\":{}", "[".repeat(100_000));
    assert!(read(&deep).is_err());
}

#[test]
fn a_version_is_judged_by_what_the_release_has() {
    let resolved = |fixed: Option<&str>, versions: &[&str]| State {
        status: Status::Resolved,
        fixed: fixed.map(str::to_owned),
        urgency: Urgency::Low,
        no_dsa: None,
        versions: versions.iter().map(|it| (*it).to_owned()).collect(),
    };
    let mended_in = |version: &str| Some((Status::Resolved, Some(version.to_owned())));
    let security = ["2.0-1", "2.0-1+deb13u1"];
    for (state, version, verdict) in [
        (resolved(Some("2.0-1+deb13u1"), &security), "2.0-1", mended_in("2.0-1+deb13u1")),
        (resolved(Some("2.0-1+deb13u1"), &security), "2.0-1+deb13u1", None),
        (resolved(Some("2.0-1+deb13u1"), &security), "2.0-1+deb13u2", None),
        // Debian's order, not that of text.
        (resolved(Some("2.0-1+deb13u10"), &[]), "2.0-1+deb13u9", mended_in("2.0-1+deb13u10")),
        (resolved(Some("1:0.1"), &[]), "9", mended_in("1:0.1")),
        (resolved(Some("2.0~rc1-1"), &[]), "2.0-1", None),
        // It never had it.
        (resolved(Some("0"), &["2.0-1"]), "1.0-1", None),
        // The note is that of another release.
        (resolved(Some("3.0-1"), &security), "2.0-1+deb13u1", None),
        (resolved(Some("3.0-1"), &security), "2.0-1", mended_in("2.0-1+deb13u1")),
        (resolved(None, &["2.0-1"]), "2.0-1", None),
        (resolved(None, &[]), "2.0-1", Some((Status::Undetermined, None))),
        (
            State { status: Status::Open, ..resolved(None, &[]) },
            "2.0-1",
            Some((Status::Open, None)),
        ),
        (
            State { status: Status::Undetermined, ..resolved(Some("1"), &[]) },
            "2.0-1",
            Some((Status::Undetermined, None)),
        ),
    ] {
        assert_eq!(judge(&state, version), verdict, "{version} {state:?}");
    }
}

/// `source` at `version`, in the roles `haproxy` and `cache`.
fn installed(source: &str, version: &str) -> Installed {
    Installed {
        source: source.to_owned(),
        version: version.to_owned(),
        certainty: Certainty::Known,
        release: "trixie".to_owned(),
        packages: set(&["libssl3t64"]),
        images: set(&["base"]),
        roles: set(&["cache", "haproxy"]),
    }
}

fn accepted(text: &str) -> Vec<Acceptance> {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("audit.toml"), text).unwrap();
    Acceptance::read_all(directory.path()).unwrap()
}

#[test]
fn what_leaves_the_lock_is_not_mended() {
    let tracker = read(DATA).unwrap();
    let now = Moment::parse_rfc3339("2026-11-26T12:00:00Z").unwrap();
    let counted = Counted { severity: Severity::Low, fixable: false };
    let fixed = installed("openssl", "3.5.1-1+deb13u1");
    let here =
        |images: &[&str]| Installed { images: set(images), ..installed("openssl", "3.5.1-1") };
    let all = ["base", "watched"];
    for (has, installed, images, out_of_reach, brought) in [
        (&all[..1], vec![fixed.clone()], &all[..1], &all[1..], true),
        (&all[1..], vec![], &all[..1], &all[1..], false),
        (&all, vec![fixed.clone()], &all[..1], &all[1..], false),
        // Its part of the lock stays as it is.
        (&all, vec![fixed.clone(), here(&all[1..])], &all, &all[1..], false),
        (&all, vec![fixed.clone()], &all, &[], true),
        // Nothing is installed there any more.
        (&all, vec![], &all, &[], true),
    ] {
        let [images, out_of_reach] = [images, out_of_reach].map(set);
        let newer = Newer { installed, images, out_of_reach };
        let findings = Finding::all(&tracker, &[here(has)], Some(&newer), (&[], now), counted);
        let found = findings.iter().find(|it| it.id == "CVE-2026-1001").unwrap();
        assert_eq!(found.is_brought(), brought, "{has:?} {newer:?}");
        assert_eq!(found.is_out_of_reach(), !brought, "{has:?} {newer:?}");
    }
}

#[test]
fn the_worst_that_can_be_mended_comes_first() {
    let tracker = read(DATA).unwrap();
    let counted = |severity, fixable| Counted { severity, fixable };
    let now = Moment::parse_rfc3339("2026-11-26T12:00:00Z").unwrap();
    let here = [installed("openssl", "3.5.1-1"), installed("bash", "5.2.37-2")];
    let newer = Newer {
        installed: vec![installed("openssl", "3.5.1-1+deb13u1")],
        images: set(&["base"]),
        ..Newer::default()
    };
    let all = |newer, accepted: &[Acceptance], counted| {
        Finding::all(&tracker, &here, newer, (accepted, now), counted)
    };
    let findings = all(Some(&newer), &[], counted(Severity::Low, false));
    let ids: Vec<(&str, bool, bool)> =
        findings.iter().map(|it| (it.id.as_str(), it.counts, it.is_brought())).collect();
    assert_eq!(
        ids,
        [
            ("CVE-2026-1001", true, true),
            ("CVE-2026-1002", true, false),
            ("CVE-2026-1003", false, false),
            ("TEMP-0000000-A1B2C3", false, false),
        ]
    );
    let counting = |findings: &[Finding]| findings.iter().filter(|it| it.counts).count();
    assert_eq!(counting(&all(None, &[], counted(Severity::Unimportant, false))), 3);
    assert_eq!(counting(&all(None, &[], counted(Severity::Low, true))), 1);
    assert_eq!(counting(&all(None, &[], counted(Severity::Medium, false))), 1);
    assert!(all(None, &[], counted(Severity::Low, false)).iter().all(|it| it.update.is_none()));

    let entry = |package: &str, until: &str| {
        accepted(&format!(
            "[[accept]]\ncve = \"CVE-2026-1001\"\n{package}\nreason = \"not reachable\"\nuntil = {until}\n"
        ))
    };
    for (entries, counts, expired) in [
        (entry("", "\"2026-11-26\""), false, Some(false)),
        (entry("", "2026-11-26"), false, Some(false)),
        (entry("package = \"openssl\"", "\"2027-01-01\""), false, Some(false)),
        (entry("", "\"2026-11-25\""), true, Some(true)),
        (entry("package = \"gnutls28\"", "\"2027-01-01\""), true, None),
    ] {
        let findings = all(None, &entries, counted(Severity::High, false));
        let finding = findings.iter().find(|it| it.id == "CVE-2026-1001").unwrap();
        assert_eq!(finding.counts, counts, "{entries:?}");
        assert_eq!(finding.accepted.as_ref().map(|it| it.expired), expired, "{entries:?}");
    }
}

#[test]
fn what_is_assumed_is_confirmed_by_the_versions_that_the_tracker_has() {
    let tracker = read(DATA).unwrap();
    let assumed =
        |version| Installed { certainty: Certainty::Assumed, ..installed("openssl", version) };
    let elsewhere = Installed { release: "jammy".to_owned(), ..installed("openssl", "3.0.2") };
    let other = Installed { packages: set(&["ssl-tools"]), ..assumed("2:1.0") };
    let bash = Installed { source: "bash".to_owned(), ..assumed("5.2") };
    let mut all = vec![assumed("3.5.1-1"), other.clone(), bash, elsewhere];
    let overlooked = confirm(&mut all, &tracker);
    let one = |it: &Installed| (it.source.clone(), it.version.clone(), it.certainty);
    let expected = [
        ("openssl".to_owned(), "3.5.1-1".to_owned(), Certainty::Known),
        ("bash".to_owned(), "5.2".to_owned(), Certainty::Assumed),
    ];
    assert_eq!(all.iter().map(one).collect::<Vec<_>>(), expected);
    assert_eq!(all[0].packages, set(&["libssl3t64", "ssl-tools"]), "they are of one source");
    // Of which of two versions it is, nobody knows.
    let mut all = vec![installed("openssl", "3.5.1-1"), installed("openssl", "3.5.2-1"), other];
    confirm(&mut all, &tracker);
    assert_eq!(all.len(), 3);
    assert_eq!(overlooked.len(), 1);
    assert_eq!(overlooked[0].why, "the data know no release `jammy`");
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Tracker::read(&bytes[..], &set(&["openssl"]), &set(&["trixie"]));
    }

    /// The excerpt with some of its bytes exchanged, and cut anywhere.
    #[test]
    fn no_damage_makes_the_reader_panic(
        damage in proptest::collection::vec((0..DATA.len(), any::<u8>()), 0..4),
        length in 0..=DATA.len(),
    ) {
        let mut bytes = DATA.as_bytes().to_vec();
        for (place, byte) in damage {
            bytes[place] = byte;
        }
        bytes.truncate(length);
        let read = Tracker::read(&bytes[..], &set(&["openssl"]), &set(&["trixie"]));
        for state in read.iter().flat_map(|it| it.issues.values().flatten()).flat_map(|it| it.states.values()) {
            let _ = judge(state, "3.5.1-1");
        }
    }
}
