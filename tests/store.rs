//! The store as a whole: its format, and what killed processes and full disks leave behind.
//!
//! Some tests run this same binary as a child; [`child`] is then the only test that does anything.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use imgbuild::digest::Digest;
use imgbuild::progress::Silent;
use imgbuild::store::{Error, KeyKind, Store};
use support::disk::SmallDisk;

const LAYER: KeyKind = KeyKind::new("layer");

/// Names the role of a child.
const ROLE: &str = "IMGBUILD_TEST_ROLE";

/// Names the store of a child.
const STORE: &str = "IMGBUILD_TEST_STORE";

/// A command that runs this binary in `role`, with a umask as the shell understands it.
fn child_command(role: &str, store: &Path, umask: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", "umask $0; exec \"$@\"", umask])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, role)
        .env(STORE, store)
        .stdout(Stdio::piped());
    command
}

/// What children do. Does nothing in an ordinary run.
#[test]
fn child() {
    let (Ok(role), Some(path)) = (std::env::var(ROLE), std::env::var_os(STORE)) else { return };
    let store = Store::open(Some(Path::new(&path))).unwrap();
    match role.as_str() {
        "fill" => fill(&store),
        "write until killed" => write_until_killed(&store),
        "write the same" => write_the_same(&store),
        other => panic!("unknown role {other}"),
    }
}

/// Puts one of each kind into the store.
fn fill(store: &Store) {
    let blob = store.insert_bytes(b"a layer\n").unwrap();
    let key = Digest::of("its inputs");
    store.put_key(LAYER, &key, &serde_json::json!({ "blob": blob.digest(), "size": 8 })).unwrap();
    let mut partial = store.partial(&Digest::of("a download")).unwrap();
    partial.append(b"a down").unwrap();
    partial.set_note("http://mirror/a\n\"tag\"");
    let work = store.work_dir().unwrap();
    let mode = fs::metadata(work.path()).unwrap().mode();
    assert_eq!(mode & 0o7777, 0o700);
}

/// Content number `index`, of a size that differs from one to the next.
fn content(index: u64) -> Vec<u8> {
    let seed = Digest::of(index.to_le_bytes()).to_string();
    let size = 1 + (index * 7_919) as usize % 300_000;
    seed.bytes().cycle().take(size).collect()
}

/// Does everything that changes a store, over and over.
#[expect(clippy::print_stdout, reason = "the parent waits for it")]
fn write_until_killed(store: &Store) {
    println!("ready");
    for index in u64::from(std::process::id()) << 20.. {
        let content = content(index);
        let (head, tail) = content.split_at(content.len() / 2);
        let mut writer = store.writer().unwrap();
        writer.write_all(head).unwrap();
        writer.write_all(tail).unwrap();
        let blob = writer.commit().unwrap();
        store.put_key(LAYER, &Digest::of(index.to_be_bytes()), &blob.digest()).unwrap();

        let digest = Digest::of([b"fetched ", tail].concat());
        let mut partial = store.partial(&digest).unwrap();
        partial.append(b"fetched ").unwrap();
        partial.append(tail).unwrap();
        partial.commit().unwrap();

        let work = store.work_dir().unwrap();
        fs::write(work.path().join("tree"), &content).unwrap();
        store.insert_file(&work.path().join("tree"), &blob.digest()).unwrap();
    }
}

/// Does the same work as other processes at the same time, under the locks that builds use.
#[expect(clippy::print_stdout, reason = "the parent counts it")]
fn write_the_same(store: &Store) {
    for index in 0..100 {
        let key = Digest::of(index.to_string());
        let _lock = store.lock_key(LAYER, &key).unwrap();
        let done = store.get_key::<Digest>(LAYER, &key);
        if done.is_some_and(|digest| store.blob(&digest).is_some()) {
            continue;
        }
        println!("made {index}");
        let blob = store.insert_bytes(&content(index)).unwrap();
        store.put_key(LAYER, &key, &blob.digest()).unwrap();
    }
}

