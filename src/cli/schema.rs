//! `imgbuild schema`

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use miette::Result;

use super::context::Context;
use super::output::{names, schema};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What the schema is of: a file (`image`, `overlay`, `policy`, `manifest`), the lines of `--progress json`
    /// (`progress`), or what a verb writes with `--json` (`build`, `lab-up`)
    #[arg(value_name = "NAME", value_parser = PossibleValuesParser::new(names()))]
    name: String,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    // Clap lets no other name through.
    if let Some(schema) = schema(&arguments.name) {
        context.object(&schema)?;
    }
    Ok(ExitCode::SUCCESS)
}
