//! Known vulnerabilities of what is locked, by data in the form of Debian's security tracker.

mod support;

use std::fs;
use std::io::Write as _;

use imgbuild::debian::date::Moment;
use imgbuild::store::{KeyKind, Store};
use serde_json::Value;
use support::archive::{Archive, Release};
use support::http::Fault;
use support::package::{Package, xz};
use support::programs::{hold, read};
use support::project::{Ended, Project};

/// Three vulnerabilities of haproxy and one of openssl, as the tracker would tell them.
const DATA: &str = r#"{
"haproxy":{
  "CVE-2026-2001":{"scope":"remote","releases":{"trixie":{"status":"resolved","repositories":{"trixie":"3.0.11-1","trixie-security":"3.0.11-1+deb13u1"},"fixed_version":"3.0.11-1+deb13u1","urgency":"medium"}}},
  "CVE-2026-2002":{"releases":{"trixie":{"status":"open","repositories":{"trixie":"3.0.11-1"},"urgency":"not yet assigned","nodsa":"Minor issue","nodsa_reason":"postponed"}}},
  "CVE-2026-2003":{"releases":{"trixie":{"status":"open","repositories":{"trixie":"3.0.11-1"},"urgency":"unimportant"}}}},
"linux":{"CVE-2026-2005":{"releases":{"trixie":{"status":"open","repositories":{"trixie":"6.12.1-1"},"urgency":"high"}}}},
"openssl":{
  "CVE-2026-2004":{"releases":{"trixie":{"status":"resolved","repositories":{"trixie-security":"3.5.1-1+deb13u1"},"fixed_version":"3.5.1-1+deb13u1","urgency":"high**"}}}}
}"#;

/// The code for vulnerabilities that count.
const FOUND: i32 = 5;

fn openssl(package: &str, source: &str) -> Package {
    Package::new("libssl3t64", package).field("Source", source)
}

/// A locked role, whose packages are of the distribution but for one.
fn locked() -> (Archive, Project) {
    let archive = Archive::new(&[
        Package::new("haproxy", "3.0.11-1+b2").field("Depends", "libssl3t64"),
        openssl("3.5.1-1", "openssl"),
    ]);
    archive.publish_flat("vendor", &[Package::new("agent", "7.1")], 7);
    let project = Project::small(&archive, "[\"haproxy\"]", "");
    let above = format!(
        "summary = \"With an agent\"\nversion = \"1.0.0\"\nextends = \"app\"\nrole = true\n\
         [packages]\ninstall = [\"agent\"]\n{}",
        archive.flat("vendor", "[\"agent\"]", 7)
    );
    project.write("images/watched/image.toml", &above);
    project.write("tracker.json", DATA);
    project.succeed(&["lock"]);
    (archive, project)
}

/// An audit by the file, with more options; people read what it says.
fn audit(project: &Project, more: &[&str]) -> Ended {
    let arguments = [&["audit", "--data", "tracker.json"], more].concat();
    Ended::from(project.command(&arguments).output().unwrap())
}

/// The same for programs.
fn audit_json(project: &Project, more: &[&str]) -> Value {
    let ended = audit(project, &[more, &["--json", "--quiet"]].concat());
    let json = read(&ended.stdout);
    hold(&json, "audit");
    let counted = json["counted"].as_u64().unwrap();
    assert_eq!(ended.code, if counted > 0 { FOUND } else { 0 }, "{}", ended.stderr);
    json
}

