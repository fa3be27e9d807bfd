//! `imgbuild lab plan`, `swap`, `rollback`, `prune`

use std::process::ExitCode;

use miette::Result;

use super::{LabArguments, Opened};
use crate::cli::context::Context;
use crate::cli::plan::{described, end, show_nodes, show_orphans, show_steps};
use crate::cli::site::{concerns, scope};
use crate::cli::swap::{asked, pause, possible};
use crate::cli::teller::More;
use crate::cli::{rollback as back, site};
use crate::swap::{Goal, admit_all, differences, plan as steps_to, remains};

#[derive(Debug, clap::Args)]
pub(super) struct PlanArguments {
    /// Roles and nodes [default: all that are in the lab]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    lab: LabArguments,
}

/// Which nodes to change.
#[derive(Debug, clap::Args)]
pub(super) struct ChangeArguments {
    /// Roles and nodes [default: all that are in the lab]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    lab: LabArguments,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct SwapArguments {
    #[command(flatten)]
    change: ChangeArguments,
    /// Replace only one node of each role
    #[arg(long)]
    canary: bool,
    /// Stop after this node, or after all nodes of this role
    #[arg(long, value_name = "NAME")]
    pause_after: Option<String>,
}

pub(super) fn plan(context: &Context, arguments: &PlanArguments) -> Result<ExitCode> {
    let opened = Opened::new(context, &arguments.lab)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    opened.local.site().require_artifacts(|role| concerns(&opened.wanted, &scope, role))?;
    let managed = opened.managed();
    let survey = managed.survey()?;
    let goal = Goal::Deploy { scope, canary: false, pause_after: None };
    let planned = steps_to(&opened.wanted, &goal, &survey, &managed.health());
    let standing = differences(&opened.wanted, &survey);
    if context.json() {
        context.output(&described(&opened.wanted, &standing, &planned, &|_| Vec::new()))?;
        return end(context, planned, false);
    }
    show_nodes(context, &standing)?;
    show_orphans(context, &opened.wanted, &survey)?;
    show_steps(context, &planned, None)?;
    end(context, planned, true)
}

pub(super) fn swap(context: &Context, arguments: &SwapArguments) -> Result<ExitCode> {
    let opened = Opened::to_change(context, &arguments.change.lab)?;
    let scope = scope(&opened.wanted, &arguments.change.names)?;
    opened.local.site().require_artifacts(|role| concerns(&opened.wanted, &scope, role))?;
    let pause_after = arguments.pause_after.as_deref();
    let pause_after = pause_after.map(|name| pause(&opened.wanted, name)).transpose()?;
    let goal = Goal::Deploy { scope, canary: arguments.canary, pause_after };
    confirmed(context, &opened, &goal, "swap", &arguments.change)
}

pub(super) fn rollback(context: &Context, arguments: &ChangeArguments) -> Result<ExitCode> {
    let opened = Opened::to_change(context, &arguments.lab)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    let goal = back::goal(&opened.managed(), scope)?;
    confirmed(context, &opened, &goal, "rollback", arguments)
}

pub(super) fn prune(context: &Context, arguments: &ChangeArguments) -> Result<ExitCode> {
    let opened = Opened::to_change(context, &arguments.lab)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    let survey = opened.managed().survey()?;
    site::say_kept(context, &remains(&opened.wanted, &survey));
    confirmed(context, &opened, &Goal::Prune { scope, artifacts: true }, "prune", arguments)
}

/// Shows what will be done, asks, and does it.
fn confirmed(
    context: &Context,
    opened: &Opened,
    goal: &Goal,
    verb: &str,
    arguments: &ChangeArguments,
) -> Result<ExitCode> {
    let managed = opened.managed();
    let survey = managed.survey()?;
    let planned = possible(context, &managed, goal, &survey, More::default())?;
    if !arguments.yes && !asked(context, &managed, &survey, &planned)? {
        return Ok(ExitCode::FAILURE);
    }
    let purpose = format!("{verb} {}", arguments.names.join(" "));
    managed.run(context, goal, purpose.trim_end(), &admit_all, More::default())
}
