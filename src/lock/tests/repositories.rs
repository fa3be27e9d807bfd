//! Repositories besides that of the root image.

use super::*;

/// A role `sql` on base, which takes what is called `sql…` from a flat repository.
fn with_flat(archive: &Archive, install: &[&str]) -> Vec<Wishes> {
    let mut wishes = stack(archive).to_vec();
    let mut sql = image(archive, "sql", Some("base"), install);
    let mut repository = archive.repository("trixie");
    repository.name = "vendor".to_owned();
    repository.url = format!("{URL}/vendor");
    repository.suite = "./".to_owned();
    repository.components.clear();
    repository.packages = vec!["sql*".to_owned()];
    repository.keyring = Certificates::Url(format!("{URL}/vendor.gpg"));
    sql.debian.repositories.push(repository);
    sql.own_repositories = 1;
    wishes.push(sql);
    wishes.push(Wishes {
        own_repositories: 0,
        debian: wishes[2].debian.clone(),
        ..image(archive, "sql/machine", Some("sql"), &["tool"])
    });
    wishes
}

const VENDOR: &str = "sql 1; Depends: ssl, libsql\n sql-tools 1\n libsql 9\n ssl 9";

/// The flat repository that [`with_flat`] names, with paths as `dpkg-scanpackages .` writes them.
fn publish_vendor(archive: &mut Archive, lines: &str) {
    let packages = packages(lines).replace("Filename: ", "Filename: ./");
    archive.publish_flat("vendor/", NOW - 60, &packages);
    archive.put("vendor.gpg", archive.certificate());
}

#[test]
fn further_repositories_give_what_they_are_allowed_to() {
    let mut archive = archive(&format!("{FIRST}\n libsql 2"));
    publish_vendor(&mut archive, VENDOR);
    let wishes = with_flat(&archive, &["sql"]);
    let lock = lock(&archive, &wishes, None, Update::All);
    assert_eq!(
        content(&lock),
        [
            "base: base 1, libc 1, ssl 1",
            "sql: libsql 2, sql 1",
            "sql/machine: tool 1",
            "web: web 1"
        ]
    );
    let sql = &lock.images["sql"].packages[1];
    assert_eq!((sql.repository.as_str(), sql.path.as_str()), ("vendor", "pool/sql_1_amd64.deb"));
    let repository = &wishes[2].debian.repositories[1];
    assert_eq!(sql.urls(repository, "")[0], format!("{URL}/vendor/pool/sql_1_amd64.deb"));
    let state = &lock.repositories[1];
    let keyring = crate::digest::Digest::of(archive.certificate());
    assert_eq!((state.image.as_str(), state.name.as_str()), ("sql", "vendor"));
    assert_eq!(state.keyring, Some(keyring));
    insta::assert_snapshot!(lock.text());
    // Nobody but the image that names it, and what stands on it, sees it.
    let mut wishes = wishes;
    wishes[1] = image(&archive, "web", Some("base"), &["sql-tools"]);
    let error = resolve(&wishes, &archive, None, None, &Update::All, at(NOW)).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    // What is locked stays, and is brought up to date on demand.
    publish_vendor(&mut archive, &VENDOR.replace("sql 1", "sql 3"));
    let wishes = with_flat(&archive, &["sql", "sql-tools"]);
    let second = super::resolve(&wishes, &archive, None, Some(&lock), &Update::Missing, at(NOW));
    let second = second.unwrap().lock;
    assert_eq!(content(&second)[1], "sql: libsql 2, sql 3, sql-tools 1");
}

#[test]
fn certificates_from_a_url_count_by_their_fingerprint() {
    let mut archive = archive(&format!("{FIRST}\n libsql 2"));
    publish_vendor(&mut archive, VENDOR);
    let wishes = with_flat(&archive, &["sql"]);
    let other = crate::debian::testing::Signer::new(9).keyring();
    let mut reports = String::new();
    for wrong in [Some(other), Some(b"<html>".to_vec()), None] {
        match wrong {
            Some(bytes) => archive.put("vendor.gpg", bytes),
            None => archive.remove("vendor.gpg"),
        }
        let resolution = resolve(&wishes, &archive, None, None, &Update::All, at(NOW)).unwrap();
        assert_eq!(content(&resolution.lock).len(), 2, "base and web are locked all the same");
        for group in resolution.left_out {
            assert_eq!(group.missing, ["sql", "sql/machine"]);
            reports.push_str(&report(group.error));
        }
    }
    insta::assert_snapshot!(reports);
}

