//! What keeps a layer from being had from a registry, or given to it, and what to do about that.

use std::sync::atomic::Ordering;

use miette::Diagnostic;

use super::RegistryLayers;
use super::document::layer_tag;
use crate::build::{LayerRecord, SharedError};
use crate::digest::Digest;
use crate::progress::{Event, Progress};
use crate::registry::{self, Which};
use crate::signature;

/// Why a layer is not had from a registry.
#[derive(Debug)]
pub(super) enum Trouble {
    Registry(registry::Error),
    Signature(signature::Error),
    Shared(SharedError),
}

impl From<registry::Error> for Trouble {
    fn from(error: registry::Error) -> Self {
        Self::Registry(error)
    }
}

impl From<signature::Error> for Trouble {
    fn from(error: signature::Error) -> Self {
        Self::Signature(error)
    }
}

impl From<SharedError> for Trouble {
    fn from(error: SharedError) -> Self {
        Self::Shared(error)
    }
}

impl From<crate::store::Error> for Trouble {
    fn from(error: crate::store::Error) -> Self {
        Self::Registry(error.into())
    }
}

impl RegistryLayers {
    /// Gives up a registry that cannot be reached, or ends with what else is wrong.
    pub(super) fn without(
        &self,
        trouble: Trouble,
        progress: &dyn Progress,
    ) -> Result<(), SharedError> {
        match trouble {
            Trouble::Registry(error) if error.is_transient() => {
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    let warning = format!("layers are not shared from here on: {error}");
                    progress.event(Event::Warning(warning));
                }
                Ok(())
            }
            Trouble::Registry(error) => Err(shared(&error)),
            Trouble::Signature(error) => Err(shared(&error)),
            Trouble::Shared(error) => Err(error),
        }
    }

    /// The layer of `key`, as it is called in messages.
    pub(super) fn reference(&self, key: &Digest) -> impl std::fmt::Display {
        self.repository.location().with(Which::Tag(layer_tag(key)))
    }

    pub(super) fn lie(&self, key: &Digest, why: String) -> SharedError {
        let reference = self.reference(key);
        SharedError {
            message: format!("`{reference}` is not what it should be: {why}"),
            help: "the registry, or somebody who may write there, is broken or hostile: nothing of it was \
                   used. Build without it (no `--layers-from`, no `--layers-to`), and delete the tag"
                .to_owned(),
        }
    }

    /// What the others would say of it, if it were given to them.
    pub(super) fn unfit(&self, label: &str, why: &str) -> SharedError {
        SharedError {
            message: format!("{label} is not given to the others, who would not trust it: {why}"),
            help: "name a key that may sign in IMGBUILD_SIGNING_KEY (docs/signatures.md); a certificate has to last as \
                   long as a build. What was built is kept: the same command goes on from here"
                .to_owned(),
        }
    }

    pub(super) fn differs(
        &self,
        label: &str,
        here: &LayerRecord,
        there: &LayerRecord,
    ) -> SharedError {
        SharedError {
            message: format!(
                "{label} was built here as {}, and elsewhere from the same inputs as {}",
                here.digest, there.digest
            ),
            help: format!(
                "one of the two machines is broken or hostile, or the layer is not reproducible: \
                 `imgbuild build --check` tells which paths differ. It stays in `{}` as it is",
                self.repository.location()
            ),
        }
    }
}

/// `error` with its causes, and what to do about it.
fn shared(error: &(impl Diagnostic + ?Sized)) -> SharedError {
    let help = error.help().map(|help| help.to_string()).unwrap_or_default();
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    let message = causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"));
    SharedError { message, help }
}
