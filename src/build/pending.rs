//! What the next build would do.

use super::layers::{command_inputs, packages_inputs};
use super::{
    Change, LAYER, LayerKind, LayerRecord, LockedImage, LockedPlan, LockedRole, Past, files,
    sources,
};
use crate::render::RenderedLayer;
use crate::store::Store;

/// What the next build would do with one layer.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Pending {
    /// The definition that it comes from.
    pub image: String,
    /// What it is made by.
    pub kind: LayerKind,
    /// Whether it is in the store.
    pub reused: bool,
    /// What has changed since the last build.
    pub reasons: Vec<Change>,
}

/// What the next build of `role` would do, as far as can be said without building: on top of a layer that
/// must be built, the others are compared by everything but the layer below them.
pub fn pending(store: &Store, role: &LockedRole, past: &[Past]) -> Vec<Pending> {
    let mut outlook = Outlook { store, past, pending: Vec::new() };
    let system = outlook.system(&role.plan, Ground::default());
    outlook.files(&role.plan, system.clone());
    if let Some(disk) = &role.disk {
        let machine = &disk.machine;
        let ground = system_steps(&machine.image)
            .fold(system, |ground, (kind, image)| outlook.add_system(image, kind, ground));
        if !machine.rendered.entries.is_empty() {
            outlook.add_files(&machine.rendered, ground);
        }
        // The boot image's base is most often the role's.
        let known = outlook.pending.len();
        let ground = outlook.system(&disk.boot, Ground::default());
        let ground = outlook.files(&disk.boot, ground);
        outlook.add_system(&disk.boot_image, LayerKind::Boot, ground);
        let boot = outlook.pending.split_off(known);
        let is_role = |one: &Pending| role.plan.images.iter().any(|image| image.name == one.image);
        outlook.pending.extend(boot.into_iter().filter(|one| !is_role(one)));
    }
    outlook.pending
}

/// What lies below a layer that is looked at.
#[derive(Clone, Default)]
struct Ground {
    record: Option<LayerRecord>,
    /// Whether a layer below has to be built, so that its digest is not known yet.
    unknown: bool,
}

struct Outlook<'a> {
    store: &'a Store,
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
        inputs: &dyn Fn(Option<&crate::digest::Digest>) -> super::Inputs,
    ) -> Ground {
        let inputs = inputs(ground.record.as_ref().map(|record| &record.digest));
        let known = (!ground.unknown).then(|| self.store.get_key(LAYER, &inputs.key())).flatten();
        let record: Option<LayerRecord> = known;
        let before = self.past.iter().find(|past| past.image == image && past.kind == kind);
        let reasons = before.filter(|_| record.is_none());
        let reasons = reasons.map(|before| inputs.changes_since(&before.inputs));
        self.pending.push(Pending {
            image: image.to_owned(),
            kind,
            reused: record.is_some(),
            reasons: reasons.unwrap_or_default(),
        });
        Ground { unknown: record.is_none(), record }
    }
}

fn system_steps(image: &LockedImage) -> impl Iterator<Item = (LayerKind, &LockedImage)> {
    let packages = (!image.packages.is_empty()).then_some((LayerKind::Packages, image));
    let sources = (!image.sources.is_empty()).then_some((LayerKind::Sources, image));
    let run = (!image.commands.is_empty()).then_some((LayerKind::Run, image));
    packages.into_iter().chain(sources).chain(run)
}
