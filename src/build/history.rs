//! Remembers how the last build of a role at a site went, for `imgbuild explain`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::plan::unpinned;
use super::{
    Builder, Change, Error, Inputs, Layer, LayerKind, LockedImage, LockedPlan, LockedRole,
};
use crate::digest::{Digest, Hasher};
use crate::store::{KeyKind, Store};

const HISTORY: KeyKind = KeyKind::new("history");

/// A layer as the last build had it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Past {
    /// The definition that it comes from.
    pub image: String,
    /// What it is made by.
    pub kind: LayerKind,
    /// What it was made of.
    pub inputs: Inputs,
    /// Its name.
    pub digest: Digest,
    /// Bytes of its archive.
    pub size: u64,
    /// Paths that it changes.
    pub entries: u64,
    /// How long it took to build, whenever that was.
    pub seconds: f64,
    /// Whether the last build found it in the store.
    pub reused: bool,
    /// What in it was given by hand and is not what the lock pins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpinned: Vec<String>,
    /// What had changed since the build before, if there was one.
    pub reasons: Option<Vec<Change>>,
}

/// The last build of `plan`, base first.
pub fn last_build(store: &Store, plan: &LockedPlan) -> Option<Vec<Past>> {
    store.get_key(HISTORY, &key(plan))
}

impl Builder<'_> {
    /// `before` is what was remembered when this build began.
    pub(super) fn remember(
        &self,
        role: &LockedRole,
        layers: &[Layer],
        before: Option<&[Past]>,
    ) -> Result<(), Error> {
        let past: Vec<Past> = layers.iter().map(|layer| past(role, layer, before)).collect();
        self.store.put_key(HISTORY, &key(&role.plan), &past)?;
        Ok(())
    }
}

fn past(role: &LockedRole, layer: &Layer, before: Option<&[Past]>) -> Past {
    let made_it =
        |image: &&LockedImage| layer.kind == LayerKind::Sources && image.name == layer.image;
    let mut same_place = before.into_iter().flatten();
    let before = same_place.find(|past| past.image == layer.image && past.kind == layer.kind);
    Past {
        image: layer.image.clone(),
        kind: layer.kind,
        inputs: layer.inputs.clone(),
        digest: layer.record.digest,
        size: layer.record.size,
        entries: layer.record.entries,
        seconds: layer.record.seconds,
        reused: layer.reused,
        unpinned: unpinned(role.images().filter(made_it)),
        reasons: before.map(|before| layer.inputs.changes_since(&before.inputs)),
    }
}

fn key(plan: &LockedPlan) -> Digest {
    let mut hasher = Hasher::new();
    let root = std::path::absolute(&plan.root).unwrap_or_else(|_| plan.root.clone());
    hasher.field(root.as_os_str().as_encoded_bytes());
    hasher.field(plan.role());
    hasher.field(plan.plan.site.as_ref().map_or("", |site| site.name.as_str()));
    hasher.finish()
}
