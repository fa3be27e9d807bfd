//! `imgbuild preflight`

use std::collections::BTreeSet;
use std::process::ExitCode;

use miette::{Diagnostic, Result};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::site::{Opened, SiteArguments, taken_by};
use crate::swap::proxmox::{Check, Finding};
use crate::swap::{Ending, Goal, Known, Scope, Standing, Survey, Wanted, differences, plan};

/// No line is longer.
const COLUMNS: usize = 100;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    site: SiteArguments,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let opened = Opened::new(context, &arguments.site)?;
    let (mut checks, seen) =
        opened.platform.preflight(&opened.wanted, || opened.managed().health())?;
    if let Err(error) = opened.deployment.require_artifacts(|_| true) {
        let help = error.help().map(|help| help.to_string()).unwrap_or_default();
        checks.push(Check::obstacle("artifacts", &arguments.site.site, error.to_string(), help));
    }
    let made = seen.as_ref().map(|(survey, known)| to_be_made(&opened.wanted, survey, known));
    // Where nobody sees what runs, every guest may have to be made.
    let verdicts = opened.verdicts(context, |artifact| match &made {
        Some(made) => made.contains(&artifact.manifest.artifact.name),
        None => true,
    })?;
    for verdict in verdicts.into_iter().flatten() {
        let at = verdict.role.clone().unwrap_or_default();
        match verdict.trusted {
            true => checks.push(Check::ok("policy", at, "nothing of its artifact is refused")),
            false => checks.extend(verdict.refused().map(|it| {
                let help = it.help.clone().unwrap_or_default();
                Check::obstacle("policy", &at, format!("{}: {}", it.check.word(), it.text), help)
            })),
        }
    }
    let obstacles = checks.iter().filter(|check| check.finding == Finding::Obstacle).count();
    if context.json() {
        context.output(&Output { ready: obstacles == 0, checks })?;
    } else {
        context.data(format!("{:<5} {:<10} {:<32} {}", "", "CHECK", "WHERE", "FOUND"))?;
        for check in &checks {
            rows(check).iter().try_for_each(|row| context.data(row))?;
        }
        context.say(match obstacles {
            0 => "nothing stands in the way of a swap".to_owned(),
            1 => "1 thing stands in the way of a swap".to_owned(),
            count => format!("{count} things stand in the way of a swap"),
        });
    }
    Ok(if obstacles == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The artifacts that a swap of the whole site would make guests of. Where something stands in its way, its steps do not say
/// that, so those of all nodes count that do not run what they should.
fn to_be_made(wanted: &Wanted, survey: &Survey, known: &Known) -> BTreeSet<String> {
    let goal = Goal::Deploy { scope: Scope::default(), canary: false, pause_after: None };
    let planned = plan(wanted, &goal, survey, known);
    let mut made: BTreeSet<String> = taken_by(&planned).map(str::to_owned).collect();
    if planned.ending != Ending::Done {
        let open = differences(wanted, survey).into_iter();
        let open = open.filter(|it| !matches!(it.standing, Standing::UpToDate | Standing::Stopped));
        made.extend(open.map(|it| it.role.artifact.clone()));
    }
    made
}

/// Whether a swap would get through, and what was looked at.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// Whether nothing stands in the way.
    ready: bool,
    /// What was looked at.
    checks: Vec<Check>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["preflight"];
}

/// One row; below it what does not fit, and the help.
fn rows(check: &Check) -> Vec<String> {
    let word = match check.finding {
        Finding::Ok => "ok",
        Finding::Warning => "warn",
        Finding::Obstacle => "NO",
    };
    let head = format!("{word:<5} {:<10} {:<32} ", check.check, check.at);
    let mut rows = Vec::new();
    if head.chars().count() + check.text.chars().count() <= COLUMNS {
        rows.push(format!("{head}{}", check.text));
    } else {
        rows.push(head.trim_end().to_owned());
        rows.extend(wrapped(&check.text, "      "));
    }
    let help = check.help.as_deref().unwrap_or_default();
    rows.extend(wrapped(help, "        "));
    rows
}

/// `text` in lines that begin with `indent`, broken between words.
fn wrapped(text: &str, indent: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("{indent}{word}")),
        }
    }
    lines
}
