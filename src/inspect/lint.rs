//! Holds a project, and images as they are built, against all lints.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::{Error, Inspector};
use crate::artifact::lint::{self as images, Tolerated};
use crate::artifact::name::Format;
use crate::build::{LockedRole, Trust, findings};
use crate::definition::Project;
use crate::definition::lint::{self, Judgement, Origin, Used};
use crate::render;
use crate::store::Store;

/// Looks over all definitions, overlays and templates.
///
/// # Errors
/// A template or file is at fault.
pub fn definitions(project: &Project) -> Result<Judgement, render::Error> {
    let mut findings = render::check(project)?;
    findings.extend(lint::lint(project));
    Ok(lint::judge(project, findings))
}

/// What was found in one image, in the form of one artifact.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Looked {
    /// The role.
    pub role: String,
    /// The format that it was looked at in.
    pub format: Format,
    /// Whether it was built here; if not, nothing is known of it.
    pub built: bool,
    /// What keeps it from being shipped.
    pub findings: Vec<images::Finding>,
    /// What its definitions tolerate in it.
    pub tolerated: Vec<Tolerated>,
}

/// Looks over what was built of `roles` at `site`. The second result are allowances that nothing was found
/// for, as far as every image that they hold for was looked at.
///
/// # Errors
/// A layer cannot be read.
pub fn built(
    store: &Store,
    project: &Project,
    roles: &[LockedRole],
    site: Option<&str>,
    trust: &dyn Trust,
) -> Result<(Vec<Looked>, Judgement), Error> {
    let inspector = Inspector::new(store);
    let mut used = Used::default();
    let mut all = Vec::new();
    let mut complete = BTreeSet::new();
    for role in roles {
        let mut is_complete = true;
        for format in formats(role) {
            let looked = look((store, trust), &inspector, role, format, &mut used)?;
            is_complete &= looked.built;
            all.push(looked);
        }
        if is_complete {
            complete.insert(role.plan.role().to_owned());
        }
    }
    let looked_at = |origin: &Origin| {
        let is_here = match origin {
            Origin::Image(_) => true,
            Origin::Site(name, _) => Some(name.as_str()) == site,
        };
        is_here && project.concerned(origin).is_subset(&complete)
    };
    Ok((all, lint::unused_in_images(project, &used, looked_at)))
}

fn look(
    (store, trust): (&Store, &dyn Trust),
    inspector: &Inspector<'_>,
    role: &LockedRole,
    format: Format,
    used: &mut Used,
) -> Result<Looked, Error> {
    let name = role.plan.role().to_owned();
    let image = inspector.role(name.clone(), role, format, trust)?;
    let disk = role.disk.as_ref().filter(|_| format == Format::Qcow2);
    let (state, rules) = match disk {
        Some(disk) => (disk.machine.image.state.as_slice(), &disk.machine.plan.lints),
        None => (role.plan.state(), &role.plan.plan.lints),
    };
    let mut looked =
        Looked { role: name, format, built: false, findings: Vec::new(), tolerated: Vec::new() };
    if let Some(archives) = image.archives {
        let found =
            findings(store, &archives, state).map_err(|source| Error::Lint(Box::new(source)))?;
        let judgement = images::judge(rules, found, used);
        looked.built = true;
        (looked.findings, looked.tolerated) = (judgement.refused, judgement.tolerated);
    }
    Ok(looked)
}

fn formats(role: &LockedRole) -> Vec<Format> {
    let disk = role.disk.is_some().then_some(Format::Qcow2);
    [Format::LxcTemplate].into_iter().chain(disk).collect()
}
