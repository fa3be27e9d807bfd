//! Signing an artifact: the documents beside it, the list of all its files, and the signature of that list.

use std::io;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Serialize;

use super::manifest;
use super::{Finding, Verdict};
use crate::artifact::manifest::Manifest;
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::inspect::bill::{Bill, cyclonedx, spdx};
use crate::inspect::provenance::{Inputs, Statement};
use crate::inspect::{Error, Inspector, document};
use crate::signature::files::{DOCUMENTS, Files, write};
use crate::signature::{self, Signer, Sums};
use crate::store::Store;

/// What was signed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Signed {
    /// The artifact.
    pub artifact: PathBuf,
    /// The digest of its image.
    pub image: Digest,
    /// Its SHA-256.
    pub sha256: Digest,
    /// The list of files that was signed.
    pub sums: PathBuf,
    /// The signature.
    pub signature: PathBuf,
    /// When.
    pub signed: Moment,
    /// Whose key it was: of a certificate its names, with the kind and the fingerprint of the key.
    pub key: String,
}

/// Why an artifact is not signed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum SignError {
    /// The artifact and its manifest are not what a build has written.
    #[error("{} is not signed: {why}", path.display())]
    #[diagnostic(help("build it again, and sign that"))]
    Unfit {
        /// The artifact.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The documents cannot be made.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Documents(#[from] Error),
    /// The key does not sign.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Key(#[from] signature::Error),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    #[diagnostic(help(
        "the files that are signed lie beside the artifact: let imgbuild write there"
    ))]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The bills of materials of the image of `manifest`, whose layers are in `store`: as SPDX and as CycloneDX.
///
/// # Errors
/// A layer is not there, or cannot be read.
pub(super) fn documents(
    inspector: &Inspector<'_>,
    store: &Store,
    manifest: Manifest,
) -> Result<[String; 2], Error> {
    let bill = Bill::new(inspector, store, manifest)?;
    Ok([document(&spdx::document(&bill)), document(&cyclonedx::document(&bill))])
}

/// Signs the artifact of `files` by `signer` at `now`, and writes beside it what that takes. Its layers have to be in
/// `store`. `inputs` gives what the project has of them.
///
/// # Errors
/// [`SignError`]; what `inputs` fails with. What was written by then is refused by whoever looks at it, or was there before.
pub fn sign<E: From<SignError>>(
    files: &Files,
    store: &Store,
    signer: &Signer,
    now: Moment,
    inputs: impl FnOnce(&Manifest) -> Result<Option<Inputs>, E>,
) -> Result<Signed, E> {
    let mut verdict = Verdict::new(files.artifact());
    let read = manifest::read(files, &mut verdict);
    let unfit = |why: String| SignError::Unfit { path: files.artifact(), why };
    if let Some(check) = verdict.checks.iter().find(|check| check.result == Finding::Refused) {
        return Err(unfit(check.text.clone()).into());
    }
    let (Some((manifest, text)), Some(sha256)) = (read, verdict.sha256) else {
        return Err(unfit("it cannot be read".to_owned()).into());
    };
    if manifest.to_json().as_bytes() != text {
        return Err(unfit("another version of imgbuild wrote its manifest".to_owned()).into());
    }
    let image = manifest.digest;
    let inputs = inputs(&manifest)?;
    let inspector = Inspector::new(store);
    let bill = Bill::new(&inspector, store, manifest).map_err(SignError::from)?;
    let texts = [
        document(&spdx::document(&bill)),
        document(&cyclonedx::document(&bill)),
        document(&Statement::of(&bill, inputs)),
    ];
    let digests = [sha256, Digest::of(&text)].into_iter().chain(texts.iter().map(Digest::of));
    let sums =
        Sums { image, signed: now, files: files.signed_names().into_iter().zip(digests).collect() };
    let sums = sums.to_string();
    // Before anything is written: the key may be somewhere else.
    let signature = signer.sign(sums.as_bytes()).map_err(SignError::from)?;
    let paths = DOCUMENTS.map(|ending| files.path(ending)).into_iter().zip(&texts);
    let last = [(files.sums(), &sums), (files.signature(), &signature)];
    for (path, text) in paths.chain(last) {
        write(&path, text).map_err(|source| SignError::Write { path, source })?;
    }
    Ok(Signed {
        artifact: files.artifact(),
        image,
        sha256,
        sums: files.sums(),
        signature: files.signature(),
        signed: now,
        key: signer.name(),
    })
}
