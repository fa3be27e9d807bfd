//! `imgbuild rollback`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use super::site::{Opened, SiteArguments, scope};
use super::swap::confirmed;
use crate::swap::{Goal, Standing, differences};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Roles and nodes [default: all of the site]
    #[arg(value_name = "ROLE|NODE")]
    names: Vec<String>,
    #[command(flatten)]
    site: SiteArguments,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
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
