//! `imgbuild build`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use miette::{IntoDiagnostic, Report, Result, WrapErr};
use schemars::JsonSchema;
use serde::Serialize;

use super::VERIFICATION_FAILED;
use super::context::{Context, Given, bytes, shown};
use super::layers::LayerOptions;
use super::lint::show_tolerated;
use super::trust::trust;
use crate::artifact::name::Format;
use crate::build::{
    Archives, Artifact, Builder, Difference, LockedRole, SharedLayers, Supplies, Verification,
};
use crate::definition::Project;
use crate::digest::Digest;
use crate::fetch::Fetcher;
use crate::lock::Lock;
use crate::publish::layers::{RegistryLayers, Voucher};
use crate::store::Store;

/// Paths of a layer that are named before the rest is only counted.
const SHOWN: usize = 20;

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
    /// What to make [default: both, or the template alone where nothing says how to make disks]
    #[arg(long, value_name = "FORMAT", value_enum, value_delimiter = ',')]
    format: Vec<FormatName>,
    /// Where artifacts go
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Threads, and roles built at a time [default: the number of processors]
    #[arg(long, short, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
    /// Build everything again from nothing and compare with what the store has
    #[arg(long)]
    check: bool,
    /// Take this file or directory for a source, whatever its definition pins
    #[arg(long = "source", value_name = "NAME=PATH")]
    sources: Vec<Given>,
    /// When a script fails, open a shell in the tree at that very point
    #[arg(long)]
    debug_shell: bool,
    #[command(flatten)]
    layers: LayerOptions,
}

/// A format of artifacts, as it is called on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum FormatName {
    /// An LXC template
    Lxc,
    /// A disk for a virtual machine
    Qcow2,
}

impl From<FormatName> for Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Lxc => Self::LxcTemplate,
            FormatName::Qcow2 => Self::Qcow2,
        }
    }
}

/// The formats that are `asked` for, each once, or else all that can be made of `role`.
pub(super) fn formats(asked: &[FormatName], role: &LockedRole) -> Vec<Format> {
    let mut formats: Vec<Format> = Vec::new();
    for format in asked.iter().copied().map(Format::from) {
        if !formats.contains(&format) {
            formats.push(format);
        }
    }
    match (formats.is_empty(), &role.disk) {
        (false, _) => formats,
        (true, Some(_)) => vec![Format::LxcTemplate, Format::Qcow2],
        (true, None) => vec![Format::LxcTemplate],
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    let project = context.project()?;
    context.refuse_denied(&project)?;
    let lock = context.lock(&project)?;
    let store = context.store()?;
    let trust = trust(&project, arguments.site.as_deref())?;
    let roles = match arguments.all {
        true => project.roles().map(|image| image.name.to_string()).collect(),
        false => arguments.roles.clone(),
    };
    let build = Build {
        context,
        arguments,
        project: &project,
        lock: &lock,
        store: &store,
        supplies: context.supplies(&project, &store, &arguments.sources)?,
        fetcher: context.fetcher(),
        shared: arguments.layers.open(context, &trust.rules)?,
        trust,
        executable: std::env::current_exe()
            .into_diagnostic()
            .wrap_err("cannot find imgbuild's own executable")?,
        jobs: arguments.jobs.or_else(|| thread::available_parallelism().ok()).map_or(1, Into::into),
    };
    build.all(&roles)
}

struct Build<'a> {
    context: &'a Context,
    arguments: &'a Arguments,
    project: &'a Project,
    lock: &'a Lock,
    store: &'a Store,
    supplies: Supplies,
    fetcher: Fetcher,
    shared: Option<RegistryLayers>,
    trust: Voucher,
    executable: PathBuf,
    jobs: usize,
}

