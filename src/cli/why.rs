//! `imgbuild why`

use std::process::ExitCode;

use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, wrapped};
use super::trust::trust;
use crate::inspect::Inspector;
use crate::inspect::why::{Chain, Claim, PackageReason, Part, PathReason, Role};

/// Packages of a directory, and packages that depend on one, that are named.
const SHOWN: usize = 8;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild why haproxy libpcre2-8-0     which definition asked for it, or by which dependencies it came
  imgbuild why haproxy /etc/hosts       which layer, file of a definition or package put it there")]
pub(super) struct Arguments {
    /// The role
    #[arg(value_name = "ROLE")]
    role: String,
    /// A package, or a path, which begins with `/`
    #[arg(value_name = "PACKAGE-OR-PATH")]
    subject: String,
    /// The site that it is built for
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
}

/// Why a package or a path is in an image.
#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Output {
    /// Why a package is.
    Package(PackageReason),
    /// Why a path is.
    Path(PathReason),
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["why"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    let project = context.project()?;
    let lock = context.lock(&project)?;
    let site = arguments.site.as_deref();
    let locked = context.locked_role(&project, &lock, &arguments.role, site)?;
    let store = context.store()?;
    let inspector = Inspector::new(&store);
    let trust = trust(&project, site)?;
    let role = Role::new(&inspector, &store, &project, &locked, &trust);
    let subject = &arguments.subject;
    if subject.starts_with('/') {
        let reason = role.path(subject)?;
        match context.json() {
            true => context.output(&Output::Path(reason))?,
            false => show_path(context, &reason)?,
        }
    } else {
        let reason = role.package(subject)?;
        match context.json() {
            true => context.output(&Output::Package(reason))?,
            false => show_package(context, &reason)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn show_package(context: &Context, reason: &PackageReason) -> Result<()> {
    let PackageReason { package, version, image, part, chains, needed_by, .. } = reason;
    context.data(format!("{package} {version} is {}: {image} packages", part.words()))?;
    for chain in chains {
        show_chain(context, chain)?;
    }
    let told: Vec<&str> = chains
        .iter()
        .filter_map(|chain| chain.steps.last())
        .map(|step| step.package.as_str())
        .collect();
    let others: Vec<&str> =
        needed_by.iter().map(String::as_str).filter(|name| !told.contains(name)).collect();
    if !others.is_empty() {
        let text = format!("  also needed by {}", listed(&others));
        context.data(wrapped(&text, 4))?;
    }
    Ok(())
}

/// One chain, a dependency a line, each further to the right.
fn show_chain(context: &Context, chain: &Chain) -> Result<()> {
    let Chain { asked, package, steps } = chain;
    // A virtual package, or one that is essential, is not in the words of the definition.
    let is_named = asked.text.split([' ', '|', ':']).any(|word| word == package);
    let meant = if is_named { String::new() } else { format!(", which is {package}") };
    context.data(format!("  {} asks for `{}`{meant}", asked.place, asked.text))?;
    for (depth, step) in steps.iter().enumerate() {
        let is_named = step.relation.split([' ', '|', ':']).any(|word| word == step.on);
        let meant = if is_named { String::new() } else { format!(", which is {}", step.on) };
        let blanks = " ".repeat(4 + 2 * depth);
        context.data(format!("{blanks}{} needs {}{meant}", step.package, step.relation))?;
    }
    Ok(())
}

fn show_path(context: &Context, reason: &PathReason) -> Result<()> {
    let PathReason { path, kind, target, part, built, claims, .. } = reason;
    let what = match (kind, target) {
        (Some(_), Some(target)) => format!("a link to {}", target.display()),
        (Some(kind), None) => format!("a {kind}"),
        (None, _) if *built => "removed".to_owned(),
        (None, _) => "a file of a definition".to_owned(),
    };
    // What is in templates is in disks too: only the exception is worth a word.
    let place = if *part == Part::Image { String::new() } else { format!(", {}", part.words()) };
    context.data(format!("{path}: {what}{place}"))?;
    for (position, claim) in claims.iter().enumerate() {
        let word = match (position, kind) {
            (0, _) => "",
            (_, Some("directory")) => "also in ",
            _ => "instead of ",
        };
        context.data(wrapped(&format!("  {word}{}", told(claim)), 4))?;
    }
    if !built {
        context.say(format!(
            "note: {} was not built here: what packages and commands have at this path is not known",
            reason.role
        ));
    }
    Ok(())
}

/// What a layer has at a path, in words.
fn told(claim: &Claim) -> String {
    let Claim { layer, removed, packages, source, upstream, commands } = claim;
    let origin = if let Some(source) = source {
        let word = if source.template { "template" } else { "file" };
        format!("{word} {}", source.file.display())
    } else if let Some(upstream) = upstream {
        format!("source {} ({})", upstream.name, upstream.place)
    } else if !packages.is_empty() {
        let names: Vec<&str> = packages.iter().map(String::as_str).collect();
        let word = if names.len() == 1 { "package" } else { "packages" };
        format!("{word} {}", listed(&names))
    } else if !commands.is_empty() {
        let places: Vec<String> =
            commands.iter().map(|it| format!("`{}` at {}", it.command, it.place)).collect();
        places.join(", or ")
    } else {
        "a script of one of its packages: no package ships it".to_owned()
    };
    let verb = if *removed { "removed by " } else { "" };
    format!("{verb}{layer}: {origin}")
}

/// Names in one line, the last only counted if there are many.
fn listed(names: &[&str]) -> String {
    match names.len().checked_sub(SHOWN + 1) {
        None => names.join(", "),
        Some(_) => {
            format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN)
        }
    }
}
