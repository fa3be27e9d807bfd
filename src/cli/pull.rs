//! `imgbuild pull`

use std::path::PathBuf;
use std::process::ExitCode;

use miette::Result;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::{Context, bytes, shown};
use super::registry::RegistryOptions;
use crate::artifact::name::Format;
use crate::definition::{self, Project};
use crate::digest::Digest;
use crate::publish::{self, Destination, PulledFile};
use crate::registry::{Access, Reference, Registry, Which};
use crate::verify::Rules;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild pull registry.example:5000/campus/haproxy:1.0.0-e68d684df652
  imgbuild pull registry.example:5000/campus/haproxy@sha256:…   whatever the tags are moved to")]
pub(super) struct Arguments {
    /// The images: REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST
    #[arg(required = true, value_name = "REFERENCE")]
    references: Vec<String>,
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = "out")]
    out: PathBuf,
    /// Replace files that are there and have other bytes
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    registry: RegistryOptions,
}

/// What was pulled.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// The images, in the order in which they were named.
    images: Vec<Image>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["pull"];
}

/// An image that was pulled.
#[derive(Serialize, JsonSchema)]
struct Image {
    /// What it is called for ever: `REGISTRY/NAME@sha256:DIGEST`.
    reference: String,
    /// The SHA-256 of its manifest in the registry.
    digest: Digest,
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
    /// All its files: the artifact, its manifest, and what is about it.
    files: Vec<PulledFile>,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    context.refuse_offline("pull")?;
    let references = arguments.references.iter().map(|text| text.parse());
    let references = references.collect::<Result<Vec<Reference>, _>>()?;
    let settings = arguments.registry.settings(Access::Pull)?;
    let store = context.store()?;
    let rules = |site: Option<&str>| rules(context, site);
    let mut images = Vec::new();
    for Reference { location, which } in references {
        let repository = Registry::new(location.origin(), settings.clone()).repository(&location);
        let destination = Destination { directory: &arguments.out, replace: arguments.replace };
        let progress = context.progress();
        let pulled = publish::pull(&repository, &which, destination, &rules, &store, progress)?;
        let path = pulled.files.first().map(|file| file.path.clone()).unwrap_or_default();
        let manifest = pulled.manifest;
        let image = Image {
            reference: location.with(Which::Digest(pulled.digest)).to_string(),
            digest: pulled.digest,
            role: manifest.role,
            version: manifest.version,
            site: manifest.site,
            format: manifest.artifact.format,
            path,
            sha256: manifest.artifact.sha256,
            size: manifest.artifact.size,
            files: pulled.files,
        };
        tell(context, &image);
        images.push(image);
    }
    if context.json() {
        context.output(&Output { images })?;
    } else {
        images.iter().try_for_each(|image| context.data(shown(&image.path)))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the project here says of signatures on images of `site`; nothing where there is none.
fn rules(context: &Context, site: Option<&str>) -> definition::Result<Vec<Rules>> {
    let Ok(root) = context.root() else { return Ok(Vec::new()) };
    let project = Project::load(&root)?;
    // What a manifest says need not be a site of this project.
    Rules::of(&project, site.filter(|site| project.site(site).is_ok()))
}

fn tell(context: &Context, image: &Image) {
    let fetched: u64 = image.files.iter().filter(|file| !file.reused).map(|file| file.size).sum();
    let state = match fetched {
        0 => "was there".to_owned(),
        fetched => bytes(fetched),
    };
    context.say(format!("{}: {state}", image.reference));
    for file in image.files.iter().skip(1) {
        context.say(format!("  with {}", shown(&file.path)));
    }
}
