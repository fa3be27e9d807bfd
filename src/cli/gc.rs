//! `imgbuild gc`

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, bytes};
use crate::lock::Lock;
use crate::store::Item;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Keep what was used within this many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    keep_days: u64,
}

/// What was deleted from the store.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// How many things were removed.
    removed: u64,
    /// Bytes that are free now.
    freed_bytes: u64,
    /// How many things stay.
    kept: u64,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["gc"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    // The packages and sources of this project's lock stay, however long nobody has built.
    let mut locked = BTreeSet::new();
    if let Ok(project) = context.project()
        && let Ok(lock) = Lock::read(&context.lock_path(&project))
    {
        let packages = lock.images.values().flat_map(|image| &image.packages);
        locked.extend(packages.map(|package| package.sha256));
        let sources = lock.images.values().flat_map(|image| &image.sources);
        locked.extend(sources.filter_map(|source| source.sha256));
    }
    let keep = |item: Item<'_>| match item {
        Item::Blob(digest) => locked.contains(&digest),
        Item::Key { .. } => false,
    };
    let age = Duration::from_secs(arguments.keep_days * 24 * 3600);
    let since = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
    let report = context.store()?.gc(&keep, since, context.progress())?;
    context.say(format!(
        "removed {} items, freed {}; {} items stay",
        report.removed,
        bytes(report.freed_bytes),
        report.kept
    ));
    if context.json() {
        context.output(&Output {
            removed: report.removed,
            freed_bytes: report.freed_bytes,
            kept: report.kept,
        })?;
    }
    Ok(ExitCode::SUCCESS)
}
