use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::*;
use crate::definition::CommitId;

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

/// Small when they are packed, and of any size when they are not, in bytes, in names or in ways along links.
#[test]
fn archives_that_would_take_all_of_a_machine_are_refused() {
    // What follows the end of the archive is read as well.
    let file = archive(&[("a", b'0', 0o644, "")]);
    let zeros = io::Read::take(io::repeat(0), 600 << 20);
    let bomb = zstd::encode_all(io::Read::chain(&file[..], zeros), 1).unwrap();
    // Each link leads on to the next, and is about as long as a target may be.
    let way = "d/../".repeat(18);
    let links: Vec<String> = (0..1000).map(|number| format!("l{number}")).collect();
    let targets: Vec<String> = (0..1000).map(|number| format!("{way}l{}", number + 1)).collect();
    let mut members: Vec<Given> = vec![("d/", b'5', 0o755, "")];
    members.extend(links.iter().zip(&targets).map(|(link, to)| (&**link, b'2', 0o777, &**to)));
    // Forty may follow each other, each seen again from all before it.
    for number in (38..1000).step_by(38) {
        members[number].3 = "d";
    }
    let deep = "a/".repeat(130);
    let deep = [("././@LongLink", b'L', 0, &*deep), ("a", b'0', 0o644, "")];
    for (bytes, expected) in [
        (bomb, "can be packed to its size"),
        (archive(&members), "steps along links"),
        (archive(&deep), "too deep"),
    ] {
        let error = unpacked(&bytes, 0).err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn directories_that_are_taken_for_granted_are_as_old_as_what_is_in_them() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, mtime) in [("a/b/c/one", 5), ("a/b/two", 9), ("a/x/three", 7)] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_mtime(mtime);
        header.set_size(0);
        builder.append_data(&mut header, name, io::empty()).unwrap();
    }
    let contents = unpacked(&builder.into_inner().unwrap(), 0).unwrap();
    let mtime = |path: &str| contents.nodes[Path::new(path)].mtime;
    assert_eq!(["a", "a/b", "a/b/c", "a/x"].map(mtime), [9, 9, 5, 7]);
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

/// Runs `git` in `directory`, with settings of its own.
fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@example.org", "-C"])
        .arg(directory)
        .args(arguments)
        .envs([("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")])
        .envs([("GIT_COMMITTER_DATE", "1600000000 +0200"), ("GIT_AUTHOR_DATE", "1600000000 +0200")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with one commit, and the commit; none, and a message, where there is no `git`.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn repository() -> Option<(tempfile::TempDir, CommitId)> {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    if std::process::Command::new("git").arg("--version").output().is_err() {
        eprintln!("skipped: there is no git");
        return None;
    }
    git(root, &["init", "--quiet"]);
    fs::create_dir(root.join("bin")).unwrap();
    fs::write(root.join("bin/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(root.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(root.join("README"), "read me\n").unwrap();
    symlink("bin/run", root.join("start")).unwrap();
    let commit = commit_all(root);
    Some((directory, commit))
}

fn commit_all(root: &Path) -> CommitId {
    git(root, &["add", "--all"]);
    git(root, &["commit", "--quiet", "--message", "a commit"]);
    git(root, &["rev-parse", "HEAD"]).parse().unwrap()
}

fn packed(repository: &Path, commit: &CommitId) -> Result<Contents, Error> {
    let mut bytes = Vec::new();
    git::pack_commit(repository, commit, &mut bytes)?;
    unpacked(&bytes, 0)
}

const TREE: [&str; 4] = ["README read me\n", "bin/", "bin/run* #!/bin/sh\n", "start -> bin/run"];

#[test]
fn the_tree_of_a_commit_is_the_same_from_whatever_repository() {
    let Some((directory, commit)) = repository() else { return };
    let root = directory.path();
    assert!(git::has_commit(root, &commit));
    let contents = packed(root, &commit).unwrap();
    assert_eq!(shown(&contents), TREE);
    assert_eq!(contents.nodes[Path::new("README")].mtime, 1_600_000_000);
    // Of files that were changed since, and of later commits, nothing is seen.
    fs::write(root.join("README"), "changed").unwrap();
    commit_all(root);
    git(root, &["gc", "--quiet"]);
    assert_eq!(shown(&packed(root, &commit).unwrap()), TREE);

    let fetched = tempfile::tempdir().unwrap();
    let url = format!("file://{}", root.display());
    git::fetch(&fetched.path().join("bare"), &url, &commit).unwrap();
    assert_eq!(shown(&packed(&fetched.path().join("bare"), &commit).unwrap()), TREE);

    let other: CommitId = "1".repeat(40).parse().unwrap();
    assert!(!git::has_commit(root, &other));
    assert!(!git::has_commit(Path::new("/nonexistent"), &commit));
    let error = git::fetch(&fetched.path().join("other"), &url, &other).unwrap_err();
    assert!(error.contains("not our ref"), "{error}");
    assert!(packed(root, &other).err().unwrap().to_string().contains("damaged"));
    let tree: CommitId = git(root, &["rev-parse", "HEAD^{tree}"]).parse().unwrap();
    assert!(packed(root, &tree).is_err(), "a tree is no commit");
}

#[test]
fn an_object_that_is_not_what_its_id_says_is_refused() {
    let Some((directory, commit)) = repository() else { return };
    let root = directory.path();
    let id = git(root, &["rev-parse", "HEAD:README"]);
    let path = root.join(".git/objects").join(&id[..2]).join(&id[2..]);
    let evil = git(root, &["hash-object", "-w", "bin/run"]);
    fs::remove_file(&path).unwrap();
    fs::copy(root.join(".git/objects").join(&evil[..2]).join(&evil[2..]), &path).unwrap();
    let error = packed(root, &commit).err().unwrap();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&id), "{cause}");
}

#[test]
fn what_a_commit_does_not_hold_is_refused() {
    let Some((directory, first)) = repository() else { return };
    let root = directory.path();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    fs::write(root.join("large"), pointer).unwrap();
    let error = packed(root, &commit_all(root)).err().unwrap().to_string();
    assert!(error.contains("`large`") && error.contains("git-lfs"), "{error}");
    fs::remove_file(root.join("large")).unwrap();
    git(root, &["update-index", "--add", "--cacheinfo", &format!("160000,{first},module")]);
    git(root, &["commit", "--quiet", "--message", "a submodule"]);
    let commit: CommitId = git(root, &["rev-parse", "HEAD"]).parse().unwrap();
    git(root, &["rm", "--quiet", "--cached", "large"]);
    let error = packed(root, &commit).err().unwrap().to_string();
    assert!(error.contains("git-lfs") || error.contains("submodule"), "{error}");
    git(root, &["commit", "--quiet", "--message", "the submodule alone"]);
    let commit: CommitId = git(root, &["rev-parse", "HEAD"]).parse().unwrap();
    let error = packed(root, &commit).err().unwrap().to_string();
    assert!(error.contains("`module`") && error.contains("submodule"), "{error}");
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
