//! All definitions and overlays of one project.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::{fs, io};

use super::account::accounts;
use super::endpoint;
use super::error::{Error, Problem, Result};
use super::image::{Image, Machine};
use super::lint::{Rule, check_forbidden};
use super::name::{ImageName, SiteName};
use super::overlay::{self, Node, Overlay};
use super::place::{Place, refuse_links};
use super::stack::{self, Settings, check_chains, check_unique, settings};
use super::suggest::did_you_mean;

/// The definitions and overlays of a project, read and checked against each other.
#[derive(Clone, Debug)]
pub struct Project {
    root: PathBuf,
    images: BTreeMap<ImageName, Image>,
    overlays: BTreeMap<SiteName, Overlay>,
    pub(super) checked: Checked,
}

/// What the files say together. Complete only in a project without errors.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked {
    /// `[values]` of each image.
    pub(super) values: BTreeMap<ImageName, Settings>,
    /// `[images.X]` of each overlay.
    pub(super) overlays: SiteSettings,
    /// The nodes of each site, those of the overlays it extends included.
    pub(super) nodes: SiteNodes,
}

type SiteSettings = BTreeMap<SiteName, BTreeMap<ImageName, Settings>>;
type SiteNodes = BTreeMap<SiteName, Vec<Node>>;

impl Project {
    /// The directory at or above `start` that holds `images/`.
    ///
    /// # Errors
    ///
    /// [`Error::NoProject`] if there is none.
    pub fn find(start: &Path) -> Result<PathBuf> {
        start
            .ancestors()
            .find(|directory| directory.join("images").is_dir())
            .map(Path::to_owned)
            .ok_or_else(|| Error::NoProject { start: start.to_owned() })
    }

    /// Reads every `images/*/image.toml` and `overlays/*/overlay.toml` below `root`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the files, as far as it can be told apart, in one
    /// [`Error::Several`].
    pub fn load(root: &Path) -> Result<Self> {
        let mut errors = Vec::new();
        let images: BTreeMap<ImageName, Image> =
            read_all(root, "images", &mut errors, |name| Image::read(root, name))?;
        let overlays = if root.join("overlays").is_dir() {
            read_all(root, "overlays", &mut errors, |name| Overlay::read(root, name))?
        } else {
            BTreeMap::new()
        };
        // With a file missing from the picture, the others would be blamed for it.
        Error::collect((), errors)?;
        let checked = Checked::default();
        let project = Self { root: root.to_owned(), images, overlays, checked };
        Error::collect((), project.check_chains())?;
        let values = project.check_images()?;
        Error::collect((), project.check_machines())?;
        let (overlays, nodes) = project.check_overlays()?;
        Ok(Self { checked: Checked { values, overlays, nodes }, ..project })
    }

