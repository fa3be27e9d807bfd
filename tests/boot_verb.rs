//! Boots the project's own images with `imgbuild boot`, for real, and looks whether anything is left
//! behind. Needs root, Debian's `lxc` and the network; without, every test here says so and passes.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use imgbuild::boot::qemu;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::lab::{succeed, unavailable, wait_for};
use support::programs::read;
use tempfile::TempDir;

/// A copy of the project, locked, with a store that is kept. The guard keeps tests from running at
/// the same time: the machine's processors are few.
fn project() -> Option<(MutexGuard<'static, ()>, &'static Path)> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static PROJECT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(reason) = unavailable() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    Some((guard, PROJECT.get_or_init(copy_of_the_project)))
}

fn copy_of_the_project() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot_verb/project");
    let _ = fs::remove_dir_all(&project);
    fs::create_dir_all(&project).unwrap();
    let mut copy = Command::new("cp");
    succeed(copy.arg("-a").args([source.join("images"), source.join("overlays")]).arg(&project));
    // The others need repositories that may be out of reach.
    succeed(imgbuild(&project, &["lock", "haproxy", "galera"]).stdout(Stdio::null()));
    project
}

fn imgbuild(project: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    // The store of tests/boot.rs: what that has built need not be built again.
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot/store");
    command.args(arguments).arg("--store").arg(store).current_dir(project);
    command
}

/// Whatever `imgbuild boot` makes, it makes here.
struct Places(TempDir);

impl Places {
    fn new() -> Self {
        // Not the directory for temporary files: that may be memory, and guests are large.
        Self(tempfile::Builder::new().prefix("boot-").tempdir_in("/var/tmp").unwrap())
    }

    /// The directories of guests. Each has a control group of the same name.
    fn guests(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Processes that are named after one of the directories here, and control groups of `guests`.
    fn remains(&self, guests: &BTreeSet<String>) -> Vec<String> {
        let here = self.0.path().to_str().unwrap();
        let mut found: Vec<String> = self.guests().into_iter().collect();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(here) || guests.iter().any(|guest| command.contains(guest)) {
                found.push(command);
            }
        }
        for line in fs::read_to_string("/proc/mounts").unwrap().lines() {
            let mut fields = line.split(' ').skip(1);
            let (path, kind) = (fields.next().unwrap(), fields.next().unwrap());
            if path.contains(here) {
                found.push(format!("mount {path}"));
            }
            if kind == "cgroup2" {
                let groups = guests.iter().map(|guest| Path::new(path).join(guest));
                found.extend(
                    groups.filter(|group| group.exists()).map(|group| format!("{group:?}")),
                );
            }
        }
        found
    }
}

/// Boots `role` and returns what is told in JSON.
fn boot(project: &Path, places: &Places, arguments: &[&str]) -> Value {
    let mut command = imgbuild(project, &["boot", "--format", "lxc", "--json"]);
    let output = succeed(command.args(arguments).env("TMPDIR", places.0.path()));
    read(&output)
}

#[test]
fn a_proxy_boots_and_leaves_nothing_behind() {
    let Some((_guard, project)) = project() else { return };
    let places = Places::new();
    let told = boot(project, &places, &["haproxy"]);
    assert_eq!(told["healthy"], true, "{told}");
    assert_eq!(told["state"], "running");
    assert_eq!(told["node"], "haproxy1");
    assert_eq!(told["addresses"][0], "10.77.0.11");
    assert_eq!(told["failed_units"], Value::Array(Vec::new()));
    assert!(told["seconds"]["healthy"].as_f64().unwrap() > 0.0);
    assert!(Path::new(told["artifact"].as_str().unwrap()).is_file());
    assert_eq!(places.remains(&BTreeSet::new()), [""; 0]);

    let told = boot(project, &places, &["haproxy", "--site", "campus", "--node", "lb2"]);
    assert_eq!((&told["node"], &told["address"]), (&"lb2".into(), &"10.20.40.3/24".into()));
    assert_eq!(told["healthy"], true, "{told}");
}

#[test]
fn a_database_boots_from_an_empty_volume() {
    let Some((_guard, project)) = project() else { return };
    let places = Places::new();
    let told = boot(project, &places, &["galera"]);
    assert_eq!(told["healthy"], true, "{told}");
    assert_eq!(told["node"], "galera1");
    assert_eq!(places.remains(&BTreeSet::new()), [""; 0]);
}

