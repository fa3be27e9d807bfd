//! `imgbuild lab`

mod change;
mod look;
mod up;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use miette::{IntoDiagnostic, Report, Result, WrapErr};

use super::context::Context;
use super::site::{Managed, say_unpinned};
use crate::definition::{Project, SiteName};
use crate::lab::{self, Error, LabSite, Local, Place};
use crate::swap::{Settings, Wanted};

/// How often guests are asked what is waited for. Asking costs nothing here.
const POLL: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make the lab and start its nodes, or those that are missing or stopped
    Up(up::Arguments),
    /// Show what runs in the lab, and how it is
    Status(LabArguments),
    /// Open a shell in the guest of a node
    Shell(look::NodeArguments),
    /// Run a command in the guest of a node
    Exec(look::ExecArguments),
    /// End the guest of a node at once, as if its power were cut; `up` starts it again
    Kill(look::NodeArguments),
    /// Show what a swap would do to the lab, step by step
    Plan(change::PlanArguments),
    /// Replace guests by new ones from new images
    Swap(change::SwapArguments),
    /// Bring back what guests ran before
    Rollback(change::ChangeArguments),
    /// Destroy replaced guests
    Prune(change::ChangeArguments),
    /// End everything and remove the lab, state and secrets included
    Down(PlaceArguments),
}

/// Which lab.
#[derive(Debug, Args)]
struct PlaceArguments {
    /// The site
    #[arg(long, value_name = "SITE")]
    site: SiteName,
    /// Where the lab is [default: /var/lib/imgbuild/lab/SITE]
    #[arg(long, value_name = "DIR")]
    lab: Option<PathBuf>,
}

/// Which lab, and what is in it.
#[derive(Debug, Args)]
struct LabArguments {
    #[command(flatten)]
    place: PlaceArguments,
    /// Where the site's templates are
    #[arg(long, value_name = "DIR", default_value = "out")]
    artifacts: PathBuf,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    lab::available()?;
    match &arguments.verb {
        Verb::Up(arguments) => up::run(context, arguments),
        Verb::Status(arguments) => look::status(context, arguments),
        Verb::Shell(arguments) => look::shell(arguments),
        Verb::Exec(arguments) => look::execute(arguments),
        Verb::Kill(arguments) => look::kill(context, arguments),
        Verb::Plan(arguments) => change::plan(context, arguments),
        Verb::Swap(arguments) => change::swap(context, arguments),
        Verb::Rollback(arguments) => change::rollback(context, arguments),
        Verb::Prune(arguments) => change::prune(context, arguments),
        Verb::Down(arguments) => look::down(context, arguments),
    }
}

impl PlaceArguments {
    fn place(&self) -> Result<Place> {
        Ok(Place::new(self.lab.as_deref(), &self.site)?)
    }
}

/// Imgbuild itself.
fn executable() -> Result<PathBuf> {
    let executable = std::env::current_exe().into_diagnostic();
    executable.wrap_err("cannot find imgbuild's own executable")
}

/// What `settings` say of a site, with those templates in `directory` that are up to date.
fn lab_site(
    context: &Context,
    project: &Project,
    settings: &lab::Settings,
    directory: &Path,
) -> Result<LabSite> {
    crate::definition::site::prove(project)?;
    let lock = context.lock(project)?;
    let site = settings.site.as_str();
    let site =
        LabSite::new::<Failure>(project, site, &settings.roles, directory, |role, manifest| {
            // A role that cannot be locked here has no artifact that is known to be up to date.
            let role = context.locked_role(project, &lock, role.as_str(), Some(site));
            Ok(role.is_ok_and(|role| crate::build::is_current(&role, manifest)))
        })
        .map_err(|failure| failure.0)?;
    say_unpinned(context, site.artifacts());
    Ok(site)
}

/// A report, made of an error of the lab.
struct Failure(Report);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

/// A lab that can be looked at and changed.
struct Opened {
    local: Local,
    wanted: Wanted,
}

impl Opened {
    /// The lab that is there.
    fn new(context: &Context, arguments: &LabArguments) -> Result<Self> {
        let place = arguments.place.place()?;
        let settings = place.read_settings()?;
        if settings.site != arguments.place.site {
            let (directory, is) = (place.root().to_owned(), settings.site);
            return Err(Error::OtherSite { directory, is }.into());
        }
        let project = context.project()?;
        let site = lab_site(context, &project, &settings, &arguments.artifacts)?;
        let wanted = site.wanted()?;
        let local = Local::open(place, settings, site, &executable()?)?;
        Ok(Self { local, wanted })
    }

    /// As [`Opened::new`], for whoever wants to change it.
    fn to_change(context: &Context, arguments: &LabArguments) -> Result<Self> {
        let opened = Self::new(context, arguments)?;
        opened.local.place().running_host(&executable()?)?;
        Ok(opened)
    }

    fn managed(&self) -> Managed<'_> {
        let settings = Settings { poll: POLL, ..Settings::default() };
        Managed { wanted: &self.wanted, platform: &self.local, settings }
    }
}
