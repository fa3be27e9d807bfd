//! Runs a disk as a virtual machine of QEMU.

mod accelerator;
mod arguments;
pub(crate) mod drives;

use std::ffi::OsString;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::agent::{self, Agent, Interface};
use super::keeper::{Keeper, Launch};
use super::watch::console_tail;
use super::{Error, Guest, Identity, Output, Secrets, Volume, output, terminal};
use arguments::{DataDisk, OVMF_CODE, SECRETS_SERIAL};

/// The program.
const PROGRAM: &str = "qemu-system-x86_64";

/// The variables that OVMF starts with.
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";

/// Size of a new state disk, in bytes. It takes only as much room as is written.
const STATE_SIZE: u64 = 8 << 30;

/// How long QEMU may take to make its sockets.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the agent of a running machine may take for a small question.
const QUESTION: Duration = Duration::from_secs(60);

/// What runs the guest's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor itself.
    Kvm,
    /// QEMU, ten to twenty times slower.
    Emulation,
}

/// What starts the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// A BIOS: what Proxmox VE gives a machine unless told otherwise.
    #[default]
    SeaBios,
    /// UEFI, with variables as they come, without Secure Boot.
    Ovmf,
}

/// What the first disk is connected to. The others are always virtio-scsi.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bus {
    /// `scsi0` with `scsihw=virtio-scsi-single` on Proxmox VE.
    #[default]
    VirtioScsi,
    /// `virtio0`.
    VirtioBlk,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Imgbuild itself.
    pub executable: PathBuf,
    /// The first disk, qcow2 or raw. It is never written to.
    pub disk: PathBuf,
    /// What runs it: [`Accelerator::detect`].
    pub accelerator: Accelerator,
    /// What starts it.
    pub firmware: Firmware,
    /// What the first disk is connected to.
    pub bus: Bus,
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Its state volumes, each a disk with the serial number `state-NAME`.
    pub volumes: Vec<Volume>,
    /// The files on the disk with the serial number `imgbuild-secrets`; without any there is no such disk.
    pub secrets: Secrets,
    /// Who it is, told by a cloud-init drive. Without it there is no such drive.
    pub identity: Option<Identity>,
    /// A password for root, told by the cloud-init drive.
    pub password: Option<String>,
    /// More arguments for QEMU. Only for tests.
    pub extra_arguments: Vec<OsString>,
}

/// A running machine. Dropping it ends it.
pub struct Machine {
    keeper: Keeper,
    agent: Agent,
    started: Instant,
}

/// Why no virtual machine can be booted here.
///
/// # Errors
///
/// [`Error::Missing`].
pub fn available() -> Result<(), Error> {
    super::require("virtual machine", &[PROGRAM], "qemu-system-x86 ovmf")
}

