//! Sources: what the lock says of them, and packages among them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::debian::deb::testing::Builder;
use crate::digest::Digest;

/// Packages by the names of their sources.
#[derive(Default)]
struct Given {
    directory: Option<tempfile::TempDir>,
    files: BTreeMap<String, PathBuf>,
}

impl Given {
    fn with(mut self, source: &str, builder: &Builder) -> Self {
        let directory = self.directory.get_or_insert_with(|| tempfile::tempdir().unwrap());
        let path = directory.path().join(source);
        std::fs::write(&path, builder.bytes()).unwrap();
        self.files.insert(source.to_owned(), path);
        self
    }
}

impl PackageFiles for Given {
    fn get(&self, wanted: &WantedFile) -> Result<PackageFile, FileProblem> {
        let gone = || FileProblem {
            message: format!("`{}` is out of reach", wanted.name),
            help: "reach it".to_owned(),
        };
        let path = self.files.get(&wanted.name).ok_or_else(gone)?.clone();
        let bytes = std::fs::read(&path).unwrap();
        Ok(PackageFile { path, digest: Digest::of(&bytes), size: bytes.len() as u64 })
    }
}

/// `wishes` with a source that is a package.
fn with_file(mut wishes: Wishes, name: &str, pin: &str) -> Wishes {
    let text = format!("[sources.{name}]\n");
    let source = Arc::new(NamedSource::new("images/sql/image.toml", Arc::new(text)));
    let urls = vec![format!("https://a.test/{name}.deb")];
    wishes.files.push(WantedFile {
        name: name.to_owned(),
        urls: urls.clone(),
        pin: Ok(Digest::of(pin)),
        place: crate::definition::Place::new(source, 9..9 + name.len()),
    });
    wishes
        .sources
        .push(LockedSource { sha256: Some(Digest::of(pin)), ..source_of("package", name) });
    wishes.sources.last_mut().unwrap().urls = urls;
    wishes
}

fn source_of(kind: &str, name: &str) -> LockedSource {
    LockedSource {
        name: name.to_owned(),
        kind: kind.to_owned(),
        sha256: None,
        commit: None,
        digest: None,
        unverified: None,
        published: None,
        urls: vec![format!("https://a.test/{name}")],
    }
}

/// Base, web, and `sql` on base with a package as a source, for the wishes `install`.
fn sql(archive: &Archive, install: &[&str]) -> Vec<Wishes> {
    let mut wishes = stack(archive).to_vec();
    let sql = image(archive, "sql", Some("base"), install);
    wishes.push(with_file(sql, "vendor", "pin"));
    wishes.push(image(archive, "sql/machine", Some("sql"), &["tool"]));
    wishes
}

fn resolved(wishes: &[Wishes], archive: &Archive, given: &Given) -> Resolution {
    resolve(wishes, archive, Some(given), None, &Update::All, at(NOW)).unwrap()
}

#[test]
fn a_package_takes_part_like_a_repository_of_its_own() {
    let archive = archive(&format!("{FIRST}\n libsql 2"));
    let deb = Builder::new("proxysql", "Depends: libsql, ssl\nProvides: sql-proxy\n");
    let given = Given::default().with("vendor", &deb);
    for wish in ["proxysql (>= 1)", "sql-proxy"] {
        let lock = resolved(&sql(&archive, &[wish]), &archive, &given).lock;
        assert_eq!(content(&lock)[1], "sql: libsql 2, proxysql 1");
        assert_eq!(content(&lock)[2], "sql/machine: tool 1");
    }
    let wishes = sql(&archive, &["proxysql"]);
    let first = resolved(&wishes, &archive, &given).lock;
    insta::assert_snapshot!(first.text());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lock");
    first.write(&path).unwrap();
    assert_eq!(Lock::read(&path).unwrap(), first);
    assert_eq!(first.check(&wishes), Ok(()));
    // Nobody is asked as long as nothing changes.
    let nobody = resolve(&wishes, &archive, None, Some(&first), &Update::Missing, at(NOW + 9));
    assert_eq!(nobody.unwrap().lock, first);
    // Nobody but the image that names it, and what stands on it, sees it.
    let mut wishes = wishes;
    wishes[1] = image(&archive, "web", Some("base"), &["proxysql"]);
    let error = resolve(&wishes, &archive, Some(&given), None, &Update::All, at(NOW)).unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    // Other bytes are another wish.
    let mut wishes = sql(&archive, &["proxysql"]);
    wishes[2].files[0].pin = Ok(Digest::of("other"));
    assert_eq!(first.check(&wishes).unwrap_err().image, "sql");
    wishes[2].files[0].pin = Ok(Digest::of("pin"));
    wishes[2].files[0].urls.clear();
    assert_eq!(first.check(&wishes), Ok(()));
}

