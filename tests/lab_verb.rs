//! Runs a site of the project's own images with `imgbuild lab`, for real: deploys it, swaps it, kills what can be
//! killed, takes it back, and looks whether anything is left behind. Needs root, Debian's `lxc` and the network;
//! without, every test here says so and passes.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use imgbuild::digest::Digest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::images::Copy;
use support::lab::{succeed, unavailable, wait_for};
use support::programs::read;
use support::project::Ended;
use tempfile::TempDir;

/// Where a node keeps what goes from guest to guest.
const MARK: &str = "/etc/imgbuild/secrets/mark";

/// A copy of the project, locked. The guard keeps tests from running at the same time: one changes what the other
/// reads.
fn project() -> Option<(MutexGuard<'static, ()>, &'static Path)> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    static PROJECT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(reason) = unavailable() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let project = PROJECT.get_or_init(|| {
        let project = Copy::new("project-lab", &[]).path().to_owned();
        // The others need repositories that may be out of reach.
        succeed(imgbuild(&project, &["lock", "haproxy"]).stdout(Stdio::null()));
        project
    });
    Some((guard, project))
}

fn imgbuild(project: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    // The store of tests/boot.rs: what that has built need not be built again.
    let store = Path::new(env!("CARGO_TARGET_TMPDIR")).join("boot/store");
    command.args(arguments).env("IMGBUILD_STORE", store).current_dir(project);
    command
}

/// Two load balancers.
struct Lab<'a> {
    project: &'a Path,
    directory: TempDir,
}

impl<'a> Lab<'a> {
    fn new(project: &'a Path) -> Self {
        // Not the directory for temporary files: that may be memory, and guests are large.
        let directory = tempfile::Builder::new().prefix("lab-").tempdir_in("/var/tmp").unwrap();
        Self { project, directory }
    }

    fn place(&self) -> PathBuf {
        self.directory.path().join("lab")
    }

    /// `imgbuild lab VERB…`
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = imgbuild(self.project, &["lab"]);
        command.args(arguments).args(["--site", "lab", "--lab"]).arg(self.place());
        command
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        Ended::from(self.command(arguments).output().unwrap())
    }

    #[track_caller]
    fn succeed(&self, arguments: &[&str]) -> String {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}:\n{}\n{}", ended.stdout, ended.stderr);
        for line in ended.stdout.lines() {
            assert!(line.chars().count() <= 100, "too wide for a terminal: {line}");
        }
        ended.stdout
    }

    /// Runs a shell command in the guest of a node.
    fn in_guest(&self, node: &str, script: &str) -> String {
        let mut command = self.command(&["exec", node]);
        succeed(command.args(["--", "sh", "-c", script])).trim().to_owned()
    }

    fn status(&self) -> Value {
        read(&self.succeed(&["status", "--json"]))
    }

    /// Builds an image that nobody has had yet, and returns its digest.
    fn build(&self, connections: u32) -> String {
        let path = self.project.join("overlays/lab/overlay.toml");
        let overlay = fs::read_to_string(&path).unwrap();
        let (before, rest) = overlay.split_once("max_connections = ").unwrap();
        let (_, after) = rest.split_once('\n').unwrap();
        fs::write(&path, format!("{before}max_connections = {connections}\n{after}")).unwrap();
        let arguments = ["build", "haproxy", "--site", "lab", "--format", "lxc", "--json"];
        let built = succeed(&mut imgbuild(self.project, &arguments));
        let built = read(&built);
        built["artifacts"][0]["image"].as_str().unwrap().to_owned()
    }

    /// The two nodes run these images, are ready, and have what was written before.
    #[track_caller]
    fn runs(&self, images: [&str; 2]) {
        let status = self.status();
        let nodes = status["nodes"].as_array().unwrap();
        assert_eq!(nodes.len(), 2, "{status}");
        for (node, image) in nodes.iter().zip(images) {
            assert_eq!(node["guest"]["image"], image, "{status}");
            assert_eq!(node["ready"], true, "{status}");
            let name = node["node"].as_str().unwrap();
            assert_eq!(self.in_guest(name, &format!("cat {MARK}")), name);
        }
    }

    /// Processes, mounts and control groups of the lab.
    fn remains(&self) -> Vec<String> {
        let place = self.place();
        let here = place.to_str().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(here) {
                found.push(command);
            }
        }
        let group = format!("imgbuild-lab-{}", Digest::of(here).short());
        for line in fs::read_to_string("/proc/mounts").unwrap().lines() {
            let mut fields = line.split(' ').skip(1);
            let (path, kind) = (fields.next().unwrap(), fields.next().unwrap());
            if path.contains(here) || kind == "cgroup2" && Path::new(path).join(&group).exists() {
                found.push(line.to_owned());
            }
        }
        if place.exists() {
            found.push(here.to_owned());
        }
        found
    }
}

impl Drop for Lab<'_> {
    fn drop(&mut self) {
        // What a failed test leaves behind must not fail it a second time.
        if self.place().exists() {
            let _ = self.command(&["down"]).output();
        }
    }
}

