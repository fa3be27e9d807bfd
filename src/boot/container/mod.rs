//! Runs a template as an unprivileged container, made, configured and started as Proxmox VE does it.

mod config;
mod lxc;
mod setup;
mod tree;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::host::PrivateHost;
use super::keeper::{Keeper, Launch};
use super::output::Output;
use super::{Error, Guest, Identity, Secrets, Volume};
use crate::progress::{Progress, Step};
pub use config::MountPoint;
pub use lxc::Lxc;

/// What root of every unprivileged container of Proxmox VE is outside of it.
pub(super) const GUEST_ROOT: u32 = 100_000;

/// How many ids such a container has.
pub(super) const GUEST_IDS: u32 = 65_536;

/// Where a guest finds its secrets.
pub const SECRETS: &str = "/etc/imgbuild/secrets";

/// How long each of the programs that make a container may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Imgbuild itself.
    pub executable: PathBuf,
    /// The template, `.tar.zst`.
    pub template: PathBuf,
    /// Who it is.
    pub identity: Identity,
    /// Its state volumes. Their `disk` is not used: a container has a new directory for each.
    pub volumes: Vec<Volume>,
    /// The files of its secrets directory.
    pub secrets: Secrets,
}

/// A running container.
pub struct Container {
    keeper: Keeper,
    lxc: Lxc,
    started: Instant,
}

/// Why no container can be booted here.
///
/// # Errors
///
/// [`Error::NotRoot`] or [`Error::Missing`].
pub fn available() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    let programs = ["lxc-start", "lxc-attach", "lxc-usernsexec", "newuidmap", "ip"];
    super::require("container", &programs, "lxc uidmap iproute2")
}

impl Container {
    /// Makes a container and starts it. The thread that calls this must outlive it.
    ///
    /// # Errors
    ///
    /// When it cannot be made here. Nothing is left of it then.
    pub fn start(spec: &Spec, progress: &dyn Progress) -> Result<Self, Error> {
        available()?;
        let mut keeper = Keeper::start(&spec.executable, true)?;
        keeper.launch(&Launch::Host(spec.identity.router().into_iter().collect()))?;
        let pid = keeper.expect("pid", PATIENCE)?;
        let pid = pid.parse().map_err(|error| Error::step("find the private host", error))?;
        keeper.expect("ready", PATIENCE)?;
        let host = PrivateHost::new(spec.executable.clone(), pid);
        let containers = keeper.directory().join("containers");
        let lxc = Lxc::new(host, containers, spec.identity.short_name());
        let started = Instant::now();
        let mut container = Self { keeper, lxc, started };
        let step = Step::start(progress, "unpack the template", None);
        container.lxc.unpack(&spec.template)?;
        step.finish("");
        container.configure(spec)?;
        container.started = Instant::now();
        container.lxc.start()?;
        Ok(container)
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    fn configure(&self, spec: &Spec) -> Result<(), Error> {
        let mut sources = Vec::new();
        for volume in &spec.volumes {
            let source = self.keeper.directory().join(format!("state-{}", volume.name));
            make_volume(&source)?;
            sources.push((source, volume.path.as_str(), false));
        }
        let secrets = self.keeper.directory().join("secrets");
        make_secrets(&secrets, &spec.secrets)?;
        sources.push((secrets, SECRETS, true));
        let mounts: Vec<MountPoint<'_>> = sources
            .iter()
            .map(|(source, target, read_only)| MountPoint { source, target, read_only: *read_only })
            .collect();
        self.lxc.configure(&spec.identity, &mounts, &[])
    }

    /// Opens a shell in the container, on the terminal of this process, until it is left.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn shell(&self) -> Result<(), Error> {
        self.lxc.shell().map(drop)
    }

    /// Ends the container and removes everything of it.
    ///
    /// # Errors
    ///
    /// [`Error::Left`].
    pub fn close(self) -> Result<(), Error> {
        self.keeper.close()
    }
}

impl Guest for Container {
    fn execute(&mut self, argv: &[&str], timeout: Duration) -> Result<Option<Output>, Error> {
        self.lxc.execute(argv, timeout)
    }

    fn has_ended(&mut self) -> bool {
        self.keeper.has_ended() || self.lxc.is_stopped()
    }

    fn console(&self) -> String {
        self.lxc.console()
    }

    fn memory(&mut self) -> Option<u64> {
        self.lxc.memory()
    }

    fn addresses(&mut self) -> Vec<String> {
        self.lxc.addresses()
    }
}

/// Makes the directory `path`, empty, a volume of a container.
///
/// # Errors
///
/// When it cannot be made, or is there already.
pub fn make_volume(path: &Path) -> Result<(), Error> {
    fs::create_dir(path).map_err(Error::io("make", path))?;
    own(path)
}

/// Makes the directory `path`, with a file for each secret, which only root of a container can read.
///
/// # Errors
///
/// When it cannot be made, or is there already.
pub fn make_secrets(path: &Path, secrets: &Secrets) -> Result<(), Error> {
    fs::create_dir(path).map_err(Error::io("make", path))?;
    restrict(path, 0o700)?;
    for secret in &secrets.0 {
        let path = path.join(&secret.name);
        fs::write(&path, &secret.content).map_err(Error::io("write", &path))?;
        restrict(&path, 0o400)?;
        own(&path)?;
    }
    own(path)
}

/// Gives `path` to root of the container.
fn own(path: &Path) -> Result<(), Error> {
    chown(path, Some(GUEST_ROOT), Some(GUEST_ROOT)).map_err(Error::io("change the owner of", path))
}

fn restrict(path: &Path, mode: u32) -> Result<(), Error> {
    let permissions = Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(Error::io("change the mode of", path))
}
