use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;

/// One member: its name, type, mode, and content or target.
type Given<'a> = (&'a str, u8, u32, &'a str);

/// A tar archive in whose headers the names stand as they are.
fn archive(members: &[Given]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, mode, content) in members {
        let mut header = tar::Header::new_gnu();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_mode(*mode);
        header.set_mtime(1_700_000_000);
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

fn unpacked(bytes: &[u8], strip: usize) -> Result<Contents, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive");
    fs::write(&path, bytes).unwrap();
    unpack(&path, strip, directory.path())
}

/// What is in it, a line each.
fn shown(contents: &Contents) -> Vec<String> {
    let line = |(path, node): (&PathBuf, &Node)| {
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

const MOODLE: &[Given] = &[
    ("pax_global_header", b'g', 0o644, "52 comment=7498a81dc813efcb5116143c64d23493292f7b57\n"),
    ("./moodle/", b'5', 0o2775, ""),
    ("moodle/version.php", b'0', 0o664, "<?php"),
    ("moodle/admin/cli/cron", b'0', 0o755, "#!"),
    ("moodle/admin/again", b'1', 0o755, "moodle/admin/cli/cron"),
    ("moodle/lib", b'2', 0o777, "admin/../admin/cli"),
    ("moodle/admin/", b'5', 0o700, ""),
];

#[test]
fn an_archive_is_unpacked_whatever_it_is_compressed_with() {
    let plain = archive(MOODLE);
    let mut gzip = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(&plain[..], flate2::Compression::fast());
    io::Read::read_to_end(&mut encoder, &mut gzip).unwrap();
    let xz = liblzma::encode_all(&plain[..], 0).unwrap();
    let zstd = zstd::encode_all(&plain[..], 1).unwrap();
    for bytes in [plain, gzip, xz, zstd] {
        let contents = unpacked(&bytes, 1).unwrap();
        let expected = [
            "admin/",
            "admin/again* #!",
            "admin/cli/",
            "admin/cli/cron* #!",
            "lib -> admin/../admin/cli",
            "version.php <?php",
        ];
        assert_eq!(shown(&contents), expected);
        assert_eq!(contents.nodes[Path::new("admin/cli")].mtime, 1_700_000_000);
    }
    assert_eq!(shown(&unpacked(&archive(MOODLE), 0).unwrap()).len(), 7);
}

#[test]
fn long_names_of_either_kind_are_whole() {
    let long = format!("a/{}", "b".repeat(200));
    let pax = format!("path={long}\n");
    let pax = format!("{} {pax}", pax.len() + 4);
    for extra in [("././@LongLink", b'L', 0, &*format!("{long}\0")), ("pax", b'x', 0, &*pax)] {
        let bytes = archive(&[extra, ("a/bbb", b'0', 0o644, "x")]);
        assert_eq!(shown(&unpacked(&bytes, 1).unwrap()), [format!("{} x", "b".repeat(200))]);
    }
}

#[test]
fn what_no_image_may_have_is_refused() {
    let file = |name| (name, b'0', 0o644, "x");
    let link = |name, target| (name, b'2', 0o777, target);
    let sparse = "31 GNU.sparse.name=a/very/long\n";
    let cases: &[(&[Given], &str)] = &[
        (&[file("../x")], "`..` in it"),
        (&[file("a/../../x")], "`..` in it"),
        (&[file("/etc/passwd")], "absolute"),
        (&[file("a\nb")], "control character"),
        (&[file("a"), file("a")], "there twice"),
        (&[file("a"), file("./a")], "there twice"),
        (&[file("a"), ("a", b'5', 0o755, "")], "there twice"),
        (&[file("a"), file("a/b")], "lies below `a`"),
        (&[link("a", "."), file("a/b")], "lies below `a`"),
        (&[file(".wh.a")], "`.wh.`"),
        (&[link("a", "/etc/shadow")], "is absolute"),
        (&[link("a", "../x")], "leads out"),
        (&[link("d/a", "../../x")], "leads out"),
        // Where the kernel goes, not what the text seems to say.
        (&[link("a", "."), link("b", "a/../x")], "leads out"),
        (&[("d/", b'5', 0o755, ""), link("d/up", ".."), link("b", "d/up/../x")], "leads out"),
        (&[link("a", "b"), link("b", "a")], "circle"),
        (&[link("a", "")], "points nowhere"),
        (&[("a", b'1', 0o644, "b")], "hard link to no file"),
        (&[("a", b'1', 0o644, "../../etc/shadow")], "hard link to no file"),
        (&[("a", b'1', 0o644, "/etc/shadow")], "hard link to no file"),
        (&[link("b", "x"), ("a", b'1', 0o644, "b")], "hard link to no file"),
        (&[("a", b'3', 0o644, "")], "device"),
        (&[("a", b'4', 0o644, "")], "device"),
        (&[("a", b'6', 0o644, "")], "named pipe"),
        (&[("a", b'S', 0o644, "")], "sparse"),
        (&[("h", b'x', 0o644, sparse), file("a")], "sparse"),
        (&[("a", b'?', 0o644, "")], "unknown tar type"),
        (&[("a", b'0', 0o4755, "")], "set-user-id"),
        (&[("a", b'0', 0o2755, "")], "set-user-id"),
        (&[("h", b'x', 0, "9 path=a\n"), ("h", b'g', 0, "9 path=b\n")], "same name"),
        (&[], "nothing in it"),
        (&[("./", b'5', 0o755, "")], "nothing in it"),
    ];
    for (members, expected) in cases {
        let error = unpacked(&archive(members), 0).err();
        let text = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(expected), "{members:?}: {text}");
    }
    let text = unpacked(&archive(&[file("a")]), 1).err().unwrap().to_string();
    assert!(text.contains("`strip = 1` leaves nothing"), "{text}");
}

#[test]
fn links_that_stay_inside_are_kept() {
    let members = [
        ("d/e/", b'5', 0o755, ""),
        ("d/up", b'2', 0o777, "../d/e"),
        ("d/e/top", b'2', 0o777, "../../nowhere"),
        ("d/e/round", b'2', 0o777, "../up/top"),
    ];
    assert_eq!(unpacked(&archive(&members), 0).unwrap().nodes.len(), 5);
}

#[test]
fn other_files_are_no_archives() {
    let sound = archive(MOODLE);
    let packed = liblzma::encode_all(&sound[..], 0).unwrap();
    let cases: &[(&[u8], &str)] = &[
        (b"PK\x03\x04 and so on", "a zip file"),
        (b"BZh91AY", "bzip2"),
        (b"!<arch>\ndebian-binary", ".deb"),
        (b"<!DOCTYPE html>", "a page of the web"),
        (b"", "too short"),
        (&[b'a'; 1024], "not a tar archive"),
        (&sound[..sound.len() - 2200], "damaged"),
        (&packed[..packed.len() - 20], "damaged"),
    ];
    for (bytes, expected) in cases {
        let text = unpacked(bytes, 0).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(text.contains(expected), "{expected}: {text:?}");
    }
}

#[test]
fn a_directory_becomes_the_same_archive_wherever_it_is() {
    let made = |umask: u32| {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("b/c")).unwrap();
        for (path, mode) in [("b/run", 0o700), ("a", 0o600)] {
            fs::write(root.join(path), path).unwrap();
            let mode = fs::Permissions::from_mode(mode | umask);
            fs::set_permissions(root.join(path), mode).unwrap();
        }
        symlink("b/run", root.join("c")).unwrap();
        let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        for path in ["a", "b/run", "b/c", "b"] {
            fs::File::open(root.join(path)).unwrap().set_modified(old).unwrap();
        }
        let mut bytes = Vec::new();
        pack(root, &mut bytes).unwrap();
        // A link has a time of its own, which `set_modified` cannot reach.
        (shown(&unpacked(&bytes, 0).unwrap()), bytes.len())
    };
    let (shown, length) = made(0);
    assert_eq!(shown, ["a a", "b/", "b/c/", "b/run* b/run", "c -> b/run"]);
    assert_eq!(made(0o055), (shown, length));
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2048)) {
        let _ = unpacked(&bytes, 1);
    }

    #[test]
    fn no_name_leaves_its_directory(name in "[./ab]{1,12}", strip in 0_usize..3) {
        if let Ok(Some(path)) = member::stripped(name.as_bytes(), strip) {
            proptest::prop_assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))));
        }
    }
}
