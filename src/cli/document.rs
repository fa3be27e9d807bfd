//! Documents about images: which image one is about, and where it goes.

use std::path::PathBuf;

use miette::Result;
use serde::Serialize;

use super::context::{Context, shown};
use super::subject::Subject;
use crate::artifact::manifest::Manifest;
use crate::build::{LockedRole, is_current};
use crate::definition::Project;
use crate::inspect::provenance::Inputs;
use crate::inspect::{self, Inspector};
use crate::lock::Lock;

/// The image that a document is about, and where the document goes.
#[derive(Debug, clap::Args)]
pub(super) struct About {
    /// The image: a role, an artifact (the path of a template, a disk or a manifest), or the digest of an image
    /// that was built here
    #[arg(value_name = "IMAGE")]
    image: String,
    /// The site that the role was built for
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Write it to this file, whole or not at all [default: standard output]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// An image that was built.
pub(super) struct Built {
    pub manifest: Manifest,
    /// The role, if the project makes exactly this image of it.
    role: Option<(Project, Lock, LockedRole)>,
}

impl About {
    /// The image.
    pub fn built(&self, context: &Context, inspector: &Inspector<'_>) -> Result<Built> {
        let manifest = match Subject::of(&self.image) {
            Subject::Artifact(path) => inspector.artifact_manifest(path)?,
            Subject::Digest(digest) => inspector.digest_manifest(digest)?,
            Subject::Role { revision: None, role } => {
                let locked = locked(context, role, self.site.as_deref())?;
                let manifest = inspector.role_manifest(&locked.2)?;
                return Ok(Built { manifest, role: Some(locked) });
            }
            Subject::Role { revision: Some(_), .. } => {
                let help = "name the role, the artifact or the digest";
                return Err(miette::miette!(
                    help = help,
                    "`{}` names a revision, and documents are about what was built",
                    self.image
                ));
            }
        };
        if self.site.is_some() {
            let help = "the manifest says which site it is for; leave out `--site`";
            return Err(miette::miette!(help = help, "`{}` is no role", self.image));
        }
        Ok(Built::of(context, manifest))
    }

    /// Hands over `document`.
    pub fn write(&self, context: &Context, document: &impl Serialize) -> Result<()> {
        let Some(path) = &self.out else { return context.object(document) };
        context.write(path, &inspect::document(document))?;
        context.data(shown(path))
    }
}

impl Built {
    /// What `manifest` is of.
    pub fn of(context: &Context, manifest: Manifest) -> Self {
        // A project that is not there, or cannot be read, makes nothing of it either.
        let role = locked(context, &manifest.role, manifest.site.as_deref()).ok();
        let role = role.filter(|(_, _, role)| is_current(role, &manifest));
        Self { manifest, role }
    }

    /// What the project has of the inputs of the image, if it would make the same of them today.
    pub fn inputs(&self, context: &Context) -> Result<Option<Inputs>> {
        let Some((project, lock, role)) = &self.role else {
            context.say(
                "note: definitions and lock are not told: the project here makes another image of them, or \
                 there is none",
            );
            return Ok(None);
        };
        let inputs = Inputs::read(
            project,
            (role, self.manifest.artifact.format),
            lock,
            &context.lock_path(project),
        )?;
        if let Some(reason) = &inputs.no_commit {
            context.say(format!("note: no commit is told, only digests of files: {reason}"));
        }
        Ok(Some(inputs))
    }
}

fn locked(
    context: &Context,
    role: &str,
    site: Option<&str>,
) -> Result<(Project, Lock, LockedRole)> {
    let project = context.project()?;
    let lock = context.lock(&project)?;
    let role = context.locked_role(&project, &lock, role, site)?;
    Ok((project, lock, role))
}
