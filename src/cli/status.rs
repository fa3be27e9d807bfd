//! `imgbuild status`

use std::process::ExitCode;

use miette::Result;
use serde_json::{Value, json};

use super::context::Context;
use super::plan::{standing_text, standing_word};
use super::site::{Managed, Opened, SiteArguments};
use crate::swap::{Difference, Health, Known, Standing, Status, Survey, differences, remains};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    site: SiteArguments,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let opened = Opened::new(context, &arguments.site)?;
    show(context, &opened.managed(), json!({}))
}

/// Shows what runs, and how it is; programs are told what else there is.
pub(super) fn show(context: &Context, managed: &Managed<'_>, more: Value) -> Result<ExitCode> {
    let survey = managed.survey()?;
    let health = managed.health();
    let standing = differences(managed.wanted, &survey);
    let others = remains(managed.wanted, &survey);
    let known = |one: &Difference<'_>| !one.role.artifact.is_empty();
    if context.json() {
        let nodes: Vec<Value> =
            standing.iter().map(|one| described(one, &health, &survey)).collect();
        let others: Vec<Value> = others
            .iter()
            .map(|(guest, kept)| {
                json!({
                    "guest": guest.id,
                    "node": guest.record.node.as_str(),
                    "phase": guest.record.phase,
                    "image": guest.record.image,
                    "since": guest.record.since,
                    "kept": kept,
                })
            })
            .collect();
        let mut object = json!({ "quorate": survey.quorate, "nodes": nodes, "others": others });
        if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
            object.extend(more);
        }
        context.object(&object)?;
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

fn described(one: &Difference<'_>, health: &Known, survey: &Survey) -> Value {
    let health = health.0.get(&one.node.name);
    json!({
        "node": one.node.name.as_str(),
        "role": one.role.name.as_str(),
        "standing": standing_word(one.standing),
        "guest": one.current.map(|guest| json!({
            "id": guest.id,
            "host": guest.host.as_str(),
            "status": guest.status,
            "image": guest.record.image,
            "artifact": guest.record.artifact,
            "generation": guest.record.generation,
            "days": days(guest.record.since, survey),
            "volumes": guest.volumes.keys().map(|name| name.as_str()).collect::<Vec<_>>(),
        })),
        "ready": matches!(health, Some(Health::Ready { .. })),
        "leads": health == Some(&Health::Ready { leads: true }),
        "health": health.map(health_text),
    })
}
