//! The processes between the caller and the image: what imgbuild does when executed as a stage.

use std::io::{Read, Write};
use std::process::{Command, ExitCode, Stdio};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::UnshareFlags;

use super::{STAGE_ARGUMENT, init, namespace};

/// A stage as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Leaves the caller's namespaces.
    Outer,
    /// Serves requests as root of the new namespaces.
    Worker,
    /// Leaves the worker's pid and mount namespaces.
    Enter,
    /// Becomes pid 1 of an image's tree.
    Init,
}

/// The stage that the command line asks for, if it asks for one.
pub fn requested_stage(arguments: &[std::ffi::OsString]) -> Option<Stage> {
    if arguments.get(1)? != STAGE_ARGUMENT {
        return None;
    }
    match arguments.get(2)?.to_str()? {
        "outer" => Some(Stage::Outer),
        "worker" => Some(Stage::Worker),
        "enter" => Some(Stage::Enter),
        "init" => Some(Stage::Init),
        _ => None,
    }
}

/// Runs a stage to its end. `worker` is what the worker does once its namespaces are ready.
pub fn run_stage(
    stage: Stage,
    arguments: &[std::ffi::OsString],
    worker: impl FnOnce() -> ExitCode,
) -> ExitCode {
    match stage {
        Stage::Outer => outer(),
        Stage::Worker => worker(),
        Stage::Enter => init::enter(arguments.get(3)),
        Stage::Init => init::init(arguments.get(3)),
    }
}

/// Dies with the parent. Set anew after every change of credentials, which clears it (prctl(2)).
pub(crate) fn die_with_parent() -> rustix::io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))
}

fn say(line: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

fn refused(step: &str, cause: impl std::fmt::Display) -> ExitCode {
    let _ = say(&format!("refused\t{step}\t{cause}"));
    ExitCode::FAILURE
}

fn outer() -> ExitCode {
    let namespaces = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWNET
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS
        | UnshareFlags::NEWCGROUP;
    if let Err(error) = namespace::unshare(namespaces) {
        return refused("unshare", error);
    }
    if say("ready").is_err() {
        return ExitCode::FAILURE;
    }
    // One byte at a time: what follows the line is for the worker.
    let mut byte = [0];
    loop {
        match std::io::stdin().lock().read(&mut byte) {
            Ok(1) if byte[0] == b'\n' => break,
            Ok(1) => {}
            _ => return ExitCode::FAILURE,
        }
    }
    if let Err(error) = become_root().and_then(|()| die_with_parent()) {
        return refused("becoming root of the namespace", error);
    }
    let started = Command::new("/proc/self/exe").args([STAGE_ARGUMENT, "worker"]).spawn();
    match started.and_then(|mut worker| worker.wait()) {
        Ok(status) if status.success() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => refused("starting the worker", error),
    }
}

fn become_root() -> rustix::io::Result<()> {
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Makes the worker's namespaces ready and tells the caller so.
///
/// # Errors
/// When the kernel refuses; the caller has been told, and the process should end.
pub fn prepare_worker() -> Result<(), ExitCode> {
    let steps: [(&str, &dyn Fn() -> rustix::io::Result<()>); 4] = [
        ("dying with the caller", &die_with_parent),
        ("making mounts private", &|| {
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        }),
        ("mounting /proc", &|| {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            mount("proc", "/proc", "proc", flags, None)
        }),
        ("setting the host name", &|| rustix::system::sethostname(b"imgbuild")),
    ];
    for (name, step) in steps {
        step().map_err(|error| refused(name, error))?;
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    say("ready").map_err(|_| ExitCode::FAILURE)
}

/// A command that executes this program again as `stage`.
pub(super) fn again(executable: &std::path::Path, stage: &str, argument: &str) -> Command {
    let mut command = Command::new(executable);
    command.args([STAGE_ARGUMENT, stage, argument]).env_clear().stdin(Stdio::null());
    command
}
