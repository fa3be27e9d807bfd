//! Locks made from an archive in memory.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use miette::NamedSource;

use super::*;
use crate::debian::repository::{Certificates, Transport};
use crate::debian::testing::{Archive, NOW, URL, packages};

mod files;
mod repositories;

/// The wishes of an image, as a definition would say them.
fn image(archive: &Archive, name: &str, parent: Option<&str>, install: &[&str]) -> Wishes {
    let source: String = install.iter().map(|text| format!("\"{text}\"\n")).collect();
    let path = format!("images/{name}/image.toml");
    let named = Arc::new(NamedSource::new(path, Arc::new(source.clone())));
    let relations = install.iter().map(|text| {
        let start = source.find(&format!("\"{text}\"")).unwrap();
        let span = (start, text.len() + 2).into();
        Wanted { text: (*text).to_owned(), source: named.clone(), span }
    });
    Wishes {
        image: name.to_owned(),
        parent: parent.map(str::to_owned),
        relations: relations.collect(),
        essential: parent.is_none(),
        sources: Vec::new(),
        files: Vec::new(),
        exclude: Vec::new(),
        debian: DebianSettings {
            architecture: "amd64".to_owned(),
            repositories: vec![archive.repository("trixie")],
        },
        own_repositories: usize::from(parent.is_none()),
    }
}

fn archive(lines: &str) -> Archive {
    let mut archive = Archive::new();
    archive.publish("trixie", NOW - 100, &packages(lines));
    archive
}

fn at(seconds: u32) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::from(seconds))
}

fn lock(archive: &Archive, wishes: &[Wishes], previous: Option<&Lock>, update: Update) -> Lock {
    resolve(wishes, archive, None, previous, &update, at(NOW)).unwrap().lock
}

/// `image: name version, …` of each image.
fn content(lock: &Lock) -> Vec<String> {
    let package = |package: &LockedPackage| {
        let departed = if package.snapshot.is_some() { " (departed)" } else { "" };
        format!("{} {}{departed}", package.name, package.version)
    };
    let image = |(name, image): (&String, &LockedImage)| {
        let packages: Vec<_> = image.packages.iter().map(package).collect();
        format!("{name}: {}", packages.join(", "))
    };
    lock.images.iter().map(image).collect()
}

const FIRST: &str = "base 1; Essential: yes; Depends: libc\n libc 1\n ssl 1\n \
                     web 1; Depends: ssl, libc\n tool 1";

/// Base and web, as [`FIRST`] has them.
fn stack(archive: &Archive) -> [Wishes; 2] {
    [image(archive, "base", None, &["ssl"]), image(archive, "web", Some("base"), &["web"])]
}

#[test]
fn each_image_gets_what_its_parents_lack() {
    let archive = archive(FIRST);
    let lock = lock(&archive, &stack(&archive), None, Update::All);
    assert_eq!(content(&lock), ["base: base 1, libc 1, ssl 1", "web: web 1"]);
    assert_eq!(lock.snapshot, "20260921T141320Z");
    assert_eq!(lock.repositories[0].date.to_string(), "2026-09-21T14:11:40Z");
    let release = archive.file("dists/trixie/InRelease");
    assert_eq!(lock.repositories[0].release, crate::digest::Digest::of(release));
}

#[test]
fn text_of_a_lock_is_stable() {
    let archive = archive(FIRST);
    let lock = lock(&archive, &stack(&archive), None, Update::All);
    insta::assert_snapshot!(lock.text());
}

#[test]
fn locks_survive_writing_and_reading() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imgbuild.lock");
    let missing = Lock::read(&path).unwrap_err();
    assert!(matches!(missing, Error::Absent { .. }), "{missing}");
    let archive = archive(FIRST);
    let mut lock = lock(&archive, &stack(&archive), None, Update::All);
    lock.images.get_mut("web").unwrap().packages[0].snapshot = Some("20260101T000000Z".into());
    let odd = lock.images["web"].clone();
    lock.images.insert("with \"quotes\" and \u{7}".into(), odd);
    lock.write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), lock);
    lock.write(&path).unwrap();
    let names: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "a temporary file was left behind");
}

#[test]
fn damaged_lock_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("imgbuild.lock");
    let archive = archive(FIRST);
    let text = lock(&archive, &stack(&archive), None, Update::All).text();
    for (from, to) in [
        ("pool/web_1", "../web_1"),
        ("pool/web_1", "/web_1"),
        ("name = \"web\"", "name = \"we b\""),
        ("version = \"1\"", "version = \"\""),
        ("wants", "want"),
        ("snapshot = \"2026", "snapshot = \"26"),
        ("[image.web]", "<<<<<<< ours\n[image.web]"),
    ] {
        assert!(text.contains(from), "{from}");
        std::fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = Lock::read(&path).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{to}: {error:?}");
    }
    std::fs::write(&path, text.replacen("version = 1", "version = 2", 1)).unwrap();
    let error = Lock::read(&path).unwrap_err();
    assert!(matches!(error, Error::Version { version: 2, .. }), "{error:?}");
}

