//! The program that mounts a machine's state volumes (`images/machine`), on files instead of disks: what it leaves alone.
//! That it mounts what it should is seen where disks are booted (`tests/boot_disk.rs`).
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Output};

use imgbuild::digest::Digest;
use tempfile::TempDir;

const MEBIBYTE: u64 = 1 << 20;

/// Disks of a machine whose one state volume is `state-data`.
struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["sys/block", "dev", "secrets", "data"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        let path = directory.path().join("data");
        let table = format!("data {} root root 0755\n", path.display());
        fs::write(directory.path().join("table"), table).unwrap();
        Self(directory)
    }

    /// Adds a disk with a serial number.
    fn disk(&self, name: &str, serial: &str, size: u64) -> std::path::PathBuf {
        let block = self.0.path().join("sys/block").join(name);
        fs::create_dir_all(&block).unwrap();
        fs::write(block.join("serial"), serial).unwrap();
        fs::write(block.join("size"), "0").unwrap();
        let path = self.0.path().join("dev").join(name);
        File::create(&path).unwrap().set_len(size).unwrap();
        path
    }

    fn mount_volumes(&self) -> Output {
        let program = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("images/machine/files/usr/lib/imgbuild/volumes");
        let here = |name: &str| self.0.path().join(name);
        Command::new("/bin/sh")
            .arg(program)
            .env("VOLUMES_TABLE", here("table"))
            .env("VOLUMES_SYS", here("sys"))
            .env("VOLUMES_DEV", here("dev"))
            .env("VOLUMES_SECRETS", here("secrets"))
            .env("VOLUMES_PATIENCE", "0")
            .output()
            .unwrap()
    }

    /// It fails, says so in these words, and `disk` is as it was.
    #[track_caller]
    fn is_refused(&self, disk: &Path, words: &str) {
        let digest = || Digest::of_reader(File::open(disk).unwrap()).unwrap();
        let before = digest();
        let output = self.mount_volumes();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.contains(words), "{output:?}");
        assert_eq!(digest(), before);
    }
}

fn skipped() -> bool {
    let missing = ["mke2fs", "mkfs.vfat", "blkid", "dumpe2fs"]
        .into_iter()
        .find(|program| Command::new(program).arg("-V").output().is_err());
    if let Some(program) = missing {
        eprintln!("skipped: {program} is not installed");
    }
    missing.is_some()
}

#[track_caller]
fn run(program: &str, arguments: &[&str], path: &Path) {
    let output = Command::new(program).args(arguments).arg(path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_disk_with_something_else_on_it_is_left_alone() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    let disk = machine.disk("sda", "state-data", 64 * MEBIBYTE);
    run("mke2fs", &["-q", "-F", "-t", "ext4", "-L", "precious"], &disk);
    machine.is_refused(&disk, "holds ext4 with the label \"precious\" and is left alone");

    let disk = machine.disk("sda", "state-data", 64 * MEBIBYTE);
    run("mkfs.vfat", &["-n", "STATE-DATA"], &disk);
    machine.is_refused(&disk, "holds vfat with the label \"STATE-DATA\" and is left alone");

    // Where a database or a partition table might have something, and blkid knows nothing.
    for place in [0, 7 * MEBIBYTE, 64 * MEBIBYTE - 1] {
        let disk = machine.disk("sda", "state-data", 64 * MEBIBYTE);
        File::options().write(true).open(&disk).unwrap().write_all_at(b"x", place).unwrap();
        machine.is_refused(&disk, "holds data of an unknown kind and is left alone");
    }
}

#[test]
fn a_disk_that_may_be_the_wrong_one_is_left_alone() {
    if skipped() {
        return;
    }
    let machine = Machine::new();
    let disk = machine.disk("sda", "another", 64 * MEBIBYTE);
    machine.is_refused(&disk, "no disk has this serial number");
    let disk = machine.disk("sdb", "state-data", MEBIBYTE);
    machine.is_refused(&disk, "is too small (1 MiB, at least 16 are needed)");
    let disk = machine.disk("sdb", "state-data", 64 * MEBIBYTE);
    machine.disk("sdc", "state-data", 64 * MEBIBYTE);
    machine.is_refused(&disk, "more than one disk could be it");
}
