//! Builds a locked role: layer by layer, then the checks of the role's own daemons, then the artifacts.
//!
//! Layers of packages, sources and commands come first, from the base up; then the rendered files of all
//! definitions, also from the base up. So no value of a site ever invalidates a packages layer. A layer is
//! known by the digest of its [`Inputs`], which hold the digest of the layer below: where
//! the record of that key is in the store, the layer is reused; one of another machine, if whoever is asked still trusts it.

mod artifact;
mod checks;
mod disk;
mod error;
mod files;
mod history;
mod inputs;
mod known;
mod layers;
mod lint;
mod machine;
pub(crate) mod manifest;
mod obtain;
pub(crate) mod output;
mod package;
mod pending;
mod plan;
mod publish;
mod session;
mod shared;
mod sources;
mod supply;
mod template;
mod verify;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

pub use error::Error;
pub use history::{Past, last_build};
pub use inputs::{Change, Inputs};
pub use known::Known;
pub use lint::findings;
pub use package::Packages;
pub use pending::{Pending, is_current, pending, stack_of};
pub use plan::{
    Check, LockedDisk, LockedImage, LockedPlan, LockedRole, Machine, PinnedPackage, PinnedSource,
};
pub use publish::{Artifact, MANIFEST};
pub use shared::{Obtained, Pledge, SharedError, SharedLayers, Taken, Trust};
pub use supply::{Error as SupplyError, Supplied, Supplies};
pub use verify::{Difference, Verification};

pub use crate::artifact::manifest::LayerKind;
use crate::digest::Digest;
use crate::fetch::Fetcher;
use crate::layer::archive::{self, Archive};
use crate::layer::request::Accounts;
use crate::progress::Progress;
use crate::store::{KeyKind, Store};

/// Records of layers that were built here, by the digest of their inputs. The kind `layer` of earlier stores, in which
/// layers of others cannot be told from them, is not read.
pub const LAYER: KeyKind = KeyKind::new("built");

/// What is said of layers that were taken from other machines ([`Taken`]), by the digest of their inputs.
pub const TAKEN: KeyKind = KeyKind::new("taken");

/// What the store remembers of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The layer's name: the digest of its archive.
    pub digest: Digest,
    /// Bytes of its archive.
    pub size: u64,
    /// Paths that it changes.
    pub entries: u64,
    /// No file up to here is younger, in seconds since 1970.
    pub epoch: u64,
    /// Users and groups of the tree up to here.
    pub accounts: Accounts,
    /// How long it took to build.
    pub seconds: f64,
}

/// A layer of a stack, in the store.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The definition that it comes from.
    pub image: String,
    /// What it is made by.
    pub kind: LayerKind,
    /// Its key's inputs.
    pub inputs: Inputs,
    /// What the store remembers.
    pub record: LayerRecord,
    /// Its archive.
    pub archive: PathBuf,
    /// Whether it was there already.
    pub reused: bool,
}

impl Layer {
    /// The definition that it comes from, and what it is made by.
    fn place(&self) -> (String, LayerKind) {
        (self.image.clone(), self.kind)
    }
}

/// Builds layers and artifacts in a store.
pub struct Builder<'a> {
    /// Where layers are looked up and put.
    pub store: &'a Store,
    /// Where downloads are kept. Another store when building everything again to compare.
    pub downloads: &'a Store,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// Gets what is not there.
    pub fetcher: &'a Fetcher,
    /// Layers that other machines have built, if they are shared.
    pub shared: Option<&'a dyn SharedLayers>,
    /// Who is asked about those that are in the store already.
    pub trust: &'a dyn Trust,
    /// The role being built, for messages.
    pub role: String,
    /// The site that it is built for, for messages.
    pub site: Option<String>,
    /// Imgbuild itself, which is executed again as the sandbox.
    pub executable: PathBuf,
    /// What was read already.
    pub archives: Archives,
    /// Threads for each image.
    pub threads: usize,
    /// Whether to open a shell in the tree when a script fails.
    pub debug_shell: bool,
}

impl Builder<'_> {
    /// The layers that may be used.
    fn known(&self) -> Known<'_> {
        Known::new(self.store, self.trust)
    }
}

/// Archives that are open. Reading the index of one takes longer than most of what is asked of it.
#[derive(Default)]
pub struct Archives(Mutex<BTreeMap<Digest, Arc<Archive>>>);

impl Archives {
    /// The archives of `layers`, in their order.
    fn open(&self, layers: &[Layer]) -> Result<Vec<Arc<Archive>>, archive::Error> {
        layers.iter().map(|layer| self.open_one(layer)).collect()
    }

    fn open_one(&self, layer: &Layer) -> Result<Arc<Archive>, archive::Error> {
        let known = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(archive) = known().get(&layer.record.digest) {
            return Ok(Arc::clone(archive));
        }
        let archive = Arc::new(Archive::open(&layer.archive, layer.record.digest)?);
        known().insert(layer.record.digest, Arc::clone(&archive));
        Ok(archive)
    }
}

/// References to `archives`, as a stack of layers is passed on.
fn stack(archives: &[Arc<Archive>]) -> Vec<&Archive> {
    archives.iter().map(AsRef::as_ref).collect()
}