impl Machine {
    /// Makes a machine and starts it. The thread that calls this must outlive it.
    ///
    /// # Errors
    ///
    /// When it cannot be made here. Nothing is left of it then.
    pub fn start(spec: &Spec) -> Result<Self, Error> {
        available()?;
        let disk = fs::canonicalize(&spec.disk).map_err(Error::io("read", &spec.disk))?;
        let format = drives::format(&disk).map_err(Error::io("read", &disk))?;
        let mut keeper = Keeper::start(&spec.executable, false)?;
        let directory = keeper.directory().to_owned();
        let data_disks = make_disks(spec, &directory)?;
        let variables = directory.join("variables.fd");
        if spec.firmware == Firmware::Ovmf {
            let help = |_| Error::Missing {
                what: "virtual machine with OVMF",
                programs: format!("{OVMF_CODE} and {OVMF_VARIABLES} are"),
                packages: "ovmf",
            };
            fs::metadata(OVMF_CODE).map_err(help)?;
            fs::copy(OVMF_VARIABLES, &variables).map_err(help)?;
        }
        let argv = arguments::arguments(&arguments::Machine {
            name: spec.identity.as_ref().map_or("imgbuild", Identity::short_name),
            accelerator: spec.accelerator,
            firmware: (spec.firmware, &variables),
            disk: (&disk, format),
            bus: spec.bus,
            data_disks: &data_disks,
            memory_mib: spec.memory_mib,
            processors: match spec.accelerator {
                Accelerator::Kvm => processors(),
                // Emulated processors wait for one another more than they get done.
                Accelerator::Emulation => 1,
            },
            identity: spec.identity.as_ref(),
            directory: &directory,
            extra: &spec.extra_arguments,
        });
        // Where QEMU puts what is written to the first disk.
        let environment = vec![("TMPDIR".into(), directory.into_os_string())];
        let started = Instant::now();
        keeper.launch(&Launch::Program { argv, environment })?;
        let agent = Agent::new(connect(&mut keeper, "agent.sock")?);
        Ok(Self { keeper, agent, started })
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Waits until the guest's agent answers.
    ///
    /// # Errors
    ///
    /// [`Error::Timeout`] after `timeout`, and [`Error::Stopped`] when the machine ends.
    pub fn wait_for_agent(&mut self, timeout: Duration) -> Result<(), Error> {
        match self.agent.synchronise(timeout) {
            Ok(()) => Ok(()),
            Err(error) => Err(self.explained(error, "waiting for the guest agent", timeout)),
        }
    }

    /// Runs a program, an absolute path, and waits for its end.
    ///
    /// # Errors
    ///
    /// When it cannot be started, or has not ended within `timeout`.
    pub fn exec(&mut self, argv: &[&str], timeout: Duration) -> Result<Output, Error> {
        match self.agent.execute(argv, timeout) {
            Ok(Some(output)) => Ok(output),
            Ok(None) => Err(self.timeout(&format!("waiting for `{}`", argv.join(" ")), timeout)),
            Err(error) => Err(self.explained(error, "waiting for the guest agent", timeout)),
        }
    }

    /// Starts the guest again from inside, and waits until its agent answers again.
    ///
    /// # Errors
    ///
    /// When the guest is not back within `timeout`.
    pub fn reboot(&mut self, timeout: Duration) -> Result<(), Error> {
        // Different after every start (random(4)).
        const BOOT: [&str; 2] = ["/usr/bin/cat", "/proc/sys/kernel/random/boot_id"];
        let deadline = Instant::now() + timeout;
        let before = self.exec(&BOOT, QUESTION)?.text();
        self.agent.shut_down(true)?;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.timeout("waiting for the guest to start again", timeout));
            }
            let now = self
                .agent
                .synchronise(left.min(QUESTION))
                .and_then(|()| self.agent.execute(&BOOT, left.min(QUESTION)));
            match now {
                Ok(Some(output)) if output.success() && output.text() != before => return Ok(()),
                Err(error @ agent::Error::Closed(_)) => {
                    return Err(self.explained(error, "starting again", timeout));
                }
                // Not down yet, or not up again.
                _ => std::thread::sleep(Duration::from_millis(500)),
            }
        }
    }

    /// The guest's interfaces, as its agent tells them.
    ///
    /// # Errors
    ///
    /// When the agent does not answer.
    pub fn interfaces(&mut self) -> Result<Vec<Interface>, Error> {
        Ok(self.agent.interfaces()?)
    }

    /// What has been on the serial console so far, the last 4 MiB of it.
    pub fn console(&self) -> String {
        output::end_of(&self.keeper.directory().join("console.log"))
    }

    /// Powers the guest off from inside, as Proxmox VE does, and removes everything of it.
    ///
    /// # Errors
    ///
    /// When it is still running after `timeout`; it is ended all the same.
    pub fn power_off(mut self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        self.agent.shut_down(false)?;
        while !self.keeper.has_ended() {
            if Instant::now() >= deadline {
                return Err(self.timeout("waiting for the guest to power off", timeout));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.close()
    }

    /// Ends the machine at once, as a power failure would, and removes everything of it.
    ///
    /// # Errors
    ///
    /// [`Error::Left`].
    pub fn close(self) -> Result<(), Error> {
        self.keeper.close()
    }

    /// Joins the terminal of this process to the serial console until the user leaves or the machine
    /// ends.
    ///
    /// # Errors
    ///
    /// When terminal or console fail.
    pub fn shell(&mut self) -> Result<(), Error> {
        let mut console = connect(&mut self.keeper, "console.sock")?;
        let path = self.keeper.directory().join("console.sock");
        terminal::join(&mut console).map_err(Error::io("use", &path))
    }

    fn explained(&mut self, error: agent::Error, what: &str, timeout: Duration) -> Error {
        match error {
            agent::Error::Silent => self.timeout(what, timeout),
            agent::Error::Closed(_) => self.stopped(what),
            other => other.into(),
        }
    }

    fn timeout(&self, what: &str, after: Duration) -> Error {
        Error::Timeout { what: what.to_owned(), after, console: console_tail(self) }
    }

    fn stopped(&self, when: &str) -> Error {
        // If QEMU had something to say, that is the cause.
        let log = self.keeper.log();
        let console = format!("{}\n{log}", console_tail(self)).trim().to_owned();
        Error::Stopped { when: format!("while {when}"), console }
    }
}

impl Guest for Machine {
    fn execute(&mut self, argv: &[&str], timeout: Duration) -> Result<Option<Output>, Error> {
        match self.agent.execute(argv, timeout) {
            Ok(output) => Ok(output),
            Err(agent::Error::Silent) => Ok(None),
            Err(error) => Err(self.explained(error, "waiting for the guest agent", timeout)),
        }
    }

    fn has_ended(&mut self) -> bool {
        self.keeper.has_ended()
    }

    fn console(&self) -> String {
        Self::console(self)
    }

    fn memory(&mut self) -> Option<u64> {
        let output = self.agent.execute(&["/usr/bin/cat", "/proc/meminfo"], QUESTION).ok()??;
        used_memory(&output.text())
    }

    fn addresses(&mut self) -> Vec<String> {
        let interfaces = self.agent.interfaces().unwrap_or_default();
        let addresses = interfaces.into_iter().flat_map(|interface| interface.addresses);
        let wide = |address: &std::net::IpAddr| match address {
            std::net::IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
            std::net::IpAddr::V6(address) => {
                !address.is_loopback() && !address.is_unicast_link_local()
            }
        };
        let addresses = addresses.filter_map(|address| address.address.parse().ok());
        addresses.filter(wide).map(|address| address.to_string()).collect()
    }
}

/// Bytes in use, from the text of /proc/meminfo (proc_meminfo(5)), which counts in KiB.
fn used_memory(text: &str) -> Option<u64> {
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    Some(field("MemTotal")?.checked_sub(field("MemAvailable")?)? * 1024)
}

/// More than two make a guest no faster that is only started.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, |count| count.get().min(2))
}