/// All files and directories below `root` in the order of their names: mode, path and, for files,
/// content. Leaves out what depends on the machine, and lock files: those are empty.
fn listing(root: &Path) -> String {
    let mut lines = String::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name() {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().display().to_string();
        if path.starts_with("verified/") || path.starts_with("locks/") {
            continue;
        }
        let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
        lines += &match entry.file_type().is_dir() {
            true => format!("{mode:o} {path}/\n"),
            false => {
                let content = fs::read(entry.path()).unwrap();
                format!("{mode:o} {path} {:?}\n", String::from_utf8_lossy(&content))
            }
        };
    }
    lines
}

#[test]
fn the_format_is_the_documented_one_whatever_the_umask() {
    for umask in ["000", "022", "077", "0777"] {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("deep/store");
        let status = child_command("fill", &root, umask).status().unwrap();
        assert!(status.success(), "umask {umask}");
        let mode = fs::metadata(directory.path().join("deep")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o700, "umask {umask}");
        insta::assert_snapshot!("format_1", listing(&root));
    }
}

#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("thesis.tex"), "").unwrap();
    let error = Store::open(Some(path)).err().unwrap();
    assert!(matches!(&error, Error::Foreign { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(fs::read_dir(path).unwrap().count(), 1);

    for format in ["imgbuild store 2\n", "imgbuild store\n", "", "\u{1b}[2J"] {
        let directory = tempfile::tempdir().unwrap();
        drop(Store::open(Some(directory.path())).unwrap());
        fs::write(directory.path().join("format"), format).unwrap();
        let error = Store::open(Some(directory.path())).err().unwrap();
        assert!(matches!(error, Error::UnknownFormat { known: 1, .. }), "{error}");
        assert!(!error.to_string().contains('\u{1b}'), "{error}");
    }
}

#[test]
fn an_unusable_place_is_named_with_reason_and_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below"), PathBuf::from("/proc/imgbuild")] {
        let error = Store::open(Some(&path)).err().unwrap();
        assert!(matches!(error, Error::Unusable { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        assert!(std::error::Error::source(&error).is_some(), "{error}");
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(help.contains("--store"), "{help}");
    }
}

/// Starts a child that writes, and waits until it does.
fn start_writer(store: &Path) -> Child {
    let mut child = child_command("write until killed", store, "022").spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let ready = output.lines().any(|line| line.unwrap().ends_with("ready"));
    assert!(ready, "the child ended early");
    child
}

/// Checks everything that is in the store, and returns the number of blobs.
fn check_everything(store: &Store) -> u64 {
    let root = store.root();
    let mut blobs = 0;
    for entry in walkdir::WalkDir::new(root.join("blobs")).min_depth(3) {
        let name = entry.unwrap().file_name().to_str().unwrap().to_owned();
        let blob = store.verify(&name.parse().unwrap()).unwrap();
        assert_eq!(fs::metadata(blob.path()).unwrap().mode() & 0o7777, 0o444);
        blobs += 1;
    }
    for entry in walkdir::WalkDir::new(root.join("keys")).min_depth(2) {
        let name = entry.unwrap().file_name().to_str().unwrap().to_owned();
        let digest: Digest = store.get_key(LAYER, &name.parse().unwrap()).unwrap();
        assert!(store.blob(&digest).is_some(), "the record of {name} came before its blob");
    }
    // Unfinished downloads can be taken up.
    for entry in fs::read_dir(root.join("downloads")).unwrap() {
        let path = entry.unwrap().path();
        let digest: Digest = path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        let partial = store.partial(&digest).unwrap();
        assert_eq!(partial.length(), path.metadata().unwrap().len());
        partial.forget();
    }
    blobs
}

#[test]
fn a_store_survives_being_killed_at_any_instant() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (mut blobs, mut killed_at_work) = (0, 0);
    let mut round = 0_u64;
    // Sixty times, and on a slow machine until enough was going on when the children died.
    while round < 60 || blobs < 60 || killed_at_work < 30 {
        round += 1;
        let mut child = start_writer(root);
        std::thread::sleep(Duration::from_micros(round * 7_919 % 12_000));
        child.kill().unwrap();
        child.wait().unwrap();
        killed_at_work += fs::read_dir(root.join("work")).unwrap().count().min(1);

        let store = Store::open(Some(root)).unwrap();
        assert_eq!(fs::read_dir(root.join("work")).unwrap().count(), 0, "round {round}");
        blobs = check_everything(&store);
        assert!(store.take_damaged().is_empty(), "round {round}");
    }
    let mut store = Store::open(Some(root)).unwrap();
    let later = SystemTime::now() + Duration::from_secs(60);
    let report = store.gc(&|_| false, later, &Silent).unwrap();
    assert_eq!(report.kept, 0);
    assert!(report.removed >= blobs);
}

#[test]
fn processes_share_the_work() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let children: Vec<_> =
        (0..4).map(|_| child_command("write the same", root, "022").spawn().unwrap()).collect();
    let mut made = 0;
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        let text = String::from_utf8(output.stdout).unwrap();
        made += text.lines().filter(|line| line.contains("made ")).count();
    }
    assert_eq!(made, 100, "each piece of work is done once");
    let store = Store::open(Some(root)).unwrap();
    for index in 0..100 {
        assert!(store.blob(&Digest::of(content(index))).is_some());
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_no_file_under_a_final_name() {
    let Some(disk) = SmallDisk::mount() else { return };
    let root = disk.path().join("store");
    let store = Store::open(Some(&root)).unwrap();
    let small = store.insert_bytes(b"small").unwrap();
    let files = || walkdir::WalkDir::new(root.join("blobs")).min_depth(3).into_iter().count();

    let content = vec![7; 4 << 20];
    let mut writer = store.writer().unwrap();
    let error = writer.write_all(&content).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    let error = error.downcast::<Error>().unwrap();
    assert!(matches!(&error, Error::Full { path, .. } if path.starts_with(&root)), "{error}");
    assert!(error.to_string().contains("0 MiB are free"), "{error}");
    let help = miette::Diagnostic::help(&error).unwrap().to_string();
    assert!(help.contains("imgbuild gc") && help.contains("--store"), "{help}");
    drop(writer);
    assert_eq!(files(), 1);

    let error = store.insert_bytes(&content).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");

    let digest = Digest::of(&content);
    let mut partial = store.partial(&digest).unwrap();
    let error = partial.append(&content).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert_eq!((files(), partial.length()), (1, 0));
    partial.forget();

    // With the disk full to the last byte, what is there can still be used and collected.
    fs::write(root.join("downloads/filler"), &content).unwrap_err();
    assert!(store.put_key(LAYER, &digest, &"x".repeat(100_000)).is_err());
    assert!(store.get_key::<String>(LAYER, &digest).is_none());
    drop(store);
    let mut store = Store::open(Some(&root)).unwrap();
    assert!(store.blob(&small.digest()).is_some());
    store.gc(&|_| false, SystemTime::now() + Duration::from_secs(60), &Silent).unwrap();
    assert_eq!(files(), 0);
    store.insert_bytes(b"small").unwrap();
}

#[test]
fn a_writer_that_could_not_write_cannot_commit() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Store::open(Some(&disk.path().join("store"))).unwrap();
    let filler = disk.path().join("filler");
    let mut writer = store.writer().unwrap();
    fs::write(&filler, vec![7; 4 << 20]).unwrap_err();
    assert!(writer.write_all(&vec![7; 1 << 20]).is_err());
    fs::remove_file(filler).unwrap();
    // As a compressor does that writes once more when it is dropped.
    writer.write_all(b"tail").unwrap();
    assert!(writer.commit().is_err());
    assert_eq!(fs::read_dir(store.root().join("blobs/sha256")).unwrap().count(), 0);
}
