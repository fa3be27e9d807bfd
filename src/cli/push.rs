//! `imgbuild push`

use std::path::PathBuf;
use std::process::ExitCode;

use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::build::{FormatName, formats};
use super::context::{Context, bytes};
use super::registry::RegistryOptions;
use super::subject::Subject;
use crate::artifact::name::Format;
use crate::build::is_current;
use crate::digest::Digest;
use crate::publish::{self, Attached, Finished};
use crate::registry::{Access, Place, Registry, Tag, Which};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild push haproxy --site campus --to registry.example:5000/campus
                                            what was built of it: registry.example:5000/campus/haproxy:1.0.0-…
  imgbuild push haproxy --format qcow2 --tag stable --to registry.example:5000/campus
  imgbuild push out/imgbuild-haproxy-1.0.0-e68d684df652.qcow2 --to registry.example:5000/campus")]
pub(super) struct Arguments {
    /// The images: roles that were built, or artifacts (the path of a template, a disk or a manifest)
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// Where to: a registry, and what the names of repositories begin with. The role is added to it
    #[arg(long, value_name = "REGISTRY/PREFIX", env = "IMGBUILD_REGISTRY", hide_env_values = true)]
    to: Option<String>,
    /// The site that the roles were built for
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// What to push of roles [default: what a build of them makes]
    #[arg(long, value_name = "FORMAT", value_enum, value_delimiter = ',')]
    format: Vec<FormatName>,
    /// Where the artifacts of roles are
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Tag it so, too
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// What was pushed.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// The images, in the order in which they were named.
    images: Vec<Image>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["push"];
}

/// An image that was pushed.
#[derive(Serialize, JsonSchema)]
struct Image {
    /// What it is called for ever: `REGISTRY/NAME@sha256:DIGEST`.
    reference: String,
    /// The SHA-256 of its manifest in the registry.
    digest: Digest,
    /// What else it is called: `REGISTRY/NAME:TAG`.
    tags: Vec<String>,
    /// The role.
    role: String,
    /// The version of its definition.
    version: String,
    /// The site, if it is for one.
    site: Option<String>,
    /// What Proxmox does with it.
    format: Format,
    /// The artifact.
    path: PathBuf,
    /// The SHA-256 of the artifact.
    sha256: Digest,
    /// Bytes of the artifact.
    size: u64,
    /// Bytes that were sent: none, if the registry had all of them.
    sent: u64,
    /// What about it was pushed with it.
    attached: Vec<Attached>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    context.refuse_offline("push")?;
    let Some(to) = arguments.to.as_deref().filter(|to| !to.is_empty()) else {
        let help = "say where to with `--to registry.example:5000/campus`, or in IMGBUILD_REGISTRY";
        return Err(miette::miette!(help = help, "no registry is named"));
    };
    let place: Place = to.parse()?;
    let tags = arguments.tags.iter().map(|tag| tag.parse()).collect::<Result<Vec<Tag>, _>>()?;
    let registry = Registry::new(place.origin(), arguments.registry.settings(Access::Push)?);
    let mut images = Vec::new();
    for finished in found(context, arguments)? {
        images.push(one(context, &registry, &place, &tags, finished)?);
    }
    if context.json() {
        context.output(&Output { images })?;
    } else {
        images.iter().try_for_each(|image| context.data(&image.reference))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The artifacts that are named.
fn found(context: &Context, arguments: &Arguments) -> Result<Vec<Finished>> {
    let mut all = Vec::new();
    for text in &arguments.images {
        let found = match Subject::of(text) {
            Subject::Artifact(path) => vec![publish::open(path)?],
            Subject::Role { revision: None, role } => of_role(context, arguments, role)?,
            Subject::Digest(_) | Subject::Role { .. } => {
                let help = "name the role, or the path of the artifact";
                return Err(miette::miette!(
                    help = help,
                    "`{text}` is neither a role nor an artifact"
                ));
            }
        };
        if found.len() > 1 && !arguments.tags.is_empty() {
            let help = "say which with `--format lxc` or `--format qcow2`";
            let count = found.len();
            return Err(miette::miette!(
                help = help,
                "`--tag` is for one artifact, and `{text}` has {count}"
            ));
        }
        all.extend(found);
    }
    Ok(all)
}

/// What was built of `role`.
fn of_role(context: &Context, arguments: &Arguments, role: &str) -> Result<Vec<Finished>> {
    let project = context.project()?;
    let lock = context.lock(&project)?;
    let site = arguments.site.as_deref();
    let locked = context.locked_role(&project, &lock, role, site)?;
    let find = |format: Format| {
        publish::find(&arguments.out, (role, site), format, &|it| is_current(&locked, it))
    };
    Ok(formats(&arguments.format, &locked).into_iter().map(find).collect::<Result<_, _>>()?)
}

fn one(
    context: &Context,
    registry: &Registry,
    place: &Place,
    tags: &[Tag],
    finished: Finished,
) -> Result<Image> {
    let location = place.repository(&finished.manifest.role)?;
    let own: Tag = finished.tag().parse()?;
    let mut all = vec![own];
    all.extend(tags.iter().cloned());
    let repository = registry.repository(&location);
    let pushed = publish::push(&repository, &finished, &all, context.progress())?;
    let tag = |tag: Tag| location.with(Which::Tag(tag)).to_string();
    let manifest = finished.manifest;
    let image = Image {
        reference: location.with(Which::Digest(pushed.digest)).to_string(),
        digest: pushed.digest,
        tags: all.into_iter().map(tag).collect(),
        role: manifest.role,
        version: manifest.version,
        site: manifest.site,
        format: manifest.artifact.format,
        path: finished.path,
        sha256: manifest.artifact.sha256,
        size: manifest.artifact.size,
        sent: pushed.sent,
        attached: pushed.attached,
    };
    let state = match image.sent {
        0 => "was there".to_owned(),
        sent => format!("{} sent", bytes(sent)),
    };
    context.say(format!("{}: {state}, sha256:{}", image.tags[0], image.digest));
    for attached in &image.attached {
        context.say(format!("  with {}", attached.artifact_type));
    }
    Ok(image)
}