#[test]
fn what_is_locked_stays_without_asking_the_network() {
    let mut archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    archive.publish("trixie", NOW - 50, &packages(&FIRST.replace("ssl 1\n", "ssl 2\n")));
    archive.asked.lock().unwrap().clear();
    let second = lock(&archive, &stack(&archive), Some(&first), Update::Missing);
    assert_eq!(second, first);
    assert!(archive.asked.lock().unwrap().is_empty());
    // An image that is gone from the definitions is gone from the lock.
    let base = &stack(&archive)[..1];
    let third = lock(&archive, base, Some(&first), Update::Missing);
    assert_eq!(content(&third), ["base: base 1, libc 1, ssl 1"]);
}

#[test]
fn update_brings_everything_up_to_date() {
    let mut archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    archive.publish("trixie", NOW - 50, &packages(&FIRST.replace(" 1", " 2")));
    let second = lock(&archive, &stack(&archive), Some(&first), Update::All);
    assert_eq!(content(&second), ["base: base 2, libc 2, ssl 2", "web: web 2"]);
    let changes = difference(&first, &second);
    assert_eq!(changes.len(), 4);
    let change = Change {
        image: "web".to_owned(),
        package: "web".to_owned(),
        from: Some("1".to_owned()),
        to: Some("2".to_owned()),
    };
    assert_eq!(changes[3], change);
}

#[test]
fn an_update_without_news_leaves_the_lock_alone() {
    let mut archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    archive.publish("trixie", NOW - 50, &packages(&format!("{FIRST}\n other 1")));
    let second =
        resolve(&stack(&archive), &archive, None, Some(&first), &Update::All, at(NOW + 60));
    assert_eq!(second.unwrap().lock, first);
}

#[test]
fn update_of_one_package_leaves_the_others() {
    let mut archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    // Repositories that keep older versions beside newer ones.
    let both = format!("{FIRST}\n{}", FIRST.replace(" 1", " 2"));
    archive.publish("trixie", NOW - 50, &packages(&both));
    let only = |name: &str| Update::Only(vec![name.to_owned()]);
    let second = lock(&archive, &stack(&archive), Some(&first), only("ssl"));
    assert_eq!(content(&second), ["base: base 1, libc 1, ssl 2", "web: web 1"]);
    let third = lock(&archive, &stack(&archive), Some(&first), only("web"));
    assert_eq!(content(&third), ["base: base 1, libc 1, ssl 1", "web: web 2"]);
    let error = resolve(&stack(&archive), &archive, None, Some(&first), &only("sssl"), at(NOW));
    assert!(matches!(error, Err(Error::NotLocked { help, .. }) if help.contains("`ssl`")));
}

#[test]
fn departed_versions_stay_while_their_image_stays() {
    let mut archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    archive.publish("trixie", NOW - 50, &packages(&FIRST.replace(" 1", " 2")));
    // One more package for web alone: base need not change, web cannot stay as it is.
    let mut wishes = stack(&archive);
    wishes[1] = image(&archive, "web", Some("base"), &["web", "tool"]);
    let second = lock(&archive, &wishes, Some(&first), Update::Missing);
    assert_eq!(
        content(&second),
        ["base: base 1 (departed), libc 1 (departed), ssl 1 (departed)", "web: tool 2, web 2"]
    );
    assert_eq!(second.images["base"].packages[0].snapshot.as_deref(), Some(&*first.snapshot));
    // Once more: the moment at which they were there stays known.
    wishes[1] = image(&archive, "web", Some("base"), &["web"]);
    let third = resolve(&wishes, &archive, None, Some(&second), &Update::Missing, at(NOW + 60))
        .unwrap()
        .lock;
    assert_eq!(third.images["base"], second.images["base"]);
    assert_eq!(content(&third)[1], "web: web 2");
}

#[test]
fn parents_change_as_far_as_their_children_need_it() {
    let mut archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    let news = format!("{FIRST}\n ssl 2\n libc 2\n more 1; Depends: ssl (>= 2)");
    archive.publish("trixie", NOW - 50, &packages(&news));
    let mut wishes = stack(&archive);
    wishes[1] = image(&archive, "web", Some("base"), &["web", "more"]);
    let second = lock(&archive, &wishes, Some(&first), Update::Missing);
    assert_eq!(content(&second), ["base: base 1, libc 1, ssl 2", "web: more 1, web 1"]);

    // The same when the old version has left.
    let news = news.replace("ssl 1\n", "");
    archive.publish("trixie", NOW - 40, &packages(&news));
    let second = lock(&archive, &wishes, Some(&first), Update::Missing);
    assert_eq!(content(&second), ["base: base 1, libc 1, ssl 2", "web: more 1, web 1"]);
}

