//! From wishes to a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use miette::SourceSpan;
use rayon::prelude::*;

use super::session::Session;
use super::{Error, Lock, LockedRepository, Wanted, Wishes, wants_digests};
use crate::debian::date::Moment;
use crate::debian::relation::{self, Relation};
use crate::debian::repository::{Contents, Transport};
use crate::debian::resolve::closest;
use crate::digest::Digest;

/// What may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Update {
    /// Nothing that need not: images whose wishes are as before keep their packages, and in the
    /// others each package keeps its version as long as it is offered and fits.
    Missing,
    /// As [`Update::Missing`], but these packages become the newest.
    Only(Vec<String>),
    /// Everything becomes the newest.
    All,
}

/// Resolves `wishes`, parents before children, with what their repositories offer at `now`.
///
/// A lock from which nothing changed is returned as it was, without asking the network if the
/// wishes alone show that.
///
/// # Errors
///
/// A repository cannot be used, or the wishes cannot be fulfilled.
///
/// # Panics
///
/// If a parent is absent or comes after its child.
pub fn resolve(
    wishes: &[Wishes],
    transport: &dyn Transport,
    previous: Option<&Lock>,
    update: &Update,
    now: SystemTime,
) -> Result<Lock, Error> {
    let wants = wants_digests(wishes);
    let images = read_wishes(wishes, &wants)?;
    if let Update::Only(packages) = update {
        require_locked(packages, previous)?;
    }
    if let Some(previous) = previous
        && *update == Update::Missing
        && previous.check_packages(wishes).is_ok()
    {
        return Ok(refreshed(previous, wishes));
    }
    let now = Moment::from(now);
    let stacks = wishes
        .iter()
        .filter(|image| image.parent.is_none())
        .map(|root| Ok((root.image.as_str(), read_repositories(root, transport, previous, now)?)))
        .collect::<Result<BTreeMap<_, _>, Error>>()?;
    let mut session = Session::new(images, &stacks, previous, update)?;
    let lock = Lock {
        version: 1,
        snapshot: now.snapshot(),
        images: session.run()?,
        repositories: stacks
            .iter()
            .flat_map(|(root, repositories)| {
                repositories.iter().map(|(name, suite, contents)| LockedRepository {
                    image: (*root).to_owned(),
                    name: (*name).to_owned(),
                    suite: (*suite).to_owned(),
                    date: contents.date,
                    release: contents.release,
                })
            })
            .collect(),
    };
    Ok(match previous {
        Some(previous) if is_same(previous, &lock) => previous.clone(),
        _ => lock,
    })
}

/// Name, suite and content of each repository of a stack.
pub(super) type Repositories<'a> = Vec<(&'a str, &'a str, Contents)>;

fn read_repositories<'a>(
    root: &'a Wishes,
    transport: &dyn Transport,
    previous: Option<&Lock>,
    now: Moment,
) -> Result<Repositories<'a>, Error> {
    root.debian
        .repositories
        .par_iter()
        .map(|repository| {
            let seen = previous.and_then(|lock| {
                lock.repositories.iter().find(|seen| {
                    seen.image == root.image
                        && seen.name == repository.name
                        && seen.suite == repository.suite
                })
            });
            let not_before = seen.map(|seen| seen.date);
            let contents =
                repository.read(transport, &root.debian.architecture, not_before, now)?;
            Ok((repository.name.as_str(), repository.suite.as_str(), contents))
        })
        .collect()
}

/// One image with its wishes understood.
pub(super) struct Image<'a> {
    pub wishes: &'a Wishes,
    pub wants: Digest,
    /// The image that names the repositories.
    pub root: &'a str,
    pub relations: Vec<Relation<'a>>,
    /// What it must not have, with the reason: its own wishes and those of its ancestors.
    pub excluded: BTreeMap<String, String>,
}

impl Image<'_> {
    pub fn name(&self) -> &str {
        &self.wishes.image
    }
}

fn read_wishes<'a>(
    wishes: &'a [Wishes],
    wants: &BTreeMap<&str, Digest>,
) -> Result<Vec<Image<'a>>, Error> {
    let mut images: Vec<Image<'a>> = Vec::new();
    for wish in wishes {
        let relations = wish.relations.iter().map(read_relation).collect::<Result<_, _>>()?;
        let parent = images.iter().find(|image| Some(image.name()) == wish.parent.as_deref());
        let mut excluded = parent.map_or_else(BTreeMap::new, |parent| parent.excluded.clone());
        for name in &wish.exclude {
            let reason = format!("image `{}` excludes it", wish.image);
            excluded.entry(name.clone()).or_insert(reason);
        }
        let root = parent.map_or(wish.image.as_str(), |parent| parent.root);
        images.push(Image {
            wishes: wish,
            wants: wants[wish.image.as_str()],
            root,
            relations,
            excluded,
        });
    }
    Ok(images)
}

fn read_relation(wanted: &Wanted) -> Result<Relation<'_>, Error> {
    relation::parse_wanted(&wanted.text).map_err(|error| {
        let (start, length) = (wanted.span.offset(), wanted.span.len());
        // The column can be shown if the text stands in the file as it is.
        let span = match length.checked_sub(wanted.text.len()) {
            Some(quotation @ (0 | 2)) if error.column < wanted.text.len() => {
                SourceSpan::from((start + quotation / 2 + error.column, 1))
            }
            _ => wanted.span,
        };
        Error::Relation {
            text: wanted.text.clone(),
            message: error.to_string(),
            source_code: wanted.source.clone(),
            span,
        }
    })
}

fn require_locked(packages: &[String], previous: Option<&Lock>) -> Result<(), Error> {
    let locked: BTreeSet<&str> = previous
        .into_iter()
        .flat_map(|lock| lock.images.values())
        .flat_map(|image| &image.packages)
        .map(|package| package.name.as_str())
        .collect();
    for package in packages {
        if !locked.contains(package.as_str()) {
            let help = match closest(package, locked.iter().copied()) {
                Some(name) => format!("did you mean `{name}`?"),
                None => "add it to `packages.install` of a definition first".to_owned(),
            };
            return Err(Error::NotLocked { package: package.clone(), help });
        }
    }
    Ok(())
}

/// `lock` without the images that `wishes` does not name, and with their sources, which take no
/// resolving.
fn refreshed(lock: &Lock, wishes: &[Wishes]) -> Lock {
    let mut lock = lock.clone();
    let exists = |name: &str| wishes.iter().any(|image| image.image == name);
    lock.images.retain(|name, _| exists(name));
    lock.repositories.retain(|repository| exists(&repository.image));
    for wish in wishes {
        if let Some(image) = lock.images.get_mut(&wish.image) {
            image.sources.clone_from(&wish.sources);
        }
    }
    lock
}

/// Whether two locks differ in nothing but the states of the repositories.
fn is_same(old: &Lock, new: &Lock) -> bool {
    let images = |lock: &Lock| {
        let mut images = lock.images.clone();
        for package in images.values_mut().flat_map(|image| &mut image.packages) {
            package.snapshot = None;
        }
        images
    };
    let repositories = |lock: &Lock| -> Vec<[String; 3]> {
        let parts = |it: &LockedRepository| [it.image.clone(), it.name.clone(), it.suite.clone()];
        lock.repositories.iter().map(parts).collect()
    };
    images(old) == images(new) && repositories(old) == repositories(new)
}
