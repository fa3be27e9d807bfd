//! `imgbuild new`

use std::path::Path;
use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use super::init::{next, tell};
use crate::definition::Project;
use crate::render;
use crate::scaffold::{self, Error, Obstacle};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild new web                    adds images/web, a role that builds, on `node`
  imgbuild new web --extends php      on another image")]
pub(super) struct Arguments {
    /// What the role is called: lower-case letters, digits and `-`
    #[arg(value_name = "ROLE")]
    role: String,
    /// The image that it stands on [default: `node`, if there is one]
    #[arg(long, value_name = "IMAGE")]
    extends: Option<String>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let name = scaffold::role_name(&arguments.role)?;
    let project = context.project()?;
    let (entries, base) = scaffold::new_role(&project, &name, arguments.extends.as_deref())?;
    let unit = Path::new("images").join(name.as_str());
    let help = "choose another name, or move it away";
    let written = scaffold::write(project.root(), &[unit], &entries, help)?;
    // Values, parameters and endpoints of what it stands on may have the names that it uses.
    if let Err(cause) = fits(project.root()) {
        return Err(Error::DoesNotFit { base: base.to_string(), causes: vec![cause] }.into());
    }
    written.keep();
    tell(context, project.root(), name.as_str(), &entries, next(name.as_str()), || {})
}

/// Whether the project with the new role is in order.
fn fits(root: &Path) -> Result<(), Obstacle> {
    let project = Project::load(root)?;
    render::check(&project)?;
    Ok(())
}