#[test]
fn a_replaced_file_of_the_same_version_is_told_apart() {
    let mut archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    let digest = |text: &str| crate::digest::Digest::of(text).to_string();
    let news = packages(FIRST).replace(&digest("web 1"), &digest("another web 1"));
    archive.publish("trixie", NOW - 50, &news);
    let mut wishes = stack(&archive).to_vec();
    wishes.push(image(&archive, "tool", Some("base"), &["tool"]));
    let second = lock(&archive, &wishes, Some(&first), Update::Missing);
    assert_eq!(content(&second)[2], "web: web 1 (departed)");
    let third = lock(&archive, &wishes, Some(&second), Update::All);
    assert_eq!(content(&third)[2], "web: web 1");
    let changes = difference(&second, &third);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].from, changes[0].to);
}

#[test]
fn locks_that_do_not_fit_the_definitions_are_out_of_date() {
    let archive = archive(FIRST);
    let wishes = stack(&archive);
    let lock = lock(&archive, &wishes, None, Update::All);
    assert_eq!(lock.check(&wishes), Ok(()));
    assert_eq!(lock.check(&wishes[..1]), Ok(()));
    let changed = |change: fn(&mut [Wishes; 2])| {
        let mut wishes = stack(&archive);
        change(&mut wishes);
        lock.check(&wishes).map_err(|error| error.image)
    };
    let repository = |change: fn(&mut Repository)| {
        let mut wishes = stack(&archive);
        for image in &mut wishes {
            change(&mut image.debian.repositories[0]);
        }
        lock.check(&wishes).map_err(|error| error.image)
    };
    let (base, web) = (Err("base".to_owned()), Err("web".to_owned()));
    assert_eq!(changed(|wishes| wishes[1].relations.clear()), web);
    assert_eq!(changed(|wishes| wishes[1].exclude.push("x".to_owned())), web);
    assert_eq!(changed(|wishes| wishes[1].image.push('x')), Err("webx".to_owned()));
    assert_eq!(changed(|wishes| wishes[0].essential = false), base);
    assert_eq!(changed(|wishes| wishes[0].relations[0].text = "ssl ".to_owned()), Ok(()));
    assert_eq!(repository(|it| it.suite = "sid".to_owned()), base);
    assert_eq!(repository(|it| it.components.push("contrib".to_owned())), base);
    assert_eq!(repository(|it| it.signed_by.clear()), base);
    assert_eq!(repository(|it| it.url = "http://other.test".to_owned()), Ok(()));
    assert_eq!(repository(|it| it.mirrors.push("http://other.test".to_owned())), Ok(()));
}

#[test]
fn urls_lead_to_mirrors_and_then_to_the_past() {
    let archive = archive(FIRST);
    let lock = lock(&archive, &stack(&archive), None, Update::All);
    let mut repository = archive.repository("trixie");
    repository.url = "http://one.test/debian/".to_owned();
    repository.mirrors = vec!["https://two.test/debian".to_owned()];
    repository.snapshot = Some("https://past.test/archive/debian/".to_owned());
    let mut package = lock.images["web"].packages[0].clone();
    package.path = "pool/web_1%3a1+b1_amd64.deb".to_owned();
    assert_eq!(
        package.urls(&repository, "20261231T090000Z"),
        [
            "http://one.test/debian/pool/web_1%253a1+b1_amd64.deb",
            "https://two.test/debian/pool/web_1%253a1+b1_amd64.deb",
            "https://past.test/archive/debian/20261231T090000Z/pool/web_1%253a1+b1_amd64.deb",
            "https://past.test/archive/debian/20270101T090000Z/pool/web_1%253a1+b1_amd64.deb",
        ]
    );
    package.snapshot = Some("20260101T000000Z".to_owned());
    let urls = package.urls(&repository, "20261231T090000Z");
    assert!(urls[2].contains("/20260101T000000Z/"), "{urls:?}");
}

#[test]
fn older_states_of_a_repository_are_refused() {
    let mut archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    archive.publish("trixie", NOW - 200, &packages(FIRST));
    let error = resolve(&stack(&archive), &archive, None, Some(&first), &Update::All, at(NOW));
    let text = report(error.unwrap_err());
    assert!(text.contains("is of 2026-09-21T14:10:00Z, but the lock was made"), "{text}");
}

/// What the user sees of an error.
fn report(error: Error) -> String {
    let mut text = String::new();
    let handler =
        miette::GraphicalReportHandler::new_themed(miette::GraphicalTheme::unicode_nocolor());
    handler.with_width(100).render_report(&mut text, &error).unwrap();
    text
}

