//! `imgbuild audit`

mod text;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::ValueEnum;
use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::FOUND;
use super::context::Context;
use crate::audit::data::{self, About};
use crate::audit::{
    Available, Certainty, Counted, Error, Finding, Installed, Origins, Overlooked, Selection,
    Severity, Tracker, confirm,
};
use crate::debian::date::Moment;
use crate::definition::{Acceptance, Project};
use crate::lock::{Lock, needed_by, wishes};
use crate::progress::Step;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild audit                                   all roles that are locked, by the tracker's data of today
  imgbuild audit --site campus --updates           those of a site, and what `lock --update` would mend
  imgbuild audit haproxy --data tracker.json.xz    one role, by data that somebody has brought here
  imgbuild audit --severity medium --fixable       fails only on what matters and can be mended")]
pub(super) struct Arguments {
    /// The roles [default: all that are locked]
    #[arg(value_name = "ROLE")]
    roles: Vec<String>,
    /// The roles that this site has nodes of
    #[arg(long, value_name = "SITE", conflicts_with = "roles")]
    site: Option<String>,
    /// The data of Debian's security tracker: a file, which may be packed, or an `https` URL [default: the tracker's own]
    #[arg(long, value_name = "FILE|URL", env = "IMGBUILD_AUDIT_DATA", hide_env_values = true)]
    data: Option<String>,
    /// What counts: vulnerabilities of this severity and above
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = Level::Low)]
    severity: Level,
    /// Count only what there is a fix for in the release
    #[arg(long)]
    fixable: bool,
    /// Ask the repositories what `lock --update` would mend
    #[arg(long)]
    updates: bool,
    /// Show what does not count, too
    #[arg(long)]
    all: bool,
}

/// A severity, as it is typed.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Level {
    /// Not in Debian's binaries, or no flaw in practice
    Unimportant,
    /// Mild
    Low,
    /// Nobody has said, or the package is no longer supported
    Unassigned,
    /// Between the two
    Medium,
    /// Code of others can be run, and alike
    High,
}

impl From<Level> for Severity {
    fn from(level: Level) -> Self {
        match level {
            Level::Unimportant => Self::Unimportant,
            Level::Low => Self::Low,
            Level::Unassigned => Self::Unassigned,
            Level::Medium => Self::Medium,
            Level::High => Self::High,
        }
    }
}

