//! `imgbuild rollback`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use super::site::{ChangeArguments, Managed, Opened, scope};
use super::swap::{Agreed, confirmed};
use crate::swap::{Goal, Scope, Standing, differences};

pub(super) fn run(context: &Context, arguments: &ChangeArguments) -> Result<ExitCode> {
    let mut opened = Opened::new(context, &arguments.site)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    let goal = goal(&opened.managed(), scope)?;
    let purpose = format!("rollback {}", arguments.names.join(" "));
    let agreed = Agreed { yes: arguments.yes, expected: None };
    confirmed(context, &mut opened, &goal, purpose.trim_end(), &agreed)
}

/// A swap that is under way is taken back; only when there is none, one that is done.
pub(super) fn goal(managed: &Managed<'_>, scope: Scope) -> Result<Goal> {
    let survey = managed.survey()?;
    let unfinished =
        differences(managed.wanted, &survey).iter().any(|one| one.standing == Standing::Unfinished);
    Ok(match unfinished {
        true => Goal::Undo { scope, reason: None },
        false => Goal::Rollback { scope },
    })
}
