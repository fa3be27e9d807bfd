//! `imgbuild status`

use std::path::PathBuf;
use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use super::output::{NodeStatus, OtherGuest, RunningGuest, SiteStatus};
use super::plan::standing_text;
use super::site::{Managed, Opened, SiteArguments};
use crate::swap::{
    Difference, Guest, Health, Known, Standing, Status, Survey, differences, remains,
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    site: SiteArguments,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let opened = Opened::new(context, &arguments.site)?;
    show(context, &opened.managed(), None)
}

/// A lab, as programs are told: its directory, and the process of its host.
pub(super) struct Lab {
    pub(super) directory: PathBuf,
    pub(super) host: Option<u32>,
}

/// Shows what runs, and how it is.
pub(super) fn show(context: &Context, managed: &Managed<'_>, lab: Option<Lab>) -> Result<ExitCode> {
    let survey = managed.survey()?;
    let health = managed.health();
    let standing = differences(managed.wanted, &survey);
    let others = remains(managed.wanted, &survey);
    let known = |one: &Difference<'_>| !one.role.artifact.is_empty();
    if context.json() {
        let other = |(guest, kept): (&Guest, Option<String>)| OtherGuest {
            guest: guest.id,
            node: guest.record.node.to_string(),
            phase: guest.record.phase,
            image: guest.record.image,
            since: guest.record.since,
            kept,
        };
        let (lab, host) = lab.map_or((None, None), |lab| (Some(lab.directory), lab.host));
        context.output(&SiteStatus {
            quorate: survey.quorate,
            nodes: standing.iter().map(|one| described(one, &health, &survey)).collect(),
            others: others.into_iter().map(other).collect(),
            lab,
            host,
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if !survey.quorate {
        context.say("the cluster has no quorum: nothing can be changed");
    }
    context.data(format!(
        "{:<13} {:<9} {:>8} {:<7}  {:<12} {:>5}  {}",
        "NODE", "HOST", "GUEST", "STATE", "IMAGE", "DAYS", "HEALTH"
    ))?;
    for one in &standing {
        context.data(row(one, &health, &survey))?;
    }
    for one in standing.iter().filter(|one| known(one)) {
        if !matches!(one.standing, Standing::UpToDate) {
            context.data(format!(
                "{}: {} ({} is wanted)",
                one.node.name,
                standing_text(one.standing),
                one.role.image.short()
            ))?;
        }
    }
    for (guest, kept) in &others {
        let reason = guest.record.reason.as_deref().map(|reason| format!(", {reason}"));
        context.data(format!(
            "guest {} was {}, image {}, since {}{}: {}",
            guest.id,
            guest.record.node,
            guest.record.image.short(),
            guest.record.since,
            reason.unwrap_or_default(),
            kept.as_deref()
                .map_or("`prune` would destroy it".to_owned(), |why| format!("kept: {why}")),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(one: &Difference<'_>, health: &Known, survey: &Survey) -> String {
    let Some(guest) = one.current else {
        let what = match one.standing {
            Standing::Unknown => "unknown",
            _ => "not deployed",
        };
        return format!("{:<13} {:<9} {:>8} {what}", one.node.name, one.node.host, "-");
    };
    let state = match guest.status {
        Status::Running => "runs",
        Status::Stopped => "stopped",
        Status::Unknown => "unknown",
    };
    let health = health.0.get(&one.node.name).map(health_text).unwrap_or_default();
    format!(
        "{:<13} {:<9} {:>8} {state:<7}  {:<12} {:>5}  {health}",
        one.node.name,
        guest.host,
        guest.id,
        guest.record.image.short(),
        days(guest.record.since, survey),
    )
}

/// How long a guest has had its phase.
fn days(since: crate::debian::date::Moment, survey: &Survey) -> u64 {
    survey.now.unix().saturating_sub(since.unix()) / (24 * 3600)
}

fn health_text(health: &Health) -> String {
    match health {
        Health::Ready { leads: true } => "ready, leads".to_owned(),
        Health::Ready { leads: false } => "ready".to_owned(),
        Health::NotReady(says) => format!("NOT READY: {says}"),
        Health::Silent(why) => format!("silent: {why}"),
    }
}

fn described(one: &Difference<'_>, health: &Known, survey: &Survey) -> NodeStatus {
    let health = health.0.get(&one.node.name);
    let guest = |guest: &Guest| RunningGuest {
        id: guest.id,
        host: guest.host.to_string(),
        status: guest.status,
        image: guest.record.image,
        artifact: guest.record.artifact.clone(),
        generation: guest.record.generation,
        days: days(guest.record.since, survey),
        volumes: guest.volumes.keys().map(ToString::to_string).collect(),
    };
    NodeStatus {
        node: one.node.name.to_string(),
        role: one.role.name.to_string(),
        standing: one.standing,
        guest: one.current.map(guest),
        ready: matches!(health, Some(Health::Ready { .. })),
        leads: health == Some(&Health::Ready { leads: true }),
        health: health.map(health_text),
    }
}
