//! Runs a template as an unprivileged container, made, configured and started as Proxmox VE does it.

mod config;
mod setup;
mod tree;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::keeper::{Keeper, Launch};
use super::output::{self, Output};
use super::stage::again;
use super::{Error, Guest, Identity, Secrets, Volume};
use crate::progress::{Progress, Step};
use config::{MountPoint, config};

/// What root of every unprivileged container of Proxmox VE is outside of it.
pub(super) const GUEST_ROOT: u32 = 100_000;

/// How many ids such a container has.
pub(super) const GUEST_IDS: u32 = 65_536;

/// Where a guest finds its secrets.
const SECRETS: &str = "/etc/imgbuild/secrets";

/// How long each of the programs that make a container may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The only program path of commands in a guest.
const GUEST_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

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
    executable: PathBuf,
    /// The first process of the private host, as seen from this machine.
    host: String,
    name: String,
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
        let host = keeper.expect("pid", PATIENCE)?;
        keeper.expect("ready", PATIENCE)?;
        let name = spec.identity.short_name().to_owned();
        let started = Instant::now();
        let executable = spec.executable.clone();
        let mut container = Self { keeper, executable, host, name, started };
        let step = Step::start(progress, "unpack the template", None);
        container.unpack(&spec.template)?;
        step.finish("");
        container.configure(spec)?;
        container.started = Instant::now();
        container.launch()?;
        Ok(container)
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// A command on the private host.
    fn on_host(&self, program: &str) -> Command {
        let mut command = again(&self.executable, "enter");
        command.arg(&self.host).arg(program);
        command
    }

    /// One of lxc's programs, for this container.
    fn lxc(&self, program: &str) -> Command {
        let mut command = self.on_host(program);
        command.arg("--lxcpath").arg(self.containers()).args(["--name", &self.name]);
        command
    }

    fn containers(&self) -> PathBuf {
        self.keeper.directory().join("containers")
    }

    fn directory(&self) -> PathBuf {
        self.containers().join(&self.name)
    }

    /// Unpacks the template with the very options of Proxmox VE (pve-container `PVE::LXC::Create`,
    /// `restore_tar_archive`), except that tar is given what is already decompressed.
    fn unpack(&self, template: &Path) -> Result<(), Error> {
        let rootfs = self.directory().join("rootfs");
        fs::create_dir_all(&rootfs).map_err(Error::io("make", &rootfs))?;
        own(&rootfs)?;
        let file = File::open(template).map_err(Error::io("read", template))?;
        let mut archive = zstd::Decoder::new(file).map_err(Error::io("read", template))?;
        let log = self.directory().join("tar.log");
        let errors = File::create(&log).map_err(Error::io("write", &log))?;
        let (uids, gids) =
            (format!("u:0:{GUEST_ROOT}:{GUEST_IDS}"), format!("g:0:{GUEST_ROOT}:{GUEST_IDS}"));
        let mut tar = self.on_host("lxc-usernsexec");
        tar.args(["-m", &uids, "-m", &gids, "--", "tar", "xpf", "-", "--one-file-system", "-p"])
            .args(["--sparse", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=user.*"])
            .args(["--xattrs-include=security.capability", "--warning=no-file-ignored"])
            .args(["--warning=no-xattr-write", "--skip-old-files", "--anchored"])
            .args(["--exclude", "./dev/*", "-C"])
            .arg(&rootfs)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors);
        let mut tar = tar.spawn().map_err(Error::io("execute", &self.executable))?;
        let copied = match tar.stdin.take() {
            Some(mut input) => io::copy(&mut archive, &mut input).map(drop),
            None => Ok(()),
        };
        let status = tar.wait().map_err(Error::io("execute", &self.executable))?;
        if !status.success() {
            let output = output::end_of(&log);
            return Err(Error::step(format!("unpack {}", template.display()), output));
        }
        copied.map_err(Error::io("unpack", template))
    }

    fn configure(&self, spec: &Spec) -> Result<(), Error> {
        let directory = self.directory();
        let rootfs = directory.join("rootfs");
        setup::set_up(&rootfs, &spec.identity)
            .map_err(|error| Error::step("set up the container as Proxmox VE does", error))?;
        let mut mounts = Vec::new();
        let mut sources = Vec::new();
        for volume in &spec.volumes {
            let source = self.keeper.directory().join(format!("state-{}", volume.name));
            fs::create_dir(&source).map_err(Error::io("make", &source))?;
            own(&source)?;
            sources.push((source, volume.path.as_str(), false));
        }
        sources.push((self.write_secrets(&spec.secrets)?, SECRETS, true));
        for (source, target, read_only) in &sources {
            mounts.push(MountPoint { source, target, read_only: *read_only });
        }
        let text = config(&self.name, &rootfs, &spec.identity.mac(), &mounts);
        let path = directory.join("config");
        fs::write(&path, text).map_err(Error::io("write", &path))
    }

    fn write_secrets(&self, secrets: &Secrets) -> Result<PathBuf, Error> {
        let directory = self.keeper.directory().join("secrets");
        fs::create_dir(&directory).map_err(Error::io("make", &directory))?;
        restrict(&directory, 0o700)?;
        for secret in &secrets.0 {
            let path = directory.join(&secret.name);
            fs::write(&path, &secret.content).map_err(Error::io("write", &path))?;
            restrict(&path, 0o400)?;
            own(&path)?;
        }
        own(&directory)?;
        Ok(directory)
    }

    fn launch(&self) -> Result<(), Error> {
        let action = "start the container";
        let mut command = self.lxc("lxc-start");
        command.arg("--logfile").arg(self.directory().join("lxc.log"));
        command.args(["--logpriority=INFO", "--daemon", "--console-log"]).arg(self.console_log());
        let ended = output::run(&mut command, PATIENCE);
        match ended.map_err(Error::io("execute", &self.executable))? {
            Some(output) if output.success() => Ok(()),
            Some(output) => {
                let log = output::end_of(&self.directory().join("lxc.log"));
                let errors = log.lines().filter(|line| line.contains(" ERROR "));
                let errors: Vec<&str> = errors.collect();
                let said = format!("{}\n{}", output.complaint(), errors.join("\n"));
                Err(Error::step(action, said))
            }
            None => Err(Error::step(action, "lxc-start does not end")),
        }
    }

    fn console_log(&self) -> PathBuf {
        self.directory().join("console.log")
    }

    /// Opens a shell in the container, on the terminal of this process, until it is left.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn shell(&self) -> Result<(), Error> {
        let mut command = self.attach();
        if let Some(terminal) = std::env::var_os("TERM") {
            let mut variable = std::ffi::OsString::from("--set-var=TERM=");
            variable.push(terminal);
            command.arg(variable);
        }
        command.args(["--set-var=HOME=/root", "--", "/bin/bash", "--login"]);
        command.status().map_err(Error::io("execute", &self.executable))?;
        Ok(())
    }

    fn attach(&self) -> Command {
        let mut command = self.lxc("lxc-attach");
        command.arg("--clear-env").arg(format!("--set-var={GUEST_PATH}"));
        command
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
        let mut command = self.attach();
        command.arg("--").args(argv);
        let ended = output::run(&mut command, timeout);
        ended.map_err(Error::io("execute", &self.executable))
    }

    fn has_ended(&mut self) -> bool {
        if self.keeper.has_ended() {
            return true;
        }
        let mut command = self.lxc("lxc-info");
        let state = output::run(command.args(["--state", "--no-humanize"]), PATIENCE);
        matches!(state, Ok(Some(output)) if output.text() == "STOPPED")
    }

    fn console(&self) -> String {
        output::end_of(&self.console_log())
    }

    fn memory(&mut self) -> Option<u64> {
        // Only where the machine gives its control groups this controller.
        let path = format!("/sys/fs/cgroup/lxc.payload.{}/memory.current", self.name);
        let output = output::run(self.on_host("cat").arg(path), PATIENCE).ok()??;
        output.success().then(|| output.text().parse().ok()).flatten()
    }

    fn addresses(&mut self) -> Vec<String> {
        let mut command = self.lxc("lxc-info");
        let output = output::run(command.args(["--ips", "--no-humanize"]), PATIENCE);
        let text = output.ok().flatten().map(|output| output.text()).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}

/// Gives `path` to root of the container.
fn own(path: &Path) -> Result<(), Error> {
    chown(path, Some(GUEST_ROOT), Some(GUEST_ROOT)).map_err(Error::io("change the owner of", path))
}

fn restrict(path: &Path, mode: u32) -> Result<(), Error> {
    let permissions = Permissions::from_mode(mode);
    fs::set_permissions(path, permissions).map_err(Error::io("change the mode of", path))
}
