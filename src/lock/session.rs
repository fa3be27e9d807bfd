//! The resolution of all images, one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::resolve::{Image, Repositories, Update};
use super::{Error, Lock, LockedImage, LockedPackage, Repository, Wanted};
use crate::debian::packages::{Departed, PackageId, Universe};
use crate::debian::relation::Relation;
use crate::debian::resolve::{self, Failure, Request};
use crate::debian::version;

/// What is known while resolving.
pub(super) struct Session<'a> {
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
    pub fn new(
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
    pub fn run(&mut self) -> Result<BTreeMap<String, LockedImage>, Error> {
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
            let is_its = |repository: &Repository| repository.name == package.repository;
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
        let image = images.last().map_or("", |&index| self.images[index].name());
        let wishes: Vec<&Wanted> =
            images.iter().flat_map(|&index| &self.images[index].wishes.relations).collect();
        Error::unresolved(image, &wishes, failure)
    }

    fn locked(&self, resolved: &BTreeMap<String, Resolved>) -> BTreeMap<String, LockedImage> {
        let lock = |image: &Image<'_>| {
            let own = &resolved[image.name()].own;
            let packages = own.iter().map(|&id| self.locked_package(image, id)).collect();
            (
                image.name().to_owned(),
                LockedImage { wants: image.wants, packages, sources: image.wishes.sources.clone() },
            )
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
