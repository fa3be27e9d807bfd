//! `imgbuild sign`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use miette::{Result, miette};
use schemars::JsonSchema;
use serde::Serialize;

use super::artifacts::named;
use super::build::FormatName;
use super::context::{Context, shown};
use super::document::Built;
use super::trust::trust;
use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::build::Known;
use crate::debian::date::Moment;
use crate::definition::Project;
use crate::publish::layers::Voucher;
use crate::signature::{Keys, Signer};
use crate::store::Store;
use crate::verify::{Signed, sign};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  imgbuild sign haproxy --site campus --key ~/.ssh/id_ed25519
                                             all artifacts of a role, by the key in a file
  imgbuild sign haproxy --key ~/.ssh/ci.pub  by a key that the agent has, of which this is the public half
  imgbuild sign out/imgbuild-haproxy-1.0.0-e68d684df652.qcow2 --key ci --certificate ci-cert.pub
                                             one artifact, by a key with a certificate")]
pub(super) struct Arguments {
    /// What to sign: roles, whose artifacts are in `out/`, or paths of artifacts
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
    /// The site that the roles were built for
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Sign the roles in this format only [default: all that were built]
    #[arg(long, value_name = "FORMAT", value_enum, value_delimiter = ',')]
    format: Vec<FormatName>,
    /// Where artifacts of roles are
    #[arg(long, value_name = "DIR", default_value = "out")]
    artifacts: PathBuf,
    /// The file of the key: a private key, or the public half of one that is in the agent
    #[arg(long, value_name = "FILE", env = "IMGBUILD_SIGNING_KEY")]
    key: PathBuf,
    /// The file of a certificate for the key
    #[arg(long, value_name = "FILE", env = "IMGBUILD_SIGNING_CERTIFICATE")]
    certificate: Option<PathBuf>,
}

/// What was signed.
#[derive(Serialize, JsonSchema)]
pub(super) struct Output {
    /// The artifacts, each with its signature.
    artifacts: Vec<Signed>,
}

impl super::output::Output for Output {
    const VERBS: &'static [&'static str] = &["sign"];
}

/// The key in the file `key`, or of the agent that the environment names, with its `certificate`.
pub(super) fn signer(key: PathBuf, certificate: Option<PathBuf>, now: Moment) -> Result<Signer> {
    let agent = std::env::var_os("SSH_AUTH_SOCK").filter(|socket| !socket.is_empty());
    Ok(Signer::open(&Keys { key, certificate, agent: agent.map(PathBuf::from) }, now)?)
}

/// Refuses an artifact of layers that the store does not know to be made of what their keys say, or that the policies of
/// today would not take: a signature would make them good.
fn refuse_untrusted(context: &Context, store: &Store, manifest: &Manifest) -> Result<()> {
    // An artifact may be signed where there is no project, and so no policy.
    let trust = match context.root() {
        Ok(root) => trust(&Project::load(&root)?, manifest.site.as_deref())?,
        Err(_) => Voucher::default(),
    };
    match Known::new(store, &trust).objection(manifest) {
        None => Ok(()),
        Some(why) => Err(miette!(
            help = "build it again, and sign that",
            "{} is not signed: {why}",
            manifest.artifact.name
        )),
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode> {
    context.narrow();
    let now = Moment::from(SystemTime::now());
    let signer = signer(arguments.key.clone(), arguments.certificate.clone(), now)?;
    let formats: Vec<Format> = arguments.format.iter().copied().map(Format::from).collect();
    let site = arguments.site.as_deref();
    let all = named(context, &arguments.images, site, &formats, &arguments.artifacts)?;
    let store = context.store()?;
    let mut artifacts = Vec::new();
    for files in &all {
        let signed = sign::<miette::Report>(files, &store, &signer, now, |manifest| {
            refuse_untrusted(context, &store, manifest)?;
            Built::of(context, manifest.clone()).inputs(context)
        })?;
        if !context.json() {
            context.data(shown(&signed.signature))?;
        }
        context.say(format!("{}: signed by {}", shown(&signed.artifact), signed.key));
        artifacts.push(signed);
    }
    if context.json() {
        context.output(&Output { artifacts })?;
    }
    Ok(ExitCode::SUCCESS)
}