#[test]
fn a_guest_that_is_not_healthy_is_told_with_its_journal() {
    let Some((_guard, project)) = project() else { return };
    let places = Places::new();
    let sick = project.with_file_name("sick");
    let _ = fs::remove_dir_all(&sick);
    succeed(Command::new("cp").arg("-a").args([project, &sick]));
    let definition = sick.join("images/haproxy/image.toml");
    let text = fs::read_to_string(&definition).unwrap();
    let (before, _) = text.split_once("ready = [").unwrap();
    let check = "ready = [\"/bin/sh\", \"-c\", \"echo not today; exit 1\"]\n";
    fs::write(&definition, format!("{before}{check}")).unwrap();
    let arguments = ["boot", "haproxy", "--format", "lxc", "--timeout", "10", "--json"];
    let output = imgbuild(&sick, &arguments).env("TMPDIR", places.0.path()).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("haproxy1 is not healthy: its health check fails"), "{errors}");
    assert!(errors.contains("not today") && errors.contains("the end of the journal:"), "{errors}");
    let told = read(&String::from_utf8(output.stdout).unwrap());
    assert_eq!(told["healthy"], false);
    assert_eq!(told["failure"]["health"], "not today");
    assert!(told["failure"]["journal"].as_str().unwrap().contains("systemd"), "{told}");
    assert_eq!(places.remains(&BTreeSet::new()), [""; 0]);
}

#[test]
fn killed_at_any_time_it_leaves_nothing_behind() {
    let Some((_guard, project)) = project() else { return };
    // What the guest's directory has when it is killed: nothing yet, a tree, a running guest.
    // An interrupt from the keyboard ends it, too.
    for (signal, sign) in [
        (Signal::KILL, ""),
        (Signal::KILL, "containers/haproxy1/rootfs/etc"),
        (Signal::KILL, "containers/haproxy1/console.log"),
        (Signal::INT, "containers/haproxy1/console.log"),
    ] {
        let places = Places::new();
        let mut command = imgbuild(project, &["boot", "haproxy", "--format", "lxc"]);
        command.env("TMPDIR", places.0.path()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let guests = wait_for("the guest's directory", || {
            let guests = places.guests();
            let guest = places.0.path().join(guests.first()?);
            guest.join(sign).exists().then_some(guests)
        });
        kill_process(Pid::from_child(&process), signal).unwrap();
        process.wait().unwrap();
        wait_for("everything to be gone", || {
            let remains = places.remains(&guests);
            remains.is_empty().then_some(())
        });
    }
}

#[test]
fn a_role_that_is_not_there_is_refused_before_anything_is_built() {
    let Some((_guard, project)) = project() else { return };
    for (arguments, expected) in [
        (&["boot", "nginx"][..], "no image"),
        (
            &["boot", "haproxy", "--site", "campus", "--node", "galera1"],
            "its nodes with that role: lb1, lb2",
        ),
        (&["boot", "haproxy", "--shell"], "there is no terminal for a shell"),
    ] {
        let output = imgbuild(project, arguments).stdin(Stdio::null()).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(expected), "{expected}: {errors}");
    }
}

#[test]
#[ignore = "takes a minute where the processor is emulated, and tests/boot_disk.rs boots the same disk"]
fn a_proxy_boots_as_a_machine_too() {
    boots_as_a_machine("haproxy");
}

#[test]
#[ignore = "takes minutes where the processor is emulated, and tests/boot_disk.rs boots the same disk"]
fn a_database_boots_as_a_machine_too() {
    boots_as_a_machine("galera");
}

fn boots_as_a_machine(role: &str) {
    let Some((_guard, project)) = project() else { return };
    if let Err(reason) = qemu::available() {
        eprintln!("skipped: {reason}");
        return;
    }
    let places = Places::new();
    let arguments = ["boot", role, "--format", "qcow2", "--json", "--timeout", "900"];
    let mut command = imgbuild(project, &arguments);
    let told = read(&succeed(command.env("TMPDIR", places.0.path())));
    assert_eq!(told["healthy"], true, "{told}");
    assert_eq!(told["node"], format!("{role}1"));
    assert_eq!(told["firmware"], "seabios");
    assert_eq!(told["addresses"][0], "10.77.0.11");
    assert!(told["memory"].as_u64().unwrap() > 1 << 20);
    assert_eq!(places.remains(&BTreeSet::new()), [""; 0]);
}
