//! What imgbuild does when it is executed as one of the processes around a guest.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use super::{hold, host, keeper};
use crate::sandbox::die_with_parent;

/// The argument that makes the executable act as one of these processes instead of a command.
pub(super) const STAGE_ARGUMENT: &str = "__boot";

/// A process around a guest, as named on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Keeps the guest's directory and control group, and removes them when imgbuild has ended.
    Keep,
    /// Keeps a private host that outlives the command that has made it.
    Hold,
    /// Becomes another program, which dies with the keeper.
    Execute,
    /// Leaves the machine's namespaces.
    Leave,
    /// Becomes the first process of the containers' private host.
    Host,
    /// Runs a command on that host.
    Enter,
}

/// The stage that the command line asks for, if it asks for one.
pub fn requested_stage(arguments: &[OsString]) -> Option<Stage> {
    if arguments.get(1)? != STAGE_ARGUMENT {
        return None;
    }
    match arguments.get(2)?.to_str()? {
        "keep" => Some(Stage::Keep),
        "hold" => Some(Stage::Hold),
        "execute" => Some(Stage::Execute),
        "leave" => Some(Stage::Leave),
        "host" => Some(Stage::Host),
        "enter" => Some(Stage::Enter),
        _ => None,
    }
}

/// Runs a stage to its end.
pub fn run_stage(stage: Stage, arguments: &[OsString]) -> ExitCode {
    let arguments = arguments.get(3..).unwrap_or_default();
    match stage {
        Stage::Keep => keeper::keep(arguments),
        Stage::Hold => hold::hold(arguments),
        Stage::Execute => execute(arguments),
        Stage::Leave => host::leave(arguments),
        Stage::Host => host::host(arguments),
        Stage::Enter => host::enter(arguments),
    }
}

/// Executes `executable`, which is imgbuild, again as the stage `name`.
pub(super) fn again(executable: &Path, name: &str) -> Command {
    let mut command = Command::new(executable);
    command.args([STAGE_ARGUMENT, name]);
    command
}

/// Says `line` to whoever started this stage.
pub(super) fn say(line: &str) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    output.flush()
}

/// Complains on standard error, and ends as env(1) does when it cannot do its own part.
pub(super) fn complain(what: &str, error: impl std::fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "imgbuild: {what}: {error}");
    ExitCode::from(126)
}

fn execute(arguments: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = arguments.split_first() else {
        return complain("starting a program", "none given");
    };
    if let Err(error) = die_with_parent() {
        return complain("dying with the keeper", error);
    }
    // The kernel keeps the wish over execve(2), except for programs that change credentials.
    let error = Command::new(program).args(arguments).exec();
    complain(&format!("starting `{}`", program.display()), error)
}
