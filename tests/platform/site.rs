//! The campus in a lab on this machine, driven as an operator drives it: by `imgbuild lab`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::images::Copy;
use crate::support::lab::succeed;
use crate::support::programs::read;

/// www-data of an unprivileged container, as the host sees it.
const WEB_SERVER: u32 = 100_033;

/// The roles that the lab has: ProxySQL's place is taken (`tests/data/sql-stand-in`), conference servers need
/// what Debian does not have.
pub const ROLES: [&str; 5] = ["haproxy", "proxysql", "galera", "moodle", "cache"];

/// What is changed besides what the lab's overlay has.
const VALUES: &str = "
[images.proxysql]
revision = 1

[images.cache]
sessions_memory_mib = 64
application_memory_mib = 64
";

/// Tests share the copy, and the machine.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A copy of the project, its images, and a lab.
pub struct Site {
    _alone: MutexGuard<'static, ()>,
    copy: Copy,
    lab: PathBuf,
    pub dataroot: PathBuf,
    roles: Vec<&'static str>,
    sources: Vec<String>,
}

impl Site {
    /// Builds the images of these roles, without starting anything. Scalelite is one more if it can be built.
    pub fn build(roles: &[&'static str], code: &Path, scalelite: Option<Vec<String>>) -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let copy = Copy::new("project-platform", &[("overlays/lab/overlay.toml", VALUES)]);
        put_a_stand_in_for_proxysql(copy.path());
        // Nothing here takes a quarter of an hour, and some images of the test are never ready.
        for role in ["moodle", "galera"] {
            copy.edit(&format!("images/{role}/image.toml"), |definition| {
                definition.replace("[swap]", "[swap]\nready_within = 150")
            });
        }
        // Addresses of sockets below it are short, and files of guests are not in memory.
        let lab = PathBuf::from(format!("/var/tmp/imgbuild-{}-platform", std::process::id()));
        let dataroot = lab.with_extension("dataroot");
        let mut roles = roles.to_vec();
        let mut sources = vec![format!("moodle={}", code.display())];
        if let Some(more) = scalelite {
            roles.push("scalelite");
            sources.extend(more);
        }
        copy.lock(&roles);
        let site = Self { _alone: alone, copy, lab, dataroot, roles, sources };
        site.rebuild();
        site
    }

    /// `imgbuild lab VERB`.
    fn command(&self, verb: &str) -> Command {
        let mut command = self.copy.imgbuild();
        command.args(["lab", verb, "--site", "lab", "--lab"]).arg(&self.lab);
        command
    }

    fn rebuild(&self) {
        // What was built before is not wanted any more, and some of it is no more than another source.
        let _ = fs::remove_dir_all(self.copy.out());
        self.copy.build("lxc", &self.roles, &self.sources);
    }

    /// Changes a line of the site's overlay, and builds what that changes.
    pub fn change(&self, from: &str, to: &str) {
        self.copy.edit("overlays/lab/overlay.toml", |overlay| {
            assert!(overlay.contains(from), "{from} is not in the overlay");
            overlay.replacen(from, to, 1)
        });
        self.rebuild();
    }

    /// Whether it has this role.
    pub fn has(&self, role: &str) -> bool {
        self.roles.contains(&role)
    }

    /// Deploys all roles but Scalelite, which needs a secret that nobody can make up. How long it took. What was
    /// there and does not run any more is started.
    pub fn up(&self) -> Duration {
        fs::create_dir_all(&self.dataroot).unwrap();
        std::os::unix::fs::chown(&self.dataroot, Some(WEB_SERVER), Some(WEB_SERVER)).unwrap();
        // What the image `files` puts into the volume that it serves.
        fs::write(self.dataroot.join(".imgbuild-dataroot"), "").unwrap();
        let start = Instant::now();
        let mut up = self.command("up");
        if self.roles.contains(&"moodle") {
            let bind = format!("moodle:{}:/var/lib/moodledata", self.dataroot.display());
            up.arg("--bind").arg(bind);
        }
        succeed(up.args(self.roles.iter().filter(|role| **role != "scalelite")));
        start.elapsed()
    }

    /// Deploys one role more.
    pub fn up_with(&self, role: &str) {
        succeed(self.command("up").arg(role));
    }

    /// Lays a secret of an own value beside those that the lab made.
    pub fn lay_secret(&self, name: &str, value: &str) {
        fs::write(self.lab.join("secrets").join(name), value).unwrap();
    }

    /// Runs a command on the host of the lab.
    pub fn on_host(&self, command: &[&str]) {
        succeed(self.command("exec").args(["--host", "--"]).args(command));
    }

    /// Replaces the guest of a node, or those of a role. How long it took.
    pub fn swap(&self, name: &str) -> Duration {
        let start = Instant::now();
        succeed(self.command("swap").args(["--yes", name]));
        start.elapsed()
    }

    /// Tries to replace the guests of a role.
    pub fn try_swap(&self, role: &str) -> Output {
        self.command("swap").args(["--yes", role]).output().unwrap()
    }

    pub fn status(&self) -> Value {
        read(&succeed(self.command("status").arg("--json")))
    }

    /// The images that the nodes of a role run.
    pub fn images(&self, role: &str) -> Vec<String> {
        let status = self.status();
        let nodes = status["nodes"].as_array().unwrap().iter();
        nodes
            .filter(|node| node["role"] == role)
            .map(|node| node["guest"]["image"].to_string())
            .collect()
    }

    /// The first process of the lab's host.
    pub fn host(&self) -> u32 {
        self.status()["host"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a host")
    }

    /// A secret that all nodes share.
    pub fn secret(&self, name: &str) -> String {
        let secret = fs::read_to_string(self.lab.join("secrets").join(name)).unwrap();
        secret.trim_end().to_owned()
    }

    /// Runs a shell command in the guest of a node.
    pub fn attempt(&self, node: &str, script: &str) -> Output {
        let mut command = self.command("exec");
        command.args([node, "--", "/bin/sh", "-c", script]).output().unwrap()
    }

    /// Runs a shell command that must succeed. What it prints.
    pub fn run(&self, node: &str, script: &str) -> String {
        let mut command = self.command("exec");
        succeed(command.args([node, "--", "/bin/sh", "-c", script])).trim_end().to_owned()
    }

    /// What a statement says on one node of the database, with all that the cluster has acknowledged before.
    pub fn sql(&self, node: &str, statement: &str) -> String {
        let script = format!(
            "mariadb --batch --skip-column-names --execute='SET SESSION wsrep_sync_wait = 1; {statement}'"
        );
        self.run(node, &script)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.command("down").output();
        let _ = fs::remove_dir_all(&self.dataroot);
    }
}

/// Gives the role `proxysql` another definition, with files of `haproxy`: the same way of moving an address and
/// of draining.
fn put_a_stand_in_for_proxysql(project: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let copy = |from: PathBuf, to: PathBuf| {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        succeed(Command::new("cp").arg("-aT").args([from, to]));
    };
    let proxy = project.join("images/proxysql");
    fs::remove_dir_all(&proxy).unwrap();
    for part in ["image.toml", "files"] {
        copy(source.join("tests/data/sql-stand-in").join(part), proxy.join(part));
    }
    for part in ["etc/keepalived", "usr/lib/imgbuild", "usr/lib/systemd"] {
        copy(source.join("images/haproxy/files").join(part), proxy.join("files").join(part));
    }
}
