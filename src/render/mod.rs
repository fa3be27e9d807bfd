//! From a [`Plan`] to the files of its images: the last stage that needs nothing but the project.
//!
//! `images/NAME/files/` mirrors the root of the image, `overlays/SITE/files/NAME/` is laid over
//! it. `files/etc/x.conf.hbs` is a template and becomes `/etc/x.conf`; any other file is copied
//! byte for byte, a symbolic link with its target as it is. `.gitkeep` stands for a directory that
//! would otherwise be empty. Nothing else of the working tree reaches the result: neither owners
//! nor times nor permissions, but for the owner's execute bit of a file.
//!
//! Templates are `handlebars` without HTML escapes. They see every parameter of their image's
//! stack by its name, and
//!
//! - `site.name` (`none` without a site) and `site.nodes`, a list of records of `name`, `image`,
//!   `address`, `prefix`, `gateway` (empty if it has none), `number` and `host` (empty if it is not
//!   said);
//! - `site.names`, a list of records of `name` and `address`, and `site.operators`, a list of networks;
//! - `endpoints`, those of the role being built, a list of records of `name`, `port` and `last_port`
//!   (0 for a protocol without ports), `protocol`, `world` (whether anybody may connect), `clients`
//!   (addresses and networks), those among them that are `clients_ipv4` and `clients_ipv6`, and `doc`;
//! - `peers`, those of the nodes that run the role being built;
//! - `image.name` and `image.version` of the role being built;
//! - `volumes`, the state volumes, a list of records of `name`, `path`, `owner`, `group` and `mode`;
//! - `health.live` and `health.ready`, `swap.drain`, `swap.drained` and `swap.leads`, lists of a program and its
//!   arguments (empty if there is none), and `swap.patience` in seconds;
//! - `secrets.NAME`, the path at which the secret will be at run time.
//!
//! A template that names anything else, or uses a value in a way that its type does not allow, is
//! refused before it is rendered, whichever branches the values would take. The helpers are listed
//! in the documentation of the module `helper`.

mod check;
mod error;
mod helper;
mod layer;
mod position;
mod scope;
mod shape;
mod survey;
mod template;
mod tree;
mod values;

use std::path::{Path, PathBuf};

use crate::definition::lint::{Finding, Origin};
use crate::definition::{Plan, Project};
use crate::lint::UNUSED_PARAMETER;

pub use error::{Error, Result, RuleProblem, TemplateProblem};

use layer::{Source, Survey, check_covers, check_layers, check_states};
use template::Renderer;

/// The files of one definition of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedLayer {
    /// The definition.
    pub image: String,
    /// Its files, by path; every directory comes before what it holds.
    pub entries: Vec<RenderedEntry>,
}

/// One path of a [`RenderedLayer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedEntry {
    /// The path inside the image, without leading slash; never empty, never with `..`.
    pub path: PathBuf,
    /// What it is.
    pub kind: RenderedKind,
    /// Permission bits, `0o7777` at most; of a symbolic link, `0o777`.
    pub mode: u32,
    /// The owner: a name, or a number in decimal.
    pub owner: String,
    /// The group: a name, or a number in decimal.
    pub group: String,
    /// The package whose file this one may replace.
    pub replaces: Option<String>,
    /// Whether a `[[files]]` entry gives owner and permissions. A directory without one takes over
    /// what the tree below has, if the tree below has it.
    pub explicit: bool,
    /// The file it was made from, relative to the project.
    pub source: PathBuf,
    /// Whether that file is a template.
    pub from_template: bool,
    /// For each line of a rendered template, the template's line, from 1.
    lines: Vec<u32>,
}

/// The type of a path and what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenderedKind {
    /// A directory.
    Directory,
    /// A regular file.
    File {
        /// Its content.
        content: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
}

impl RenderedEntry {
    /// The line of the source that line `line` of this file comes from, both from 1. Exact for
    /// every line that holds any text or expression of the template; the further lines of a value
    /// with line breaks belong to the line the value stands on.
    pub fn source_line(&self, line: usize) -> Option<usize> {
        let index = line.checked_sub(1)?;
        match (&self.kind, self.from_template) {
            (RenderedKind::File { .. }, true) => self.lines.get(index).map(|line| *line as usize),
            (RenderedKind::File { content }, false) => {
                let breaks = content.iter().filter(|byte| **byte == b'\n').count();
                (index <= breaks).then_some(line)
            }
            _ => None,
        }
    }
}

/// The source that line `line` of the file at `path` comes from, as the uppermost of `layers` has
/// it, and the line there. `path` may begin with a slash. For showing a daemon's complaint about
/// its configuration where it can be mended.
pub fn locate<'a>(
    layers: &'a [RenderedLayer],
    path: &Path,
    line: usize,
) -> Option<(&'a Path, usize)> {
    let path = path.strip_prefix("/").unwrap_or(path);
    let mut entries = layers.iter().rev().flat_map(|layer| &layer.entries);
    let entry = entries.find(|entry| entry.path == path)?;
    Some((&entry.source, entry.source_line(line)?))
}

/// Renders the files of every definition of `plan`, root first.
///
/// # Errors
///
/// A file that cannot be read or shipped, a template that is at fault, a rule for a path that is
/// not there, sources or layers that disagree on a path's type.
pub fn render(project: &Project, plan: &Plan) -> Result<Vec<RenderedLayer>> {
    let site = plan.site.as_ref().map(|site| site.name.as_str());
    let values = handlebars::Context::from(values::values(plan));
    let mut renderer = Renderer::new();
    let mut errors = Vec::new();
    let mut layers = Vec::with_capacity(plan.layers.len());
    for layer in &plan.layers {
        let source = Source::read(project, layer.image.as_str(), site)?;
        match source.render(project, &mut renderer, &values) {
            Ok(entries) => {
                layers.push(RenderedLayer { image: layer.image.to_string(), entries });
            }
            Err(error) => errors.push(error),
        }
    }
    let layers = Error::collect(layers, errors)?;
    check_layers(&layers)?;
    check_states(plan, &layers)?;
    check_covers(plan, &layers)?;
    Ok(layers)
}

/// Checks the templates and files of every definition and overlay, whether or not a role uses
/// them, without any values. The result are the parameters that no template uses, as findings to be judged.
///
/// # Errors
///
/// As for [`render`].
pub fn check(project: &Project) -> Result<Vec<Finding>> {
    let mut errors = Vec::new();
    let mut survey = Survey::default();
    for image in project.images() {
        let name = image.name.as_str();
        let mut check = |site| Source::read(project, name, site)?.check(project, &mut survey);
        if let Err(error) = check(None) {
            errors.push(error);
            continue;
        }
        let sites = project.sites();
        let sites = sites.filter(|site| layer::overlay_files(project, site, name).is_dir());
        errors.extend(sites.filter_map(|site| check(Some(site.name.as_str())).err()));
    }
    let parameters = project
        .images()
        .flat_map(|image| image.parameters.iter().map(move |(name, it)| (image, name, it)));
    let unused =
        parameters.filter(|(_, _, parameter)| !survey.used.contains(&parameter.place.to_string()));
    let findings = unused.map(|(image, name, parameter)| {
        let message = format!("no template uses `{name}`");
        let lint = &UNUSED_PARAMETER;
        let about = (Origin::Image(image.name.clone()), name.as_str());
        Finding::new(lint, about, message, &parameter.place, lint.remedy)
    });
    Error::collect(findings.collect(), errors)
}

#[cfg(test)]
mod tests;
