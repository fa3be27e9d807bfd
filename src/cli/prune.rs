//! `imgbuild prune`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use super::site::{ChangeArguments, Opened, say_kept, scope};
use super::swap::confirmed;
use crate::swap::{Goal, remains};

pub(super) fn run(context: &Context, arguments: &ChangeArguments) -> Result<ExitCode> {
    let opened = Opened::new(context, &arguments.site)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    let survey = opened.managed().survey()?;
    say_kept(context, &remains(&opened.wanted, &survey));
    confirmed(context, &opened, &Goal::Prune { scope }, "prune", arguments.yes)
}
