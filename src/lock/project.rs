//! What the definitions of a project ask for.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::LockedSource;
use super::wishes::{DebianSettings, Wanted, WantedFile, Wishes};
use crate::debian::repository::{Certificates, Repository};
use crate::definition::{self, Image, Keyring, Pin, Project, Result, Upstream};

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
        let mut parent = None;
        for height in 1..=stack.len() {
            let Some(name) = stack.get(height - 1).map(|image| image.name.to_string()) else {
                break;
            };
            if known.insert(name.clone()) {
                wishes.extend(wishes_of(&stack[..height], name.clone(), parent));
            }
            parent = Some(name);
        }
        if let Some((machine, _)) = project.machine_of(image).filter(|_| image.role) {
            let name = machine_key(image.name.as_str(), machine.name.as_str());
            let stack: Vec<&Image> = stack.into_iter().chain([machine]).collect();
            wishes.extend(wishes_of(&stack, name, parent));
        }
    }
    Ok(wishes)
}

/// What a lock must have before `role` can be built in any format: the names of its own stack, of what
/// a machine definition adds to it, and of the stack of the image that disks boot with.
///
/// # Errors
///
/// There is no such role.
pub fn needed_by(project: &Project, role: &str) -> Result<BTreeSet<String>> {
    let names = |name: &str| -> Result<BTreeSet<String>> {
        Ok(project.stack(name)?.into_iter().map(|image| image.name.to_string()).collect())
    };
    let mut needed = names(role)?;
    if let Some((machine, declared)) = project.machine_of(project.image(role)?) {
        needed.insert(machine_key(role, machine.name.as_str()));
        needed.extend(names(declared.boot.0.as_str())?);
    }
    Ok(needed)
}

/// The name under which a lock has the packages that the definition `machine` adds to `role`. No image
/// can be called so.
pub fn machine_key(role: &str, machine: &str) -> String {
    format!("{role}/{machine}")
}

/// The wishes of the last image of `stack`, under the name that the lock gives them.
fn wishes_of(stack: &[&Image], name: String, parent: Option<String>) -> Option<Wishes> {
    let (image, debian) = (stack.last()?, stack.first()?.debian.as_ref()?);
    let relations = image.packages.install.iter().map(|relation| Wanted {
        text: relation.text.clone(),
        source: Arc::clone(relation.place.source()),
        span: relation.place.span(),
    });
    Some(Wishes {
        image: name,
        parent,
        relations: relations.collect(),
        essential: image.packages.essential,
        exclude: image.packages.exclude.iter().map(|(name, _)| name.to_string()).collect(),
        sources: image.sources.values().map(LockedSource::from).collect(),
        files: image.sources.values().filter_map(wanted_file).collect(),
        debian: DebianSettings {
            architecture: debian.architecture.clone(),
            repositories: stack
                .iter()
                .flat_map(|image| image.all_repositories())
                .map(repository)
                .collect(),
        },
        own_repositories: image.all_repositories().count(),
    })
}

/// `upstream` as the resolution sees it, if it is a package.
fn wanted_file(upstream: &Upstream) -> Option<WantedFile> {
    let pin = match &upstream.pin {
        Pin::Sha256(digest) => Ok(*digest),
        Pin::Unverified(how) => Err(how.clone()),
        Pin::Commit(_) | Pin::Image(_) => return None,
    };
    upstream.is_package().then(|| WantedFile {
        name: upstream.name.to_string(),
        urls: upstream.urls.clone(),
        pin,
        place: upstream.place.clone(),
    })
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
        packages: declared.packages.clone(),
        keyring: match &declared.keyring {
            Keyring::File { bytes, .. } => Certificates::Here(bytes.clone()),
            Keyring::Url(url) => Certificates::Url(url.clone()),
        },
        signed_by: declared.signed_by.clone(),
    }
}
