//! `imgbuild provenance`

use std::process::ExitCode;

use miette::Result;

use super::context::Context;
use super::document;
use crate::inspect::Inspector;
use crate::inspect::bill::Bill;
use crate::inspect::provenance::Statement;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild provenance haproxy --site campus            what was built last for a site
  imgbuild provenance out/imgbuild-haproxy-1.0.0-e68d684df652.qcow2 --out haproxy.intoto.json
                                                       an artifact, to a file")]
pub(super) struct Arguments {
    #[command(flatten)]
    document: document::About,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    let store = context.store()?;
    let inspector = Inspector::new(&store);
    let built = arguments.document.built(context, &inspector)?;
    let inputs = built.inputs(context)?;
    let bill = Bill::new(&inspector, &store, built.manifest)?;
    arguments.document.write(context, &Statement::of(&bill, inputs))?;
    Ok(ExitCode::SUCCESS)
}