impl Build<'_> {
    /// Builds `roles`, as many at a time as there are jobs. Shared layers are built once: whoever comes
    /// second waits for them.
    fn all(&self, roles: &[String]) -> Result<ExitCode> {
        let next = AtomicUsize::new(0);
        let outcomes = Mutex::new(Vec::new());
        thread::scope(|scope| {
            for _ in 0..self.jobs.min(roles.len()) {
                scope.spawn(|| {
                    while let Some(role) = roles.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let outcome = self.one(role);
                        if let Ok(mut outcomes) = outcomes.lock() {
                            outcomes.push((role.clone(), outcome));
                        }
                    }
                });
            }
        });
        let mut outcomes = outcomes.into_inner().unwrap_or_default();
        outcomes.sort_by_key(|(role, _)| roles.iter().position(|one| one == role));
        self.report(outcomes)
    }

    fn one(&self, role: &str) -> Result<Vec<Outcome>> {
        let context = self.context;
        let site = self.arguments.site.as_deref();
        let mut locked = context.locked_role(self.project, self.lock, role, site)?;
        self.supplies.give(&mut locked);
        let formats = formats(&self.arguments.format, &locked);
        let builder = self.builder(role, self.store);
        if !self.arguments.check {
            let artifacts = builder.build(&locked, &formats, &self.arguments.out)?;
            let mut outcomes: Vec<Outcome> = artifacts.into_iter().map(Outcome::built).collect();
            outcomes.iter_mut().for_each(|outcome| outcome.unpinned = locked.unpinned());
            return Ok(outcomes);
        }
        let (verifications, differences) =
            builder.verify(&locked, &formats, &self.arguments.out)?;
        let mut outcomes: Vec<Outcome> = verifications.into_iter().map(Outcome::verified).collect();
        outcomes.iter_mut().for_each(|outcome| outcome.unpinned = locked.unpinned());
        // All formats are made of them, so they are told once.
        if let Some(first) = outcomes.first_mut() {
            first.differences = differences;
        }
        Ok(outcomes)
    }

    fn builder<'a>(&'a self, role: &str, store: &'a Store) -> Builder<'a> {
        Builder {
            store,
            downloads: self.store,
            progress: self.context.progress(),
            fetcher: &self.fetcher,
            shared: self.shared.as_ref().map(|layers| layers as &dyn SharedLayers),
            trust: &self.trust,
            role: role.to_owned(),
            site: self.arguments.site.clone(),
            executable: self.executable.clone(),
            archives: Archives::default(),
            threads: self.jobs,
            debug_shell: self.arguments.debug_shell,
        }
    }

    fn report(&self, results: Vec<(String, Result<Vec<Outcome>>)>) -> Result<ExitCode> {
        let mut outcomes = Vec::new();
        let mut failures: Vec<(String, Report)> = Vec::new();
        for (role, result) in results {
            match result {
                Ok(outcome) => outcomes.extend(outcome),
                Err(report) => failures.push((role, report)),
            }
        }
        let mut told = BTreeSet::new();
        for outcome in &outcomes {
            outcome.tell(self.context);
            // The formats of a role share most of their layers, and what is tolerated in them.
            let tolerated = outcome.artifact.tolerated.iter();
            let new =
                tolerated.filter(|it| told.insert((&outcome.artifact.role, &it.lint, &it.path)));
            show_tolerated(self.context, new);
        }
        if self.context.json() {
            let failed = failures.iter().map(|(role, _)| role.clone()).collect();
            self.context.output(&Output { artifacts: &outcomes, failed })?;
        } else {
            for outcome in &outcomes {
                self.context.data(shown(&outcome.artifact.path))?;
            }
        }
        for (role, report) in &failures {
            self.context.say(format!("{role}: failed"));
            self.context.error(report);
        }
        Ok(if !failures.is_empty() {
            ExitCode::FAILURE
        } else if outcomes.iter().any(|outcome| !outcome.is_verified()) {
            ExitCode::from(VERIFICATION_FAILED)
        } else {
            ExitCode::SUCCESS
        })
    }
}

/// What a build has made.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output<'a> {
    /// The artifacts, in the order of the roles.
    artifacts: &'a [Outcome],
    /// The roles that could not be built.
    failed: Vec<String>,
}

impl super::output::Output for Output<'_> {
    const VERBS: &'static [&'static str] = &["build"];
}

/// An artifact, and what building it again has shown.
#[derive(Debug, Serialize, JsonSchema)]
struct Outcome {
    #[serde(flatten)]
    artifact: Artifact,
    /// The SHA-256 of the second build.
    #[serde(skip_serializing_if = "Option::is_none")]
    rebuilt: Option<Digest>,
    /// Layers that came out differently the second time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    differences: Vec<Difference>,
    /// Sources that were given by hand and are not what the lock pins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unpinned: Vec<String>,
}

impl Outcome {
    fn built(artifact: Artifact) -> Self {
        Self { artifact, rebuilt: None, differences: Vec::new(), unpinned: Vec::new() }
    }

    fn verified(Verification { artifact, rebuilt }: Verification) -> Self {
        Self { artifact, rebuilt: Some(rebuilt), differences: Vec::new(), unpinned: Vec::new() }
    }

    fn is_verified(&self) -> bool {
        self.rebuilt.is_none_or(|rebuilt| rebuilt == self.artifact.sha256)
            && self.differences.is_empty()
    }

    fn tell(&self, context: &Context) {
        let Artifact { role, format, size, sha256, reused, .. } = &self.artifact;
        let format = match format {
            Format::LxcTemplate => "template",
            Format::Qcow2 => "disk",
        };
        let state = match (self.rebuilt, self.is_verified(), reused) {
            (Some(_), true, _) => "built twice, the same bytes",
            (Some(_), false, _) => "built twice, DIFFERENT bytes",
            (None, _, true) => "unchanged",
            (None, _, false) => "built",
        };
        context.say(format!("{role} {format}: {state}, {}, sha256 {sha256}", bytes(*size)));
        for source in &self.unpinned {
            context.say(format!("  unpinned: {source}"));
        }
        for difference in &self.differences {
            context.say(format!("  layer {} differs:", difference.layer));
            for path in difference.paths.iter().take(SHOWN) {
                context.say(format!("    {path}"));
            }
            if difference.paths.len() > SHOWN {
                context.say(format!("    and {} more paths", difference.paths.len() - SHOWN));
            }
        }
    }
}
