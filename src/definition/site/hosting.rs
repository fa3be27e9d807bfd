//! Whether a site that says where its guests live says it of all of them.

use std::collections::BTreeSet;

use super::Site;
use crate::definition::error::{Error, Problem};
use crate::definition::hosting::{GuestKind, GuestShape, SECRETS_VOLUME};
use crate::definition::name::{ImageName, VolumeName};
use crate::definition::place::Place;
use crate::definition::project::Project;
use crate::definition::state::State;
use crate::definition::suggest::did_you_mean;

/// What does not hold of `[guests]` of the site.
pub(super) fn check(project: &Project, site: &Site) -> Vec<Error> {
    let mut errors = Vec::new();
    for (role, (shape, place)) in &site.guests {
        match states(project, role) {
            Some(states) => errors.extend(check_shape(project, role, shape, &states)),
            None => errors.push(unknown_role(project, role, place)),
        }
    }
    if site.hosting.is_some() {
        errors.extend(check_nodes(site));
    }
    errors
}

/// The state volumes of a role; none if there is no such role.
fn states<'a>(project: &'a Project, role: &ImageName) -> Option<Vec<&'a State>> {
    project.roles().find(|image| image.name == *role)?;
    let stack = project.stack(role.as_str()).ok()?;
    Some(stack.iter().flat_map(|image| &image.states).collect())
}

fn unknown_role(project: &Project, role: &ImageName, place: &Place) -> Error {
    let help = did_you_mean(role.as_str(), project.roles().map(|image| image.name.as_str()));
    place.error_with_help(Problem::UnknownImage(role.to_string()), help)
}

fn check_shape(
    project: &Project,
    role: &ImageName,
    shape: &GuestShape,
    states: &[&State],
) -> Vec<Error> {
    let mut errors = Vec::new();
    let machine = project.image(role.as_str()).ok().and_then(|image| project.machine_of(image));
    if shape.kind == GuestKind::Machine && machine.is_none() {
        let text = format!("`{role}` has no disk: no machine definition is laid on it");
        let help = Some("set `kind = \"container\"`".to_owned());
        errors.push(shape.place.error_with_help(Problem::Contradiction(text), help));
    }
    for state in states {
        if state.name.as_str() == SECRETS_VOLUME {
            let text = format!("`{role}` calls a state volume `{SECRETS_VOLUME}`");
            let help = Some("give it another name: guests have their secrets there".to_owned());
            errors.push(state.place.error_with_help(Problem::Contradiction(text), help));
        } else if !shape.volumes.contains_key(&state.name) {
            let text = format!("the volume `{}` of `{role}` has no size", state.name);
            let help =
                Some(format!("add `volumes.{} = {{ size_gib = … }}`: {}", state.name, state.doc));
            errors.push(shape.place.error_with_help(Problem::Contradiction(text), help));
        }
    }
    let known = |name: &VolumeName| states.iter().any(|state| state.name == *name);
    for (name, (_, place)) in shape.volumes.iter().filter(|(name, _)| !known(name)) {
        let text = format!("`{role}` has no state volume `{name}`");
        let names: Vec<&str> = states.iter().map(|state| state.name.as_str()).collect();
        let help =
            did_you_mean(name.as_str(), names.iter().copied()).unwrap_or_else(|| {
                match names.is_empty() {
                    true => "it has no state: take `volumes` out".to_owned(),
                    false => format!("it has: {}", names.join(", ")),
                }
            });
        errors.push(place.error_with_help(Problem::Contradiction(text), Some(help)));
    }
    errors
}

fn check_nodes(site: &Site) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut told = BTreeSet::new();
    for node in &site.nodes {
        // Once for a role, at its first node.
        if !site.guests.contains_key(&node.image) && told.insert(&node.image) {
            let text = format!("nothing says what a guest of `{}` is", node.image);
            let help = Some(format!(
                "add a table `[guests.{}]` with `kind`, `cores`, `memory_mib` and `bridge`",
                node.image
            ));
            errors.push(node.place.error_with_help(Problem::Contradiction(text), help));
        }
        if node.host.is_none() {
            let text = format!("nothing says which Proxmox node `{}` lies on", node.name);
            let help = Some("add `host = \"…\"`, the name of the Proxmox node".to_owned());
            errors.push(node.place.error_with_help(Problem::Contradiction(text), help));
        }
    }
    errors
}
