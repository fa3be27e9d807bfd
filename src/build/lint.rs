//! What the lints find in an image, and what its definitions say of that.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Builder, Error, Layer, stack};
use crate::artifact::lint::{self, Finding, Tolerated};
use crate::artifact::template;
use crate::definition::lint::{Rule, Used};
use crate::digest::Digest;
use crate::layer::archive::Archive;
use crate::layer::index::Merged;
use crate::store::{KeyKind, Store};

/// Findings of the lints of a layer.
const LAYER: KeyKind = KeyKind::new("lint");

/// Findings of the lints of an image, those of its layers included.
const IMAGE: KeyKind = KeyKind::new("findings");

impl Builder<'_> {
    /// What is tolerated in the image of `layers` with `state` as its volumes, where `rules` hold.
    ///
    /// # Errors
    /// There is anything in it that is not.
    pub(super) fn lint(
        &self,
        layers: &[Layer],
        state: &[PathBuf],
        rules: &[Rule],
    ) -> Result<Vec<Tolerated>, Error> {
        let findings = match known_findings(self.store, &digests(layers), state) {
            Some(findings) => findings,
            None => findings(self.store, &self.archives.open(layers)?, state)?,
        };
        Ok(lint::judge(rules, findings, &mut Used::default()).accept()?)
    }

    /// Whether it is known what the lints find, so that nothing need be read for it.
    pub(super) fn is_linted(&self, layers: &[Layer], state: &[PathBuf]) -> bool {
        known_findings(self.store, &digests(layers), state).is_some()
    }
}

/// What the lints find in the image of `archives` with `state` as its volumes, whatever anybody says of it.
/// It is kept, of each layer and of the whole.
///
/// # Errors
/// A layer cannot be read, or the store not written.
pub fn findings(
    store: &Store,
    archives: &[Arc<Archive>],
    state: &[PathBuf],
) -> Result<Vec<Finding>, Error> {
    let stack = stack(archives);
    let layers: Vec<Digest> = stack.iter().map(|archive| archive.digest).collect();
    if let Some(findings) = known_findings(store, &layers, state) {
        return Ok(findings);
    }
    let mut findings = Vec::new();
    for archive in &stack {
        let key = lint::layer_key(&archive.digest);
        let found = match store.get_key(LAYER, &key) {
            Some(found) => found,
            None => {
                let found = lint::lint_layer(archive)?;
                store.put_key(LAYER, &key, &found)?;
                found
            }
        };
        findings.extend(found);
    }
    let merged =
        Merged::new(stack.iter().map(|archive| &archive.index)).map_err(template::Error::Merge)?;
    findings.extend(lint::lint_tree(&lint::Tree::new(&stack, &merged), state)?);
    store.put_key(IMAGE, &lint::image_key(&layers, state), &findings)?;
    Ok(findings)
}

fn known_findings(store: &Store, layers: &[Digest], state: &[PathBuf]) -> Option<Vec<Finding>> {
    store.get_key(IMAGE, &lint::image_key(layers, state))
}

fn digests(layers: &[Layer]) -> Vec<Digest> {
    layers.iter().map(|layer| layer.record.digest).collect()
}
