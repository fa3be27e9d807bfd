//! A container on a private host, by Debian's programs of lxc.

use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::config::{MountPoint, config};
use super::{GUEST_IDS, GUEST_ROOT, PATIENCE, own, setup};
use crate::boot::host::{CGROUPS, OWN_GROUP, PrivateHost};
use crate::boot::output::{self, Output};
use crate::boot::{Error, Identity};

/// The only program path of commands in a guest.
const GUEST_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";

/// A container with a directory of its own among the others of its host.
#[derive(Clone, Debug)]
pub struct Lxc {
    host: PrivateHost,
    containers: PathBuf,
    name: String,
}

impl Lxc {
    /// The container `name` of `host`, with the directory of this name in `containers`.
    pub fn new(host: PrivateHost, containers: PathBuf, name: impl Into<String>) -> Self {
        Self { host, containers, name: name.into() }
    }

    fn directory(&self) -> PathBuf {
        self.containers.join(&self.name)
    }

    fn rootfs(&self) -> PathBuf {
        self.directory().join("rootfs")
    }

    /// One of lxc's programs, for this container.
    fn program(&self, program: &str) -> Command {
        let mut command = self.host.command(program);
        command.arg("--lxcpath").arg(&self.containers).args(["--name", &self.name]);
        command
    }

    fn not_executed(&self) -> impl FnOnce(io::Error) -> Error {
        Error::io("execute", self.host.executable())
    }

    /// Unpacks the template with the very options of Proxmox VE (pve-container `PVE::LXC::Create`,
    /// `restore_tar_archive`), except that tar is given what is already decompressed.
    ///
    /// # Errors
    ///
    /// When it cannot be read or unpacked.
    pub fn unpack(&self, template: &Path) -> Result<(), Error> {
        let rootfs = self.rootfs();
        fs::create_dir_all(&rootfs).map_err(Error::io("make", &rootfs))?;
        own(&rootfs)?;
        let file = File::open(template).map_err(Error::io("read", template))?;
        let mut archive = zstd::Decoder::new(file).map_err(Error::io("read", template))?;
        let log = self.directory().join("tar.log");
        let errors = File::create(&log).map_err(Error::io("write", &log))?;
        let (uids, gids) =
            (format!("u:0:{GUEST_ROOT}:{GUEST_IDS}"), format!("g:0:{GUEST_ROOT}:{GUEST_IDS}"));
        let mut tar = self.host.command("lxc-usernsexec");
        tar.args(["-m", &uids, "-m", &gids, "--", "tar", "xpf", "-", "--one-file-system", "-p"])
            .args(["--sparse", "--numeric-owner", "--acls", "--xattrs", "--xattrs-include=user.*"])
            .args(["--xattrs-include=security.capability", "--warning=no-file-ignored"])
            .args(["--warning=no-xattr-write", "--skip-old-files", "--anchored"])
            .args(["--exclude", "./dev/*", "-C"])
            .arg(&rootfs)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(errors);
        let mut tar = tar.spawn().map_err(self.not_executed())?;
        let copied = match tar.stdin.take() {
            Some(mut input) => io::copy(&mut archive, &mut input).map(drop),
            None => Ok(()),
        };
        let status = tar.wait().map_err(self.not_executed())?;
        if !status.success() {
            let output = output::end_of(&log);
            return Err(Error::step(format!("unpack {}", template.display()), output));
        }
        copied.map_err(Error::io("unpack", template))
    }

