//! `imgbuild prune`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use super::site::{ChangeArguments, Opened, scope};
use super::swap::confirmed;
use crate::swap::{Goal, remains};

pub(super) fn run(context: &Context, arguments: &ChangeArguments) -> Result<ExitCode> {
    let opened = Opened::new(context, &arguments.site)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    let survey = opened.survey()?;
    for (guest, kept) in remains(&opened.wanted, &survey) {
        if let Some(why) = kept {
            context.say(format!("{}: guest {} is kept: {why}", guest.record.node, guest.id));
        }
    }
    confirmed(context, &opened, &Goal::Prune { scope }, "prune", arguments.yes)
}
