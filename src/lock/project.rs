//! What the definitions of a project ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::LockedSource;
use super::wishes::{DebianSettings, Wanted, Wishes};
use crate::debian::repository::Repository;
use crate::definition::{self, Debian, Image, Project, Result};

/// The wishes of all definitions, parents before children. A machine definition has none of its own: it
/// is resolved on top of each role that it is laid on, as what [`machine_key`] says.
///
/// # Errors
///
/// A definition whose stack is not sound.
pub fn wishes(project: &Project) -> Result<Vec<Wishes>> {
    let mut known = BTreeSet::new();
    let mut wishes = Vec::new();
    for image in project.images().filter(|image| image.machine.is_none()) {
        let stack = project.stack(image.name.as_str())?;
        let Some(debian) = stack.first().and_then(|root| root.debian.as_ref()) else { continue };
        let mut parent = None;
        for image in stack {
            let name = image.name.to_string();
            if known.insert(name.clone()) {
                wishes.push(wishes_of(image, name.clone(), parent, debian));
            }
            parent = Some(name);
        }
        if let Some((machine, _)) = project.machine_of(image).filter(|_| image.role) {
            let name = machine_key(image.name.as_str(), machine.name.as_str());
            wishes.push(wishes_of(machine, name, parent, debian));
        }
    }
    Ok(wishes)
}

/// The name under which a lock has the packages that the definition `machine` adds to `role`. No image
/// can be called so.
pub fn machine_key(role: &str, machine: &str) -> String {
    format!("{role}/{machine}")
}

fn wishes_of(image: &Image, name: String, parent: Option<String>, debian: &Debian) -> Wishes {
    let relations = image.packages.install.iter().map(|relation| Wanted {
        text: relation.text.clone(),
        source: Arc::clone(relation.place.source()),
        span: relation.place.span(),
    });
    Wishes {
        image: name,
        parent,
        relations: relations.collect(),
        essential: image.packages.essential,
        exclude: image.packages.exclude.iter().map(|(name, _)| name.to_string()).collect(),
        sources: image.sources.values().map(LockedSource::from).collect(),
        debian: DebianSettings {
            architecture: debian.architecture.clone(),
            repositories: debian.repositories.iter().map(repository).collect(),
        },
    }
}

/// A repository as it is read and downloaded from.
pub fn repository(declared: &definition::Repository) -> Repository {
    Repository {
        name: declared.name.clone(),
        url: declared.url.clone(),
        mirrors: declared.mirrors.clone(),
        snapshot: declared.snapshot.clone(),
        suite: declared.suite.clone(),
        components: declared.components.clone(),
        keyring: declared.keyring.bytes.clone(),
        signed_by: declared.signed_by.clone(),
    }
}
