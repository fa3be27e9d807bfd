//! `imgbuild prune`

use std::process::ExitCode;

use miette::{Result, miette};

use super::context::Context;
use super::site::{ChangeArguments, Opened, say_kept, scope};
use super::swap::{Agreed, confirmed};
use crate::swap::{Goal, remains};

pub(super) fn run(context: &Context, arguments: &ChangeArguments) -> Result<ExitCode> {
    let mut opened = Opened::new(context, &arguments.site)?;
    let scope = scope(&opened.wanted, &arguments.names)?;
    let survey = opened.managed().survey()?;
    say_kept(context, &remains(&opened.wanted, &survey));
    let artifacts = opened.platform.may_remove_files().map_err(|error| miette!("{error}"))?;
    if !artifacts {
        context.say(
            "the images that guests were made from stay on the storage: the token may not remove files there \
             (docs/proxmox.md#token-and-role)",
        );
    }
    let agreed = Agreed { yes: arguments.yes, expected: None };
    confirmed(context, &mut opened, &Goal::Prune { scope, artifacts }, "prune", &agreed)
}