fn ids(json: &Value) -> Vec<&str> {
    json["findings"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect()
}

#[test]
fn what_is_locked_is_held_against_the_data() {
    let (_archive, project) = locked();
    let ended = audit(&project, &["--offline"]);
    assert_eq!(ended.code, FOUND, "{}", ended.stderr);
    assert_eq!(
        ended.stdout,
        "medium       CVE-2026-2001  haproxy 3.0.11-1\n             \
         fixed in 3.0.11-1+deb13u1\n             all 2 roles: haproxy\n\
         unassigned   CVE-2026-2002  haproxy 3.0.11-1\n             \
         no fix yet; Debian will fix it together with others: Minor issue\n             all 2 roles: haproxy\n"
    );
    for said in [
        "agent 7.1: the repository `vendor` is not that of the distribution",
        "not shown: 1 less severe; `--all` shows them",
        "2 vulnerabilities: 1 medium",
        "1 of them has a fix; `imgbuild audit --updates` says",
    ] {
        assert!(ended.stderr.contains(said), "{said}:\n{}", ended.stderr);
    }
    let all = audit(&project, &["--all", "--offline"]);
    assert_eq!(all.stdout.lines().count(), 9, "{}", all.stdout);

    let json = audit_json(&project, &["--offline"]);
    assert_eq!(ids(&json), ["CVE-2026-2001", "CVE-2026-2002", "CVE-2026-2003"]);
    assert_eq!(json["counted"], 2);
    assert_eq!(json["findings"][0]["certainty"], "known", "the tracker has this version");
    assert_eq!(json["findings"][0]["roles"][0], "app");
    assert_eq!(json["findings"][0]["update"], Value::Null);
    assert_eq!(json["overlooked"][0]["name"], "agent");
    for (more, counted) in [
        (&["--severity", "medium"][..], 1),
        (&["--severity", "high"], 0),
        (&["--severity", "unimportant"], 3),
        (&["--fixable"], 1),
    ] {
        assert_eq!(audit_json(&project, more)["counted"], counted, "{more:?}");
    }
}

#[test]
fn an_update_is_looked_for_in_the_repositories() {
    let (mut archive, project) = locked();
    // The index knows of what source package libssl3t64 is; nothing newer is there.
    let json = audit_json(&project, &["--updates"]);
    assert_eq!(ids(&json)[..2], ["CVE-2026-2004", "CVE-2026-2001"]);
    assert_eq!(json["findings"][0]["update"]["brings_fix"], false);
    assert_eq!(json["changing"].as_array().unwrap().len(), 0);
    let before = project.read("imgbuild.lock");

    archive.add(&openssl("3.5.1-1+deb13u1+b1", "openssl (3.5.1-1+deb13u1)"));
    archive.publish(&Release { date: "Mon, 02 Jun 2025 00:00:00 UTC", ..Release::GOOD });
    let ended = audit(&project, &["--updates"]);
    let brings = "fixed in 3.5.1-1+deb13u1; `imgbuild lock --update` brings 3.5.1-1+deb13u1";
    assert!(ended.stdout.contains(brings), "{}", ended.stdout);
    let next = "1 of them is mended by `imgbuild lock --update`; then `imgbuild build app watched`";
    assert!(ended.stderr.contains(next), "{}", ended.stderr);
    assert_eq!(project.read("imgbuild.lock"), before, "an audit writes nothing");

    let nodes = "[[nodes]]\nname = \"app1\"\nimage = \"app\"\naddress = \"10.20.40.2/24\"\n";
    project.write("overlays/campus/overlay.toml", &format!("summary = \"A campus\"\n{nodes}"));
    for (more, says) in [
        (&["--site", "campus", "--updates"][..], "then `imgbuild build app --site campus`"),
        (&["--site", "campus"], "`imgbuild audit --site campus --updates` says"),
        (&["app"], "`imgbuild audit app --updates` says"),
    ] {
        let said = audit(&project, more).stderr;
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(says), "what is to be typed next is of another site: {said}");
    }

    project.succeed(&["lock", "--update"]);
    assert_eq!(ids(&audit_json(&project, &["--updates"]))[0], "CVE-2026-2001");
}