    /// The directory of the project.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// All definitions, by name.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.images.values()
    }

    /// The definitions that artifacts are made of, by name.
    pub fn roles(&self) -> impl Iterator<Item = &Image> {
        self.images().filter(|image| image.role)
    }

    /// All overlays, by name.
    pub fn sites(&self) -> impl Iterator<Item = &Overlay> {
        self.overlays.values()
    }

    /// The overlay called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSite`].
    pub fn site(&self, name: &str) -> Result<&Overlay> {
        self.overlays.get(name).ok_or_else(|| Error::UnknownSite {
            name: name.to_owned(),
            help: known(name, "sites", self.overlays.keys().map(SiteName::as_str)),
        })
    }

    /// The definition called `name`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownImage`].
    pub fn image(&self, name: &str) -> Result<&Image> {
        self.images.get(name).ok_or_else(|| Error::UnknownImage {
            name: name.to_owned(),
            help: known(name, "images", self.images.keys().map(ImageName::as_str)),
        })
    }

    /// The definitions that make up the image `name`, root first.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownImage`].
    pub fn stack(&self, name: &str) -> Result<Vec<&Image>> {
        Ok(stack::stack(&self.images, &self.image(name)?.name))
    }

    /// The machine definition that is laid on `role` to make a disk of it, if there is one. In a
    /// sound project there is at most one.
    pub fn machine_of(&self, role: &Image) -> Option<(&Image, &Machine)> {
        let stack = stack::stack(&self.images, &role.name);
        self.machines().find(|(image, _)| lies_on(image, &stack))
    }

    fn machines(&self) -> impl Iterator<Item = (&Image, &Machine)> {
        self.images.values().filter_map(|image| Some((image, image.machine.as_ref()?)))
    }

    /// The overlays that make up the site `name`, the outermost first.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSite`].
    pub fn overlays(&self, name: &str) -> Result<Vec<&Overlay>> {
        let site = self.site(name)?;
        let parent = |name: &SiteName| Some(&self.overlays.get(name)?.extends.as_ref()?.0);
        let names = stack::chain(&site.name, parent).unwrap_or_default();
        Ok(names.into_iter().rev().filter_map(|name| self.overlays.get(name)).collect())
    }

    /// The nodes of the site `name`.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSite`].
    pub fn nodes(&self, name: &str) -> Result<&[Node]> {
        let site = self.site(name)?;
        Ok(self.checked.nodes.get(&site.name).map_or(&[], Vec::as_slice))
    }

    fn check_chains(&self) -> Vec<Error> {
        let images = self.images.values().map(|image| (&image.name, image.extends.as_ref()));
        let overlays = self.overlays.values().map(|site| (&site.name, site.extends.as_ref()));
        let mut errors = check_chains(&images.collect(), Problem::UnknownImage);
        errors.extend(check_chains(&overlays.collect(), Problem::UnknownSite));
        errors
    }

    /// Checks each image against those below it. An image on a faulty one is passed over: it would
    /// only repeat the fault.
    fn check_images(&self) -> Result<BTreeMap<ImageName, Settings>> {
        let mut errors = Vec::new();
        let mut checked = BTreeMap::new();
        let mut stacks: Vec<Vec<&Image>> =
            self.images.keys().map(|name| stack::stack(&self.images, name)).collect();
        stacks.sort_by_key(Vec::len);
        let mut faulty: BTreeSet<&ImageName> = BTreeSet::new();
        for stack in stacks {
            let Some((image, below)) = stack.split_last() else { continue };
            if below.iter().any(|lower| faulty.contains(&lower.name)) {
                faulty.insert(&image.name);
                continue;
            }
            let known = errors.len();
            errors.extend(check_unique(&stack).err());
            errors.extend(accounts(&stack).err());
            errors.extend(endpoint::check(&stack));
            let rules: Vec<&[Rule]> = below.iter().map(|image| image.lints.as_slice()).collect();
            errors.extend(check_forbidden(&rules, &image.lints).err());
            let values = settings(below, &image.values, &self.images, &mut errors);
            checked.insert(image.name.clone(), values);
            if errors.len() > known {
                faulty.insert(&image.name);
            }
        }
        Error::collect(checked, errors)
    }

    /// Checks that disks have something to boot with, that of each role there is one, and that a
    /// machine definition agrees with every role it is laid on.
    fn check_machines(&self) -> Vec<Error> {
        let mut errors = Vec::new();
        for (image, machine) in self.machines() {
            errors.extend(self.check_machine(image, machine).err());
        }
        for role in self.roles() {
            let stack = stack::stack(&self.images, &role.name);
            let mut machines = self.machines().filter(|(image, _)| lies_on(image, &stack));
            let Some((first, _)) = machines.next() else { continue };
            if let Some((second, machine)) = machines.next() {
                let message = format!(
                    "`{}` and `{}` are both laid on `{}`, and a disk has only one",
                    first.name, second.name, role.name
                );
                errors.push(machine.place.error(Problem::Contradiction(message)));
                continue;
            }
            let stack: Vec<&Image> = stack.into_iter().chain([first]).collect();
            errors.extend(check_unique(&stack).err());
            errors.extend(accounts(&stack).err());
        }
        errors
    }

    fn check_machine(&self, image: &Image, machine: &Machine) -> Result<()> {
        let (boot, place) = &machine.boot;
        let Some(boot) = self.images.get(boot) else {
            return Err(self.unknown_image(boot, place));
        };
        if boot.boot.is_none() {
            let message = format!("`{}` is no boot image", boot.name);
            let help = format!("add [boot] to {}, or name another image", boot.place.file());
            return Err(place.error_with_help(Problem::Contradiction(message), Some(help)));
        }
        if image.extends.is_none() || image.role {
            let message = "a machine definition is laid on roles and is none itself".to_owned();
            let help = "let it extend what those roles stand on, and remove `role`".to_owned();
            return Err(machine.place.error_with_help(Problem::Contradiction(message), Some(help)));
        }
        if let Some(endpoint) = image.endpoints.values().next() {
            let message = "a machine definition has no endpoints".to_owned();
            let help = "the firewall is part of containers, too: move it to a role, or to the image that this \
                        one extends".to_owned();
            return Err(endpoint
                .place
                .error_with_help(Problem::Contradiction(message), Some(help)));
        }
        Ok(())
    }

    /// Checks the values of each overlay, and its nodes together with those it inherits.
    fn check_overlays(&self) -> Result<(SiteSettings, SiteNodes)> {
        let mut errors = Vec::new();
        let mut settings = SiteSettings::new();
        let mut nodes = SiteNodes::new();
        let mut faulty: BTreeSet<&SiteName> = BTreeSet::new();
        let mut chains: Vec<Vec<&Overlay>> = Vec::new();
        for overlay in self.overlays.values() {
            chains.push(self.overlays(overlay.name.as_str()).unwrap_or_default());
        }
        chains.sort_by_key(Vec::len);
        for chain in chains {
            let Some((overlay, below)) = chain.split_last() else { continue };
            let known = errors.len();
            settings.insert(overlay.name.clone(), self.check_values(overlay, &mut errors));
            errors.extend(self.check_files(overlay).err());
            if !below.iter().any(|lower| faulty.contains(&lower.name)) {
                match overlay::nodes(&chain, &self.images) {
                    Ok(of_site) => drop(nodes.insert(overlay.name.clone(), of_site)),
                    Err(error) => errors.push(error),
                }
            }
            if errors.len() > known {
                faulty.insert(&overlay.name);
            }
        }
        Error::collect((settings, nodes), errors)
    }

    fn check_values(
        &self,
        overlay: &Overlay,
        errors: &mut Vec<Error>,
    ) -> BTreeMap<ImageName, Settings> {
        let mut values = BTreeMap::new();
        for (name, (place, entries)) in &overlay.values {
            if self.images.contains_key(name) {
                let stack = stack::stack(&self.images, name);
                values.insert(name.clone(), settings(&stack, entries, &self.images, errors));
            } else {
                errors.push(self.unknown_image(name, place));
            }
        }
        values
    }

    /// Checks that every directory of `overlays/SITE/files` is for an image that exists; what
    /// stands in any other would be left out without a word.
    fn check_files(&self, overlay: &Overlay) -> Result<()> {
        let relative = Path::new("overlays").join(overlay.name.as_str()).join("files");
        refuse_links(&self.root, &relative)?;
        let path = self.root.join(&relative);
        let failed = |cause| Error::Read { path: path.clone(), cause };
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        let mut names = entries
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed)?;
        names.sort();
        let unknown = |name: &OsString| !self.images.contains_key(&*name.to_string_lossy());
        match names.into_iter().find(unknown) {
            None => Ok(()),
            Some(name) => {
                let images = self.images.keys().map(ImageName::as_str);
                let help = known(&name.to_string_lossy(), "images", images);
                Err(Error::FilesOfNoImage { path: relative.join(name), help })
            }
        }
    }

    fn unknown_image(&self, name: &ImageName, place: &Place) -> Error {
        let help = known(name.as_str(), "images", self.images.keys().map(ImageName::as_str));
        place.error_with_help(Problem::UnknownImage(name.to_string()), Some(help))
    }
}

