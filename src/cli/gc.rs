//! `imgbuild gc`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Also delete what was used within this many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    older_than: u64,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let _ = (context, arguments);
    Ok(ExitCode::SUCCESS)
}
