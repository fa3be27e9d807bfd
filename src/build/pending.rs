//! What the next build would do.

use std::collections::BTreeMap;

use super::layers::{command_inputs, packages_inputs};
use super::machine::disk_order;
use super::{
    Change, Known, LayerKind, LockedDisk, LockedImage, LockedPlan, LockedRole, Past, Supplied,
    files, sources,
};
use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::digest::Digest;
use crate::render::RenderedLayer;

/// What the next build would do with one layer.
#[derive(Clone, Debug, serde::Serialize, schemars::JsonSchema)]
pub struct Pending {
    /// The definition that it comes from.
    pub image: String,
    /// What it is made by.
    pub kind: LayerKind,
    /// Whether it is in the store.
    pub reused: bool,
    /// What has changed since the last build.
    pub reasons: Vec<Change>,
    /// The layer, if it is in the store.
    #[serde(skip)]
    pub digest: Option<Digest>,
}

/// What the next build of `role` would do with the `layers` that may be used, as far as can be said without building: on
/// top of a layer that must be built, the others are compared by everything but the layer below them.
pub fn pending(layers: Known<'_>, role: &LockedRole, past: &[Past]) -> Vec<Pending> {
    let known = |key: &Digest| layers.digest(key);
    let mut outlook = Outlook { known: &known, past, pending: Vec::new() };
    let system = outlook.system(&role.plan, Ground::default());
    outlook.files(&role.plan, system.clone());
    if let Some(disk) = &role.disk {
        outlook.machine(disk, system);
        // The boot image's base is most often the role's.
        let known = outlook.pending.len();
        outlook.boot(disk);
        let boot = outlook.pending.split_off(known);
        let is_role = |one: &Pending| role.plan.images.iter().any(|image| image.name == one.image);
        outlook.pending.extend(boot.into_iter().filter(|one| !is_role(one)));
    }
    outlook.pending
}

/// The layers that `role` has in `format`, lowest first, and those of the image that its disk boots with,
/// each as far as it is among the `layers` that may be used.
pub fn stack_of(layers: Known<'_>, role: &LockedRole, format: Format) -> [Vec<Pending>; 2] {
    let known = |key: &Digest| layers.digest(key);
    let mut outlook = Outlook { known: &known, past: &[], pending: Vec::new() };
    let system = outlook.system(&role.plan, Ground::default());
    outlook.files(&role.plan, system.clone());
    let layers = std::mem::take(&mut outlook.pending);
    let disk = role.disk.as_ref().filter(|_| format == Format::Qcow2);
    let Some(disk) = disk else { return [layers, Vec::new()] };
    outlook.machine(disk, system);
    let machine = std::mem::take(&mut outlook.pending);
    outlook.boot(disk);
    let place = |one: &'_ Pending| (one.image.clone(), one.kind);
    [disk_order(role.plan.role(), &layers, &machine, place), outlook.pending]
}

/// Whether an artifact is what the definitions say now: every layer of `role` has the key that a build
/// would give it today, and there are no others.
///
/// What was given for a source by hand, in place of what is still pinned, counts as what would be given again.
pub fn is_current(role: &LockedRole, manifest: &Manifest) -> bool {
    let given;
    let role = match manifest.unpinned.is_empty() {
        true => role,
        false => {
            given = give_again(role.clone(), manifest);
            &given
        }
    };
    if role.unpinned() != manifest.unpinned {
        return false;
    }
    let boot = manifest.disk.iter().flat_map(|disk| &disk.boot);
    let layers: BTreeMap<Digest, Digest> =
        manifest.layers.iter().chain(boot).map(|layer| (layer.key, layer.digest)).collect();
    let known = |key: &Digest| layers.get(key).copied();
    let mut outlook = Outlook { known: &known, past: &[], pending: Vec::new() };
    let system = outlook.system(&role.plan, Ground::default());
    outlook.files(&role.plan, system.clone());
    if manifest.artifact.format == Format::Qcow2 {
        let Some(disk) = &role.disk else { return false };
        outlook.machine(disk, system);
        let own = outlook.pending.len();
        outlook.boot(disk);
        let boot = manifest.disk.as_ref().map_or(0, |disk| disk.boot.len());
        if (own, outlook.pending.len() - own) != (manifest.layers.len(), boot) {
            return false;
        }
    } else if outlook.pending.len() != manifest.layers.len() {
        return false;
    }
    outlook.pending.iter().all(|layer| layer.reused)
}

