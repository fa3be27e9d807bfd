//! Layers that other machines have built, or are building.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, LayerRecord};
use crate::digest::Digest;
use crate::progress::Progress;
use crate::store::Store;

/// A layer that another machine has built, as the store remembers it: not what it is, but what was said of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Taken {
    /// The digest of its archive, which keeps it from being collected.
    pub digest: Digest,
    /// What was said of it, word for word: that is what is signed.
    pub said: String,
    /// The signature of that, if there is one.
    pub signature: Option<String>,
}

/// Who is asked whether layers that other machines have built may be used: each time, because who may sign changes
/// from project to project, from site to site, and from day to day.
pub trait Trust: Sync {
    /// What the layer of `key` is.
    ///
    /// # Errors
    /// Why it is not to be used.
    fn judge(&self, key: &Digest, taken: &Taken) -> Result<LayerRecord, String>;
}

/// What several machines share, so that each layer is built by one of them.
pub trait SharedLayers: Sync {
    /// The layer of `key`, brought into `store` and verified there. If nobody has it, this machine says that it
    /// builds it; if another one says so, this waits for it. `label` is what the user is told: `haproxy packages`.
    ///
    /// # Errors
    /// When what is shared is not what it should be, or access to it is refused. That it cannot be reached is
    /// none: everything can be built here.
    fn obtain<'a>(
        &'a self,
        key: &Digest,
        label: &str,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Obtained<'a>, SharedError>;
}

/// What [`SharedLayers::obtain`] comes to.
pub enum Obtained<'a> {
    /// The layer is in the store. What is said of it was judged, and is `record`.
    Layer {
        /// What it is.
        record: LayerRecord,
        /// What is said of it.
        taken: Taken,
    },
    /// It is to be built here.
    Build(Box<dyn Pledge + 'a>),
}

/// The word of this machine to build a layer. Others wait for it, until this is dropped.
pub trait Pledge {
    /// Gives the layer, whose archive is at `archive`, to the others.
    ///
    /// # Errors
    /// When access is refused, or others have another layer for the same inputs.
    fn keep(
        self: Box<Self>,
        record: &LayerRecord,
        archive: &Path,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<(), SharedError>;
}

/// Why layers cannot be shared.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
#[diagnostic(help("{help}"))]
pub struct SharedError {
    /// What is wrong, where, and why.
    pub message: String,
    /// What to do.
    pub help: String,
}

impl From<SharedError> for Error {
    fn from(error: SharedError) -> Self {
        Self::Shared(Box::new(error))
    }
}
