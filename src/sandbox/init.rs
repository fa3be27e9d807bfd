//! Runs one command of an image with the image's tree as its root.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use rustix::fs::Mode;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, pivot_root, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, UnshareFlags, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};
use serde::{Deserialize, Serialize};

use super::{namespace, stage};

/// A command to run in a tree. `argv[0]` is found in the tree's `PATH`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Invocation {
    /// The tree that becomes `/`.
    pub root: PathBuf,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub environment: Vec<(String, String)>,
}

/// Capabilities that package scripts use. Everything else is dropped for good: no mounting, no
/// tracing, no network administration, no device nodes.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::AUDIT_WRITE);

/// Binds this program to `directory/imgbuild`, read-only, and returns that path. Commands of an image
/// are started through it, so that code which gets hold of `/proc/PID/exe` of a stage finds a file
/// that cannot be opened for writing (the way of CVE-2019-5736).
///
/// # Errors
/// When the mount is refused.
pub fn read_only_executable(directory: &Path) -> io::Result<PathBuf> {
    let path = directory.join("imgbuild");
    File::create(&path)?;
    // By its path: the magic link leads to the mount namespace that this process was started in,
    // and mounts of another namespace cannot be bound.
    mount_bind(std::env::current_exe()?, &path)?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    // Flags that the host's mount has are locked in a user namespace and must be kept.
    mount_remount(&path, flags, "")
        .or_else(|_| mount_remount(&path, flags | MountFlags::NOATIME, ""))
        .or_else(|_| mount_remount(&path, flags | MountFlags::RELATIME, ""))?;
    Ok(path)
}

/// Runs `invocation` from the worker and waits for it. `executable` comes from
/// [`read_only_executable`].
///
/// # Errors
/// When the stage cannot be started. A command that cannot be started ends with status 127.
pub fn invoke(
    executable: &Path,
    invocation: &Invocation,
    input: Stdio,
    output: Stdio,
    errors: Stdio,
) -> io::Result<ExitStatus> {
    let argument = serde_json::to_string(invocation)?;
    stage::again(executable, "enter", &argument).stdin(input).stdout(output).stderr(errors).status()
}

fn complain(what: &str, error: impl std::fmt::Display) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(io::stderr(), "imgbuild: {what}: {error}");
    ExitCode::from(126)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}

/// The stage between the worker and [`init`].
pub(super) fn enter(argument: Option<&OsString>) -> ExitCode {
    let Some(argument) = argument.and_then(|text| text.to_str()) else {
        return complain("entering the sandbox", "no command given");
    };
    let left = stage::die_with_parent()
        .and_then(|()| namespace::unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID));
    if let Err(error) = left {
        return complain("leaving the worker's namespaces", error);
    }
    let executable = match fs::read_link("/proc/self/exe") {
        Ok(path) => path,
        Err(error) => return complain("finding imgbuild", error),
    };
    let started = stage::again(&executable, "init", argument).stdin(Stdio::inherit()).status();
    match started {
        Ok(status) => exit_code(status),
        Err(error) => complain("starting init", error),
    }
}

/// Pid 1 of an image's tree.
pub(super) fn init(argument: Option<&OsString>) -> ExitCode {
    let invocation: Invocation =
        match argument.and_then(|text| text.to_str()).map(serde_json::from_str) {
            Some(Ok(invocation)) => invocation,
            _ => return complain("starting a command", "no command given"),
        };
    if let Err(error) = stage::die_with_parent() {
        return complain("dying with the worker", error);
    }
    if let Err(error) = mount_tree(&invocation.root) {
        return complain("mounting the tree", error);
    }
    if let Err(error) = confine() {
        return complain("dropping privileges", error);
    }
    run(&invocation)
}

fn run(invocation: &Invocation) -> ExitCode {
    let Some((program, arguments)) = invocation.argv.split_first() else {
        return complain("starting a command", "it is empty");
    };
    let started = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(invocation.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .status();
    match started {
        Ok(status) => exit_code(status),
        Err(error) => {
            complain(&format!("starting `{program}`"), error);
            ExitCode::from(127)
        }
    }
}

fn mount_tree(root: &Path) -> io::Result<()> {
    mount_bind(root, root)?;
    std::env::set_current_dir(root)?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    mount("proc", "proc", "proc", quiet | MountFlags::NOEXEC, None)?;
    mount("tmpfs", "dev", "tmpfs", MountFlags::NOSUID | MountFlags::NOEXEC, Some(c"mode=0755"))?;
    mount_devices()?;
    for (directory, options) in [("tmp", c"mode=1777"), ("run", c"mode=0755")] {
        mount("tmpfs", directory, "tmpfs", quiet, Some(options))?;
    }
    fs::create_dir("run/lock")?;
    // Old and new root at the same place, then the old one taken away from above: pivot_root(2),
    // "pivot_root(".", ".")".
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

/// A device file system of the devices that every program may expect and nothing else.
fn mount_devices() -> io::Result<()> {
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let target = format!("dev/{name}");
        File::create(&target)?;
        mount_bind(format!("/dev/{name}"), &target)?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        std::os::unix::fs::symlink(target, format!("dev/{name}"))?;
    }
    fs::create_dir("dev/shm")?;
    fs::create_dir("dev/pts")?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", "dev/shm", "tmpfs", flags | MountFlags::NODEV, Some(c"mode=1777"))?;
    let options = c"newinstance,ptmxmode=0666,mode=620";
    mount("devpts", "dev/pts", "devpts", flags, Some(options))?;
    Ok(())
}

/// Gives up everything that a command of an image has no business with.
fn confine() -> io::Result<()> {
    let named = CapabilitySet::all().iter_names().map(|(_, capability)| capability);
    for capability in named.filter(|one| !KEPT.contains(*one)) {
        match remove_capability_from_bounding_set(capability) {
            // A capability that this kernel does not know.
            Ok(()) | Err(rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let sets =
        CapabilitySets { effective: KEPT, permitted: KEPT, inheritable: CapabilitySet::empty() };
    set_capabilities(None, sets)?;
    set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    umask(Mode::from_raw_mode(0o022));
    // The same for everyone: some programs close every descriptor up to the limit.
    setrlimit(Resource::Nofile, Rlimit { current: Some(1024), maximum: Some(1024) })?;
    Ok(())
}
