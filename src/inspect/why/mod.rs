//! Why something is in an image: which definition asked for a package, or by which dependencies it came; and
//! what put a path there.

mod package;
mod path;
mod relations;

use schemars::JsonSchema;
use serde::Serialize;

use super::image::{Image, Inspector, Layer};
use super::tree::Tree;
use super::{Error, Ownership};
use crate::artifact::name::Format;
use crate::build::{LockedImage, LockedPlan, LockedRole, Trust};
use crate::definition::{Place, Project};
use crate::render::RenderedLayer;
use crate::store::Store;

pub use package::{Asked, Chain, PackageReason, Step};
pub use path::{Claim, Command, PathReason, SourceFile, Upstream};

/// Where something can be that a role has: in what containers and virtual machines share, in what a disk has
/// besides, in the image that a disk boots with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Templates and disks.
    Image,
    /// Disks only.
    Disk,
    /// The image that disks boot with. Guests see nothing of it but its kernel's modules.
    Boot,
}

impl Part {
    /// Where that is, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Image => "in templates and disks",
            Self::Disk => "in disks only",
            Self::Boot => "in the image that disks boot with",
        }
    }
}

/// What a question is about.
struct About {
    role: String,
    site: Option<String>,
}

/// A role, and what is known of how it came to be.
pub struct Role<'a> {
    inspector: &'a Inspector<'a>,
    store: &'a Store,
    project: &'a Project,
    locked: &'a LockedRole,
    trust: &'a dyn Trust,
}

/// One part of a role.
struct PartOf<'a> {
    part: Part,
    /// The definitions, root first.
    images: Vec<&'a LockedImage>,
    /// The relations that they ask for, where each stands, and by which definition.
    asked: Vec<Asked>,
    /// Whether every essential package is wanted, and where that stands.
    essential: Option<Asked>,
    architecture: &'a str,
    rendered: Vec<&'a RenderedLayer>,
}

impl<'a> Role<'a> {
    /// `locked`, a role of `project`.
    pub fn new(
        inspector: &'a Inspector<'a>,
        store: &'a Store,
        project: &'a Project,
        locked: &'a LockedRole,
        trust: &'a dyn Trust,
    ) -> Self {
        Self { inspector, store, project, locked, trust }
    }

    /// Why the role has the package `name`.
    ///
    /// # Errors
    /// It has none; or what its packages depend on is not known here.
    pub fn package(&self, name: &str) -> Result<PackageReason, Error> {
        let parts = self.parts();
        let part = parts.iter().find(|part| part.has(name));
        let part = match part {
            Some(part) => part,
            // Perhaps something else provides it, which only the packages themselves tell.
            None => return Err(self.no_package(name, &parts)),
        };
        let image = self.image(part.part)?;
        let texts = relations::texts(self.store, part, &image)?;
        package::reason(&self.about(), part, name, &texts)
    }

    /// What put `path` there, and what it replaced.
    ///
    /// # Errors
    /// It is not there; or the role was not built here and no definition has the path.
    pub fn path(&self, path: &str) -> Result<PathReason, Error> {
        let plan = &self.locked.plan;
        let about = self.about();
        let parts = self.parts();
        let mut unbuilt = Vec::new();
        let mut close = None;
        for part in &parts {
            let image = self.image(part.part)?;
            let Some(archives) = &image.archives else {
                unbuilt.push(part.part);
                continue;
            };
            let tree = Tree::new(archives)?;
            let owners = Ownership::read(&tree)?;
            let layers: Vec<&Layer> = image.layers.iter().collect();
            if let Some(found) = path::reason(&about, part, path, &tree, &layers, &owners) {
                return Ok(found);
            }
            close = close.or_else(|| path::closest(&tree, path));
        }
        if let Some(part) = unbuilt.first() {
            let defined = parts.iter().find_map(|part| path::defined(&about, part, path));
            return defined.ok_or_else(|| Error::NotBuilt {
                role: about.role,
                wanted: match part {
                    Part::Image => format!("what put {path} there"),
                    _ => format!("whether {path} is {}; it is nowhere else", part.words()),
                },
            });
        }
        let help = match path::state(plan, path) {
            Some(state) => state,
            None => close.unwrap_or_else(|| "a path begins at the root of the image".to_owned()),
        };
        Err(Error::NoPath { path: path.to_owned(), role: about.role, help })
    }

