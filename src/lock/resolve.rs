//! From wishes to a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use miette::SourceSpan;
use rayon::prelude::*;

use super::session::Session;
use super::{
    Error, Lock, LockedImage, LockedRepository, PackageFiles, Repository, Wanted, Wishes, package,
    wants_digests,
};
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

/// A lock, and what is missing from it.
#[derive(Debug)]
pub struct Resolution {
    /// The lock.
    pub lock: Lock,
    /// The images whose repositories cannot be used, with the reasons.
    pub left_out: Vec<LeftOut>,
}

/// An image one of whose repositories cannot be used, and those that stand on it.
#[derive(Debug)]
pub struct LeftOut {
    /// Why.
    pub error: Error,
    /// Images whose part of the lock stays as it was.
    pub kept: Vec<String>,
    /// Images whose part of the lock is gone, because what they stand on has changed.
    pub lost: Vec<String>,
    /// Images that were not locked before, either.
    pub missing: Vec<String>,
}

/// Resolves `wishes`, parents before children, with what their repositories offer at `now`.
///
/// A lock from which nothing changed is returned as it was, without asking the network if the
/// wishes alone show that. Images whose repositories cannot be used do not keep others from being
/// locked. `files` gets packages that are sources; without it, images that have any are among those.
///
/// # Errors
///
/// No image can be locked for want of its repositories, or the wishes cannot be fulfilled.
///
/// # Panics
///
/// If a parent is absent or comes after its child.
pub fn resolve(
    wishes: &[Wishes],
    transport: &dyn Transport,
    files: Option<&dyn PackageFiles>,
    previous: Option<&Lock>,
    update: &Update,
    now: SystemTime,
) -> Result<Resolution, Error> {
    let wants = wants_digests(wishes);
    let mut images = read_wishes(wishes, &wants)?;
    if let Update::Only(packages) = update {
        require_locked(packages, previous)?;
    }
    if let Some(previous) = previous
        && *update == Update::Missing
        && previous.check_packages(wishes).is_ok()
    {
        return Ok(Resolution { lock: refreshed(previous, wishes), left_out: Vec::new() });
    }
    let now = Moment::from(now);
    let (offers, errors) = read_all(wishes, transport, files, previous, now);
    let mut left_out = mark_unusable(&mut images, errors);
    if let Some(position) = left_out.iter().position(|it| it.missing.len() == images.len()) {
        return Err(left_out.swap_remove(position).error);
    }
    let mut session = Session::new(images, &offers, previous, update)?;
    let images = session.run()?;
    for group in &mut left_out {
        let had = |name: &String| previous.is_some_and(|lock| lock.images.contains_key(name));
        let all = std::mem::take(&mut group.missing);
        let (kept, gone): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|name| images.contains_key(name));
        (group.lost, group.missing) = gone.into_iter().partition(had);
        group.kept = kept;
    }
    if images.is_empty()
        && let Some(first) = left_out.pop()
    {
        return Err(first.error);
    }
    let repositories = locked_repositories(wishes, &offers, previous, &images);
    let lock = Lock { version: 1, snapshot: now.snapshot(), images, repositories };
    let lock = match previous {
        Some(previous) if is_same(previous, &lock) => previous.clone(),
        _ => lock,
    };
    Ok(Resolution { lock, left_out })
}

/// What an image has on offer besides those below it.
pub(super) struct Offer {
    /// The content of each repository that it names itself, in their order.
    pub repositories: Vec<Contents>,
    /// The entry of each package that it names itself.
    pub files: Vec<String>,
}

/// What is on offer, by the image that names it.
pub(super) type Offers<'a> = BTreeMap<&'a str, Offer>;

/// Reads all repositories, each of them once, those of one image at a time. Also what went wrong, by
/// image.
fn read_all<'a>(
    wishes: &'a [Wishes],
    transport: &dyn Transport,
    files: Option<&dyn PackageFiles>,
    previous: Option<&Lock>,
    now: Moment,
) -> (Offers<'a>, BTreeMap<&'a str, Error>) {
    let (mut offers, mut errors) = (Offers::new(), BTreeMap::new());
    for image in wishes.iter().filter(|image| image.has_own()) {
        match read_own(image, transport, files, previous, now) {
            Ok(contents) => drop(offers.insert(image.image.as_str(), contents)),
            Err(error) => drop(errors.insert(image.image.as_str(), error)),
        }
    }
    (offers, errors)
}