fn parent(pid: u64) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn a_site_is_deployed_swapped_killed_taken_back_and_gone() {
    let Some((_guard, project)) = project() else { return };
    let lab = Lab::new(project);
    let first = lab.build(1001);
    lab.succeed(&["up", "haproxy"]);
    for node in ["lb1", "lb2"] {
        lab.in_guest(node, &format!("echo {node} > {MARK}"));
    }
    // A certificate for each was made at random.
    let bundles =
        ["lb1", "lb2"].map(|node| lab.in_guest(node, "cat /etc/imgbuild/secrets/haproxy*"));
    assert!(bundles[0] != bundles[1] && bundles[0].contains("BEGIN CERTIFICATE"));
    lab.runs([&first, &first]);
    let again = lab.run(&["up"]);
    assert!(again.code == 0 && !again.stderr.contains("start guest"), "{}", again.stderr);

    let second = lab.build(1002);
    let plan = lab.succeed(&["plan"]);
    assert!(plan.contains("move the state volume secrets"), "{plan}");
    for step in ["create container", "drain guest", "start guest"] {
        swap_until(&lab, step);
    }
    lab.succeed(&["swap", "lb2", "--yes"]);
    lab.runs([&first, &second]);

    the_host_is_killed(&lab);
    lab.succeed(&["kill", "lb2"]);
    assert_eq!(lab.status()["nodes"][1]["guest"]["status"], "stopped");
    lab.succeed(&["up"]);
    lab.runs([&first, &second]);

    lab.succeed(&["rollback", "--yes"]);
    lab.runs([&first, &first]);
    lab.succeed(&["prune", "--yes"]);
    assert_eq!(fs::read_dir(lab.place().join("guests")).unwrap().count(), 2);

    assert!(!lab.remains().is_empty());
    lab.succeed(&["down"]);
    assert_eq!(lab.remains(), [""; 0]);
}

/// Swaps a node, and kills the command as soon as it has begun `step`.
fn swap_until(lab: &Lab<'_>, step: &str) {
    let mut process = lab
        .command(&["swap", "lb2", "--yes"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let reached = lines.map_while(Result::ok).any(|line| {
        let reached = line.contains(step);
        said.push(line);
        reached
    });
    assert!(reached, "no `{step}`: {said:?}");
    process.kill().unwrap();
    process.wait().unwrap();
}

fn the_host_is_killed(lab: &Lab<'_>) {
    let host = lab.status()["host"].as_u64().unwrap();
    let holder = i32::try_from(parent(parent(host))).unwrap();
    kill_process(Pid::from_raw(holder).unwrap(), Signal::KILL).unwrap();
    wait_for("the host to be dead", || {
        (!Path::new(&format!("/proc/{host}")).exists()).then_some(())
    });
    let status = lab.status();
    assert!(status["host"].is_null(), "{status}");
    let ended = lab.run(&["swap", "--yes"]);
    assert!(ended.stderr.contains("does not run") && ended.stderr.contains("lab up --site lab"));
    let ended = lab.run(&["up"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert!(ended.stderr.contains("which has the node"), "{}", ended.stderr);
}

#[test]
fn what_cannot_be_a_lab_is_said_with_the_remedy() {
    let Some((_guard, project)) = project() else { return };
    let directory = tempfile::Builder::new().prefix("lab-").tempdir_in("/var/tmp").unwrap();
    let here = directory.path().to_str().unwrap();
    fs::create_dir(directory.path().join("full")).unwrap();
    fs::write(directory.path().join("full/file"), "").unwrap();
    let full = format!("{here}/full");
    let cases: [(&[&str], &[&str]); 9] = [
        (&["up", "haproxy", "--site", "campus"], &["--site campus --format lxc"]),
        (&["up", "haprox", "--site", "lab"], &["no node that runs `haprox`", "`haproxy`"]),
        (&["up", "haproxy", "--site", "lab", "--lab", "a b"], &["letters, digits", "--lab"]),
        (&["up", "haproxy", "--site", "lab", "--artifacts", here], &["--format lxc"]),
        (&["up", "haproxy", "--site", "lab", "--bind", "haproxy:/nowhere:/srv"], &["not there"]),
        (&["up", "haproxy", "--site", "lab", "--bind", "web:/var:/srv"], &["no such node or role"]),
        (&["up", "haproxy", "--site", "lab", "--lab", &full], &["is not empty, and no lab"]),
        (
            &["exec", "lb1", "--site", "lab", "--", "true"],
            &["there is no lab in", "lab up --site lab"],
        ),
        (&["down", "--site", "lab"], &["there is no lab in"]),
    ];
    for (arguments, says) in cases {
        let mut command = imgbuild(project, &["lab"]);
        command.args(&arguments[..1]);
        if !arguments.contains(&"--lab") {
            command.args(["--lab", &format!("{here}/lab")]);
        }
        let ended = Ended::from(command.args(&arguments[1..]).output().unwrap());
        assert_eq!(ended.code, 1, "{arguments:?}: {}", ended.stderr);
        for text in says {
            assert!(ended.stderr.contains(text), "{arguments:?}: no `{text}` in {}", ended.stderr);
        }
        assert!(!directory.path().join("lab").exists(), "{arguments:?}");
    }
}
