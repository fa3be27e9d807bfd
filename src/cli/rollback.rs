//! `imgbuild rollback`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use super::site::{ChangeArguments, Opened, scope};
use super::swap::confirmed;
use crate::swap::{Goal, Standing, differences};

pub(super) fn run(context: &Context, arguments: &ChangeArguments) -> Result<ExitCode> {
    let opened = Opened::new(context, &arguments.site)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    let survey = opened.survey()?;
    // A swap that is under way is taken back; only when there is none, one that is done.
    let unfinished =
        differences(&opened.wanted, &survey).iter().any(|one| one.standing == Standing::Unfinished);
    let goal = match unfinished {
        true => Goal::Undo { scope, reason: None },
        false => Goal::Rollback { scope },
    };
    let purpose = format!("rollback {}", arguments.names.join(" "));
    confirmed(context, &opened, &goal, purpose.trim_end(), arguments.yes)
}
