//! `imgbuild build`

use std::path::PathBuf;
use std::process::ExitCode;

use miette::Result;

use super::context::{Context, bytes, shown};
use crate::build::{Artifact, Builder, build_role};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The roles to build
    #[arg(required_unless_present = "all", value_name = "ROLE")]
    roles: Vec<String>,
    /// Build every role of the project
    #[arg(long, conflicts_with = "roles")]
    all: bool,
    /// Bake in the values and nodes of this site
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Where artifacts go
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Threads, and roles built at a time [default: the number of processors]
    #[arg(long, short, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
    /// Build everything again from nothing and compare with what the store has
    #[arg(long)]
    check: bool,
    /// When a script fails, open a shell in the tree at that very point
    #[arg(long)]
    debug_shell: bool,
}