#[test]
fn a_newer_version_of_a_repository_is_preferred_and_an_equal_one_is_not() {
    let deb = Builder::new("proxysql", "");
    let given = Given::default().with("vendor", &deb);
    for (line, origin) in [("proxysql 2", None), ("proxysql 1", Some("vendor"))] {
        let archive = archive(FIRST);
        let mut wishes = sql(&archive, &["proxysql"]);
        // In a repository that the image names itself.
        let mut repository = archive.repository("trixie");
        repository.name = "more".to_owned();
        repository.suite = "more".to_owned();
        for wish in &mut wishes[2..] {
            wish.debian.repositories.push(repository.clone());
        }
        wishes[2].own_repositories = 1;
        let mut archive = archive;
        archive.publish("more", NOW - 100, &packages(line));
        let lock = resolved(&wishes, &archive, &given).lock;
        assert_eq!(lock.images["sql"].packages[0].source.as_deref(), origin, "{line}");
    }
}

#[test]
fn a_package_that_is_of_no_use_leaves_out_its_image_alone() {
    let archive = archive(FIRST);
    let wishes = sql(&archive, &["proxysql"]);
    let other = |control: &str| {
        let mut builder = Builder::new("proxysql", "");
        builder.control.clear();
        builder.control("control", control)
    };
    let fields = "Package: proxysql\nVersion: 1\n";
    let givens = [
        Given::default(),
        Given::default().with("vendor", &other(&format!("{fields}Architecture: arm64\n"))),
        Given::default()
            .with("vendor", &other(&format!("{fields}Architecture: amd64\nFilename: /x\n"))),
        Given::default()
            .with("vendor", &other(&format!("{fields}Architecture: all\n\nPackage: b\n"))),
        Given::default().with("vendor", &other("Package: proxysql\nArchitecture: all\n")),
        Given::default().with("vendor", &other("nonsense")),
    ];
    let mut reports = String::new();
    for given in givens {
        let Resolution { lock, left_out } = resolved(&wishes, &archive, &given);
        assert_eq!(content(&lock).len(), 2, "base and web are locked all the same");
        let unlocked = lock.unlocked(&wishes);
        let images: Vec<&str> = unlocked.iter().map(|it| it.image.as_str()).collect();
        assert_eq!(images, ["sql", "sql/machine"]);
        let expected = format!("https://a.test/vendor.deb (sha256 {})", Digest::of("pin"));
        assert_eq!(unlocked[0].urls, [expected]);
        for group in left_out {
            assert_eq!(group.missing, ["sql", "sql/machine"]);
            reports.push_str(&report(group.error));
        }
    }
    let settings = {
        let mut settings = insta::Settings::clone_current();
        settings.add_filter(r"/\S*/vendor\b", "[FILE]");
        settings
    };
    settings.bind(|| insta::assert_snapshot!(reports));
}

/// What the lock says of each kind of source; changing it makes every lock out of date.
#[test]
fn the_lines_of_sources_are_stable() {
    let archive = archive(FIRST);
    let mut wishes = stack(&archive);
    let digest = Digest::of("x");
    wishes[1].sources = vec![
        LockedSource {
            sha256: Some(digest),
            published: Some("notes".to_owned()),
            ..source_of("archive", "a")
        },
        LockedSource { unverified: Some("ask".to_owned()), ..source_of("file", "b") },
        LockedSource { commit: Some("7".repeat(40)), ..source_of("git", "c") },
        LockedSource { digest: Some(format!("sha256:{digest}")), ..source_of("oci", "d") },
        LockedSource { sha256: Some(digest), ..source_of("package", "e") },
    ];
    let lock = lock(&archive, &wishes, None, Update::All);
    insta::assert_snapshot!(lock.text().split_once("[image.web]").unwrap().1);
    let pins: Vec<String> = wishes[1].sources.iter().map(LockedSource::pin).collect();
    let short = digest.short();
    let expected = [&short, "unverified", "777777777777", &format!("sha256:{short}"), &short];
    assert_eq!(pins, expected);
}
