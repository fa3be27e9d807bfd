//! `imgbuild check`

use std::process::ExitCode;

use miette::{Report, Result};
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::lint::{AllowedEntry, FindingEntry, show};
use crate::definition::{Acceptance, site};
use crate::inspect::lint::definitions;
use crate::lock::Unlocked;
use crate::render;
use crate::verify::Rules;

/// Takes nothing but the options of every verb.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {}

/// What was looked at, and what was found.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// How many definitions there are.
    definitions: usize,
    /// How many sites there are.
    sites: usize,
    /// How many plans there are: a role of a site each.
    plans: usize,
    /// The images that are not in the lock.
    unlocked: Vec<String>,
    /// What lints found.
    findings: Vec<FindingEntry>,
    /// What definitions and overlays allow.
    allowed: Vec<AllowedEntry>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["check"];
}

pub(super) fn run(context: &Context, _arguments: &Arguments) -> Result<ExitCode> {
    let project = context.project()?;
    Acceptance::read_all(project.root())?;
    let judgement = definitions(&project)?;
    let mut plans = 0;
    let sites: Vec<String> = project.sites().map(|site| site.name.to_string()).collect();
    for image in project.roles() {
        let role = image.name.as_str();
        for site in sites.iter().map(|site| Some(site.as_str())).chain([None]) {
            let plan = match (project.plan(role, site), site) {
                (Ok(plan), _) => plan,
                // Without a site, only a role that needs none can be planned.
                (Err(_), None) if !sites.is_empty() => continue,
                (Err(error), _) => return Err(error.into()),
            };
            render::render(&project, &plan)?;
            if let Some(disk) = project.disk_plan(role, site)? {
                render::render(&project, &disk.machine)?;
                render::render(&project, &disk.boot)?;
            }
            plans += 1;
        }
    }
    site::prove(&project)?;
    for site in sites.iter().map(|site| Some(site.as_str())).chain([None]) {
        Rules::of::<Report>(&project, site)?;
    }
    show(context, &judgement);
    let unlocked = context.check_lock(&project)?;
    for Unlocked { image, urls } in unlocked.iter().filter(|it| project.role(&it.image).is_ok()) {
        context.say(format!(
            "not locked: {image}; run `imgbuild lock {image}` on a machine that reaches {}",
            urls.join(", ")
        ));
    }
    let refused = judgement.refused().count();
    let (images, sites) = (project.images().count(), sites.len());
    if context.json() {
        context.output(&Output {
            definitions: images,
            sites,
            plans,
            unlocked: unlocked.iter().map(|it| it.image.clone()).collect(),
            findings: judgement.findings.iter().map(FindingEntry::from).collect(),
            allowed: judgement.allowed.iter().map(AllowedEntry::from).collect(),
        })?;
    }
    if refused > 0 {
        context.say(format!("{refused} findings must be mended"));
        return Ok(ExitCode::FAILURE);
    }
    context.say(format!("{images} definitions, {sites} sites, {plans} plans: all well"));
    Ok(ExitCode::SUCCESS)
}
