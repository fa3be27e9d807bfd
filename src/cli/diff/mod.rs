//! `imgbuild diff`

mod text;

use std::process::ExitCode;

use miette::Result;

use super::build::FormatName;
use super::context::Context;
use super::subject::Subject;
use super::trust::trust;
use crate::artifact::name::Format;
use crate::definition::Project;
use crate::inspect::{Checkout, Comparison, Image, Inspector, compare};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild diff HEAD:haproxy                    what the changes that are not committed do to a role
  imgbuild diff v1.2:haproxy main:haproxy       two revisions, as in `git show REVISION:PATH`
  imgbuild diff 56ca1d545e05 721a11c50c62       two images that were built here, by their digests
  imgbuild diff out/imgbuild-haproxy-1.0.0-56ca1d545e05.tar.zst haproxy
                                                an artifact, and what a build would make of it now")]
pub(super) struct Arguments {
    /// What to compare with: an artifact (the path of a template, a disk or a manifest), the digest of an
    /// image that was built here, REVISION:ROLE, or ROLE as the project has it now
    #[arg(value_name = "OLD")]
    old: String,
    /// What to compare, in the same words [default: the role of OLD as the project has it now]
    #[arg(value_name = "NEW")]
    new: Option<String>,
    /// The site that roles are for [default: that of the artifact or digest they are compared with]
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Compare what roles are in this format [default: that of the artifact or digest they are
    /// compared with, or lxc]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatName>,
    /// Show every line and every path
    #[arg(long)]
    all: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    let store = context.store()?;
    let inspector = Inspector::new(&store);
    let old = Subject::of(&arguments.old);
    let new = arguments.new.as_ref().map(Subject::of);
    // What is built already says what a role has to be compared as.
    let old_image = built(&old, &inspector)?;
    let new_image = match &new {
        Some(new) => built(new, &inspector)?,
        None => None,
    };
    let known = old_image.as_ref().or(new_image.as_ref()).map(|image| &image.facts);
    let site = arguments.site.clone().or_else(|| known.and_then(|facts| facts.site.clone()));
    let format = arguments.format.map(Format::from).or(known.map(|facts| facts.format));
    let format = format.unwrap_or(Format::LxcTemplate);
    let roles = Roles { context, inspector: &inspector, site: site.as_deref(), format };
    let old = match old_image {
        Some(image) => image,
        None => roles.image(&old)?,
    };
    let new = match (new_image, new) {
        (Some(image), _) => image,
        (None, Some(new)) => roles.image(&new)?,
        (None, None) => roles.image(&Subject::Role { revision: None, role: &old.facts.role })?,
    };
    let comparison = compare(&old, &new)?;
    match context.json() {
        true => context.output(&comparison)?,
        false => text::show(context, &comparison, arguments.all)?,
    }
    Ok(ExitCode::SUCCESS)
}

impl super::output::Output for Comparison {
    const VERBS: &'static [&'static str] = &["diff"];
}

/// The image, if it is one that was built.
fn built(subject: &Subject<'_>, inspector: &Inspector<'_>) -> Result<Option<Image>> {
    Ok(match subject {
        Subject::Artifact(path) => Some(inspector.artifact(path)?),
        Subject::Digest(digest) => Some(inspector.digest(digest)?),
        Subject::Role { .. } => None,
    })
}

/// What roles are looked at as.
struct Roles<'a> {
    context: &'a Context,
    inspector: &'a Inspector<'a>,
    site: Option<&'a str>,
    format: Format,
}

impl Roles<'_> {
    fn image(&self, subject: &Subject<'_>) -> Result<Image> {
        match subject {
            Subject::Artifact(path) => Ok(self.inspector.artifact(path)?),
            Subject::Digest(digest) => Ok(self.inspector.digest(digest)?),
            Subject::Role { revision: None, role } => {
                self.of_project(&self.context.project()?, role, (*role).to_owned())
            }
            Subject::Role { revision: Some(revision), role } => {
                let checkout = Checkout::new(&self.context.root()?, revision)?;
                let project = Project::load(&checkout.path())?;
                self.of_project(&project, role, format!("{revision}:{role}"))
            }
        }
    }

    fn of_project(&self, project: &Project, role: &str, label: String) -> Result<Image> {
        let lock = self.context.lock(project)?;
        let role = self.context.locked_role(project, &lock, role, self.site)?;
        if self.format == Format::Qcow2 && role.disk.is_none() {
            let error = crate::build::Error::NoMachine { role: role.plan.role().to_owned() };
            return Err(error.into());
        }
        let trust = trust(project, self.site)?;
        Ok(self.inspector.role(label, &role, self.format, &trust)?)
    }
}
