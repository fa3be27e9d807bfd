//! From wishes to a lock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use miette::{LabeledSpan, SourceSpan};
use rayon::prelude::*;

use super::{
    Error, Lock, LockedImage, LockedPackage, LockedRepository, Wanted, Wishes, wants_digests,
};
use crate::debian::date::Moment;
use crate::debian::packages::{Departed, PackageId, Universe};
use crate::debian::relation::{self, Relation};
use crate::debian::repository::{Contents, Transport};
use crate::debian::resolve::{self, Failure, Request, closest};
use crate::debian::version;
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
        && previous.check(wishes).is_ok()
    {
        return Ok(restricted(previous, wishes));
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
type Repositories<'a> = Vec<(&'a str, &'a str, Contents)>;

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
struct Image<'a> {
    wishes: &'a Wishes,
    wants: Digest,
    /// The image that names the repositories.
    root: &'a str,
    relations: Vec<Relation<'a>>,
    /// What it must not have, with the reason: its own wishes and those of its ancestors.
    excluded: BTreeMap<String, String>,
}

impl Image<'_> {
    fn name(&self) -> &str {
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

/// `lock` without the images that `wishes` does not name.
fn restricted(lock: &Lock, wishes: &[Wishes]) -> Lock {
    let mut lock = lock.clone();
    let exists = |name: &str| wishes.iter().any(|image| image.image == name);
    lock.images.retain(|name, _| exists(name));
    lock.repositories.retain(|repository| exists(&repository.image));
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

/// The resolution of all images, one after the other.
struct Session<'a> {
    images: Vec<Image<'a>>,
    universes: BTreeMap<&'a str, Universe<'a>>,
    previous: Option<&'a Lock>,
    update: &'a Update,
    /// Packages whose locked version need not stay, apart from what `update` says.
    released: BTreeSet<String>,
}

/// The packages of one image.
struct Resolved {
    /// Those that it has and its parent has not, sorted by name.
    own: Vec<PackageId>,
    /// Those of its ancestors and its own.
    all: Vec<PackageId>,
    /// Whether they are just those of the previous lock.
    kept: bool,
}

impl<'a> Session<'a> {
    fn new(
        images: Vec<Image<'a>>,
        stacks: &'a BTreeMap<&'a str, Repositories<'a>>,
        previous: Option<&'a Lock>,
        update: &'a Update,
    ) -> Result<Self, Error> {
        let mut universes = BTreeMap::new();
        for image in images.iter().filter(|image| image.wishes.parent.is_none()) {
            let mut universe = Universe::new();
            for (index, (name, _, contents)) in stacks[image.root].iter().enumerate() {
                for text in &contents.indexes {
                    universe.add(index, text, &image.wishes.debian.architecture).map_err(
                        |source| Error::Packages { repository: (*name).to_owned(), source },
                    )?;
                }
            }
            universes.insert(image.root, universe);
        }
        Ok(Self { images, universes, previous, update, released: BTreeSet::new() })
    }

    /// Resolves all images. Where a child cannot be had on top of what the lock says about its
    /// parents, those packages of the parents that stand in the way are released, and everything
    /// is done once more.
    fn run(&mut self) -> Result<BTreeMap<String, LockedImage>, Error> {
        'again: loop {
            let mut resolved: BTreeMap<String, Resolved> = BTreeMap::new();
            for index in 0..self.images.len() {
                let parent = self.images[index].wishes.parent.as_ref();
                let parent = parent.map(|parent| &resolved[parent]);
                match self.resolve_image(index, parent) {
                    Ok(image) => {
                        resolved.insert(self.images[index].name().to_owned(), image);
                    }
                    Err(failure) => {
                        let released = self.release(index)?;
                        if released.is_empty() {
                            return Err(self.error(&[index], failure));
                        }
                        self.released.extend(released);
                        continue 'again;
                    }
                }
            }
            return Ok(self.locked(&resolved));
        }
    }

    fn resolve_image(
        &mut self,
        index: usize,
        parent: Option<&Resolved>,
    ) -> Result<Resolved, Failure> {
        let inherited = parent.map_or(&[][..], |parent| &parent.all);
        if parent.is_none_or(|parent| parent.kept)
            && let Some(own) = self.kept(index)
        {
            let all = [inherited, own.as_slice()].concat();
            return Ok(Resolved { own, all, kept: true });
        }
        let image = &self.images[index];
        let own = resolve::resolve(
            &self.universes[image.root],
            &Request {
                architecture: &image.wishes.debian.architecture,
                wanted: &image.relations,
                essential: image.wishes.essential,
                excluded: &image.excluded,
                fixed: inherited,
                preferred: &self.preferred(&[index]),
            },
        )?;
        let all = [inherited, own.as_slice()].concat();
        Ok(Resolved { own, all, kept: false })
    }

    fn locked_image(&self, index: usize) -> Option<&'a LockedImage> {
        self.previous?.images.get(self.images[index].name())
    }

    /// Whether people want the newest version of a locked package.
    fn is_to_update(&self, name: &str) -> bool {
        match self.update {
            Update::All => true,
            Update::Only(names) => names.iter().any(|update| update == name),
            Update::Missing => false,
        }
    }

    /// The packages of the previous lock, if the image can have just those.
    fn kept(&mut self, index: usize) -> Option<Vec<PackageId>> {
        let locked = self.locked_image(index)?;
        let image = &self.images[index];
        if *self.update == Update::All || locked.wants != image.wants {
            return None;
        }
        let universe = &self.universes[image.root];
        let has_newer = |package: &LockedPackage| {
            universe.versions(&package.name).iter().any(|&id| {
                let offered = universe.package(id);
                !offered.departed && version::compare(offered.version, &package.version).is_gt()
            })
        };
        let has_to_go = |package: &LockedPackage| {
            self.released.contains(&package.name)
                || self.is_to_update(&package.name) && has_newer(package)
        };
        if locked.packages.iter().any(has_to_go) {
            return None;
        }
        let repositories = &image.wishes.debian.repositories;
        let universe = self.universes.get_mut(image.root)?;
        let add = |package: &'a LockedPackage| {
            let is_its = |repository: &super::Repository| repository.name == package.repository;
            Some(universe.add_departed(Departed {
                name: &package.name,
                version: &package.version,
                architecture: &package.architecture,
                repository: repositories.iter().position(is_its)?,
                path: &package.path,
                size: package.size,
                sha256: package.sha256,
            }))
        };
        locked.packages.iter().map(add).collect()
    }

    /// The locked versions in the given images that should stay if they can.
    fn preferred(&self, images: &[usize]) -> BTreeMap<String, String> {
        if *self.update == Update::All {
            return BTreeMap::new();
        }
        let locked = images.iter().filter_map(|&index| self.locked_image(index));
        locked
            .flat_map(|image| &image.packages)
            .filter(|package| !self.released.contains(&package.name))
            .filter(|package| !self.is_to_update(&package.name))
            .map(|package| (package.name.clone(), package.version.clone()))
            .collect()
    }

    /// The image and its ancestors, the root first.
    fn stack(&self, index: usize) -> Vec<usize> {
        let parent = self.images[index].wishes.parent.as_deref();
        let parent = self.images.iter().position(|image| Some(image.name()) == parent);
        let mut stack = parent.map_or_else(Vec::new, |parent| self.stack(parent));
        stack.push(index);
        stack
    }

    /// Which locked packages of the ancestors of an image have to change so that the image can
    /// be had: resolves the whole stack at once and looks. Nothing if that is no help.
    fn release(&self, index: usize) -> Result<BTreeSet<String>, Error> {
        let stack = self.stack(index);
        let preferred = self.preferred(&stack);
        let universe = &self.universes[self.images[index].root];
        if stack.len() == 1 || preferred.is_empty() {
            return Ok(BTreeSet::new());
        }
        let wanted: Vec<Relation<'_>> =
            stack.iter().flat_map(|&index| self.images[index].relations.iter().cloned()).collect();
        let request = Request {
            architecture: &self.images[index].wishes.debian.architecture,
            wanted: &wanted,
            essential: stack.iter().any(|&index| self.images[index].wishes.essential),
            excluded: &self.images[index].excluded,
            fixed: &[],
            preferred: &preferred,
        };
        let together =
            resolve::resolve(universe, &request).map_err(|failure| self.error(&stack, failure))?;
        let stays = |name: &str, version: &str| {
            together.iter().any(|&id| {
                let package = universe.package(id);
                package.name == name && package.version == version
            })
        };
        Ok(preferred
            .iter()
            .filter(|(name, version)| !stays(name, version))
            .map(|(name, _)| name.clone())
            .collect())
    }

    /// The error for a failure to resolve the wishes of `images` together.
    fn error(&self, images: &[usize], failure: Failure) -> Error {
        let image = images.last().map_or("", |&index| self.images[index].name()).to_owned();
        let wishes: Vec<&Wanted> =
            images.iter().flat_map(|&index| &self.images[index].wishes.relations).collect();
        match failure {
            Failure::NotFound { wanted, name, suggestion } => Error::NotFound {
                image,
                package: name,
                source_code: wishes[wanted].source.clone(),
                span: wishes[wanted].span,
                help: match suggestion {
                    Some(suggestion) => format!("did you mean `{suggestion}`?"),
                    None => "check the spelling, and that a repository of the root image offers \
                             it (`components`, `suite`)"
                        .to_owned(),
                },
            },
            Failure::NoVersion { wanted, available } => Error::NoVersion {
                image,
                text: wishes[wanted].text.clone(),
                source_code: wishes[wanted].source.clone(),
                span: wishes[wanted].span,
                help: format!("the repositories have {}", available.join(", ")),
            },
            Failure::Unsatisfiable { wanted, explanation } => {
                let involved: Vec<&Wanted> = wanted.iter().map(|&index| wishes[index]).collect();
                let file = involved.first().map(|first| &first.source);
                let labels = involved
                    .iter()
                    .filter(|wish| file.is_some_and(|file| file.name() == wish.source.name()))
                    .map(|wish| {
                        LabeledSpan::new_with_span(Some("wanted here".to_owned()), wish.span)
                    })
                    .collect();
                Error::Unsatisfiable { image, explanation, source_code: file.cloned(), labels }
            }
        }
    }

    fn locked(&self, resolved: &BTreeMap<String, Resolved>) -> BTreeMap<String, LockedImage> {
        let lock = |image: &Image<'_>| {
            let own = &resolved[image.name()].own;
            let packages = own.iter().map(|&id| self.locked_package(image, id)).collect();
            (image.name().to_owned(), LockedImage { wants: image.wants, packages })
        };
        self.images.iter().map(lock).collect()
    }

    fn locked_package(&self, image: &Image<'_>, id: PackageId) -> LockedPackage {
        let package = self.universes[image.root].package(id);
        // What is not on offer any more was so when it was locked.
        let snapshot = self.previous.filter(|_| package.departed).map(|previous| {
            let locked = previous.images.get(image.name()).and_then(|locked| {
                locked.packages.iter().find(|locked| locked.name == package.name)
            });
            let own = locked.and_then(|locked| locked.snapshot.clone());
            own.unwrap_or_else(|| previous.snapshot.clone())
        });
        LockedPackage {
            name: package.name.to_owned(),
            version: package.version.to_owned(),
            architecture: package.architecture.to_owned(),
            repository: image.wishes.debian.repositories[package.repository].name.clone(),
            path: package.path.to_owned(),
            size: package.size,
            sha256: package.sha256,
            snapshot,
        }
    }
}
