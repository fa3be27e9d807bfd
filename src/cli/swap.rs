//! `imgbuild swap`

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use miette::{Diagnostic, IntoDiagnostic, Report, Result, miette};

use super::context::Context;
use super::expected::Expected;
use super::output::{Reason, Word};
use super::plan::{changes, described, show_nodes, show_steps};
use super::site::{ChangeArguments, Managed, Opened, concerns, scope};
use super::teller::More;
use crate::definition::Hostname;
use crate::swap::secrets;
use crate::swap::{
    Ending, Goal, PauseAfter, Plan, Refusal, Step, Survey, Wanted, differences, plan,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    change: ChangeArguments,
    /// The secrets of nodes that are deployed for the first time: files DIR/NODE/NAME, and DIR/all/NAME for
    /// all nodes that have a secret of that name
    #[arg(long, value_name = "DIR")]
    secrets: Option<PathBuf>,
    /// Replace only one node of each role
    #[arg(long)]
    canary: bool,
    /// Stop after this node, or after all nodes of this role
    #[arg(long, value_name = "NAME")]
    pause_after: Option<String>,
    /// Do what this file says, which `plan --out FILE` or `plan --json` wrote, and change nothing if anything else would be
    /// done
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
}

/// What an operator has agreed to before.
pub(super) struct Agreed {
    /// Whatever the plan is.
    pub(super) yes: bool,
    /// To no other plan than this one.
    pub(super) expected: Option<Expected>,
}

impl Agreed {
    /// Refuses what would be done from `survey` on, if that is not what somebody has agreed to.
    fn admit(&self, opened: &Opened, goal: &Goal, survey: &Survey) -> Result<(), Box<Refusal>> {
        let Some(expected) = &self.expected else { return Ok(()) };
        let planned = plan(&opened.wanted, goal, survey, &opened.managed().health());
        if let Ending::Refused(refusal) = planned.ending {
            return Err(refusal);
        }
        let commands = |step: &Step| opened.platform.commands(step);
        let standing = differences(&opened.wanted, survey);
        expected.require(&described(&opened.wanted, &standing, &planned, &commands))
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let site = arguments.change.site.site.as_str();
    let expected =
        arguments.expect.as_deref().map(|path| Expected::read(path, site)).transpose()?;
    let agreed = Agreed { yes: arguments.change.yes, expected };
    let mut opened = Opened::new(context, &arguments.change.site)?;
    if let Some(directory) = &arguments.secrets {
        let declared = opened.deployment.declared_secrets();
        opened.platform.give_secrets(secrets::read(directory, &declared)?);
    }
    let scope = scope(&opened.wanted, &arguments.change.names)?;
    opened.deployment.require_artifacts(|role| concerns(&opened.wanted, &scope, role))?;
    let pause_after = arguments.pause_after.as_deref();
    let goal = Goal::Deploy {
        scope,
        canary: arguments.canary,
        pause_after: pause_after.map(|name| pause(&opened.wanted, name)).transpose()?,
    };
    let purpose = match arguments.change.names.is_empty() {
        true => "swap".to_owned(),
        false => format!("swap {}", arguments.change.names.join(" ")),
    };
    confirmed(context, &mut opened, &goal, &purpose, &agreed)
}

pub(super) fn pause(wanted: &Wanted, name: &str) -> Result<PauseAfter> {
    let scope = scope(wanted, &[name.to_owned()])?;
    let node = scope.nodes.into_iter().next().map(PauseAfter::Node);
    let role = scope.roles.into_iter().next().map(PauseAfter::Role);
    node.or(role).ok_or_else(|| miette!("`{name}` is neither a node nor a role"))
}

/// Shows what will be done, asks, and does it.
pub(super) fn confirmed(
    context: &Context,
    opened: &mut Opened,
    goal: &Goal,
    purpose: &str,
    agreed: &Agreed,
) -> Result<ExitCode> {
    let survey = opened.managed().survey()?;
    let more = |nodes| More { secrets_not_taken: Some(nodes), ..More::default() };
    let planned = possible(context, &opened.managed(), goal, &survey, more(Vec::new()))?;
    // Before artifacts are read, which takes minutes; and once more when nobody else may change the site.
    if let Err(differs) = agreed.admit(opened, goal, &survey) {
        return Err(refused_before(context, more(Vec::new()), *differs)?);
    }
    // What is taken back or destroyed was trusted once.
    let untrusted = match goal {
        Goal::Deploy { .. } => opened.refuse_untrusted(context, &planned)?,
        _ => None,
    };
    if let Some(refused) = untrusted {
        return Err(refused_before(context, more(Vec::new()), refused)?);
    }
    let managed = opened.managed();
    opened.require_secrets(&planned)?;
    let unused = opened.unused_secrets(goal, &planned);
    let unused: Vec<&str> = unused.iter().map(Hostname::as_str).collect();
    if !unused.is_empty() {
        context.say(format!(
            "these nodes have their secrets already and do not take those of `--secrets`: {}\n  to change a secret, \
             write it inside the guest and restart that (docs/swap.md#secrets)",
            unused.join(", ")
        ));
    }
    if !agreed.yes && !asked(context, &managed, &survey, &planned)? {
        return Ok(ExitCode::FAILURE);
    }
    let unused = unused.into_iter().map(str::to_owned).collect();
    let admit = |survey: &Survey| agreed.admit(opened, goal, survey);
    managed.run(context, goal, purpose, &admit, more(unused))
}

/// What to fail with when nothing is begun because of `refusal`; programs are told.
fn refused_before(
    context: &Context,
    more: More,
    refusal: impl Diagnostic + Send + Sync + 'static,
) -> Result<Report> {
    if context.json() {
        context.output(&more.report(Word::Refused, Reason::only(&refusal), Vec::new()))?;
    }
    Ok(Report::new(refusal))
}

/// The steps to `goal`, if nothing stands in the way. Programs are told what does, and what else there is.
pub(super) fn possible(
    context: &Context,
    managed: &Managed<'_>,
    goal: &Goal,
    survey: &Survey,
    more: More,
) -> Result<Plan> {
    let planned = plan(managed.wanted, goal, survey, &managed.health());
    let Ending::Refused(refusal) = planned.ending else { return Ok(planned) };
    Err(refused_before(context, more, *refusal)?)
}

/// Shows what will be done, and asks whether it should be.
pub(super) fn asked(
    context: &Context,
    managed: &Managed<'_>,
    survey: &Survey,
    planned: &Plan,
) -> Result<bool> {
    if !changes(planned) {
        return Ok(true);
    }
    if context.json() || context.tells_programs() || !io::stdin().is_terminal() {
        return Err(miette!(
            help = "look at `imgbuild plan` first, then say `--yes`",
            "nobody can be asked here whether to do this"
        ));
    }
    show_nodes(context, &differences(managed.wanted, survey))?;
    show_steps(context, planned, None)?;
    let agreed = agreed(planned)?;
    if !agreed {
        context.say("nothing was done");
    }
    Ok(agreed)
}

fn agreed(planned: &Plan) -> Result<bool> {
    let mut terminal = io::stderr();
    write!(terminal, "\nDo these {} steps? [y/N] ", planned.steps.len()).into_diagnostic()?;
    terminal.flush().into_diagnostic()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer).into_diagnostic()?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}
