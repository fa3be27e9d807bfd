//! `imgbuild report`

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use miette::{IntoDiagnostic, Result, WrapErr, miette};

use super::build::FormatName;
use super::context::{Context, shown};
use super::trust::trust;
use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::build::LockedRole;
use crate::definition::{GuestKind, ImageName, Project};
use crate::digest::Digest;
use crate::inspect::report::{Known, NameRow, NodeRow, Report, RoleReport, SiteReport};
use crate::inspect::{Image, Inspector, graph, is_digest, report};
use crate::lock::Lock;
use crate::publish::layers::Voucher;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild report haproxy --site campus --out haproxy.html   one role, as it is built for a site
  imgbuild report --site campus --out campus.html            the site: nodes, connections, all its roles
  imgbuild report 56ca1d545e05 > image.html                  an image that was built here, by its digest")]
pub(super) struct Arguments {
    /// The role; or an image that was built: the path of a template, a disk or a manifest, or the digest of
    /// one that was built here [default: all roles that the site has nodes of]
    #[arg(value_name = "ROLE", required_unless_present = "site")]
    subject: Option<String>,
    /// The site; with ROLE, the site that it is built for
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// The format whose sizes and files are told [default: that in which the site deploys the role, or lxc]
    #[arg(long, value_name = "FORMAT")]
    format: Option<FormatName>,
    /// Write the page to this file [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

impl super::output::Output for Report {
    const VERBS: &'static [&'static str] = &["report"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    let store = context.store()?;
    let inspector = Inspector::new(&store);
    let report = match arguments.subject.as_deref() {
        None => of_site(context, &inspector, arguments)?,
        Some(subject) => {
            let role = match built(&inspector, subject)? {
                Some(image) => {
                    refuse_choice(subject, arguments)?;
                    of_built(&inspector, &image)?
                }
                None => {
                    let reporter = Reporter::new(context, &inspector, arguments)?;
                    reporter.project.role(subject)?;
                    reporter.role(subject)?
                }
            };
            Report { site: None, roles: vec![role] }
        }
    };
    if let Some(path) = &arguments.out {
        context.write(path, &report::page(&report)?)?;
    }
    match (&arguments.out, context.json()) {
        (_, true) => context.output(&report)?,
        (Some(path), false) => context.data(shown(path))?,
        (None, false) => context.data(report::page(&report)?.trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The image that `subject` names, if it is one that was built.
fn built(inspector: &Inspector<'_>, subject: &str) -> Result<Option<Image>> {
    let path = Path::new(subject);
    if path.is_file() || subject.contains(['/', '.']) {
        return Ok(Some(inspector.artifact(path)?));
    }
    Ok(match is_digest(subject) {
        true => Some(inspector.digest(subject)?),
        false => None,
    })
}

/// Refuses options that say what an image is to be which is there already.
fn refuse_choice(subject: &str, arguments: &Arguments) -> Result<()> {
    if arguments.site.is_none() && arguments.format.is_none() {
        return Ok(());
    }
    Err(miette!(
        help = "leave out --site and --format",
        "{subject} was built, for the site and in the format that it has"
    ))
}

/// What is known of an image alone.
fn of_built(inspector: &Inspector<'_>, image: &Image) -> Result<RoleReport> {
    let facts = &image.facts;
    let history = inspector.history(&facts.role, facts.site.as_deref(), facts.format);
    let position = history.iter().position(|it| Some(it.digest) == facts.digest);
    // What was built elsewhere came before nothing that was built here.
    let previous = position.and_then(|position| history.get(position + 1).cloned());
    let previous = previous.map(|it| inspector.built(it.digest.short(), it)).transpose()?;
    let manifests: Vec<Manifest> = image.manifest.iter().cloned().collect();
    Ok(report::describe(&Known {
        image,
        manifests: &manifests,
        previous: previous.as_ref(),
        definitions: None,
        command: &command(&facts.role, facts.site.as_deref(), facts.format),
    })?)
}

/// What builds a role.
fn command(role: &str, site: Option<&str>, format: Format) -> String {
    let site = site.map(|site| format!(" --site {site}")).unwrap_or_default();
    let format = match format {
        Format::LxcTemplate => "lxc",
        Format::Qcow2 => "qcow2",
    };
    format!("imgbuild build {role}{site} --format {format}")
}

/// Looks at roles of a project.
struct Reporter<'a> {
    context: &'a Context,
    inspector: &'a Inspector<'a>,
    project: Project,
    lock: Lock,
    lock_digest: Digest,
    trust: Voucher,
    site: Option<&'a str>,
    format: Option<Format>,
}

impl<'a> Reporter<'a> {
    fn new(
        context: &'a Context,
        inspector: &'a Inspector<'a>,
        arguments: &'a Arguments,
    ) -> Result<Self> {
        let project = context.project()?;
        let lock = context.lock(&project)?;
        let path = context.lock_path(&project);
        let text = std::fs::read(&path).into_diagnostic();
        let text = text.wrap_err_with(|| format!("cannot read {}", shown(&path)))?;
        let trust = trust(&project, arguments.site.as_deref())?;
        Ok(Self {
            context,
            inspector,
            trust,
            project,
            lock,
            lock_digest: Digest::of(text),
            site: arguments.site.as_deref(),
            format: arguments.format.map(Format::from),
        })
    }

    /// The format that was asked for, or else that in which the site deploys a role.
    fn format_of(&self, role: &ImageName) -> Result<Format> {
        if let Some(format) = self.format {
            return Ok(format);
        }
        let Some(site) = self.site else { return Ok(Format::LxcTemplate) };
        let site = self.project.settled_site(site)?;
        Ok(match site.guests.get(role).map(|(shape, _)| shape.kind) {
            Some(GuestKind::Machine) => Format::Qcow2,
            Some(GuestKind::Container) | None => Format::LxcTemplate,
        })
    }

    fn role(&self, name: &str) -> Result<RoleReport> {
        let Self { context, project, lock, inspector, site, trust, .. } = self;
        let locked = context.locked_role(project, lock, name, *site)?;
        let format = self.format_of(&locked.plan.plan.role)?;
        if format == Format::Qcow2 && locked.disk.is_none() {
            return Err(crate::build::Error::NoMachine { role: name.to_owned() }.into());
        }
        let current = inspector.current(&locked, format);
        let image = match &current {
            Some(manifest) => inspector.built(name.to_owned(), manifest.clone())?,
            None => inspector.role(name.to_owned(), &locked, format, trust)?,
        };
        let history = inspector.history(name, *site, format);
        let is_other = |it: &Manifest| current.as_ref().is_none_or(|now| it.digest != now.digest);
        let previous = history.into_iter().find(is_other);
        let previous = previous.map(|it| inspector.built(it.digest.short(), it)).transpose()?;
        let manifests = self.manifests(&locked, format);
        Ok(report::describe(&Known {
            image: &image,
            manifests: &manifests,
            previous: previous.as_ref(),
            definitions: Some((project, plan(&locked, format), lock, self.lock_digest)),
            command: &command(name, *site, format),
        })?)
    }

    /// Those of the artifacts that were built of what the definitions say now, `first` first.
    fn manifests(&self, role: &LockedRole, first: Format) -> Vec<Manifest> {
        let mut formats = [Format::LxcTemplate, Format::Qcow2];
        formats.sort_by_key(|format| *format != first);
        formats.into_iter().filter_map(|format| self.inspector.current(role, format)).collect()
    }
}

/// The plan of a role in a format.
fn plan(role: &LockedRole, format: Format) -> &crate::definition::Plan {
    match role.disk.as_ref().filter(|_| format == Format::Qcow2) {
        Some(disk) => &disk.machine.plan,
        None => &role.plan.plan,
    }
}

fn of_site(context: &Context, inspector: &Inspector<'_>, arguments: &Arguments) -> Result<Report> {
    let reporter = Reporter::new(context, inspector, arguments)?;
    let name = reporter.site.unwrap_or_default();
    let site = reporter.project.settled_site(name)?;
    let mut roles: Vec<RoleReport> = Vec::new();
    let mut left_out = Vec::new();
    for node in &site.nodes {
        let role = node.image.as_str();
        let seen = roles.iter().map(|it| it.role.as_str());
        let mut seen = seen.chain(left_out.iter().map(|it: &report::LeftOut| it.role.as_str()));
        if seen.any(|it| it == role) {
            continue;
        }
        match reporter.role(role) {
            Ok(report) => roles.push(report),
            Err(error) => left_out.push(report::LeftOut {
                role: role.to_owned(),
                reason: error.to_string(),
                remedy: error.help().map(|help| help.to_string()),
            }),
        }
    }
    let node = |node: &crate::definition::Node| -> Result<NodeRow> {
        let role = roles.iter().find(|it| it.role == node.image.as_str());
        Ok(NodeRow {
            name: node.name.to_string(),
            role: node.image.to_string(),
            address: node.address.to_string(),
            host: node.host.as_ref().map(|(host, _)| host.to_string()),
            format: reporter.format_of(&node.image)?,
            digest: role.and_then(|role| role.digest),
        })
    };
    let names = site
        .names
        .iter()
        .map(|it| NameRow { name: it.name.to_string(), address: it.address.to_string() });
    let built = || roles.iter().filter(|role| role.digest.is_some());
    let packages: BTreeSet<(&str, &str)> = roles
        .iter()
        .flat_map(|role| &role.packages)
        .map(|package| (package.name.as_str(), package.version.as_str()))
        .collect();
    let site = SiteReport {
        name: site.name.to_string(),
        summary: site.summary.clone(),
        nodes: site.nodes.iter().map(node).collect::<Result<_>>()?,
        names: names.collect(),
        graph: graph::site(&reporter.project, name)?,
        built: built().count(),
        artifact_bytes: built().filter_map(|role| role.artifacts.first()).map(|it| it.bytes).sum(),
        packages: packages.len(),
        left_out,
    };
    Ok(Report { site: Some(site), roles })
}
