use std::fs;
use std::os::unix::fs::FileExt;

use super::super::{Contents, NodeKind};
use super::*;

/// One member: its name, type, mode, and content or target.
type Given<'a> = (&'a str, u8, u32, &'a str);

/// A layer in whose headers the names stand as they are.
fn layer(members: &[Given]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, mode, content) in members {
        let mut header = tar::Header::new_gnu();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
        header.set_uid(1000);
        let linked = matches!(kind, b'1' | b'2');
        if linked {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        let content = if linked { "" } else { content };
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// The archive of what is at `path` of an image of these layers.
fn packed(layers: &[&[Given]], path: &str) -> Result<Vec<u8>, Error> {
    let directory = tempfile::tempdir().unwrap();
    let mut files = Vec::new();
    for (number, members) in layers.iter().enumerate() {
        let file = directory.path().join(number.to_string());
        // Compressed in turn: the content says how.
        let bytes = match number % 3 {
            0 => layer(members),
            1 => zstd::encode_all(&layer(members)[..], 1).unwrap(),
            _ => liblzma::encode_all(&layer(members)[..], 0).unwrap(),
        };
        fs::write(&file, bytes).unwrap();
        files.push(file);
    }
    let mut bytes = Vec::new();
    pack(&files, Path::new(path), directory.path(), &mut bytes)?;
    Ok(bytes)
}

fn contents(bytes: &[u8]) -> Contents {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    fs::write(&path, bytes).unwrap();
    unpack(&path, directory.path()).unwrap()
}

/// What is in it, a line each.
fn shown(layers: &[&[Given]], path: &str) -> Vec<String> {
    let contents = contents(&packed(layers, path).unwrap());
    let line = |(path, node): (&PathBuf, &super::super::Node)| {
        let path = path.display();
        match &node.kind {
            NodeKind::Directory => format!("{path}/"),
            NodeKind::Symlink { target } => format!("{path} -> {}", target.display()),
            NodeKind::File { offset, size, executable } => {
                let mut bytes = vec![0; *size as usize];
                contents.bytes.read_exact_at(&mut bytes, *offset).unwrap();
                let star = if *executable { "*" } else { "" };
                format!("{path}{star} {}", String::from_utf8(bytes).unwrap())
            }
        }
    };
    contents.nodes.iter().map(line).collect()
}

const BASE: &[Given] = &[
    ("./", b'5', 0o755, ""),
    ("usr/bin/su", b'0', 0o4755, "not for us"),
    ("dev/null", b'3', 0o666, ""),
    ("etc/shared", b'0', 0o644, "shared"),
    ("srv/app/", b'5', 0o755, ""),
    ("srv/app/old", b'0', 0o644, "old"),
    ("srv/app/run", b'0', 0o755, "#!"),
    ("srv/app/lib/", b'5', 0o755, ""),
    ("srv/app/lib/a", b'0', 0o644, "a"),
    ("srv/app/lib/b", b'0', 0o644, "b"),
    ("srv/app/cache/x", b'0', 0o644, "x"),
    ("srv/application", b'0', 0o644, "a name that begins alike"),
    ("home", b'2', 0o777, "srv"),
];

const UPPER: &[Given] = &[
    // Behind what replaces it, as the specification allows.
    ("srv/app/lib/c", b'0', 0o644, "c"),
    ("srv/app/lib/.wh..wh..opq", b'0', 0o644, ""),
    ("srv/app/.wh.old", b'0', 0o644, ""),
    ("srv/app/again", b'1', 0o644, "srv/app/run"),
    ("srv/app/shared", b'1', 0o644, "etc/shared"),
    ("srv/app/cache", b'0', 0o644, "a file now"),
    ("srv/app/link", b'2', 0o777, "lib/c"),
    ("home/app/by-link", b'0', 0o600, "through /home"),
    (".wh..wh.plnk", b'0', 0o644, ""),
];

#[test]
fn layers_are_laid_on_one_another() {
    let expected = [
        "again* #!",
        "by-link through /home",
        "cache a file now",
        "lib/",
        "lib/c c",
        "link -> lib/c",
        "run* #!",
        "shared shared",
    ];
    assert_eq!(shown(&[BASE, UPPER], "srv/app"), expected);
    let third: &[Given] = &[
        ("srv/app/run", b'0', 0o644, "changed"),
        ("etc/.wh.shared", b'0', 0o644, ""),
        ("/srv/app/link", b'5', 0o755, ""),
        ("srv/app/lib/.wh.c", b'0', 0o644, ""),
        ("srv/app/lib/c/d", b'0', 0o644, "d"),
    ];
    let expected = [
        "again* #!",
        "by-link through /home",
        "cache a file now",
        "lib/",
        "lib/c/",
        "lib/c/d d",
        "link/",
        "run changed",
        "shared shared",
    ];
    assert_eq!(shown(&[BASE, UPPER, third], "srv/app"), expected);
    assert_eq!(shown(&[BASE], "srv/app/run"), ["* #!"], "a single file has no name");
    let gone: &[Given] = &[("srv/.wh.app", b'0', 0, ""), ("srv/app/only", b'0', 0o644, "1")];
    assert_eq!(shown(&[BASE, gone], "srv/app"), ["only 1"]);
}

/// Changing these bytes changes what is cached: raise `OCI_VERSION` in `build/supply.rs` if you do.
#[test]
fn the_archive_of_a_part_is_stable() {
    let digest = |path| Digest::of(packed(&[BASE, UPPER], path).unwrap()).to_string();
    let expected = [
        "1ed31fbe80a13b070f9f6d4e050c658f3bbca8a447dd2cb731cfe5ff00722dc2",
        "00937ef8dabbe2ae42f077de9d81d3d912a5438431eb1fdd57ec4bcd4b32c026",
    ];
    assert_eq!([digest("srv/app"), digest("srv/app/run")], expected);
}

#[test]
fn what_no_image_may_have_is_refused_where_it_is_wanted() {
    let file = |name| (name, b'0', 0o644, "x");
    let link = |name, target| (name, b'2', 0o777, target);
    let cases: &[(&[Given], &str)] = &[
        (&[("a/su", b'0', 0o4755, "")], "set-user-id"),
        (&[("a/null", b'3', 0o666, "")], "device"),
        (&[("a/pipe", b'6', 0o666, "")], "named pipe"),
        (&[link("a/key", "/etc/shadow")], "is absolute"),
        (&[link("a/key", "../etc/shadow")], "leads out"),
        (&[link("a/b", "b/c")], "circle"),
        (&[("a/h", b'1', 0o644, "nothing")], "hard link to no file"),
        (&[("a/h", b'1', 0o644, "../../a")], "hard link to no file"),
        (&[("su", b'0', 0o4755, ""), ("a/h", b'1', 0o644, "su")], "set-user-id"),
        (&[file("a/b\n")], "control character"),
        (&[file("a/../b")], "`..` in it"),
        (&[file("a/.wh...")], "marks no name"),
        (&[file("a/b"), file("a/b/c")], "lies below `a/b`"),
        (&[file("b")], "there is no /a in it"),
        (&[link("a", "b"), file("b/c")], "/a is a link to `b` there"),
        (&[("a/", b'5', 0o755, "")], "there is nothing in /a"),
        (&[link("b", "c"), link("c", "b"), file("b/x")], "circle"),
    ];
    for (members, expected) in cases {
        let error = packed(&[members], "a").err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(expected), "{members:?}: {text}");
    }
    // Elsewhere in the image it does not matter.
    let elsewhere: &[Given] = &[
        file("b/../c"),
        ("su", b'0', 0o6755, ""),
        link("key", "/etc/shadow"),
        ("h", b'1', 0o644, "nothing"),
        file("a/b"),
    ];
    assert_eq!(shown(&[elsewhere], "a"), ["b x"]);
}

/// A manifest with these layers, or an index with these manifests, each with its platform.
fn document(key: &str, parts: &[(&str, &[u8], &str)]) -> Vec<u8> {
    let part = |(kind, bytes, platform): &(&str, &[u8], &str)| {
        let mut part = serde_json::json!({
            "mediaType": kind,
            "digest": format!("sha256:{}", Digest::of(bytes)),
            "size": bytes.len(),
        });
        if let Some((os, architecture)) = platform.split_once('/') {
            part["platform"] = serde_json::json!({ "os": os, "architecture": architecture });
        }
        part
    };
    let parts: Vec<_> = parts.iter().map(part).collect();
    serde_json::to_vec(&serde_json::json!({ "schemaVersion": 2, key: parts })).unwrap()
}

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A layout with these blobs.
fn layout(blobs: &[&[u8]]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let blobs_directory = directory.path().join("blobs/sha256");
    fs::create_dir_all(&blobs_directory).unwrap();
    fs::write(directory.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    for blob in blobs {
        fs::write(blobs_directory.join(Digest::of(blob).to_string()), blob).unwrap();
    }
    directory
}

/// The layers of `digest` as a layout has them, by their content.
fn layers_of(path: &Path, digest: &Digest) -> Result<Vec<Vec<u8>>, String> {
    let scratch = tempfile::tempdir().unwrap();
    let layout = Layout::open(path).unwrap().ok_or("no layout")?;
    let get = |wanted: &[Wanted]| {
        wanted.iter().map(|blob| layout.copy(blob, scratch.path())).collect::<Result<_, _>>()
    };
    match layers(digest, get) {
        Ok(paths) => Ok(paths.iter().map(|path| fs::read(path).unwrap()).collect()),
        Err(LayersError::Blob(error) | LayersError::Image(error)) => Err(error.to_string()),
    }
}

#[test]
fn everything_is_verified_from_the_digest_down() {
    let (one, two) = (layer(BASE), layer(UPPER));
    let manifest = document("layers", &[(LAYER, &one, ""), (LAYER, &two, "")]);
    let other = document("layers", &[(LAYER, &one, "")]);
    let index = document(
        "manifests",
        &[(MANIFEST, &other, "linux/arm64"), (MANIFEST, &manifest, "linux/amd64")],
    );
    let directory = layout(&[&one, &two, &manifest, &other, &index]);
    for document in [&manifest, &index] {
        let found = layers_of(directory.path(), &Digest::of(document)).unwrap();
        assert_eq!(found, [one.clone(), two.clone()]);
    }
    // The same as a tar archive.
    let archive = directory.path().join("archive.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).unwrap());
    builder.append_dir_all("blobs", directory.path().join("blobs")).unwrap();
    builder.append_path_with_name(directory.path().join("oci-layout"), "oci-layout").unwrap();
    builder.finish().unwrap();
    assert_eq!(layers_of(&archive, &Digest::of(&index)).unwrap(), [one.clone(), two.clone()]);
    assert!(Layout::open(&directory.path().join("oci-layout")).unwrap().is_none());
    // What is not what its name says, is longer, or is not there.
    let blob =
        |bytes: &[u8]| directory.path().join("blobs/sha256").join(Digest::of(bytes).to_string());
    for bytes in [&b"other"[..], &[&two[..], b"more"].concat(), &two[..two.len() - 1]] {
        fs::write(blob(&two), bytes).unwrap();
        let error = layers_of(directory.path(), &Digest::of(&manifest)).unwrap_err();
        assert!(error.contains("another blob in the place of"), "{error}");
    }
    fs::remove_file(blob(&two)).unwrap();
    let error = layers_of(directory.path(), &Digest::of(&manifest)).unwrap_err();
    assert!(error.contains("has no blob"), "{error}");
    fs::write(blob(&manifest), &other).unwrap();
    assert!(layers_of(directory.path(), &Digest::of(&index)).is_err());
}

#[test]
fn other_documents_are_refused() {
    let layer = b"a layer";
    let manifest = document("layers", &[(LAYER, layer, "")]);
    let with = |bytes: &[u8], key: &str, value: serde_json::Value| {
        let mut document: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        document[key] = value;
        serde_json::to_vec(&document).unwrap()
    };
    let twice = [(MANIFEST, &manifest[..], "linux/amd64"), (MANIFEST, &manifest, "linux/amd64")];
    let nested = document("manifests", &[(MANIFEST, &manifest, "linux/amd64")]);
    let digest = |bytes: &[u8]| serde_json::json!([{ "mediaType": LAYER, "size": 1, "digest": String::from_utf8_lossy(bytes) }]);
    let cases = [
        (b"<html>".to_vec(), "malformed"),
        (with(&manifest, "schemaVersion", 1.into()), "of version 1"),
        (with(&manifest, "mediaType", "text/html".into()), "neither a manifest nor an index"),
        (with(&manifest, "mediaType", "application/vnd.oci.image.index.v1+json".into()), "neither"),
        (with(&manifest, "manifests", serde_json::json!([])), "an index as well"),
        (with(&manifest, "layers", digest(b"md5:00")), "no SHA-256 digest"),
        (document("layers", &[("application/json", layer, "")]), "which is no layer"),
        (document("manifests", &[]), "nothing for linux/amd64"),
        (document("manifests", &[(MANIFEST, &manifest, "linux/arm64")]), "only linux/arm64"),
        (document("manifests", &twice), "several manifests"),
        (document("manifests", &[(MANIFEST, &nested, "linux/amd64")]), "names an index"),
        (vec![b' '; DOCUMENT_LIMIT as usize + 1], "more than 4 MiB"),
    ];
    for (bytes, expected) in cases {
        let directory = layout(&[layer, &manifest, &nested, &bytes]);
        let error = layers_of(directory.path(), &Digest::of(&bytes)).unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer");
        fs::write(&path, &bytes).unwrap();
        let _ = pack(&[path], Path::new("a"), directory.path(), Vec::new());
        let _ = document::parse(&bytes);
    }

    #[test]
    fn nothing_outside_is_ever_in_the_part(
        names in proptest::collection::vec("[./abw]{1,8}", 1..6),
        target in "[./ab]{1,6}",
        kinds in proptest::collection::vec(0_usize..4, 6),
    ) {
        let types = [b'0', b'2', b'5', b'1'];
        let members: Vec<Given> = names
            .iter()
            .zip(kinds)
            .map(|(name, kind)| {
                let content = if kind == 0 { "x" } else { target.as_str() };
                (name.as_str(), types[kind], 0o644, if kind == 2 { "" } else { content })
            })
            .collect();
        if let Ok(bytes) = packed(&[&members, &members], "a") {
            for path in contents(&bytes).nodes.keys() {
                let plain = |part| matches!(part, std::path::Component::Normal(_));
                proptest::prop_assert!(path.components().all(plain));
            }
        }
    }
}
