//! The resolution of all images, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::resolve::{Image, Offer, Offers, Update};
use super::{DebianSettings, Error, Lock, LockedImage, LockedPackage, Repository, Wanted};
use crate::debian::packages::{Departed, Origin, Package, PackageId, Universe};
use crate::debian::relation::Relation;
use crate::debian::resolve::{self, Failure, Request};
use crate::debian::version;

/// What is known while resolving.
pub(super) struct Session<'a> {
    images: Vec<Image<'a>>,
    /// What is on offer to the images that name repositories, and to those on top of them.
    universes: BTreeMap<&'a str, Universe<'a>>,
    previous: Option<&'a Lock>,
    update: &'a Update,
    /// Packages whose locked version need not stay, apart from what `update` says.
    released: BTreeSet<String>,
}

/// The packages of one image.
struct Resolved<'a> {
    /// Those that it has and its parent has not, sorted by name.
    own: Vec<PackageId>,
    /// Those of its ancestors and its own.
    all: Vec<PackageId>,
    /// Whether they are just those of the previous lock.
    kept: bool,
    /// Whether the previous lock has the same for it and its ancestors, however that came about.
    same: bool,
    /// Where its ids come from.
    source: &'a str,
}

impl<'a> Session<'a> {
    pub fn new(
        images: Vec<Image<'a>>,
        offers: &'a Offers<'a>,
        previous: Option<&'a Lock>,
        update: &'a Update,
    ) -> Result<Self, Error> {
        let mut universes: BTreeMap<&str, Universe<'a>> = BTreeMap::new();
        let mut sources: BTreeMap<&str, &str> = BTreeMap::new();
        for image in &images {
            sources.insert(&image.wishes.image, image.source);
            let Some(offer) = offers.get(image.wishes.image.as_str()) else { continue };
            let parent = image.wishes.parent.as_deref().and_then(|parent| sources.get(parent));
            let below = parent.and_then(|source| universes.get(source));
            let mut universe = below.cloned().unwrap_or_default();
            add_offer(&mut universe, image, offer)?;
            universes.insert(image.source, universe);
        }
        Ok(Self { images, universes, previous, update, released: BTreeSet::new() })
    }

    /// Resolves all images. Where a child cannot be had on top of what the lock says about its
    /// parents, those packages of the parents that stand in the way are released, and everything
    /// is done once more.
    pub fn run(&mut self) -> Result<BTreeMap<String, LockedImage>, Error> {
        'again: loop {
            let mut resolved: BTreeMap<String, Resolved<'a>> = BTreeMap::new();
            for index in 0..self.images.len() {
                // Kept as they are, or left out: nothing is known about what they could have.
                if !self.images[index].usable {
                    continue;
                }
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
        parent: Option<&Resolved<'a>>,
    ) -> Result<Resolved<'a>, Failure> {
        let inherited = parent.map_or_else(Vec::new, |parent| self.inherit(index, parent));
        let source = self.images[index].source;
        let same_below = parent.is_none_or(|parent| parent.same);
        if parent.is_none_or(|parent| parent.kept)
            && let Some(own) = self.kept(index)
        {
            let all = [inherited, own.clone()].concat();
            return Ok(Resolved { own, all, kept: true, same: same_below, source });
        }
        let image = &self.images[index];
        let own = resolve::resolve(
            &self.universes[image.source],
            &Request {
                architecture: &image.wishes.debian.architecture,
                wanted: &image.relations,
                essential: image.wishes.essential,
                excluded: &image.excluded,
                fixed: &inherited,
                preferred: &self.preferred(&[index]),
            },
        )?;
        let same = same_below && self.is_as_locked(index, &own);
        let all = [inherited, own.clone()].concat();
        Ok(Resolved { own, all, kept: false, same, source })
    }

    /// The packages of `parent` as those know them who see more repositories than it.
    fn inherit(&mut self, index: usize, parent: &Resolved<'a>) -> Vec<PackageId> {
        let source = self.images[index].source;
        if source == parent.source {
            return parent.all.clone();
        }
        let below = &self.universes[parent.source];
        let packages: Vec<Departed<'a>> =
            parent.all.iter().map(|&id| departed(below.package(id))).collect();
        let Some(universe) = self.universes.get_mut(source) else { return Vec::new() };
        packages.into_iter().map(|package| universe.add_departed(package)).collect()
    }