/// Whether a machine definition extends an image of `stack`.
fn lies_on(machine: &Image, stack: &[&Image]) -> bool {
    let extends = machine.extends.as_ref().map(|(name, _)| name);
    stack.iter().any(|image| Some(&image.name) == extends)
}

/// `did you mean …?`, or else what there is.
pub(super) fn known<'a>(
    wrong: &str,
    what: &str,
    names: impl Iterator<Item = &'a str> + Clone,
) -> String {
    did_you_mean(wrong, names.clone()).unwrap_or_else(|| {
        let names: Vec<&str> = names.collect();
        match names.as_slice() {
            [] => format!("there are no {what} in this project"),
            names => format!("{what}: {}", names.join(", ")),
        }
    })
}

/// Reads one thing from each directory in `root/directory`. Files beside the directories, such as
/// a README, are nobody's business.
fn read_all<K: FromStr<Err: Display> + Ord + Clone, T>(
    root: &Path,
    directory: &str,
    errors: &mut Vec<Error>,
    read: impl Fn(K) -> Result<T>,
) -> Result<BTreeMap<K, T>> {
    let path = root.join(directory);
    let failed = |cause| Error::Read { path: path.clone(), cause };
    let mut names = Vec::new();
    for entry in fs::read_dir(&path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_dir() {
            names.push(entry.file_name());
        }
    }
    names.sort();
    let mut things = BTreeMap::new();
    for name in names {
        let parsed = name.to_str().unwrap_or_default().parse::<K>();
        match parsed {
            Err(expected) => errors.push(Error::DirectoryName {
                path: path.join(&name),
                reason: format!("expected {expected}"),
            }),
            Ok(name) => match read(name.clone()) {
                Ok(thing) => drop(things.insert(name, thing)),
                Err(error) => errors.push(error),
            },
        }
    }
    Ok(things)
}
