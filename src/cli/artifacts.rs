//! Artifacts as they are named on the command line: by their files, or by their role.

use std::path::Path;

use miette::{Result, miette};

use super::context::Context;
use super::subject::Subject;
use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::build::{LockedRole, is_current};
use crate::debian::date::Moment;
use crate::definition::Project;
use crate::lock::Lock;
use crate::signature::files::Files;
use crate::swap::site::{artifacts, choose};
use crate::verify;

/// The project, and what it would make today.
pub(super) struct Made<'a> {
    context: &'a Context,
    project: Project,
    lock: Lock,
}

impl<'a> Made<'a> {
    pub(super) fn new(context: &'a Context) -> Result<Self> {
        let project = context.project()?;
        let lock = context.lock(&project)?;
        Ok(Self { context, project, lock })
    }

    fn role(&self, role: &str, site: Option<&str>) -> Result<LockedRole> {
        self.context.locked_role(&self.project, &self.lock, role, site)
    }

    /// The date of the newest repository that the image of `manifest` was locked from, if the project would make the same
    /// image today.
    pub(super) fn repositories(&self, manifest: &Manifest) -> Option<Moment> {
        let role = self.role(&manifest.role, manifest.site.as_deref()).ok()?;
        is_current(&role, manifest)
            .then(|| verify::newest_repository(&self.lock, &role, manifest.artifact.format))?
    }

    /// The artifacts of `role` in `directory` that are what the project would make today, in these formats; in all if there
    /// are none.
    fn files(
        &self,
        role: &str,
        site: Option<&str>,
        formats: &[Format],
        directory: &Path,
    ) -> Result<Vec<Files>> {
        let locked = self.role(role, site)?;
        let name = &self.project.role(role)?.name;
        let site_name = site.map(|site| self.project.site(site)).transpose()?;
        let found = artifacts(directory, site_name.map(|site| &site.name))?;
        let all = [Format::LxcTemplate, Format::Qcow2];
        let formats = if formats.is_empty() { &all[..] } else { formats };
        let mut files = Vec::new();
        for format in formats {
            let current =
                |_: &_, manifest: &Manifest| Ok::<_, miette::Report>(is_current(&locked, manifest));
            let chosen = choose(&found, name, *format, current)??;
            files.extend(chosen.and_then(|artifact| Files::of(&artifact.path)));
        }
        if files.is_empty() {
            let words =
                site.map_or_else(|| role.to_owned(), |site| format!("{role} --site {site}"));
            return Err(miette!(
                help = format!("build it: `imgbuild build {words} --out {}`", directory.display()),
                "no artifact in {} is what the definitions say now of {words}",
                directory.display()
            ));
        }
        Ok(files)
    }
}

/// The artifacts that `names` mean: paths of artifacts and manifests, and roles, whose artifacts lie in `directory`.
pub(super) fn named(
    context: &Context,
    names: &[String],
    site: Option<&str>,
    formats: &[Format],
    directory: &Path,
) -> Result<Vec<Files>> {
    let mut made = None;
    let mut all: Vec<Files> = Vec::new();
    for name in names {
        let found = match Subject::of(name) {
            Subject::Artifact(path) => {
                let files = Files::of(path).filter(|_| path.is_file());
                let help =
                    "name a template (.tar.zst), a disk (.qcow2) or a manifest (.manifest.json)";
                let files = files.ok_or_else(|| {
                    miette!(
                        help = help,
                        "{} is neither an artifact nor a manifest that is there",
                        path.display()
                    )
                })?;
                vec![files]
            }
            Subject::Role { revision: None, role } => {
                if made.is_none() {
                    made = Some(Made::new(context)?);
                }
                let made = made.as_ref().ok_or_else(|| miette!("there is no project"))?;
                made.files(role, site, formats, directory)?
            }
            Subject::Role { revision: Some(_), .. } | Subject::Digest(_) => {
                let help =
                    "give the path of the file, or the role: `imgbuild verify out/NAME.tar.zst`";
                return Err(miette!(help = help, "`{name}` names no file"));
            }
        };
        for files in found {
            if !all.contains(&files) {
                all.push(files);
            }
        }
    }
    Ok(all)
}