    /// Whether the previous lock has just the packages `own` for an image.
    fn is_as_locked(&self, index: usize, own: &[PackageId]) -> bool {
        let universe = &self.universes[self.images[index].source];
        self.locked_image(index).is_some_and(|locked| {
            locked.packages.len() == own.len()
                && locked.packages.iter().zip(own).all(|(locked, &id)| {
                    let package = universe.package(id);
                    locked.name == package.name
                        && locked.version == package.version
                        && locked.sha256 == package.sha256
                })
        })
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
        let universe = &self.universes[image.source];
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
        let universe = self.universes.get_mut(image.source)?;
        let add = |package: &'a LockedPackage| {
            let is_its = |repository: &Repository| repository.name == package.repository;
            Some(universe.add_departed(Departed {
                name: &package.name,
                version: &package.version,
                architecture: &package.architecture,
                origin: match &package.source {
                    Some(_) => Origin::Source,
                    None => Origin::Repository(repositories.iter().position(is_its)?),
                },
                path: package.source.as_ref().unwrap_or(&package.path),
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
        let universe = &self.universes[self.images[index].source];
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
        let image = images.last().map_or("", |&index| self.images[index].name());
        let wishes: Vec<&Wanted> =
            images.iter().flat_map(|&index| &self.images[index].wishes.relations).collect();
        Error::unresolved(image, &wishes, failure)
    }

    fn locked(&self, resolved: &BTreeMap<String, Resolved<'a>>) -> BTreeMap<String, LockedImage> {
        let mut locked: BTreeMap<String, LockedImage> = BTreeMap::new();
        // Images that the previous lock has just like this one.
        let mut same: BTreeSet<&str> = BTreeSet::new();
        for (index, image) in self.images.iter().enumerate() {
            let parent = image.wishes.parent.as_deref();
            let as_it_was = match resolved.get(image.name()) {
                Some(found) => {
                    let packages = found.own.iter().map(|&id| self.locked_package(image, id));
                    let packages = packages.collect();
                    let now = LockedImage {
                        wants: image.wants,
                        packages,
                        sources: image.wishes.sources.clone(),
                    };
                    locked.insert(image.name().to_owned(), now);
                    found.same
                }
                None if parent.is_none_or(|parent| same.contains(parent)) => {
                    let before = self.locked_image(index).map(|before| self.of_before(before));
                    // Sources take no resolving, so they are always those that the definition has.
                    let before = before.map(|before| LockedImage {
                        sources: image.wishes.sources.clone(),
                        ..before
                    });
                    let is_there = before.is_some();
                    locked.extend(before.map(|before| (image.name().to_owned(), before)));
                    is_there
                }
                None => false,
            };
            if as_it_was {
                same.insert(&image.wishes.image);
            }
        }
        locked
    }

    /// A part of the previous lock, whose packages may have left their repositories since.
    fn of_before(&self, image: &LockedImage) -> LockedImage {
        let mut image = image.clone();
        let moment = self.previous.map(|previous| &previous.snapshot);
        for package in image.packages.iter_mut().filter(|package| package.snapshot.is_none()) {
            package.snapshot = moment.cloned();
        }
        image
    }

    fn locked_package(&self, image: &Image<'_>, id: PackageId) -> LockedPackage {
        let package = self.universes[image.source].package(id);
        // What is not on offer any more was so when it was locked.
        let snapshot = self.previous.filter(|_| package.departed).map(|previous| {
            let locked = previous.images.get(image.name()).and_then(|locked| {
                locked.packages.iter().find(|locked| locked.name == package.name)
            });
            let own = locked.and_then(|locked| locked.snapshot.clone());
            own.unwrap_or_else(|| previous.snapshot.clone())
        });
        let (repository, path, source) = match package.origin {
            Origin::Repository(number) => {
                let name = image.wishes.debian.repositories[number].name.clone();
                (name, package.path.to_owned(), None)
            }
            Origin::Source => (String::new(), String::new(), Some(package.path.to_owned())),
        };
        LockedPackage {
            name: package.name.to_owned(),
            version: package.version.to_owned(),
            architecture: package.architecture.to_owned(),
            repository,
            path,
            source,
            size: package.size,
            sha256: package.sha256,
            snapshot,
        }
    }
}

/// Adds what `image` itself brings: the packages that it names by URL, then what its repositories have.
fn add_offer<'a>(
    universe: &mut Universe<'a>,
    image: &Image<'_>,
    offer: &'a Offer,
) -> Result<(), Error> {
    for (entry, file) in offer.files.iter().zip(&image.wishes.files) {
        let wrong = |source| Error::Packages { repository: file.name.clone(), source };
        universe.add_file(entry).map_err(wrong)?;
    }
    let DebianSettings { architecture, repositories } = &image.wishes.debian;
    for (index, contents) in (image.wishes.first_own()..).zip(&offer.repositories) {
        let Some(Repository { name, packages, .. }) = repositories.get(index) else { break };
        for text in &contents.indexes {
            universe
                .add(index, text, architecture, packages)
                .map_err(|source| Error::Packages { repository: name.clone(), source })?;
        }
    }
    Ok(())
}

/// What makes a package the same in every universe.
fn departed<'a>(package: &Package<'a>) -> Departed<'a> {
    let &Package { name, version, architecture, origin, path, size, sha256, .. } = package;
    Departed { name, version, architecture, origin, path, size, sha256 }
}
