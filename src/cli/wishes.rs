//! Hands what definitions ask for to the lock.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::debian::repository::{Repository, Transport, TransportError};
use crate::definition::{Debian, Image, Project, Result};
use crate::fetch::Fetcher;
use crate::lock::{DebianSettings, Wanted, Wishes};

/// The wishes of all definitions, parents before children.
pub(super) fn wishes(project: &Project) -> Result<Vec<Wishes>> {
    let mut known = BTreeSet::new();
    let mut wishes = Vec::new();
    for image in project.images() {
        let stack = project.stack(image.name.as_str())?;
        let Some(debian) = stack.first().and_then(|root| root.debian.as_ref()) else { continue };
        let mut parent = None;
        for image in stack {
            if known.insert(image.name.clone()) {
                wishes.push(wishes_of(image, parent, debian));
            }
            parent = Some(image.name.to_string());
        }
    }
    Ok(wishes)
}

fn wishes_of(image: &Image, parent: Option<String>, debian: &Debian) -> Wishes {
    let relations = image.packages.install.iter().map(|relation| Wanted {
        text: relation.text.clone(),
        source: miette::NamedSource::new(
            relation.place.file(),
            Arc::clone(relation.place.source().inner()),
        ),
        span: relation.place.span(),
    });
    Wishes {
        image: image.name.to_string(),
        parent,
        relations: relations.collect(),
        essential: image.packages.essential,
        exclude: image.packages.exclude.iter().map(|(name, _)| name.to_string()).collect(),
        debian: DebianSettings {
            architecture: debian.architecture.clone(),
            repositories: debian.repositories.iter().map(repository).collect(),
        },
    }
}

/// A repository as the lock knows it.
pub(super) fn repository(declared: &crate::definition::Repository) -> Repository {
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

/// Indexes come through the same downloads as packages do.
pub(super) struct Indexes<'a>(pub(super) &'a Fetcher);

impl Transport for Indexes<'_> {
    fn get(&self, url: &str, limit_bytes: u64) -> std::result::Result<Vec<u8>, TransportError> {
        self.0.get(&[url.to_owned()], limit_bytes).map_err(|source| TransportError {
            url: url.to_owned(),
            source: Box::new(source),
        })
    }
}
