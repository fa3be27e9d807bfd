//! `imgbuild lint`

use std::collections::BTreeSet;
use std::process::ExitCode;

use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, wrapped};
use super::trust::trust;
use crate::artifact::lint::Tolerated;
use crate::artifact::name::Format;
use crate::build::LockedRole;
use crate::definition::lint::{Allowed, Finding, Judgement};
use crate::inspect::lint::{Looked, built, definitions};
use crate::lint::{self, Group, Level, Lint, Stance, Subject};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild lint                looks over all definitions, overlays and templates
  imgbuild lint haproxy        and over the image of haproxy, as it is built
  imgbuild lint --list         shows every lint, its level, why it exists, and what to do")]
pub(super) struct Arguments {
    /// Roles whose images are looked over, too, as they are built
    #[arg(value_name = "ROLE")]
    roles: Vec<String>,
    /// The site that the images are built for
    #[arg(long, value_name = "SITE", requires = "roles")]
    site: Option<String>,
    /// Show every lint there is
    #[arg(long, conflicts_with_all = ["roles", "site"])]
    list: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    if arguments.list {
        return list(context);
    }
    let project = context.project()?;
    let site = arguments.site.as_deref();
    let roles = locked(context, &project, arguments)?;
    let mut judgement = definitions(&project)?;
    let looked = if roles.is_empty() {
        Vec::new()
    } else {
        let trust = trust(&project, site)?;
        let (looked, unused) = built(&context.store()?, &project, &roles, site, &trust)?;
        judgement.findings.extend(unused.findings);
        judgement.allowed.extend(unused.allowed);
        looked
    };
    show(context, &judgement);
    show_images(context, &looked, site);
    let in_images: usize = looked.iter().map(|it| it.findings.len()).sum();
    let refused = judgement.refused().count() + in_images;
    let warnings = judgement.findings.len() - judgement.refused().count();
    if context.json() {
        context.output(&Output::Report(Report::new(&judgement, looked, refused)))?;
    }
    if refused > 0 {
        context.say(format!("{refused} findings must be mended"));
        return Ok(ExitCode::FAILURE);
    }
    context.say(match warnings {
        0 => "nothing was found".to_owned(),
        1 => "1 warning".to_owned(),
        _ => format!("{warnings} warnings"),
    });
    Ok(ExitCode::SUCCESS)
}

fn locked(
    context: &Context,
    project: &crate::definition::Project,
    arguments: &Arguments,
) -> Result<Vec<LockedRole>> {
    if arguments.roles.is_empty() {
        return Ok(Vec::new());
    }
    // Before the lock is read: a name that is wrong is wrong without one, too.
    for role in &arguments.roles {
        project.role(role)?;
    }
    let lock = context.lock(project)?;
    let site = arguments.site.as_deref();
    let names: BTreeSet<&String> = arguments.roles.iter().collect();
    names.into_iter().map(|role| context.locked_role(project, &lock, role, site)).collect()
}

/// Shows what was found in definitions, and what they allow.
pub(super) fn show(context: &Context, judgement: &Judgement) {
    for finding in &judgement.findings {
        context.report(finding);
    }
    for Allowed { finding, reason, place } in &judgement.allowed {
        context.say(format!(
            "allowed: {}: {} [{}]: {reason} ({place})",
            finding.place, finding.message, finding.lint.name
        ));
    }
}

/// Shows what an image is shipped with all the same, a line each.
pub(super) fn show_tolerated<'a>(
    context: &Context,
    tolerated: impl IntoIterator<Item = &'a Tolerated>,
) {
    for Tolerated { lint, path, level, reason, definition, line, message } in tolerated {
        let word = if *level == Level::Warn { "warning" } else { "allowed" };
        let path = path.display();
        context.say(format!("{word}: /{path} {message} [{lint}]: {reason} ({definition}:{line})"));
    }
}

fn show_images(context: &Context, looked: &[Looked], site: Option<&str>) {
    for Looked { role, format, built, findings, tolerated } in looked {
        let (what, option) = match format {
            Format::LxcTemplate => ("template", "lxc"),
            Format::Qcow2 => ("disk", "qcow2"),
        };
        if !built {
            let site = site.map(|site| format!(" --site {site}")).unwrap_or_default();
            context.say(format!(
                "{role} {what}: not built, so not looked at; run `imgbuild build {role} --format {option}{site}`"
            ));
            continue;
        }
        let (count, allowed) = (findings.len(), tolerated.len());
        context.say(format!("{role} {what}: {count} findings, {allowed} allowed"));
        for finding in findings {
            context.report(finding);
        }
        show_tolerated(context, tolerated);
    }
}

