//! What the next build would do.

use super::layers::{packages_inputs, run_inputs};
use super::{Change, LAYER, LayerKind, LayerRecord, LockedImage, LockedPlan, Past, files};
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

/// What the next build of `plan` would do, as far as can be said without building: on top of a layer that
/// must be built, the others are compared by everything but the layer below them.
pub fn pending(store: &Store, plan: &LockedPlan, past: &[Past]) -> Vec<Pending> {
    let mut below: Option<LayerRecord> = None;
    let mut certain = true;
    let mut result = Vec::new();
    let steps = plan.images.iter().flat_map(system_steps);
    let files = plan.rendered.iter().filter(|rendered| !rendered.entries.is_empty());
    let files =
        files.map(|rendered| (rendered.image.as_str(), LayerKind::Files, None, Some(rendered)));
    for (image, kind, locked, rendered) in steps.chain(files) {
        let before = past.iter().find(|past| past.image == image && past.kind == kind);
        let digest = match (certain, &below, before) {
            (true, below, _) => below.as_ref().map(|record| record.digest),
            _ => None,
        };
        let inputs = match (locked, rendered) {
            (Some(locked), _) if kind == LayerKind::Packages => {
                packages_inputs(locked, digest.as_ref())
            }
            (Some(locked), _) => run_inputs(locked, digest.as_ref()),
            (_, Some(rendered)) => files::inputs(rendered, digest.as_ref()),
            _ => continue,
        };
        let record: Option<LayerRecord> =
            certain.then(|| store.get_key(LAYER, &inputs.key())).flatten();
        let reasons = before.map(|before| inputs.changes_since(&before.inputs)).unwrap_or_default();
        let reused = record.is_some();
        let reasons = if reused { Vec::new() } else { reasons };
        result.push(Pending { image: image.to_owned(), kind, reused, reasons });
        certain = certain && reused;
        below = record;
    }
    result
}

type Planned<'a> = (&'a str, LayerKind, Option<&'a LockedImage>, Option<&'a RenderedLayer>);

fn system_steps(image: &LockedImage) -> impl Iterator<Item = Planned<'_>> {
    let name = image.name.as_str();
    let packages =
        (!image.packages.is_empty()).then_some((name, LayerKind::Packages, Some(image), None));
    let run = (!image.commands.is_empty()).then_some((name, LayerKind::Run, Some(image), None));
    packages.into_iter().chain(run)
}