#[test]
fn images_whose_repository_is_out_of_reach_stay_while_they_fit() {
    let mut archive = archive(&format!("{FIRST}\n libsql 2"));
    publish_vendor(&mut archive, VENDOR);
    let wishes = with_flat(&archive, &["sql"]);
    let first = lock(&archive, &wishes, None, Update::All);
    archive.remove("vendor/InRelease");
    // Nothing below changes: what was locked stays, with the moment at which it was on offer.
    let mut more = wishes.clone();
    more.push(image(&archive, "tool", Some("base"), &["tool"]));
    let second =
        resolve(&more, &archive, None, Some(&first), &Update::Missing, at(NOW + 60)).unwrap();
    assert_eq!(content(&second.lock)[1], "sql: libsql 2 (departed), sql 1 (departed)");
    assert_eq!(second.lock.check(&more), Ok(()));
    assert_eq!(second.lock.repositories, first.repositories);
    assert_eq!(second.left_out[0].kept, ["sql", "sql/machine"]);
    // The same if everything is to be the newest and nothing is newer.
    let third = resolve(&wishes, &archive, None, Some(&first), &Update::All, at(NOW + 60)).unwrap();
    assert_eq!(third.lock, first);
    assert_eq!(third.left_out[0].kept, ["sql", "sql/machine"]);
    // Something below changes.
    let news = packages(&format!("{FIRST}\n libsql 2").replace("ssl 1\n", "ssl 2\n"));
    archive.publish("trixie", NOW - 50, &news);
    let fourth =
        resolve(&wishes, &archive, None, Some(&first), &Update::All, at(NOW + 60)).unwrap();
    assert_eq!(content(&fourth.lock), ["base: base 1, libc 1, ssl 2", "web: web 1"]);
    assert_eq!(fourth.left_out[0].lost, ["sql", "sql/machine"]);
}

#[test]
fn what_was_never_locked_is_told_from_what_is_out_of_date() {
    let mut archive = archive(&format!("{FIRST}\n libsql 2"));
    publish_vendor(&mut archive, VENDOR);
    let wishes = with_flat(&archive, &["sql"]);
    let base = lock(&archive, &wishes[..2], None, Update::All);
    let images = |lock: &Lock| -> Vec<String> {
        lock.unlocked(&wishes).into_iter().map(|unlocked| unlocked.image).collect()
    };
    assert_eq!(images(&base), ["sql", "sql/machine"]);
    assert_eq!(base.unlocked(&wishes)[1].urls, [format!("{URL}/vendor")]);
    let mut all = lock(&archive, &wishes, None, Update::All);
    assert_eq!(images(&all), [""; 0]);
    all.images.remove("sql");
    assert_eq!(images(&all), [""; 0], "its repository was reached once: there is no excuse");
    assert_eq!(all.check(&wishes).unwrap_err().image, "sql");
}

#[test]
fn a_list_of_allowed_packages_is_a_part_of_what_is_wanted() {
    let archive = archive(FIRST);
    let wishes = with_flat(&archive, &["sql"]);
    let digest = |change: fn(&mut Repository)| {
        let mut sql = wishes[2].clone();
        change(&mut sql.debian.repositories[1]);
        wants_digest(&sql, None)
    };
    let same = digest(|_| ());
    assert_ne!(digest(|it| it.packages.push("x".to_owned())), same);
    assert_ne!(digest(|it| it.packages.clear()), same);
    assert_ne!(digest(|it| it.suite.clear()), same);
    let moved = digest(|it| it.keyring = Certificates::Url("http://other.test".to_owned()));
    assert_eq!(moved, same);
}
