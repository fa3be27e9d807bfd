//! `imgbuild graph`

use std::path::PathBuf;
use std::process::ExitCode;

use miette::Result;

use super::context::{Context, shown};
use super::trust::trust;
use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::inspect::{Inspector, graph};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild graph --format svg --out definitions.svg   how the definitions of the project build upon each other
  imgbuild graph --site campus --format svg > a.svg   who connects to whom at a site
  imgbuild graph haproxy --out haproxy.dot            the layers of a role, for Graphviz: dot(1) draws them")]
pub(super) struct Arguments {
    /// The role whose layers are drawn [default: the definitions of the project, or with --site the roles of
    /// the site]
    #[arg(value_name = "ROLE")]
    role: Option<String>,
    /// The site whose roles and connections are drawn; with ROLE, the site that it is built for
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// In what language
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t = Language::Dot)]
    format: Language,
    /// Write it to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// A language that graphs are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Language {
    /// For Graphviz and whatever else reads it
    Dot,
    /// A picture, laid out by imgbuild
    Svg,
}

impl super::output::Output for graph::Graph {
    const VERBS: &'static [&'static str] = &["graph"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let graph = graph_of(context, arguments)?;
    let text = || match arguments.format {
        Language::Dot => graph::dot::dot(&graph),
        Language::Svg => graph::svg::standalone(&graph),
    };
    if let Some(path) = &arguments.out {
        context.write(path, &text())?;
    }
    match (&arguments.out, context.json()) {
        (_, true) => context.output(&graph)?,
        (Some(path), false) => context.data(shown(path))?,
        (None, false) => context.data(text().trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn graph_of(context: &Context, arguments: &Arguments) -> Result<graph::Graph> {
    let project = context.project()?;
    let site = arguments.site.as_deref();
    let Some(role) = &arguments.role else {
        return Ok(match site {
            Some(site) => graph::site(&project, site)?,
            None => graph::definitions(&project),
        });
    };
    let lock = context.lock(&project)?;
    let locked = context.locked_role(&project, &lock, role, site)?;
    let store = context.store()?;
    let inspector = Inspector::new(&store);
    let trust = trust(&project, site)?;
    let template = inspector.role(role.clone(), &locked, Format::LxcTemplate, &trust)?;
    let disk = match &locked.disk {
        Some(_) => Some(inspector.role(role.clone(), &locked, Format::Qcow2, &trust)?),
        None => None,
    };
    let formats = [Format::LxcTemplate, Format::Qcow2];
    let artifacts: Vec<Manifest> =
        formats.into_iter().filter_map(|format| inspector.current(&locked, format)).collect();
    Ok(graph::role(&template, disk.as_ref(), &artifacts))
}
