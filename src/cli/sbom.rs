//! `imgbuild sbom`

use std::process::ExitCode;

use clap::ValueEnum;
use miette::Result;

use super::context::Context;
use super::document;
use crate::inspect::Inspector;
use crate::inspect::bill::{Bill, cyclonedx, spdx};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild sbom haproxy --site campus                  what was built last for a site, as SPDX
  imgbuild sbom e68d684df652 --format cyclonedx        an image that was built here, by its digest
  imgbuild sbom out/imgbuild-haproxy-1.0.0-e68d684df652.qcow2 --out haproxy.spdx.json
                                                       an artifact, to a file")]
pub(super) struct Arguments {
    #[command(flatten)]
    document: document::About,
    /// The form of the bill of materials
    #[arg(long, value_enum, value_name = "FORM", default_value_t)]
    format: Form,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum Form {
    /// SPDX 2.3
    #[default]
    Spdx,
    /// CycloneDX 1.6
    Cyclonedx,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    let store = context.store()?;
    let inspector = Inspector::new(&store);
    let document = &arguments.document;
    let built = document.built(context, &inspector)?;
    let bill = Bill::new(&inspector, &store, built.manifest)?;
    match arguments.format {
        Form::Spdx => document.write(context, &spdx::document(&bill))?,
        Form::Cyclonedx => document.write(context, &cyclonedx::document(&bill))?,
    }
    Ok(ExitCode::SUCCESS)
}
