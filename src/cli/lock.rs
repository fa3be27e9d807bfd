//! `imgbuild lock`

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::SystemTime;

use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, Given, shown};
use crate::build::Packages;
use crate::definition::Project;
use crate::lock::{
    Change, Error, LeftOut, Lock, PackageFiles, Update, Wishes, difference, needed_by, resolve,
    wishes,
};
use crate::progress::Step;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The roles to lock, besides those that are locked already [default: all]
    #[arg(value_name = "ROLE")]
    roles: Vec<String>,
    /// Take the newest versions: of everything, or of these packages
    #[arg(long, value_name = "PACKAGE", num_args = 0..)]
    update: Option<Vec<String>>,
    /// Show what would change and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Take this file for a source that is a package; it must be the pinned one
    #[arg(long = "source", value_name = "NAME=PATH")]
    sources: Vec<Given>,
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode> {
    let project = context.project()?;
    let path = context.lock_path(&project);
    let previous = match Lock::read(&path) {
        Ok(lock) => Some(lock),
        Err(Error::Absent { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let asked = Asked::new(&project, &arguments.roles)?;
    let wishes = asked.wishes(wishes(&project)?, previous.as_ref());
    let update = match arguments.update {
        None => Update::Missing,
        Some(packages) if packages.is_empty() => Update::All,
        Some(packages) => Update::Only(packages),
    };
    let step = Step::start(context.progress(), "resolve packages", None);
    let fetcher = context.fetcher();
    let now = SystemTime::now();
    // Only packages that are sources take a store.
    let needs_store = wishes.iter().any(|wishes| !wishes.files.is_empty());
    let store = (needs_store || !arguments.sources.is_empty()).then(|| context.store());
    let store = store.transpose()?;
    let given = |store| context.supplied_packages(&project, store, &arguments.sources);
    let supplies = store.as_ref().map(given).transpose()?.unwrap_or_default();
    let progress = context.progress();
    let packages = store.as_ref().map(|store| Packages {
        store,
        fetcher: &fetcher,
        supplies: &supplies,
        progress,
    });
    let files = packages.as_ref().map(|packages| packages as &dyn PackageFiles);
    let mut resolution = resolve(&wishes, &fetcher, files, previous.as_ref(), &update, now)?;
    asked.refuse_losses(&mut resolution.left_out)?;
    let lock = &resolution.lock;
    let packages: usize = lock.images.values().map(|image| image.packages.len()).sum();
    step.finish(format!("{packages} packages in {} images", lock.images.len()));
    let changes = previous.as_ref().map(|previous| difference(previous, lock));
    if !arguments.dry_run {
        lock.write(&path)?;
    }
    if context.json() {
        context.output(&Output::new(changes.as_deref(), resolution.left_out.iter()))?;
    } else {
        match changes {
            None => context.say(format!("wrote {}; commit it", shown(&path))),
            Some(changes) if changes.is_empty() => context.say("nothing changes"),
            Some(changes) => {
                for change in &changes {
                    context.data(line(change))?;
                }
            }
        }
    }
    Ok(asked.report(context, resolution.left_out))
}

/// What the command is asked to lock.
struct Asked {
    /// The images that must be in the lock in the end; all, if no role is named.
    needed: Option<BTreeSet<String>>,
}

impl Asked {
    fn new(project: &Project, roles: &[String]) -> Result<Self> {
        if roles.is_empty() {
            return Ok(Self { needed: None });
        }
        let mut needed = BTreeSet::new();
        for role in roles {
            project.role(role)?;
            needed.extend(needed_by(project, role)?);
        }
        Ok(Self { needed: Some(needed) })
    }

    fn is_needed(&self, image: &str) -> bool {
        self.needed.as_ref().is_none_or(|needed| needed.contains(image))
    }

    /// The wishes of what is asked for, of what is locked already, and of everything below.
    fn wishes(&self, all: Vec<Wishes>, previous: Option<&Lock>) -> Vec<Wishes> {
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for wishes in all.iter().rev() {
            let is_locked = previous.is_some_and(|lock| lock.images.contains_key(&wishes.image));
            if is_locked || self.is_needed(&wishes.image) || wanted.contains(&wishes.image) {
                wanted.insert(wishes.image.clone());
                wanted.extend(wishes.parent.clone());
            }
        }
        all.into_iter().filter(|wishes| wanted.contains(&wishes.image)).collect()
    }

    /// Only who names roles says that others may leave the lock.
    fn refuse_losses(&self, left_out: &mut Vec<LeftOut>) -> Result<()> {
        let loses = |group: &LeftOut| group.lost.iter().any(|image| self.is_needed(image));
        match left_out.iter().position(loses) {
            None => Ok(()),
            Some(position) => {
                let LeftOut { error, lost, .. } = left_out.swap_remove(position);
                Err(Error::Lost { images: lost, causes: vec![error] }.into())
            }
        }
    }

    /// Says which images are not locked, or not anew. It is a failure if one was asked for.
    fn report(&self, context: &Context, left_out: Vec<LeftOut>) -> ExitCode {
        let mut code = ExitCode::SUCCESS;
        for LeftOut { error, kept, lost, missing } in left_out {
            let states = [
                (&missing, "not locked"),
                (&kept, "stays as it is in the lock"),
                (&lost, "no longer in the lock, because what it stands on has changed"),
            ];
            for (images, state) in states.iter().filter(|(images, _)| !images.is_empty()) {
                context.say(format!("{}: {state}", images.join(", ")));
            }
            if [&missing, &kept].iter().any(|images| images.iter().any(|it| self.is_needed(it))) {
                code = ExitCode::FAILURE;
            }
            context.error(&error.into());
        }
        code
    }
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

/// How the lock changes.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// Whether there was no lock before. Then no changes are listed.
    new: bool,
    /// What changes, by image and package.
    changes: Vec<Row>,
    /// The images that are not locked, or not anew, because their repositories were out of reach.
    left_out: Vec<String>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["lock"];
}

/// A package of an image that is new, gone or of another version.
#[derive(Serialize, JsonSchema)]
struct Row {
    /// The image; `ROLE/MACHINE` for what only disks of a role have.
    image: String,
    /// The package.
    package: String,
    /// Its version before; none if it is new.
    from: Option<String>,
    /// Its version now; none if it is gone.
    to: Option<String>,
}

impl Output {
    fn new<'a>(changes: Option<&[Change]>, left_out: impl Iterator<Item = &'a LeftOut>) -> Self {
        let row = |Change { image, package, from, to }: &Change| Row {
            image: image.clone(),
            package: package.clone(),
            from: from.clone(),
            to: to.clone(),
        };
        let images = left_out.flat_map(|it| [&it.missing, &it.kept, &it.lost]).flatten();
        Self {
            new: changes.is_none(),
            changes: changes.unwrap_or_default().iter().map(row).collect(),
            left_out: images.cloned().collect(),
        }
    }
}