fn read_own(
    image: &Wishes,
    transport: &dyn Transport,
    files: Option<&dyn PackageFiles>,
    previous: Option<&Lock>,
    now: Moment,
) -> Result<Offer, Error> {
    let architecture = &image.debian.architecture;
    let entries = image.files.iter().map(|wanted| package::entry(wanted, architecture, files));
    let entries = entries.collect::<Result<_, _>>()?;
    let read = |repository: &Repository| -> Result<Contents, Error> {
        let seen = previous.and_then(|lock| {
            lock.repositories.iter().find(|seen| is_state_of(seen, image, repository))
        });
        let not_before = seen.map(|seen| seen.date);
        Ok(repository.read(transport, &image.debian.architecture, not_before, now)?)
    };
    let repositories = image.own_repositories().par_iter().map(read).collect::<Result<_, _>>()?;
    Ok(Offer { repositories, files: entries })
}

fn is_state_of(seen: &LockedRepository, image: &Wishes, repository: &Repository) -> bool {
    seen.image == image.image && seen.name == repository.name && seen.suite == repository.suite
}

/// Marks the images that cannot be resolved, and groups them by what is wrong. So far, all count as
/// missing.
fn mark_unusable(images: &mut [Image<'_>], mut errors: BTreeMap<&str, Error>) -> Vec<LeftOut> {
    let mut left_out: Vec<LeftOut> = Vec::new();
    // Which group an image belongs to.
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for image in images {
        let parent = image.wishes.parent.as_deref();
        let inherited = parent.and_then(|parent| groups.get(parent).copied());
        let own = errors.remove(image.name());
        let group = match (inherited, own) {
            (Some(group), _) => group,
            (None, Some(error)) => {
                let (kept, lost, missing) = (Vec::new(), Vec::new(), Vec::new());
                left_out.push(LeftOut { error, kept, lost, missing });
                left_out.len() - 1
            }
            (None, None) => continue,
        };
        image.usable = false;
        groups.insert(&image.wishes.image, group);
        left_out[group].missing.push(image.wishes.image.clone());
    }
    left_out
}

/// The states of the repositories that `images` were made from: what was read now, or else was known
/// before.
fn locked_repositories(
    wishes: &[Wishes],
    offers: &Offers<'_>,
    previous: Option<&Lock>,
    images: &BTreeMap<String, LockedImage>,
) -> Vec<LockedRepository> {
    let mut states = Vec::new();
    for image in wishes.iter().filter(|image| images.contains_key(&image.image)) {
        let contents = offers.get(image.image.as_str()).map(|offer| &offer.repositories);
        for (index, repository) in image.own_repositories().iter().enumerate() {
            let known = || {
                let mut known = previous?.repositories.iter();
                known.find(|seen| is_state_of(seen, image, repository)).cloned()
            };
            let state = match contents.and_then(|contents| contents.get(index)) {
                Some(contents) => Some(LockedRepository {
                    image: image.image.clone(),
                    name: repository.name.clone(),
                    suite: repository.suite.clone(),
                    date: contents.date,
                    release: contents.release,
                    keyring: contents.keyring,
                }),
                None => known(),
            };
            states.extend(state);
        }
    }
    states.sort_by(|left, right| left.image.cmp(&right.image));
    states
}

/// One image with its wishes understood.
pub(super) struct Image<'a> {
    pub wishes: &'a Wishes,
    pub wants: Digest,
    /// The nearest image, from this one downwards, that names repositories or packages by URL.
    pub source: &'a str,
    /// Whether its repositories, and those of the images below it, could be read.
    pub usable: bool,
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
        let own = wish.has_own().then_some(wish.image.as_str());
        let inherited = || parent.map_or(wish.image.as_str(), |parent| parent.source);
        let source = own.unwrap_or_else(inherited);
        images.push(Image {
            wishes: wish,
            wants: wants[wish.image.as_str()],
            source,
            usable: true,
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
