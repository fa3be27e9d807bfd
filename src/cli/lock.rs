//! `imgbuild lock`

use std::process::ExitCode;
use std::time::SystemTime;

use miette::Result;

use super::context::{Context, shown};
use crate::lock::{Change, Error, Lock, Update, difference, resolve, wishes};
use crate::progress::Step;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Take the newest versions: of everything, or of these packages
    #[arg(long, value_name = "PACKAGE", num_args = 0..)]
    update: Option<Vec<String>>,
    /// Show what would change and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode> {
    let project = context.project()?;
    let path = context.lock_path(&project);
    let wishes = wishes(&project)?;
    let previous = match Lock::read(&path) {
        Ok(lock) => Some(lock),
        Err(Error::Absent { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let update = match arguments.update {
        None => Update::Missing,
        Some(packages) if packages.is_empty() => Update::All,
        Some(packages) => Update::Only(packages),
    };
    let step = Step::start(context.progress(), "resolve packages", None);
    let fetcher = context.fetcher();
    let now = SystemTime::now();
    let lock = resolve(&wishes, &fetcher, previous.as_ref(), &update, now)?;
    let packages: usize = lock.images.values().map(|image| image.packages.len()).sum();
    step.finish(format!("{packages} packages in {} images", lock.images.len()));
    let changes = previous.as_ref().map(|previous| difference(previous, &lock));
    if !arguments.dry_run {
        lock.write(&path)?;
    }
    if context.json() {
        context.object(&changes.unwrap_or_default().iter().map(Row::from).collect::<Vec<_>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    match changes {
        None => context.say(format!("wrote {}; commit it", shown(&path))),
        Some(changes) if changes.is_empty() => context.say("nothing changes"),
        Some(changes) => {
            for change in &changes {
                context.data(line(change))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(change: &Change) -> String {
    let Change { image, package, from, to } = change;
    match (from, to) {
        (None, Some(to)) => format!("{image}: {package} {to} (new)"),
        (Some(from), None) => format!("{image}: {package} {from} (removed)"),
        (Some(from), Some(to)) => format!("{image}: {package} {from} → {to}"),
        (None, None) => format!("{image}: {package}"),
    }
}

#[derive(serde::Serialize)]
struct Row<'a> {
    image: &'a str,
    package: &'a str,
    from: Option<&'a str>,
    to: Option<&'a str>,
}

impl<'a> From<&'a Change> for Row<'a> {
    fn from(change: &'a Change) -> Self {
        Self {
            image: &change.image,
            package: &change.package,
            from: change.from.as_deref(),
            to: change.to.as_deref(),
        }
    }
}
