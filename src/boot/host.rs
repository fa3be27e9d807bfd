//! The private host of containers: namespaces of every kind but the user's, with a bridge and no way out.
//!
//! lxc(7) is made to run here as it does on a node of Proxmox VE: cgroup2 alone at the usual place, ids for
//! root in subuid(5), a host name. All mounts are private, so the machine sees none of them.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::process::{Resource, Rlimit, WaitOptions, getrlimit, setrlimit};
use rustix::thread::{UnshareFlags, move_into_link_name_space};

use super::Error;
use super::container::{GUEST_IDS, GUEST_ROOT};
use super::stage::{again, complain, say};
use crate::definition::Network;
use crate::sandbox::{die_with_parent, unshare};

/// The bridge that containers are plugged into.
pub(super) const BRIDGE: &str = "br0";

/// A fixed one: without an address of its own a bridge takes one of its ports', and another one whenever
/// a container stops, and the others would lose sight of it until their caches expire.
const BRIDGE_ADDRESS: &str = "02:00:00:00:00:01";

/// Where the host has its control groups.
pub(super) const CGROUPS: &str = "/sys/fs/cgroup";

/// The group of the host's own processes: a control group with controllers for its children may have no
/// process of its own (cgroups(7), "no internal processes"). lxc puts those of containers below that of the host's
/// first process.
pub(super) const OWN_GROUP: &str = "host";

/// As many open files as a Proxmox node gives its containers (systemd's `DefaultLimitNOFILE`, hard limit).
const OPEN_FILES: u64 = 524_288;

/// Where Debian keeps the programs that are called here. A plain user's `PATH` lacks some.
pub(super) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A private host that runs.
#[derive(Clone, Debug)]
pub struct PrivateHost {
    executable: PathBuf,
    pid: u32,
}

impl PrivateHost {
    /// The one whose first process has this number on this machine. `executable` is imgbuild.
    pub fn new(executable: PathBuf, pid: u32) -> Self {
        Self { executable, pid }
    }

    /// The number of its first process on this machine: `/proc/PID/ns` are its namespaces.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// A program on it, with the files of this machine. It dies with the thread that starts it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = again(&self.executable, "enter");
        command.arg(self.pid.to_string()).arg(program);
        command
    }

    /// Puts `addresses`, with their prefixes, on its bridge, as far as they are not there.
    ///
    /// # Errors
    ///
    /// What ip(8) finds fault with.
    pub fn give_addresses(&self, addresses: &[String]) -> Result<(), Error> {
        for address in addresses {
            let what = || format!("give {address} to the private host");
            self.ip(&["address", "replace", address, "dev", BRIDGE], what)?;
        }
        Ok(())
    }

    /// Makes what runs on it speak from `address`, which it has, and not from its own address there, to whom it speaks
    /// to in `networks`.
    ///
    /// # Errors
    ///
    /// What ip(8) finds fault with.
    pub fn speak_from(&self, address: IpAddr, networks: &[Network]) -> Result<(), Error> {
        let address = address.to_string();
        for network in networks {
            let network = network.to_string();
            let what = || format!("speak from {address} in {network}");
            self.ip(&["route", "replace", &network, "dev", BRIDGE, "src", &address], what)?;
        }
        Ok(())
    }

    fn ip(&self, arguments: &[&str], what: impl Fn() -> String) -> Result<(), Error> {
        let mut ip = self.command("ip");
        let output = ip.args(arguments).output().map_err(Error::io("execute", &self.executable))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::step(what(), said));
        }
        Ok(())
    }

    /// Imgbuild itself.
    pub(super) fn executable(&self) -> &Path {
        &self.executable
    }
}