/// Gives for the sources of `role` what was given for them when an artifact with `manifest` was built. Only
/// what is said to be unpinned there: a pin that has changed since makes another image.
fn give_again(mut role: LockedRole, manifest: &Manifest) -> LockedRole {
    for image in role.images_mut() {
        let name = image.name.clone();
        for pinned in image.sources.iter_mut().chain(&mut image.files) {
            let was = manifest.sources.iter().find(|source| {
                source.image == name && source.name == pinned.upstream.name.as_str()
            });
            let Some((was, digest)) = was.and_then(|was| Some((was, was.sha256?))) else {
                continue;
            };
            let given = Supplied { digest, is_directory: was.directory, size: 0, is_pinned: false };
            let before = pinned.supplied.replace(given);
            if !pinned.unpinned().is_some_and(|unpinned| manifest.unpinned.contains(&unpinned)) {
                pinned.supplied = before;
            }
        }
    }
    role
}

/// What lies below a layer that is looked at.
#[derive(Clone, Default)]
struct Ground {
    digest: Option<Digest>,
    /// Whether a layer below has to be built, so that its digest is not known yet.
    unknown: bool,
}

struct Outlook<'a> {
    /// The layer with this key, if there is one.
    known: &'a dyn Fn(&Digest) -> Option<Digest>,
    past: &'a [Past],
    pending: Vec<Pending>,
}

impl Outlook<'_> {
    fn system(&mut self, plan: &LockedPlan, ground: Ground) -> Ground {
        let steps = plan.images.iter().flat_map(system_steps);
        steps.fold(ground, |ground, (kind, image)| self.add_system(image, kind, ground))
    }

    fn files(&mut self, plan: &LockedPlan, ground: Ground) -> Ground {
        let rendered = plan.rendered.iter().filter(|rendered| !rendered.entries.is_empty());
        rendered.fold(ground, |ground, rendered| self.add_files(rendered, ground))
    }

    /// What the machine definition adds to the `system` of the role.
    fn machine(&mut self, disk: &LockedDisk, system: Ground) {
        let machine = &disk.machine;
        let ground = system_steps(&machine.image)
            .fold(system, |ground, (kind, image)| self.add_system(image, kind, ground));
        if !machine.rendered.entries.is_empty() {
            self.add_files(&machine.rendered, ground);
        }
    }

    fn boot(&mut self, disk: &LockedDisk) {
        let ground = self.system(&disk.boot, Ground::default());
        let ground = self.files(&disk.boot, ground);
        self.add_system(&disk.boot_image, LayerKind::Boot, ground);
    }

    fn add_system(&mut self, image: &LockedImage, kind: LayerKind, ground: Ground) -> Ground {
        self.add(&image.name, kind, ground, &|below| match kind {
            LayerKind::Packages => packages_inputs(image, below),
            LayerKind::Sources => sources::inputs(image, below),
            _ => command_inputs(image, kind, below),
        })
    }

    fn add_files(&mut self, rendered: &RenderedLayer, ground: Ground) -> Ground {
        let inputs = |below: Option<&_>| files::inputs(rendered, below);
        self.add(&rendered.image, LayerKind::Files, ground, &inputs)
    }

    fn add(
        &mut self,
        image: &str,
        kind: LayerKind,
        ground: Ground,
        inputs: &dyn Fn(Option<&Digest>) -> super::Inputs,
    ) -> Ground {
        let inputs = inputs(ground.digest.as_ref());
        let digest = (!ground.unknown).then(|| (self.known)(&inputs.key())).flatten();
        let before = self.past.iter().find(|past| past.image == image && past.kind == kind);
        let reasons = before.filter(|_| digest.is_none());
        let reasons = reasons.map(|before| inputs.changes_since(&before.inputs));
        self.pending.push(Pending {
            image: image.to_owned(),
            kind,
            reused: digest.is_some(),
            reasons: reasons.unwrap_or_default(),
            digest,
        });
        Ground { unknown: digest.is_none(), digest }
    }
}

fn system_steps(image: &LockedImage) -> impl Iterator<Item = (LayerKind, &LockedImage)> {
    let packages = (!image.packages.is_empty()).then_some((LayerKind::Packages, image));
    let sources = (!image.sources.is_empty()).then_some((LayerKind::Sources, image));
    let run = (!image.commands.is_empty()).then_some((LayerKind::Run, image));
    packages.into_iter().chain(sources).chain(run)
}