    fn about(&self) -> About {
        let site = self.locked.plan.plan.site.as_ref();
        let site = site.map(|site| site.name.to_string());
        About { role: self.locked.plan.role().to_owned(), site }
    }

    /// The image that has a part, as far as it was built.
    fn image(&self, part: Part) -> Result<Image, Error> {
        let format = match part {
            Part::Image => Format::LxcTemplate,
            Part::Disk | Part::Boot => Format::Qcow2,
        };
        let role = self.locked.plan.role().to_owned();
        let mut image = self.inspector.role(role, self.locked, format, self.trust)?;
        if part == Part::Boot {
            image.layers = std::mem::take(&mut image.boot);
            image.archives = self.inspector.open(&image.layers)?;
        }
        Ok(image)
    }

    fn parts(&self) -> Vec<PartOf<'a>> {
        let plan = &self.locked.plan;
        let mut parts = vec![self.part(Part::Image, plan, None)];
        if let Some(disk) = &self.locked.disk {
            let machine = (&disk.machine.image, &disk.machine.rendered, &disk.machine.plan);
            parts.push(self.part(Part::Disk, plan, Some(machine)));
            parts.push(self.part(Part::Boot, &disk.boot, None));
        }
        parts
    }

    fn part(
        &self,
        part: Part,
        plan: &'a LockedPlan,
        more: Option<(&'a LockedImage, &'a RenderedLayer, &'a crate::definition::Plan)>,
    ) -> PartOf<'a> {
        let settled = more.map_or(&plan.plan, |(_, _, settled)| settled);
        let asked = settled.layers.iter().flat_map(|layer| {
            layer.packages.install.iter().map(|relation| Asked {
                image: layer.image.to_string(),
                place: relation.place.to_string(),
                text: relation.text.clone(),
            })
        });
        let root = settled.layers.first().filter(|layer| layer.packages.essential);
        let essential = root.and_then(|layer| {
            let image = self.project.image(layer.image.as_str()).ok()?;
            let file = image.place.source();
            let whole = Place::new(file.clone(), 0..file.inner().len());
            let place = whole.find_within("essential").unwrap_or(whole);
            let (image, place) = (layer.image.to_string(), place.to_string());
            Some(Asked { image, place, text: "essential = true".to_owned() })
        });
        PartOf {
            part,
            images: plan.images.iter().chain(more.map(|(image, ..)| image)).collect(),
            asked: asked.collect(),
            essential,
            architecture: settled.debian.architecture.as_str(),
            rendered: plan.rendered.iter().chain(more.map(|(_, rendered, _)| rendered)).collect(),
        }
    }

    fn no_package(&self, name: &str, parts: &[PartOf<'_>]) -> Error {
        let role = self.locked.plan.role().to_owned();
        let provided = parts.iter().find_map(|part| {
            let image = self.image(part.part).ok()?;
            let texts = relations::texts(self.store, part, &image).ok()?;
            package::providers(part, name, &texts)
        });
        let excluded = || {
            let layers = &self.locked.plan.plan.layers;
            let mut excluded = layers.iter().flat_map(|layer| &layer.packages.exclude);
            let (_, place) = excluded.find(|(excluded, _)| excluded.as_str() == name)?;
            Some(format!("it is excluded at {place}"))
        };
        let names = parts.iter().flat_map(PartOf::names);
        let help = provided
            .or_else(excluded)
            .or_else(|| crate::definition::did_you_mean(name, names))
            .unwrap_or_else(|| "a path begins with a slash".to_owned());
        Error::NoPackage { name: name.to_owned(), role, help }
    }
}

impl PartOf<'_> {
    fn names(&self) -> impl Iterator<Item = &str> {
        let packages = self.images.iter().flat_map(|image| &image.packages);
        packages.map(|pinned| pinned.package.name.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.names().any(|one| one == name)
    }
}

#[cfg(test)]
mod tests;
