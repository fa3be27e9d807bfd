//! `imgbuild explain`

use std::process::ExitCode;

use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, bytes};
use super::trust::trust;
use crate::build::{Known, Past, Pending, last_build, pending};

/// Changes shown for each layer before they are only counted.
const SHOWN: usize = 8;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The role
    #[arg(value_name = "ROLE")]
    role: String,
    /// The site that it is built for
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
}

/// The layers of a role, base first.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// Those of the last build; none if there was none here.
    last: Option<Vec<Past>>,
    /// Those of the next build.
    next: Vec<Pending>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["explain"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let project = context.project()?;
    let lock = context.lock(&project)?;
    let site = arguments.site.as_deref();
    let role = context.locked_role(&project, &lock, &arguments.role, site)?;
    let store = context.store()?;
    let past = last_build(&store, &role.plan);
    let trust = trust(&project, site)?;
    let known = Known::new(&store, &trust);
    let pending = pending(known, &role, past.as_deref().unwrap_or_default());
    if context.json() {
        context.output(&Output { last: past, next: pending })?;
        return Ok(ExitCode::SUCCESS);
    }
    match &past {
        None => context.data(format!("{} was not built here yet", arguments.role))?,
        Some(layers) => {
            context.data("The last build, base first:")?;
            context.data(format!(
                "{:<24} {:<12} {:>10} {:>7} {:>8}  {}",
                "layer", "digest", "size", "paths", "built in", "then"
            ))?;
            for layer in layers {
                show(context, layer)?;
            }
        }
    }
    context.data("The next build:")?;
    for layer in &pending {
        let name = format!("{} {}", layer.image, layer.kind.name());
        let what = if layer.reused { "reused" } else { "built" };
        context.data(format!("{name:<24} {what}"))?;
        show_changes(context, &layer.reasons)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn show(context: &Context, layer: &Past) -> Result<()> {
    let name = format!("{} {}", layer.image, layer.kind.name());
    let then = match (layer.reused, &layer.reasons) {
        (true, _) => "reused: nothing changed",
        (false, None) => "built: for the first time",
        (false, Some(reasons)) if reasons.is_empty() => "built: it was not in the store",
        (false, Some(_)) => "built, because",
    };
    context.data(format!(
        "{name:<24} {:<12} {:>10} {:>7} {:>6.1} s  {then}",
        layer.digest.short(),
        bytes(layer.size),
        layer.entries,
        layer.seconds,
    ))?;
    for source in &layer.unpinned {
        context.data(format!("    unpinned: {source}"))?;
    }
    match &layer.reasons {
        Some(reasons) if !layer.reused => show_changes(context, reasons),
        _ => Ok(()),
    }
}

fn show_changes(context: &Context, changes: &[crate::build::Change]) -> Result<()> {
    for change in changes.iter().take(SHOWN) {
        context.data(format!("    {change}"))?;
    }
    if changes.len() > SHOWN {
        context.data(format!("    and {} more", changes.len() - SHOWN))?;
    }
    Ok(())
}
