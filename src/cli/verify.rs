//! `imgbuild verify`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use miette::{Report, Result, miette};
use schemars::JsonSchema;
use serde::Serialize;

use super::VERIFICATION_FAILED;
use super::artifacts::{Made, named};
use super::build::FormatName;
use super::context::{Context, shown, wrapped};
use crate::artifact::name::Format;
use crate::build::is_current;
use crate::debian::date::Moment;
use crate::definition::{Policy, Project};
use crate::inspect::Inspector;
use crate::signature::files::Files;
use crate::swap::site::{Artifact, Deployment};
use crate::verify::{Check, Finding, Judge, Rules, Verdict, Verifier};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild verify --site campus                       all artifacts that the nodes of a site would get
  imgbuild verify haproxy --site campus               those of a role
  imgbuild verify out/imgbuild-haproxy-1.0.0-e68d684df652.qcow2 --policy policy.toml
                                                      a file, by a policy of no project
  imgbuild verify out/imgbuild-haproxy-1.0.0-e68d684df652.qcow2 --integrity
                                                      whether it is whole, whoever has made it")]
pub(super) struct Arguments {
    /// What to look at: roles, whose artifacts are in `out/`, or paths of artifacts [default: all of the site]
    #[arg(required_unless_present = "site", value_name = "IMAGE")]
    images: Vec<String>,
    /// The site that it is for, whose policy holds
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Look at artifacts of roles, or of the site, in this format only [default: all that were built]
    #[arg(long, value_name = "FORMAT", value_enum, value_delimiter = ',')]
    format: Vec<FormatName>,
    /// Where artifacts of roles are
    #[arg(long, value_name = "DIR", default_value = "out")]
    artifacts: PathBuf,
    /// Take this policy and no other [default: policy.toml of the project, and of the site]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Ask no policy: look only whether everything fits together, which says nothing of who has made it
    #[arg(long, conflicts_with = "policy")]
    integrity: bool,
    /// Refuse an artifact of which a layer is not in the store
    #[arg(long)]
    layers: bool,
}

/// What was looked at, and whether it can be trusted.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// Whether policies were asked, and nothing is refused.
    trusted: bool,
    /// The artifacts.
    artifacts: Vec<Verdict>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["verify"];
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    let formats: Vec<Format> = arguments.format.iter().copied().map(Format::from).collect();
    let all = match (&arguments.site, arguments.images.is_empty()) {
        (Some(site), true) => of_site(context, site, &formats, &arguments.artifacts)?,
        (site, _) => {
            named(context, &arguments.images, site.as_deref(), &formats, &arguments.artifacts)?
        }
    };
    let store = context.store()?;
    let made = Made::new(context).ok();
    let mut artifacts = Vec::new();
    for files in &all {
        let site = match &arguments.site {
            Some(site) => Some(site.clone()),
            // Whoever looks has not said it. A file that cannot be read is told below.
            None => Inspector::new(&store)
                .artifact_manifest(&files.manifest())
                .ok()
                .and_then(|it| it.site),
        };
        let asked = asked(context, arguments, site.as_deref())?;
        let verifier = Verifier {
            judge: asked.judge(),
            site: Some(site.as_deref()),
            store: Some(&store),
            layers: arguments.layers,
            now: Moment::from(SystemTime::now()),
        };
        let verdict =
            verifier.check(files, |it| made.as_ref().and_then(|made| made.repositories(it)));
        if !context.json() {
            show(context, &verdict)?;
        }
        artifacts.push(verdict);
    }
    let refused = artifacts.iter().filter(|verdict| verdict.refused().next().is_some()).count();
    let total = artifacts.len();
    context.say(match (refused, total) {
        (0, _) if arguments.integrity => {
            "everything fits together; who has made it, nobody was asked".to_owned()
        }
        (0, 1) => "nothing of it is refused".to_owned(),
        (0, _) => format!("nothing of {total} artifacts is refused"),
        (_, 1) => "it is refused".to_owned(),
        _ => format!("{refused} of {total} artifacts are refused"),
    });
    if context.json() {
        let trusted = artifacts.iter().all(|verdict| verdict.trusted);
        context.output(&Output { trusted, artifacts })?;
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(VERIFICATION_FAILED) })
}

/// Who is asked whether an artifact may be trusted.
enum Asked {
    Policies(Vec<Rules>),
    /// The project has no such site, and nobody knows what another one demands of it.
    StrangeSite(String),
    Nobody,
}

impl Asked {
    fn judge(&self) -> Judge<'_> {
        match self {
            Self::Policies(rules) => Judge::Policies(rules),
            Self::StrangeSite(site) => Judge::Nobody {
                text: format!(
                    "it is for the site {site}, which the project does not have: no policy is known that holds there"
                ),
                help: "look at it in the project that has the site, or name the policy with `--policy FILE`"
                    .to_owned(),
            },
            Self::Nobody => Judge::Unasked,
        }
    }
}

/// Who is asked about artifacts for `site`.
fn asked(context: &Context, arguments: &Arguments, site: Option<&str>) -> Result<Asked> {
    if arguments.integrity {
        return Ok(Asked::Nobody);
    }
    if let Some(path) = &arguments.policy {
        return Ok(Asked::Policies(vec![Rules::new(Policy::read(path)?)?]));
    }
    // An artifact may be looked at where there is no project; then nothing says that it may be trusted.
    let Ok(root) = context.root() else { return Ok(Asked::Policies(Vec::new())) };
    let project = Project::load(&root)?;
    match site {
        // Who names one is told which there are.
        Some(site) if arguments.site.is_none() && project.site(site).is_err() => {
            Ok(Asked::StrangeSite(site.to_owned()))
        }
        site => Ok(Asked::Policies(Rules::of::<Report>(&project, site)?)),
    }
}

/// The artifacts that the nodes of a site would get, in these formats; in all if there are none.
fn of_site(
    context: &Context,
    site: &str,
    formats: &[Format],
    directory: &std::path::Path,
) -> Result<Vec<Files>> {
    let project = context.project()?;
    let lock = context.lock(&project)?;
    let deployment = Deployment::new::<Report>(&project, site, directory, |role, manifest| {
        let role = context.locked_role(&project, &lock, role.as_str(), Some(site));
        Ok(role.is_ok_and(|role| is_current(&role, manifest)))
    })?;
    let is_asked = |format| formats.is_empty() || formats.contains(&format);
    deployment.require_artifacts(|role| deployment.format(role).is_none_or(is_asked))?;
    let files = |artifact: &Artifact| {
        let help = "build it again";
        let path = artifact.path.display();
        Files::of(&artifact.path)
            .ok_or_else(|| miette!(help = help, "{path} is called as no artifact is"))
    };
    let asked = deployment.artifacts().filter(|it| is_asked(it.manifest.artifact.format));
    let all: Vec<Files> = asked.map(files).collect::<Result<_>>()?;
    if all.is_empty() {
        let help = "leave out `--format`, or name the roles";
        return Err(miette!(help = help, "no guest of the site {site} is made in that format"));
    }
    Ok(all)
}

fn show(context: &Context, verdict: &Verdict) -> Result<()> {
    context.data(shown(&verdict.artifact))?;
    for Check { check, result, text, help } in &verdict.checks {
        let word = match result {
            Finding::Ok => "ok",
            Finding::Unknown => "?",
            Finding::Refused => "NO",
        };
        context.data(wrapped(&format!("  {word:<3} {:<11}{text}", check.word()), 17))?;
        if let Some(help) = help {
            context.data(wrapped(&format!("{:17}{help}", ""), 17))?;
        }
    }
    Ok(())
}