/// What was found, or which lints there are.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Output {
    /// What was found.
    Report(Report),
    /// With `--list`: the lints that there are.
    List(List),
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["lint"];
}

/// What was found.
#[derive(Serialize, JsonSchema)]
pub(super) struct Report {
    /// What was found in definitions and overlays, at its level.
    findings: Vec<FindingEntry>,
    /// What they allow.
    allowed: Vec<AllowedEntry>,
    /// The images that were looked at.
    images: Vec<Looked>,
    /// How many findings stop.
    refused: usize,
}

impl Report {
    fn new(judgement: &Judgement, images: Vec<Looked>, refused: usize) -> Self {
        let findings = judgement.findings.iter().map(FindingEntry::from).collect();
        let allowed = judgement.allowed.iter().map(AllowedEntry::from).collect();
        Self { findings, allowed, images, refused }
    }
}

/// A finding in a definition or overlay.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct FindingEntry {
    /// The lint.
    lint: &'static str,
    /// Its level here.
    level: Level,
    /// The name of what it is about.
    subject: String,
    /// What looks wrong.
    message: String,
    /// File and line.
    place: String,
    /// What to do.
    help: String,
}

impl From<&Finding> for FindingEntry {
    fn from(finding: &Finding) -> Self {
        Self {
            lint: finding.lint.name,
            level: finding.level,
            subject: finding.subject.clone(),
            message: finding.message.clone(),
            place: finding.place.to_string(),
            help: finding.help.clone(),
        }
    }
}

/// A finding that is allowed.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct AllowedEntry {
    /// The lint.
    lint: &'static str,
    /// The name of what it is about.
    subject: String,
    /// What was found.
    message: String,
    /// File and line of what was found.
    place: String,
    /// Why it is allowed.
    reason: String,
    /// File and line of what allows it.
    allowed_at: String,
}

impl From<&Allowed> for AllowedEntry {
    fn from(Allowed { finding, reason, place }: &Allowed) -> Self {
        Self {
            lint: finding.lint.name,
            subject: finding.subject.clone(),
            message: finding.message.clone(),
            place: finding.place.to_string(),
            reason: reason.clone(),
            allowed_at: place.to_string(),
        }
    }
}

/// Every lint there is.
#[derive(Serialize, JsonSchema)]
pub(super) struct List {
    /// The lints, by group.
    lints: Vec<ListEntry>,
}

/// A lint.
#[derive(Serialize, JsonSchema)]
struct ListEntry {
    /// What it is called.
    name: &'static str,
    /// What it is about.
    group: Group,
    /// What it looks at.
    looks_at: Subject,
    /// Its level if nobody says anything else.
    level: Level,
    /// Why it exists.
    why: &'static str,
    /// What to do about what it finds.
    remedy: &'static str,
    /// Why it cannot be relaxed, where it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    never_relaxed: Option<&'static str>,
}

impl From<&'static Lint> for ListEntry {
    fn from(lint: &'static Lint) -> Self {
        Self {
            name: lint.name,
            group: lint.group,
            looks_at: lint.subject,
            level: lint.level(),
            why: lint.reason,
            remedy: lint.remedy,
            never_relaxed: never_relaxed(lint),
        }
    }
}

fn never_relaxed(lint: &Lint) -> Option<&'static str> {
    match lint.stance {
        Stance::Forbid(why) => Some(why),
        Stance::Warn | Stance::Deny => None,
    }
}

fn list(context: &Context) -> Result<ExitCode> {
    if context.json() {
        let lints = lint::all().map(ListEntry::from).collect();
        context.output(&Output::List(List { lints }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut group = None;
    for lint in lint::all() {
        if group.replace(lint.group) != Some(lint.group) {
            context.data(format!("{}:", lint.group.word()))?;
        }
        let (name, level, subject) = (lint.name, lint.level(), lint.subject.word());
        context.data(format!("  {name:<18} {level:<6} {subject}"))?;
        context.data(wrapped(&format!("    why: {}", lint.reason), 9))?;
        context.data(wrapped(&format!("    do:  {}", lint.remedy), 9))?;
        if let Some(why) = never_relaxed(lint) {
            context.data(wrapped(&format!("    never relaxed: {why}"), 9))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
