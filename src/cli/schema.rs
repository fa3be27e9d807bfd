//! `imgbuild schema`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use crate::definition::schema::{File, schema};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The file that the schema is of
    #[arg(value_name = "FILE")]
    file: FileName,
}

/// A file with a schema, as it is called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum FileName {
    /// images/NAME/image.toml
    Image,
    /// overlays/SITE/overlay.toml
    Overlay,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let file = match arguments.file {
        FileName::Image => File::Image,
        FileName::Overlay => File::Overlay,
    };
    context.object(&schema(file))?;
    Ok(ExitCode::SUCCESS)
}
