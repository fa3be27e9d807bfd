//! The bills of a small image made by hand, with something of every kind in it.

use std::collections::BTreeSet;
use std::io::Write as _;

use serde_json::{Value, json};

use super::*;
use crate::artifact::manifest::{self, Builder, Oci, SCHEMA};
use crate::artifact::name::Format;
use crate::inspect::Inspector;
use crate::inspect::provenance::Statement;
use crate::layer::archive::testing::Tree as Layers;
use crate::store::Store;

const SYSTEM: &str = "d .\nd etc\nd usr\nd usr/lib\nd usr/share\nd usr/share/doc\nd usr/share/doc/web\n\
    l usr/share/doc/libweb1 web\nd var\nd var/lib\nd var/lib/dpkg\n";

const STATUS: &str = "\
Package: web
Status: install ok installed
Maintainer: Debian Web Team <web@lists.debian.org>
Architecture: amd64
Version: 1:2.0+b1
Source: websrc (1:2.0)
Homepage: https://web.example.org/
Depends: libweb1 (>= 1) | other, virtual

Package: libweb1
Status: install ok installed
Architecture: amd64
Version: 1.0
Provides: virtual
";

const COPYRIGHT: &str = "\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020 A
License: GPL-2+ or Expat

Files: debian/*
Copyright: 2021 B
License: ISC
";

const RELEASE: &str = "ID=debian\nVERSION_ID=\"13\"\nVERSION_CODENAME=trixie\n";

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Some(&directory.path().join("store"))).unwrap();
    (directory, store)
}

/// Puts `layer` into `store`.
fn layer(store: &Store, layer: &Layers, kind: LayerKind) -> manifest::Layer {
    let mut writer = store.writer().unwrap();
    writer.write_all(&layer.bytes()).unwrap();
    let blob = writer.commit().unwrap();
    let (digest, size) = (blob.digest(), blob.size());
    manifest::Layer { image: "app".to_owned(), kind, digest, size, key: Digest::of("key") }
}

fn package(name: &str, version: &str) -> manifest::Package {
    let url = format!("http://deb.debian.org/debian/pool/{name}.deb");
    manifest::Package {
        name: name.to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Digest::of(name),
        url: Some(url),
        image: "app".to_owned(),
    }
}

fn source(name: &str, kind: &str, url: &str) -> Source {
    Source {
        name: name.to_owned(),
        kind: kind.to_owned(),
        path: format!("/opt/{name}").into(),
        sha256: None,
        directory: false,
        commit: None,
        oci: None,
        published: Some("https://example.org/SHA256SUMS".to_owned()),
        urls: vec![url.to_owned()],
        image: "app".to_owned(),
    }
}

fn sources() -> Vec<Source> {
    let sha256 = Some(Digest::of("bytes"));
    let oci = Oci {
        image: "docker.io/library/redis".to_owned(),
        digest: format!("sha256:{}", Digest::of("manifest")),
        path: "/usr/bin/redis".into(),
    };
    let archive = source("archive", "archive", "https://example.org/a.tar.gz");
    let gem = source("gem", "file", "https://rubygems.org/downloads/redis-4.8.1.gem");
    let git = source("git", "git", "https://github.com/Moodle/moodle.git");
    let given = source("given", "archive", "https://example.org/b.tar.gz");
    let image = source("image", "oci", "https://registry-1.docker.io/v2/library/redis");
    vec![
        Source { sha256, ..archive },
        Source { sha256, ..gem },
        Source { commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()), ..git },
        Source { sha256, published: None, ..given },
        Source { oci: Some(oci), ..image },
    ]
}

/// An image in `store`.
fn manifest(store: &Store) -> Manifest {
    let system = Layers::parse(&SYSTEM.replace("d .\n", "d /\n"))
        .file("usr/lib/os-release", RELEASE)
        .file("usr/share/doc/web/copyright", COPYRIGHT)
        .file("var/lib/dpkg/status", STATUS)
        .change("var/lib/dpkg/status", |entry| entry.mtime = 1_700_000_000);
    let opt = Layers::parse("d opt\nf opt/archive x\n");
    let files = Layers::parse("f etc/web.conf listen=80\nl etc/link web.conf\n");
    Manifest {
        schema: SCHEMA,
        role: "app".to_owned(),
        version: "1.0.0".to_owned(),
        site: Some("campus".to_owned()),
        digest: Digest::of("image"),
        artifact: manifest::File {
            name: "imgbuild-app-1.0.0-6105d6cc76af.tar.zst".to_owned(),
            format: Format::LxcTemplate,
            sha256: Digest::of("file"),
            size: 100,
        },
        layers: vec![
            layer(store, &system, LayerKind::Packages),
            layer(store, &opt, LayerKind::Sources),
            layer(store, &files, LayerKind::Files),
        ],
        parameters: [("hosts".to_owned(), json!([{ "port": 80, "address": "10.0.0.1" }]))].into(),
        packages: vec![package("libweb1", "1.0"), package("web", "1:2.0+b1")],
        sources: sources(),
        states: Vec::new(),
        secrets: Vec::new(),
        unpinned: vec!["source given: sha256 … was given".to_owned()],
        builder: Builder { name: "imgbuild".to_owned(), version: "0.1.0".to_owned() },
        checks: Vec::new(),
        tolerated: Vec::new(),
        disk: None,
    }
}

fn bill(store: &Store) -> Bill {
    Bill::new(&Inspector::new(store), store, manifest(store)).unwrap()
}

fn written(document: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(document).unwrap()
}

#[test]
fn documents_of_a_small_image() {
    let (_directory, store) = store();
    let bill = bill(&store);
    // The version of this program is part of what decides on it.
    let mut settings = insta::Settings::clone_current();
    settings.add_filter("urn:uuid:[0-9a-f-]{36}", "urn:uuid:…");
    settings.bind(|| {
        insta::assert_snapshot!("spdx", written(&spdx::document(&bill)));
        insta::assert_snapshot!("cyclonedx", written(&cyclonedx::document(&bill)));
        insta::assert_snapshot!("provenance", written(&Statement::of(&bill, None)));
    });
}

#[test]
fn the_same_image_has_the_same_documents_in_every_store() {
    let (_first, one) = store();
    let (_second, other) = store();
    let (one, other) = (bill(&one), bill(&other));
    assert_eq!(written(&spdx::document(&one)), written(&spdx::document(&other)));
    assert_eq!(written(&cyclonedx::document(&one)), written(&cyclonedx::document(&other)));
    let mut changed = other.clone();
    changed.manifest.artifact.sha256 = Digest::of("another file");
    assert_ne!(uuid(&one.manifest, "spdx"), uuid(&changed.manifest, "spdx"));
    assert_ne!(uuid(&one.manifest, "spdx"), uuid(&one.manifest, "cyclonedx"));
}

#[test]
fn what_is_referred_to_is_there_and_once() {
    let (_directory, store) = store();
    let bill = bill(&store);
    let spdx = serde_json::to_value(spdx::document(&bill)).unwrap();
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let elements = [list(&spdx, "packages"), list(&spdx, "files")].concat();
    let mut known: BTreeSet<String> = [text(&spdx, "SPDXID")].into();
    for element in &elements {
        assert!(known.insert(text(element, "SPDXID")), "{element}");
    }
    for link in list(&spdx, "relationships") {
        for end in ["spdxElementId", "relatedSpdxElement"] {
            assert!(known.contains(&text(&link, end)), "{link}");
        }
    }
    let cyclonedx = serde_json::to_value(cyclonedx::document(&bill)).unwrap();
    let mut known: BTreeSet<String> = [text(&cyclonedx["metadata"]["component"], "bom-ref")].into();
    for component in list(&cyclonedx, "components") {
        assert!(known.insert(text(&component, "bom-ref")), "{component}");
    }
    let dependencies = list(&cyclonedx, "dependencies");
    assert_eq!(dependencies.len(), known.len());
    for dependency in dependencies {
        assert!(known.contains(&text(&dependency, "ref")));
        for on in list(&dependency, "dependsOn") {
            assert!(known.contains(on.as_str().unwrap()), "{on}");
        }
    }
}

#[test]
fn an_image_whose_layers_are_gone_is_to_be_built() {
    let (_directory, one) = store();
    let (_other, empty) = store();
    let error = Bill::new(&Inspector::new(&empty), &empty, manifest(&one)).unwrap_err();
    assert!(
        matches!(error, crate::inspect::Error::NotBuilt { role, .. } if role == "app --site campus")
    );
}

#[test]
fn identifiers_are_of_version_8() {
    let (_directory, store) = store();
    let uuid = uuid(&manifest(&store), "spdx");
    let parts: Vec<&str> = uuid.split('-').collect();
    assert_eq!(parts.iter().map(|part| part.len()).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    assert!(parts[2].starts_with('8') && parts[3].starts_with(['8', '9', 'a', 'b']), "{uuid}");
}

#[test]
fn systems_say_what_they_are() {
    for (text, expected) in [
        (RELEASE, ("debian", Some("13"), Some("trixie"))),
        ("ID=ubuntu\nVERSION_ID='22.04'\n", ("ubuntu", Some("22.04"), None)),
        ("", ("linux", None, None)),
    ] {
        let Distribution { id, version, codename } = Distribution::parse(text);
        assert_eq!((&*id, version.as_deref(), codename.as_deref()), expected);
    }
}
