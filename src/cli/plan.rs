//! `imgbuild plan`

use std::path::PathBuf;
use std::process::ExitCode;

use super::context::{Context, wrapped};
use super::output::{Ended, NodeSecrets, NodeStanding, PlannedStep, SitePlan};
use super::site::{Opened, SiteArguments, concerns, scope};
use super::teller::gate_text;
use crate::digest::Digest;
use crate::swap::{
    Difference, Ending, Goal, Plan, Planned, Purpose, Standing, Step, Survey, Wanted, differences,
    orphans, plan,
};
use miette::{Report, Result};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Roles and nodes [default: all of the site]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    site: SiteArguments,
    /// Show the commands that do the same on the Proxmox nodes
    #[arg(long)]
    commands: bool,
    /// Write to this file, too, what `--json` prints: `swap --expect FILE` does that and nothing else
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let mut opened = Opened::new(context, &arguments.site)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    opened.deployment.require_artifacts(|role| concerns(&opened.wanted, &scope, role))?;
    let survey = opened.managed().survey()?;
    let goal = Goal::Deploy { scope, canary: false, pause_after: None };
    let planned = plan(&opened.wanted, &goal, &survey, &opened.managed().health());
    let untrusted = match &planned.ending {
        Ending::Refused(_) | Ending::Endless => None,
        Ending::Done | Ending::Paused => opened.refuse_untrusted(context, &planned)?,
    };
    let commands = |step: &Step| opened.platform.commands(step);
    let standing = differences(&opened.wanted, &survey);
    let mut told = described(&opened.wanted, &standing, &planned, &commands);
    if let Some(refused) = &untrusted {
        (told.ending, told.refusal) = (Ended::Refused, Some(refused.to_string()));
    }
    let missing = opened.missing_secrets(&planned).into_iter();
    let missing = missing.map(|(node, names)| NodeSecrets { node: node.to_string(), names });
    told.secrets = missing.collect();
    if let Some(path) = &arguments.out {
        context.write_output(path, &told)?;
    }
    if context.json() {
        context.output(&told)?;
        return untrusted.map_or_else(|| end(context, planned, false), |it| Err(Report::new(it)));
    }
    show_nodes(context, &standing)?;
    show_orphans(context, &opened.wanted, &survey)?;
    show_steps(context, &planned, arguments.commands.then_some(&commands as Commands<'_>))?;
    for NodeSecrets { node, names } in &told.secrets {
        let names = names.join(", ");
        let text = format!("{node} needs secrets: `swap --secrets DIR` with {names}");
        context.data(wrapped(&text, 4))?;
    }
    untrusted.map_or_else(|| end(context, planned, true), |refused| Err(Report::new(refused)))
}

/// Guests that no node of the site has.
pub(super) fn show_orphans(context: &Context, wanted: &Wanted, survey: &Survey) -> Result<()> {
    for guest in orphans(wanted, survey) {
        context.data(format!(
            "guest {} was {} of this site, which has no such node any more; no swap touches it",
            guest.id, guest.record.node
        ))?;
    }
    Ok(())
}

/// What an operator would type for a step.
pub(super) type Commands<'a> = &'a dyn Fn(&Step) -> Vec<String>;

/// The table of nodes: what runs, and what the site says.
pub(super) fn show_nodes(context: &Context, standing: &[Difference<'_>]) -> Result<()> {
    context.data(format!(
        "{:<14} {:<10} {:<10} {:>9}  {:<12} {:<12}  {}",
        "NODE", "ROLE", "HOST", "GUEST", "RUNS", "WANTED", ""
    ))?;
    for one in standing {
        let guest = one.current.map_or_else(|| "-".to_owned(), |guest| guest.id.to_string());
        let runs = one
            .current
            .map_or_else(|| "-".to_owned(), |guest| guest.record.image.short().to_string());
        context.data(format!(
            "{:<14} {:<10} {:<10} {guest:>9}  {runs:<12} {:<12}  {}",
            one.node.name,
            one.role.name,
            one.node.host,
            wanted(one).map_or_else(|| "-".to_owned(), |image| image.short().to_string()),
            if wanted(one).is_some() {
                standing_text(one.standing)
            } else {
                "no artifact is up to date"
            },
        ))?;
    }
    Ok(())
}

/// The image that the definitions say, if it was built.
fn wanted(one: &Difference<'_>) -> Option<Digest> {
    (!one.role.artifact.is_empty()).then_some(one.role.image)
}

pub(super) fn standing_text(standing: Standing) -> &'static str {
    match standing {
        Standing::Unknown => "its host is offline",
        Standing::Missing => "to be deployed",
        Standing::Unfinished => "in the middle of a swap",
        Standing::Stopped => "up to date, but stopped",
        Standing::Outdated => "to be replaced",
        Standing::UpToDate => "up to date",
    }
}

/// A plan, as programs are told. Of secrets it knows nothing.
pub(super) fn described(
    site: &Wanted,
    standing: &[Difference<'_>],
    planned: &Plan,
    commands: Commands<'_>,
) -> SitePlan {
    let node = |one: &Difference<'_>| NodeStanding {
        node: one.node.name.to_string(),
        role: one.role.name.to_string(),
        host: one.node.host.to_string(),
        guest: one.current.map(|guest| guest.id),
        runs: one.current.map(|guest| guest.record.image),
        wanted: wanted(one),
        standing: one.standing,
    };
    let step = |step: &Planned| {
        let (node, text) = shown(step);
        let (changes, commands) = match step {
            Planned::Step(step) => (true, commands(step)),
            Planned::Ready { .. } | Planned::Wait(_) => (false, Vec::new()),
        };
        PlannedStep { node, step: text, changes, commands }
    };
    SitePlan {
        site: site.site().to_string(),
        nodes: standing.iter().map(node).collect(),
        steps: planned.steps.iter().map(step).collect(),
        secrets: Vec::new(),
        ending: Ended::from(&planned.ending),
        refusal: match &planned.ending {
            Ending::Refused(refusal) => Some(refusal.to_string()),
            _ => None,
        },
    }
}

pub(super) fn show_steps(
    context: &Context,
    planned: &Plan,
    commands: Option<Commands<'_>>,
) -> Result<()> {
    if !changes(planned) {
        return Ok(());
    }
    context.data("")?;
    let mut before = None;
    // Whether the others are ready is asked before each step of a node; once is enough to read.
    let steps = planned.steps.iter().filter(|step| match step {
        Planned::Ready { purpose: Purpose::Others, .. } => {
            before.replace(shown(step)) != Some(shown(step))
        }
        _ => true,
    });
    for (number, step) in (1..).zip(steps) {
        let (node, text) = shown(step);
        context.data(wrapped(&format!("{number:>4}  {node:<14} {text}"), 21))?;
        if let (Some(commands), Planned::Step(step)) = (commands, step) {
            for command in commands(step) {
                context.data(format!("        $ {command}"))?;
            }
        }
    }
    Ok(())
}

/// Whether anything is done, besides waiting.
pub(super) fn changes(planned: &Plan) -> bool {
    planned.steps.iter().any(|step| matches!(step, Planned::Step(_)))
}

/// The node that a step is about, and what it does.
fn shown(step: &Planned) -> (String, String) {
    match step {
        Planned::Step(step) => (step.node().to_string(), step.to_string()),
        Planned::Ready { nodes, purpose } => {
            let names: Vec<&str> = nodes.iter().map(|node| node.as_str()).collect();
            let text = match purpose {
                Purpose::Others => "go on only if these are ready",
                Purpose::Proof => "wait until it is ready",
                Purpose::End => "wait until all are ready",
                Purpose::Order => "ask who leads",
            };
            match names[..] {
                [name] => (name.to_owned(), text.to_owned()),
                _ => (String::new(), format!("{text}: {}", names.join(", "))),
            }
        }
        Planned::Wait(gate) => (String::new(), format!("wait: {}", gate_text(gate))),
    }
}

/// A plan that something stands in the way of already has failed.
pub(super) fn end(context: &Context, planned: Plan, speak: bool) -> Result<ExitCode> {
    match planned.ending {
        Ending::Done if speak && !changes(&planned) => context.say("nothing to do"),
        Ending::Done | Ending::Paused => {}
        Ending::Refused(refusal) => return Err(Report::new(*refusal)),
        Ending::Endless => {
            return Err(miette::miette!(
                help = "this is a mistake in imgbuild: please report it with the output of `imgbuild status --json`",
                "the plan has no end"
            ));
        }
    }
    Ok(ExitCode::SUCCESS)
}