/// What is known of the packages of some roles.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// By which data.
    data: About,
    /// The roles that were looked at.
    roles: BTreeSet<String>,
    /// How many source packages were looked at.
    sources: usize,
    /// How many findings count.
    counted: usize,
    /// All findings, those that count first, the worst first.
    findings: Vec<Finding>,
    /// Roles that `lock --update` would change, without those that it would leave without a lock. Only with `--updates`.
    changing: Option<BTreeSet<String>>,
    /// What of the roles nobody has looked at.
    overlooked: Vec<Overlooked>,
    /// Source packages whose version is assumed to be that of the package, and that the tracker has not.
    assumed: BTreeSet<String>,
    /// Entries of `audit.toml` that are about nothing that was found, by file and line.
    unused: Vec<String>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["audit"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    let project = context.project()?;
    let accepted = Acceptance::read_all(project.root())?;
    let lock = context.lock(&project)?;
    let roles = roles(context, &project, &lock, arguments)?;
    let selection = Selection::new(&project, &roles)?;
    let (store, fetcher, clock) = (context.store()?, context.fetcher(), SystemTime::now());
    let now = Moment::from(clock);
    let mut origins = Origins::of_store(&lock, &store);
    let available = match arguments.updates {
        true => {
            let step = Step::start(context.progress(), "resolve packages", None);
            let wishes = wishes(&project)?;
            let available = Available::ask(wishes, &lock, &fetcher, &mut origins, clock)?;
            step.finish("");
            available.left_out.iter().for_each(|it| context.report(&it.error));
            Some(available)
        }
        false => None,
    };
    let (mut installed, mut overlooked) = selection.installed(&lock, &origins);
    let newer = available.as_ref().map(|available| available.newer(&selection, &origins));

    let from = arguments.data.as_deref().unwrap_or(data::URL);
    let data = data::obtain(from, &store, &fetcher, now)?;
    let sources = installed.iter().map(|it| it.source.clone()).collect();
    let releases: BTreeSet<String> = installed.iter().map(|it| it.release.clone()).collect();
    let tracker = data.read(|reader| Tracker::read(reader, &sources, &releases))?;
    let is_any = !installed.is_empty();
    overlooked.extend(confirm(&mut installed, &tracker));
    overlooked.sort();
    if is_any && installed.is_empty() {
        // Nothing would be found, and everybody would be glad.
        let releases = releases.into_iter().collect();
        return Err(Error::Nothing { from: data.about.from, releases }.into());
    }

    let counted = Counted { severity: arguments.severity.into(), fixable: arguments.fixable };
    let findings = Finding::all(&tracker, &installed, newer.as_ref(), (&accepted, now), counted);
    let changing = available.map(|available| available.changing(&selection));
    let found = |entry: &&Acceptance| {
        !findings.iter().any(|finding| entry.accepts(&finding.id, &finding.source))
    };
    let unused = accepted.iter().filter(found);
    let output = Output {
        data: data.about.clone(),
        roles,
        sources: installed.len(),
        counted: findings.iter().filter(|finding| finding.counts).count(),
        changing,
        overlooked,
        assumed: assumed(&installed, &tracker),
        unused: unused.map(|entry| format!("{}: {}", entry.place, entry.cve)).collect(),
        findings,
    };
    if context.json() {
        context.output(&output)?;
    } else {
        for finding in output.findings.iter().filter(|it| it.counts || arguments.all) {
            text::show(context, finding, output.roles.len())?;
        }
    }
    let asked = text::Asked { roles: &arguments.roles, site: arguments.site.as_deref() };
    let shown = (arguments.all, counted.severity);
    text::conclude(context, &output, data.age_days(now), shown, &asked);
    Ok(if output.counted > 0 { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

/// The roles that are asked for.
fn roles(
    context: &Context,
    project: &Project,
    lock: &Lock,
    arguments: &Arguments,
) -> Result<BTreeSet<String>> {
    let mut roles = BTreeSet::new();
    for role in &arguments.roles {
        roles.insert(project.role(role)?.name.to_string());
    }
    if let Some(site) = &arguments.site {
        let nodes = project.nodes(site)?;
        roles.extend(nodes.iter().map(|node| node.image.to_string()));
    }
    let all = wishes(project)?;
    let unlocked = lock.unlocked(&all);
    let is_named = !arguments.roles.is_empty();
    if !is_named && arguments.site.is_none() {
        roles.extend(project.roles().map(|role| role.name.to_string()));
    }
    for unlocked in unlocked.into_iter().filter(|it| !lock.images.contains_key(&it.image)) {
        if is_named && roles.contains(&unlocked.image) {
            return Err(unlocked.into());
        }
        if roles.remove(&unlocked.image) {
            context.say(format!("not locked, so not looked at: {}", unlocked.image));
        }
    }
    // Roles whose repositories are known, and that nobody has locked since they are there.
    for role in roles.iter().filter(|role| !lock.images.contains_key(*role)) {
        let needed = needed_by(project, role)?;
        let wanted: Vec<_> = all.iter().filter(|it| needed.contains(&it.image)).cloned().collect();
        lock.check(&wanted)?;
    }
    Ok(roles)
}

/// The source packages that the tracker says something of, but not of the version that they are assumed to have.
fn assumed(installed: &[Installed], tracker: &Tracker) -> BTreeSet<String> {
    let unsure = installed
        .iter()
        .filter(|it| it.certainty == Certainty::Assumed && tracker.issues.contains_key(&it.source));
    unsure.map(|it| format!("{} {}", it.source, it.version)).collect()
}