    /// Makes it the guest `identity`, with `mounts`, where no name server knows `names`.
    ///
    /// # Errors
    ///
    /// When its files cannot be changed, or its configuration cannot be written.
    pub fn configure(
        &self,
        identity: &Identity,
        mounts: &[MountPoint<'_>],
        names: &[(IpAddr, String)],
    ) -> Result<(), Error> {
        let rootfs = self.rootfs();
        setup::set_up(&rootfs, identity, names)
            .map_err(|error| Error::step("set up the container as Proxmox VE does", error))?;
        let text = config(identity.short_name(), &rootfs, &identity.mac(), mounts);
        let path = self.directory().join("config");
        fs::write(&path, text).map_err(Error::io("write", &path))
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// What lxc finds fault with.
    pub fn start(&self) -> Result<(), Error> {
        let action = "start the container";
        let log = self.directory().join("lxc.log");
        let mut command = self.program("lxc-start");
        command.arg("--logfile").arg(&log);
        command.args(["--logpriority=INFO", "--daemon", "--console-log"]).arg(self.console_log());
        match output::run(&mut command, PATIENCE).map_err(self.not_executed())? {
            Some(output) if output.success() => Ok(()),
            Some(output) => {
                let log = output::end_of(&log);
                let errors = log.lines().filter(|line| line.contains(" ERROR "));
                let errors: Vec<&str> = errors.collect();
                let said = format!("{}\n{}", output.complaint(), errors.join("\n"));
                Err(Error::step(action, said))
            }
            None => Err(Error::step(action, "lxc-start does not end")),
        }
    }

    /// Asks it to shut down, and does not wait for that.
    ///
    /// # Errors
    ///
    /// What lxc finds fault with.
    pub fn ask_to_stop(&self) -> Result<(), Error> {
        self.stop_with("--nowait", "ask the container to shut down")
    }

    /// Ends it at once, as if its power were cut.
    ///
    /// # Errors
    ///
    /// What lxc finds fault with.
    pub fn kill(&self) -> Result<(), Error> {
        self.stop_with("--kill", "stop the container")
    }

    fn stop_with(&self, how: &str, action: &str) -> Result<(), Error> {
        let mut command = self.program("lxc-stop");
        match output::run(command.arg(how), PATIENCE).map_err(self.not_executed())? {
            Some(output) if output.success() => Ok(()),
            Some(output) => Err(Error::step(action, output.complaint())),
            None => Err(Error::step(action, "lxc-stop does not end")),
        }
    }

    fn console_log(&self) -> PathBuf {
        self.directory().join("console.log")
    }

    /// What stands on its console.
    pub fn console(&self) -> String {
        output::end_of(&self.console_log())
    }

    /// Opens a shell in it, on the terminal of this process, until it is left.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn shell(&self) -> Result<ExitStatus, Error> {
        let mut command = self.attach();
        if let Some(terminal) = std::env::var_os("TERM") {
            let mut variable = std::ffi::OsString::from("--set-var=TERM=");
            variable.push(terminal);
            command.arg(variable);
        }
        command.args(["--set-var=HOME=/root", "--", "/bin/bash", "--login"]);
        command.status().map_err(self.not_executed())
    }

    /// Runs a program in it, with the streams of this process.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn run(&self, argv: &[String]) -> Result<ExitStatus, Error> {
        let mut command = self.attach();
        command.arg("--").args(argv).status().map_err(self.not_executed())
    }

    /// Runs a program in it; none if it has not ended within `timeout`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn execute(&self, argv: &[&str], timeout: Duration) -> Result<Option<Output>, Error> {
        let mut command = self.attach();
        command.arg("--").args(argv);
        output::run(&mut command, timeout).map_err(self.not_executed())
    }

    fn attach(&self) -> Command {
        let mut command = self.program("lxc-attach");
        command.arg("--clear-env").arg(format!("--set-var={GUEST_PATH}"));
        command
    }

    /// Whether lxc says that it has stopped.
    pub fn is_stopped(&self) -> bool {
        let mut command = self.program("lxc-info");
        let state = output::run(command.args(["--state", "--no-humanize"]), PATIENCE);
        matches!(state, Ok(Some(output)) if output.text() == "STOPPED")
    }

    /// The memory that it uses, in bytes, if that is counted here.
    pub fn memory(&self) -> Option<u64> {
        // Only where the machine gives its control groups this controller.
        let path = format!("{CGROUPS}/{OWN_GROUP}/lxc.payload.{}/memory.current", self.name);
        let output = output::run(self.host.command("cat").arg(path), PATIENCE).ok()??;
        output.success().then(|| output.text().parse().ok()).flatten()
    }

    /// Its addresses.
    pub fn addresses(&self) -> Vec<String> {
        let mut command = self.program("lxc-info");
        let output = output::run(command.args(["--ips", "--no-humanize"]), PATIENCE);
        let text = output.ok().flatten().map(|output| output.text()).unwrap_or_default();
        text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
    }
}