fn make_disks(spec: &Spec, directory: &Path) -> Result<Vec<DataDisk>, Error> {
    let mut disks = Vec::new();
    for volume in &spec.volumes {
        let serial = Some(format!("state-{}", volume.name));
        let path = match &volume.disk {
            Some(path) => fs::canonicalize(path).map_err(Error::io("read", path))?,
            None => {
                let path = directory.join(format!("state-{}.raw", volume.name));
                drives::make_empty(&path, STATE_SIZE).map_err(Error::io("make", &path))?;
                path
            }
        };
        let volatile = volume.disk.is_none();
        disks.push(DataDisk { path, serial, read_only: false, volatile });
    }
    if !spec.secrets.0.is_empty() {
        let path = directory.join("secrets.raw");
        let files: Vec<(&str, &str)> =
            spec.secrets.0.iter().map(|file| (file.name.as_str(), file.content.as_str())).collect();
        drives::write_volume(&path, b"IMGSECRETS ", &files).map_err(Error::io("make", &path))?;
        let serial = Some(SECRETS_SERIAL.to_owned());
        disks.push(DataDisk { path, serial, read_only: true, volatile: false });
    }
    if let Some(identity) = &spec.identity {
        let path = directory.join("cidata.raw");
        let user_data = identity.user_data(spec.password.as_deref());
        let (network, metadata) = (identity.network_config(), identity.meta_data(&user_data));
        let files = [
            ("user-data", user_data.as_str()),
            ("network-config", &network),
            ("meta-data", &metadata),
            ("vendor-data", ""),
        ];
        drives::write_volume(&path, b"cidata     ", &files).map_err(Error::io("make", &path))?;
        disks.push(DataDisk { path, serial: None, read_only: true, volatile: false });
    }
    Ok(disks)
}

/// Connects to a socket that QEMU is about to make.
fn connect(keeper: &mut Keeper, name: &str) -> Result<UnixStream, Error> {
    let path = keeper.directory().join(name);
    let start = Instant::now();
    loop {
        match UnixStream::connect(&path) {
            Ok(stream) => return Ok(stream),
            Err(_) if keeper.has_ended() => return Err(Error::step("start QEMU", keeper.log())),
            Err(error) if start.elapsed() > PATIENCE => {
                return Err(Error::io("connect to", &path)(error));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_in_use_is_what_is_not_available() {
        let text = "MemTotal:        2010000 kB\nMemFree: 5 kB\nMemAvailable:    1010000 kB\n";
        assert_eq!(used_memory(text), Some(1_000_000 * 1024));
        assert_eq!(used_memory("MemTotal: x kB"), None);
    }
}