#[test]
fn no_fix_is_promised_to_a_role_whose_repository_cannot_be_used() {
    let (mut archive, project) = locked();
    // A package of the distribution that only this role has, besides one of a vendor.
    let watched = project.read("images/watched/image.toml");
    project.write(
        "images/watched/image.toml",
        &watched.replace("[\"agent\"]\n[", "[\"agent\", \"own\"]\n["),
    );
    archive.add(&Package::new("own", "1.0"));
    archive.publish(&Release::GOOD);
    project.succeed(&["lock"]);
    let flaw = "{\"own\":{\"CVE-2026-2006\":{\"releases\":{\"trixie\":{\"status\":\"resolved\",\"repositories\":{},\
                \"fixed_version\":\"1.1\",\"urgency\":\"high\"}}}}}";
    project.write("tracker.json", flaw);
    // What it stands on changes, and the vendor's repository is gone.
    archive.add(&Package::new("own", "1.1"));
    archive.add(&openssl("3.5.1-1+deb13u1", "openssl"));
    archive.publish(&Release { date: "Mon, 02 Jun 2025 00:00:00 UTC", ..Release::GOOD });
    let there = archive.server.content("/vendor/InRelease");
    archive.server.remove("/vendor/InRelease");
    let json = audit_json(&project, &["--updates"]);
    let update = &json["findings"][0]["update"];
    assert_eq!((&update["brings_fix"], &update["version"]), (&false.into(), &"1.0".into()));
    assert_eq!(
        (&update["out_of_reach"][0], &json["changing"][0]),
        (&"watched".into(), &"app".into())
    );
    assert_eq!(json["changing"].as_array().unwrap().len(), 1);
    let ended = audit(&project, &["--updates"]);
    assert_eq!(ended.code, FOUND, "{}", ended.stderr);
    let said = ended.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let says = "fixed in 1.1; `imgbuild lock --update` does not bring it to watched: a repository cannot be used";
    assert!(said.contains(says), "{said}");
    assert!(
        ended.stderr.contains("the repositories do not have it yet, or cannot be used"),
        "{}",
        ended.stderr
    );

    archive.server.file("/vendor/InRelease", there);
    let json = audit_json(&project, &["--updates"]);
    assert_eq!(json["findings"][0]["update"]["brings_fix"], true);
}

