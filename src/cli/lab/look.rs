//! `imgbuild lab status`, `shell`, `exec`, `down`

use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::{LabArguments, Opened, PlaceArguments, executable};
use crate::cli::context::Context;
use crate::cli::output::{Killed, Removed};
use crate::cli::status;
use crate::lab::Running;

#[derive(Debug, clap::Args)]
pub(super) struct NodeArguments {
    /// The node
    #[arg(value_name = "NODE")]
    node: String,
    #[command(flatten)]
    place: PlaceArguments,
}

#[derive(Debug, clap::Args)]
pub(super) struct ExecArguments {
    /// The node
    #[arg(value_name = "NODE", required_unless_present = "host")]
    node: Option<String>,
    /// Run it on the lab's host instead, which reaches all guests, with the files of this machine
    #[arg(long, conflicts_with = "node")]
    host: bool,
    #[command(flatten)]
    place: PlaceArguments,
    /// The program, and what it is given
    #[arg(value_name = "COMMAND", last = true, required = true)]
    command: Vec<String>,
}

pub(super) fn status(context: &Context, arguments: &LabArguments) -> Result<ExitCode> {
    let opened = Opened::new(context, arguments)?;
    let host = opened.local.host().map(|host| host.pid());
    if host.is_none() && !context.json() {
        context.say("the lab's host does not run; `imgbuild lab up` starts it");
    }
    let directory = opened.local.place().root().to_owned();
    status::show(context, &opened.managed(), Some(status::Lab { directory, host }))
}

/// The guest of a node that runs.
fn running(place: &PlaceArguments, node: &str) -> Result<Running> {
    Running::find(&place.place()?, &executable()?, node)?.ok_or_else(|| {
        let site = &place.site;
        miette!(
            help = format!("the nodes that run: `imgbuild lab status --site {site}`"),
            "no guest of a node `{node}` runs in the lab"
        )
    })
}

pub(super) fn shell(arguments: &NodeArguments) -> Result<ExitCode> {
    if !io::stdin().is_terminal() {
        return Err(miette!(
            help = "a command can be run without one: `imgbuild lab exec NODE -- COMMAND`",
            "there is no terminal for a shell"
        ));
    }
    Ok(code(running(&arguments.place, &arguments.node)?.container.shell()?))
}

pub(super) fn kill(context: &Context, arguments: &NodeArguments) -> Result<ExitCode> {
    running(&arguments.place, &arguments.node)?.kill()?;
    context.say(format!("ended the guest of {}", arguments.node));
    if context.json() {
        context.output(&Killed { killed: arguments.node.clone() })?;
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) fn execute(arguments: &ExecArguments) -> Result<ExitCode> {
    let Some(node) = &arguments.node else { return execute_on_host(arguments) };
    Ok(code(running(&arguments.place, node)?.container.run(&arguments.command)?))
}

fn execute_on_host(arguments: &ExecArguments) -> Result<ExitCode> {
    let Some((program, rest)) = arguments.command.split_first() else {
        return Ok(ExitCode::SUCCESS);
    };
    let host = arguments.place.place()?.running_host(&executable()?)?;
    let status = host.command(program).args(rest).status().into_diagnostic();
    Ok(code(status.wrap_err("cannot enter the lab's host")?))
}

/// The exit code of a command in a guest is that of imgbuild.
fn code(status: ExitStatus) -> ExitCode {
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}

pub(super) fn down(context: &Context, arguments: &PlaceArguments) -> Result<ExitCode> {
    let place = arguments.place()?;
    place.remove(&executable()?)?;
    context.say(format!("removed the lab in {}", place.root().display()));
    if context.json() {
        context.output(&Removed { removed: place.root().to_owned() })?;
    }
    Ok(ExitCode::SUCCESS)
}
