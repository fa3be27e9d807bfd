//! Images of a few layers made by hand.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::artifact::manifest::{LayerKind, Package};
use crate::inspect::image::Defined;
use crate::layer::archive::testing::Tree as Layers;

/// What every image of these tests has below its files.
const SYSTEM: &str = "d .\nd etc\nd etc/systemd\nd etc/systemd/system\n\
    d etc/systemd/system/multi-user.target.wants\nd usr\nd usr/bin\nd usr/share\nd var\nd var/lib\n\
    d var/lib/dpkg\nd var/lib/dpkg/info\n\
    f etc/passwd root:x:0:0:root:/root:/bin/sh\n\
    f etc/group root:x:0:\n\
    f usr/bin/web one\nf usr/share/data 12\n\
    f var/lib/dpkg/info/web.list /usr/bin/web\n\
    l etc/systemd/system/multi-user.target.wants/web.service /usr/lib/systemd/system/web.service\n";

const FILES: &str = "f etc/web.conf listen=80\n";

fn package(version: &str) -> Package {
    Package {
        name: "web".to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        sha256: Digest::of(version),
        url: None,
        image: "app".to_owned(),
    }
}

/// The root is the empty path, which a line of [`Layers::parse`] cannot say.
fn parse(text: &str) -> Layers {
    Layers::parse(&text.replace("d .\n", "d /\n"))
}

/// An image of a layer of packages and one of files.
fn image(system: &Layers, files: &Layers) -> Image {
    let archives: Vec<Arc<_>> =
        [system, files].into_iter().map(|layer| Arc::new(layer.archive())).collect();
    let kinds = [LayerKind::Packages, LayerKind::Files];
    let layers = archives.iter().zip(kinds).map(|(archive, kind)| Layer {
        image: "app".to_owned(),
        kind,
        digest: Some(archive.digest),
        size: Some(archive.file.metadata().unwrap().len()),
    });
    Image {
        label: "app".to_owned(),
        facts: Facts {
            role: "app".to_owned(),
            version: "1.0.0".to_owned(),
            site: None,
            format: Format::LxcTemplate,
            digest: None,
            artifact_size: None,
            parameters: [("port".to_owned(), json!(80))].into(),
            packages: vec![package("1")],
            states: Vec::new(),
            secrets: vec!["key".to_owned()],
            unpinned: Vec::new(),
        },
        layers: layers.collect(),
        boot: Vec::new(),
        archives: Some(archives),
        defined: None,
        manifest: None,
    }
}

fn plain() -> Image {
    image(&parse(SYSTEM), &parse(FILES))
}

fn paths(comparison: &Comparison) -> Vec<&str> {
    comparison.files.iter().map(|file| file.path.as_str()).collect()
}

#[test]
fn an_image_does_not_differ_from_itself() {
    let comparison = compare(&plain(), &plain()).unwrap();
    assert!(comparison.is_empty() && comparison.same, "{comparison:?}");
    assert_eq!(comparison.old.file_bytes, comparison.new.file_bytes);
}

#[test]
fn times_are_no_difference() {
    let files = parse(FILES).change("etc/web.conf", |entry| entry.mtime += 1);
    let comparison = compare(&plain(), &image(&parse(SYSTEM), &files)).unwrap();
    assert_eq!(paths(&comparison), Vec::<&str>::new());
    assert!(!comparison.same, "its layer is another");
}

#[test]
fn everything_that_differs_is_told_once_in_its_place() {
    let system = SYSTEM
        .replace("f usr/bin/web one", "f usr/bin/web two")
        .replace("f usr/share/data 12\n", "l usr/share/data web\n")
        .replace("root:/root:/bin/sh", "root:/root:/bin/bash")
        .replace("l etc/systemd/system/multi-user.target.wants/web.service /usr", "l etc/none /x")
        + "l etc/systemd/system/old.service /dev/null\nf usr/bin/ping p\n";
    let capability = [&[1, 0, 0, 2, 0, 32][..], &[0; 14]].concat();
    let system = parse(&system).change("usr/bin/ping", |entry| {
        entry.mode = 0o755;
        entry.xattrs.insert("security.capability".to_owned(), capability);
    });
    let files = parse("f etc/web.conf listen=8080\n")
        .file("etc/binary", [0, 1])
        .change("etc/web.conf", |entry| entry.mode = 0o600);
    let mut new = image(&system, &files);
    new.facts.packages = vec![package("2"), Package { name: "more".to_owned(), ..package("3") }];
    new.facts.parameters.insert("port".to_owned(), json!(8080));
    new.facts.secrets = vec!["other".to_owned()];
    let comparison = compare(&plain(), &new).unwrap();
    insta::assert_snapshot!(serde_json::to_string_pretty(&comparison).unwrap());
}

#[test]
fn files_of_packages_are_told_from_those_of_definitions() {
    let new =
        image(&parse(&SYSTEM.replace("web one", "web two")), &parse(&FILES.replace("80", "81")));
    let comparison = compare(&plain(), &new).unwrap();
    let owners: Vec<_> =
        comparison.files.iter().map(|file| (file.package.as_deref(), file.defined)).collect();
    assert_eq!(paths(&comparison), ["/etc/web.conf", "/usr/bin/web"]);
    assert_eq!(owners, [(None, true), (Some("web"), false)]);
}

/// As if its layers were not in the store.
fn lost(image: Image) -> Image {
    Image { archives: None, ..image }
}

#[test]
fn nothing_is_said_of_files_that_nobody_has() {
    let mut new = lost(image(&parse(SYSTEM), &parse("f etc/web.conf other\n")));
    new.facts.packages = vec![package("2")];
    let comparison = compare(&plain(), &new).unwrap();
    assert_eq!(comparison.compared, Extent::Nothing);
    assert!(comparison.files.is_empty() && comparison.notes.len() == 1, "{comparison:?}");
    assert_eq!(comparison.packages[0].to.as_ref().unwrap().version, "2");
    assert!(comparison.new.file_bytes.is_none());
}

#[test]
fn an_image_that_was_not_built_is_known_by_its_definitions() {
    let mut new = lost(plain());
    new.layers.iter_mut().for_each(|layer| layer.digest = None);
    new.defined = Some(Defined { rendered: Vec::new(), users: Vec::new(), groups: Vec::new() });
    let comparison = compare(&plain(), &new).unwrap();
    assert_eq!(comparison.compared, Extent::Definitions);
    // What packages have is not told as gone.
    assert_eq!(paths(&comparison), ["/etc/web.conf"]);
    assert_eq!(comparison.configuration[0].removed, 1);
    assert!(comparison.users.is_empty(), "those of packages are unknown");
    assert_eq!(comparison.notes.len(), 1, "{:?}", comparison.notes);
    // Where all below is known to be the same, there is nothing to add.
    new.layers[0].digest = plain().layers[0].digest;
    assert_eq!(compare(&plain(), &new).unwrap().notes, Vec::<String>::new());
}