#[test]
fn what_somebody_accepts_does_not_count_until_the_day_is_over() {
    let (_archive, project) = locked();
    let accept = |until: &str| {
        let entry = |cve: &str| {
            format!(
                "[[accept]]\ncve = \"{cve}\"\nreason = \"not reachable\"\nuntil = \"{until}\"\n\n"
            )
        };
        let entries = ["CVE-2026-2001", "CVE-2026-2002", "CVE-2020-0001"].map(entry);
        project.write("audit.toml", &entries.concat());
        audit(&project, &[])
    };
    let ended = accept("9999-12-31");
    assert_eq!((ended.code, ended.stdout.as_str()), (0, ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("not shown: 2 accepted, 1 less severe;"), "{}", ended.stderr);
    assert!(
        ended.stderr.contains("audit.toml:12: CVE-2020-0001 was not found"),
        "{}",
        ended.stderr
    );
    let ended = accept("2025-12-31");
    assert_eq!(ended.code, FOUND);
    let said = "audit.toml:2: CVE-2026-2001 was accepted until 2025-12-31, and counts again";
    assert!(ended.stderr.contains(said), "{}", ended.stderr);
}

#[test]
fn data_may_be_packed_and_old_ones_are_called_old() {
    let (_archive, project) = locked();
    let gzip = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(DATA.as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    let path = project.path().join("tracker.json");
    for packed in [gzip, xz(DATA.as_bytes()), zstd::encode_all(DATA.as_bytes(), 1).unwrap()] {
        fs::write(&path, packed).unwrap();
        let ended = audit(&project, &[]);
        assert_eq!(ended.code, FOUND, "{}", ended.stderr);
        assert!(!ended.stderr.contains("days old"), "{}", ended.stderr);
    }
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(9 * 24 * 60 * 60);
    fs::File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let ended = audit(&project, &[]);
    assert!(ended.stderr.contains("tracker.json are 9 days old"), "{}", ended.stderr);
}

#[test]
fn a_variable_that_is_empty_names_no_data() {
    let (_archive, project) = locked();
    let mut command = project.command(&["audit", "--offline"]);
    let ended = Ended::from(command.env("IMGBUILD_AUDIT_DATA", "").output().unwrap());
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("offline, but not in the store"), "{}", ended.stderr);
}

#[test]
fn data_of_a_server_are_fetched_when_they_have_changed() {
    let (archive, project) = locked();
    let url = archive.server.file("/tracker/data/json", DATA);
    let count = || archive.server.count("/tracker/data/json");
    let run = |more: &[&str]| {
        let mut command = project.command(&[&["audit", "--quiet", "--json"], more].concat());
        Ended::from(command.env("IMGBUILD_AUDIT_DATA", &url).output().unwrap())
    };
    let offline = run(&["--offline"]);
    assert_eq!(offline.code, 1, "{}", offline.stderr);
    archive.server.faults("/tracker/data/json", [Fault::Truncate(100), Fault::Status(503)]);
    let first = run(&[]);
    assert_eq!(first.code, FOUND, "{}", first.stderr);
    assert_eq!(count(), 3);
    // The second time the server is asked whether it has something else, and has not.
    assert_eq!(run(&[]).code, FOUND);
    let seen = archive.server.seen();
    assert!(seen.last().unwrap().if_none_match.is_some());
    assert_eq!(run(&["--offline"]).code, FOUND);
    assert_eq!(count(), 4);
    let less = DATA.replace("\"haproxy\":", "\"hitch\":");
    archive.server.file("/tracker/data/json", less);
    let ended = run(&[]);
    let json = read(&ended.stdout);
    assert_eq!((ended.code, ids(&json)), (0, Vec::new()));
    assert_eq!(json["data"]["from"], url);
}

#[test]
fn the_password_of_a_url_is_shown_nowhere() {
    let (archive, project) = locked();
    let url = archive.server.file("/data/json", DATA).replace("http://", "http://u:geheim@");
    let missing = url.replace("/data/json", "/data/none");
    for (url, code) in [(&url, FOUND), (&missing, 1)] {
        for more in [&[][..], &["--offline"]] {
            let verbs = ["audit", "--verbose", "--json", "--data", url];
            let ended =
                Ended::from(project.command(&[&verbs[..], more].concat()).output().unwrap());
            assert_eq!(ended.code, code, "{}", ended.stderr);
            let said = ended.stdout + &ended.stderr;
            assert!(!said.contains("geheim"), "{said}");
            assert!(said.contains("/data/"), "{said}");
        }
    }
    let elsewhere = "http://127.0.0.1:geheim@evil.example/json";
    let elsewhere = ["audit", "--verbose", "--data", elsewhere];
    let ended = Ended::from(project.command(&elsewhere).output().unwrap());
    assert_eq!(ended.code, 1);
    assert!(ended.stderr.contains("is not `https`"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("geheim"), "{}", ended.stderr);
}

#[test]
fn data_of_a_server_that_tells_no_date_are_as_old_as_the_last_question() {
    let (archive, project) = locked();
    let url = archive.server.file("/data/json", DATA);
    let run = |more: &[&str]| {
        let arguments = [&["audit", "--data", &url], more].concat();
        Ended::from(project.command(&arguments).output().unwrap())
    };
    assert!(!run(&[]).stderr.contains("days old"));
    let store = Store::open(Some(&project.store)).unwrap();
    let kind = KeyKind::new("audit-data");
    let key = store.keys(kind)[0];
    let mut copy: Value = store.get_key(kind, &key).unwrap();
    let days = std::time::Duration::from_secs(10 * 24 * 60 * 60 + 60);
    let then = Moment::from(std::time::SystemTime::now() - days);
    assert!(copy["asked"].is_string() && copy["last_modified"].is_null(), "{copy}");
    copy["asked"] = then.to_string().into();
    store.put_key(kind, &key, &copy).unwrap();
    drop(store);
    let ended = run(&["--offline"]);
    assert_eq!(ended.code, FOUND, "{}", ended.stderr);
    assert!(ended.stderr.contains("are 10 days old"), "{}", ended.stderr);
}

#[test]
fn data_of_this_machine_are_not_asked_of_a_proxy_that_would_give_its_own() {
    let (archive, project) = locked();
    let url = archive.server.file("/data/json", DATA);
    let mut command = project.command(&["audit", "--data", &url]);
    // Nobody listens there.
    command.env("http_proxy", "http://127.0.0.1:1").env_remove("no_proxy").env_remove("NO_PROXY");
    let ended = Ended::from(command.output().unwrap());
    assert_eq!(ended.code, FOUND, "{}", ended.stderr);
}