/// The stage between the keeper and [`host`]: `DIRECTORY CGROUP ADDRESS/PREFIX…`.
pub(super) fn leave(arguments: &[OsString]) -> ExitCode {
    let [_, cgroup, ..] = arguments else { return complain("leaving", "arguments are missing") };
    let namespaces = UnshareFlags::NEWNS
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWCGROUP
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWPID;
    let left = die_with_parent()
        .map_err(io::Error::from)
        .and_then(|()| fs::write(Path::new(cgroup).join("cgroup.procs"), "0"))
        .and_then(|()| Ok(unshare(namespaces)?));
    if let Err(error) = left {
        return complain("leaving the machine's namespaces", error);
    }
    let mut command = again(Path::new("/proc/self/exe"), "host");
    let started =
        command.args(arguments).env_clear().env("PATH", PATH).stdin(Stdio::null()).spawn();
    let ended = started.and_then(|mut host| {
        say(&format!("pid {}", host.id()))?;
        host.wait()
    });
    match ended {
        Ok(status) => exit_code(status),
        Err(error) => complain("starting the private host", error),
    }
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

/// The first process of the private host. With it everything there ends.
pub(super) fn host(arguments: &[OsString]) -> ExitCode {
    let [directory, _, addresses @ ..] = arguments else {
        return complain("becoming a host", "arguments are missing");
    };
    let ready = die_with_parent()
        .map_err(io::Error::from)
        .and_then(|()| mount_all(Path::new(directory)))
        .and_then(|()| Ok(rustix::system::sethostname(b"imgbuild")?))
        .and_then(|()| set_up_network(addresses))
        .and_then(|()| say("ready"));
    if let Err(error) = ready {
        return complain("making a private host", error);
    }
    loop {
        // Whatever loses its parent here becomes a child of this process.
        if rustix::process::wait(WaitOptions::empty()).is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Says what failed besides why.
fn named<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> io::Error {
    let what = what.to_owned();
    move |error| {
        let error = error.into();
        io::Error::new(error.kind(), format!("{what}: {error}"))
    }
}

fn mount_all(directory: &Path) -> io::Result<()> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(named("making mounts private"))?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", "proc", quiet, None).map_err(named("mounting /proc"))?;
    mount_cgroups().map_err(named("mounting control groups"))?;
    map_ids(directory).map_err(named("giving ids to root"))?;
    // lxc keeps locks and sockets there, which nobody shall find after it.
    let options = Some(c"mode=0755");
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
        .map_err(named("mounting /run"))
}

fn mount_cgroups() -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let mut paths: Vec<&str> = mounts
        .lines()
        .map(|line| line.split(' '))
        .filter_map(|mut fields| {
            let path = fields.nth(1)?;
            fields.next().is_some_and(|kind| kind.starts_with("cgroup")).then_some(path)
        })
        .collect();
    paths.sort_unstable();
    for path in paths.into_iter().rev() {
        unmount(path, UnmountFlags::DETACH)?;
    }
    // With version 1 there is a tmpfs around them.
    let _ = unmount("/sys/fs/cgroup", UnmountFlags::DETACH);
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("sysfs", "/sys", "sysfs", quiet, None)?;
    mount("cgroup2", CGROUPS, "cgroup2", quiet, None)?;
    fs::create_dir_all(Path::new(CGROUPS).join(OWN_GROUP))?;
    join_own_group()
}

fn join_own_group() -> io::Result<()> {
    fs::write(Path::new(CGROUPS).join(OWN_GROUP).join("cgroup.procs"), "0")
}

/// newuidmap(1) grants only what subuid(5) lists. An overlay, because a file bound over the real one is
/// lost as soon as anybody outside replaces that by renaming.
fn map_ids(directory: &Path) -> io::Result<()> {
    let volatile = directory.join("etc");
    fs::create_dir_all(&volatile)?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", &volatile, "tmpfs", quiet, Some(c"mode=0755"))?;
    for name in ["upper", "work"] {
        fs::create_dir(volatile.join(name))?;
    }
    let shown = volatile.display();
    let options = format!("lowerdir=/etc,upperdir={shown}/upper,workdir={shown}/work");
    mount("overlay", "/etc", "overlay", quiet, Some(CString::new(options)?.as_c_str()))?;
    for file in ["/etc/subuid", "/etc/subgid"] {
        fs::write(file, format!("root:{GUEST_ROOT}:{GUEST_IDS}\n"))?;
    }
    Ok(())
}

fn set_up_network(addresses: &[OsString]) -> io::Result<()> {
    let ip = |arguments: &[&str]| {
        let output = Command::new("ip").args(arguments).output().map_err(named("ip"))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!(
                "ip {}: {}",
                arguments.join(" "),
                String::from_utf8_lossy(&output.stderr).trim()
            ))),
        }
    };
    ip(&["link", "set", "lo", "up"])?;
    ip(&["link", "add", BRIDGE, "address", BRIDGE_ADDRESS, "type", "bridge"])?;
    ip(&["link", "set", BRIDGE, "up"])?;
    for address in addresses {
        ip(&["address", "add", &address.to_string_lossy(), "dev", BRIDGE])?;
    }
    route()
}

/// Guests of one network reach those of another through here, as through the router of a site; it does not tell
/// them that they lie on one wire.
fn route() -> io::Result<()> {
    let settings = Path::new("/proc/sys/net");
    for interface in ["all", BRIDGE] {
        let setting = settings.join("ipv4/conf").join(interface).join("send_redirects");
        fs::write(setting, "0").map_err(named("keeping redirects back"))?;
    }
    fs::write(settings.join("ipv4/ip_forward"), "1").map_err(named("forwarding"))?;
    // A kernel without IPv6 has nothing to forward there.
    let _ = fs::write(settings.join("ipv6/conf/all/forwarding"), "1");
    Ok(())
}

/// Runs a command on the private host whose first process is PID: `PID PROGRAM ARGUMENT…`.
pub(super) fn enter(arguments: &[OsString]) -> ExitCode {
    let [pid, program, arguments @ ..] = arguments else {
        return complain("entering the private host", "arguments are missing");
    };
    let entered = die_with_parent()
        .map_err(io::Error::from)
        .and_then(|()| join_namespaces(&Path::new("/proc").join(pid).join("ns")))
        .and_then(|()| join_own_group())
        .and_then(|()| raise_limit());
    if let Err(error) = entered {
        return complain("entering the private host", error);
    }
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("PATH", PATH);
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    match command.status() {
        Ok(status) => exit_code(status),
        Err(error) => complain(&format!("starting `{}`", program.display()), error),
    }
}

fn join_namespaces(directory: &Path) -> io::Result<()> {
    // The mounts last: the others are found through those of the machine.
    let names = ["cgroup", "ipc", "uts", "net", "pid", "mnt"];
    let open = |name: &str| File::open(directory.join(name));
    let namespaces = names.iter().map(|name| open(name)).collect::<io::Result<Vec<_>>>()?;
    for namespace in namespaces {
        move_into_link_name_space(namespace.as_fd(), None)?;
    }
    Ok(())
}

fn raise_limit() -> io::Result<()> {
    let limits = |number| Rlimit { current: number, maximum: number };
    // Root of a container may not go beyond the hard limit.
    setrlimit(Resource::Nofile, limits(Some(OPEN_FILES)))
        .or_else(|_| setrlimit(Resource::Nofile, limits(getrlimit(Resource::Nofile).maximum)))?;
    Ok(())
}
