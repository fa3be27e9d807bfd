//! The campus in the lab, on three hosts of the fake.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::containers::Containers;
use super::pve::{Flavour, Guest as Model, Pve};
use super::support::images::Copy;
use super::support::lab::{Guest, Lab, unavailable};
use super::support::project::Ended;

const OVERLAY: &str = "overlays/lab/overlay.toml";

/// The site.
pub struct Site {
    pub project: Copy,
    pub lab: Arc<Lab>,
    pub pve: Pve,
    role: &'static str,
    /// The machine's processors are few: one of these at a time.
    _one: MutexGuard<'static, ()>,
}

impl Site {
    /// A site of which one role is looked at. `bridge` are the addresses of the lab, `overlay` is added to what
    /// the site says. None where it cannot be made, which is said.
    pub fn new(role: &'static str, bridge: &[&str], overlay: &str) -> Option<Self> {
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        if let Some(reason) = unavailable() {
            eprintln!("skipped: {reason}");
            return None;
        }
        let one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let lab = Arc::new(Lab::up(&format!("swap-{role}"), bridge));
        let listener = lab.on_network(|| TcpListener::bind("127.0.0.1:0").unwrap());
        let backing = Arc::new(Containers::new(Arc::clone(&lab)));
        let pve = Pve::start_backed(Flavour::V9, listener.join().unwrap(), backing);
        {
            let mut cluster = pve.cluster();
            cluster.clustered = true;
            cluster.nodes.extend([("pve2".to_owned(), true), ("pve3".to_owned(), true)]);
        }
        let hosting = format!(
            "\n[proxmox]\nurl = \"{}\"\nfingerprint = \"{}\"\npool = \"imgbuild\"\nartifacts = \"local\"\n\
             storage = \"local-lvm\"\nvmids = [4000, 4099]\ngrace_days = 0\n",
            pve.url(),
            pve.fingerprint()
        );
        let project =
            Copy::new(&format!("swap-{role}"), &[(OVERLAY, &hosting), (OVERLAY, overlay)]);
        project.lock(&[role]);
        Some(Self { project, lab, pve, role, _one: one })
    }

    /// Builds the role after a change to what the site says. Returns what is in the artifact's name.
    pub fn build(&self, change: impl FnOnce(String) -> String) -> String {
        self.project.edit(OVERLAY, change);
        let built = self.project.build("lxc", &[self.role], &[]);
        let name = built.last().unwrap().trim_end_matches(".tar.zst").to_owned();
        name.rsplit('-').next().unwrap().to_owned()
    }

    /// A file for `--secrets`.
    pub fn secret(&self, path: &str, content: &str) {
        self.project.append(&format!("secrets/{path}"), content);
        let directory = self.project.path().join("secrets");
        let path = directory.join(path);
        for (path, mode) in [(&*path, 0o600), (path.parent().unwrap(), 0o700), (&directory, 0o700)]
        {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }

    /// Runs `imgbuild VERB --site lab …` where the guests can be reached, and waits for its end.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = self.project.imgbuild();
        command
            .args(arguments)
            .args(["--site", "lab"])
            .env("IMGBUILD_PROXMOX_TOKEN", self.pve.token());
        let output: Output = self.lab.on_network(move || command.output().unwrap()).join().unwrap();
        Ended::from(output)
    }

    #[track_caller]
    pub fn succeed(&self, arguments: &[&str]) -> Ended {
        let ended = self.run(arguments);
        assert_eq!(ended.code, 0, "{arguments:?}:\n{}\n{}", ended.stdout, ended.stderr);
        ended
    }

    /// The numbers of a node's guests that run, and of those that do not.
    pub fn guests(&self, node: &str) -> (Vec<u32>, Vec<u32>) {
        let mut cluster = self.pve.cluster();
        cluster.look();
        let named = |guest: &Model| guest.config.get("hostname").is_some_and(|name| name == node);
        let own = cluster.guests.iter().filter(|(_, guest)| named(guest));
        let (run, rest): (Vec<_>, Vec<_>) = own.partition(|(_, guest)| guest.running);
        let number = |(vmid, _): (&u32, &Model)| *vmid;
        (run.into_iter().map(number).collect(), rest.into_iter().map(number).collect())
    }

    /// The number of the guest of a node that runs.
    #[track_caller]
    pub fn number(&self, node: &str) -> u32 {
        let (run, _) = self.guests(node);
        assert_eq!(run.len(), 1, "guests of {node} that run: {run:?}");
        run[0]
    }

    /// The guest of a node that runs, from the inside.
    #[track_caller]
    pub fn inside(&self, node: &str) -> Guest<'_> {
        self.lab.guest(&self.number(node).to_string())
    }

    /// What a container, running or not, has said on its console.
    pub fn console(&self, vmid: u32) -> String {
        let path = self.lab.directory().join(format!("containers/{vmid}/console.log"));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// Whether a container has a root on the disk.
    pub fn has_root(&self, vmid: u32) -> bool {
        self.lab.directory().join(format!("containers/{vmid}/rootfs")).exists()
    }
}