#[test]
fn errors_show_the_wish() {
    let archive = archive(&format!("{FIRST}\n evil 1; Conflicts: web"));
    let errors = [&["wbe"][..], &["web (>= 2)"], &["tool", "web (> 1)"], &["tool", "web", "evil"]];
    let reports = errors.map(|install| {
        let wishes = [stack(&archive)[0].clone(), image(&archive, "site", Some("base"), install)];
        report(resolve(&wishes, &archive, None, None, &Update::All, at(NOW)).unwrap_err())
    });
    insta::assert_snapshot!(reports.join("\n"));
}

#[test]
fn exclusions_hold_for_the_images_below() {
    let archive = archive(FIRST);
    let mut wishes = stack(&archive);
    wishes[0].exclude.push("web".to_owned());
    let error = resolve(&wishes, &archive, None, None, &Update::All, at(NOW)).unwrap_err();
    assert!(report(error).contains("web 1: image `base` excludes it"));
}

/// Serves the files of an archive from one URL and something else from another.
struct Mirrors<'a> {
    archive: &'a Archive,
    bad: Vec<u8>,
}

impl Transport for Mirrors<'_> {
    fn get(
        &self,
        url: &str,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, crate::debian::repository::TransportError> {
        if url.starts_with("http://bad.test/") {
            return Ok(self.bad.clone());
        }
        self.archive.get(url, limit_bytes)
    }
}

#[test]
fn bad_mirrors_are_passed_over() {
    let archive = archive(FIRST);
    let mut wishes = stack(&archive);
    for image in &mut wishes {
        let repository = &mut image.debian.repositories[0];
        repository.url = "http://bad.test/debian".to_owned();
        repository.mirrors = vec![URL.to_owned()];
    }
    let expected = lock(&archive, &stack(&archive), None, Update::All);
    for bad in [b"".to_vec(), b"<html>".to_vec(), archive.file("dists/trixie/InRelease").to_vec()] {
        let mirrors = Mirrors { archive: &archive, bad };
        let found = resolve(&wishes, &mirrors, None, None, &Update::All, at(NOW)).unwrap().lock;
        assert_eq!(found, expected);
    }
    // And if there is no other, each failure is named.
    for image in &mut wishes {
        image.debian.repositories[0].mirrors.clear();
    }
    let mirrors = Mirrors { archive: &archive, bad: b"<html>".to_vec() };
    let error = resolve(&wishes, &mirrors, None, None, &Update::All, at(NOW)).unwrap_err();
    insta::assert_snapshot!(report(error));
}

#[test]
fn what_a_machine_adds_is_locked_on_top_of_each_role() {
    let files = crate::definition::tests::Files::with_machine();
    let project = files.load().unwrap();
    let wishes = wishes(&project).unwrap();
    let stacks: Vec<(&str, Option<&str>)> =
        wishes.iter().map(|wish| (wish.image.as_str(), wish.parent.as_deref())).collect();
    let expected = [
        ("base", None),
        ("kernel", Some("base")),
        ("node", Some("base")),
        ("web", Some("node")),
        ("web/machine", Some("web")),
    ];
    assert_eq!(stacks, expected);
    assert_eq!(wishes[4].relations[0].text, "udev");
}

#[test]
fn sources_are_locked_without_asking_anybody() {
    let archive = archive(FIRST);
    let first = lock(&archive, &stack(&archive), None, Update::All);
    archive.asked.lock().unwrap().clear();
    let source = LockedSource {
        name: "code".to_owned(),
        kind: "archive".to_owned(),
        sha256: Some(crate::digest::Digest::of("the code")),
        commit: None,
        digest: None,
        unverified: None,
        published: Some("the \"release\" notes".to_owned()),
        urls: vec!["https://a.test/1".to_owned(), "https://b.test/2".to_owned()],
    };
    let mut wishes = stack(&archive);
    wishes[1].sources.push(source);
    assert_eq!(first.check(&wishes).unwrap_err().image, "web");
    let second = lock(&archive, &wishes, Some(&first), Update::Missing);
    assert!(archive.asked.lock().unwrap().is_empty());
    assert_eq!(second.check(&wishes), Ok(()));
    assert_eq!(second.images["web"].packages, first.images["web"].packages);
    let changes = difference(&first, &second);
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].package.as_str(), changes[0].from.as_deref()), ("source code", None));
    let line = "sources = [\n  { name = \"code\", type = \"archive\", sha256 = \"DIGEST\", published = \"the \\\"release\\\" notes\", urls = [\"https://a.test/1\", \"https://b.test/2\"] },\n]\n";
    let digest = crate::digest::Digest::of("the code").to_string();
    let line = line.replace("DIGEST", &digest);
    assert!(second.text().ends_with(&line), "{}", second.text());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    second.write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), second);
}
