//! `imgbuild plan`

use std::process::ExitCode;

use miette::{Report, Result};
use serde_json::{Value, json};

use super::context::{Context, wrapped};
use super::site::{Opened, SiteArguments, concerns, scope};
use super::teller::gate_text;
use crate::digest::Digest;
use crate::swap::{
    Difference, Ending, Goal, Plan, Planned, Purpose, Standing, Step, Survey, Wanted, differences,
    orphans, plan,
};

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
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let opened = Opened::new(context, &arguments.site)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    opened.deployment.require_artifacts(|role| concerns(&opened.wanted, &scope, role))?;
    let managed = opened.managed();
    let survey = managed.survey()?;
    let goal = Goal::Deploy { scope, canary: false, pause_after: None };
    let planned = plan(&opened.wanted, &goal, &survey, &managed.health());
    let commands = |step: &Step| opened.platform.commands(step);
    let standing = differences(&opened.wanted, &survey);
    if context.json() {
        let nodes: Vec<Value> = standing.iter().map(described).collect();
        let steps: Vec<Value> = planned.steps.iter().map(|step| object(step, &commands)).collect();
        let ending = ending_word(&planned.ending);
        let secrets: Vec<Value> = opened
            .missing_secrets(&planned)
            .iter()
            .map(|(node, names)| json!({ "node": node.as_str(), "names": names }))
            .collect();
        let refusal = match &planned.ending {
            Ending::Refused(refusal) => Some(refusal.to_string()),
            _ => None,
        };
        context.object(&json!({
            "nodes": nodes, "steps": steps, "secrets": secrets, "ending": ending, "refusal": refusal,
        }))?;
        return end(context, planned, false);
    }
    show_nodes(context, &standing)?;
    show_orphans(context, &opened.wanted, &survey)?;
    show_steps(context, &planned, arguments.commands.then_some(&commands as Commands<'_>))?;
    for (node, names) in opened.missing_secrets(&planned) {
        let names = names.join(", ");
        let text = format!("{node} needs secrets: `swap --secrets DIR` with {names}");
        context.data(wrapped(&text, 4))?;
    }
    end(context, planned, true)
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

pub(super) fn described(one: &Difference<'_>) -> Value {
    json!({
        "node": one.node.name.as_str(),
        "role": one.role.name.as_str(),
        "host": one.node.host.as_str(),
        "guest": one.current.map(|guest| guest.id),
        "runs": one.current.map(|guest| guest.record.image),
        "wanted": wanted(one),
        "standing": standing_word(one.standing),
    })
}

pub(super) fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Unknown => "unknown",
        Standing::Missing => "missing",
        Standing::Unfinished => "unfinished",
        Standing::Stopped => "stopped",
        Standing::Outdated => "outdated",
        Standing::UpToDate => "up-to-date",
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

pub(super) fn object(step: &Planned, commands: Commands<'_>) -> Value {
    let (node, text) = shown(step);
    let commands = match step {
        Planned::Step(step) => commands(step),
        _ => Vec::new(),
    };
    json!({ "node": node, "step": text, "commands": commands })
}

pub(super) fn ending_word(ending: &Ending) -> &'static str {
    match ending {
        Ending::Done => "done",
        Ending::Paused => "paused",
        Ending::Refused(_) => "refused",
        Ending::Endless => "endless",
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
