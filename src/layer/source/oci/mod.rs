//! A file or a directory of an OCI image, verified from its digest down.
//!
//! A digest names an index or a manifest, an index names manifests, a manifest names layers, each by the
//! digest and size of its content (OCI image specification, image-index.md, manifest.md, descriptor.md).
//! Docker's own forms of these, version 2 schema 2, have the same fields.

mod document;
mod layout;
mod pack;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

pub use layout::Layout;
pub use pack::{pack, unpack};

use super::Error;
use crate::digest::Digest;
use document::Document;

/// Most bytes of a manifest or index.
const DOCUMENT_LIMIT: u64 = crate::fetch::MOST_MANIFEST;

/// A blob that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length in bytes, if that is known.
    pub size: Option<u64>,
    /// Whether it is a manifest or an index, which registries keep apart from other blobs.
    pub is_manifest: bool,
}

impl Wanted {
    /// Where a registry has it, below the URL of its repository (OCI distribution specification,
    /// "Endpoints").
    pub fn address(&self) -> String {
        let kind = if self.is_manifest { "manifests" } else { "blobs" };
        format!("{kind}/sha256:{}", self.digest)
    }
}

/// Why there are no layers.
pub enum LayersError<E> {
    /// A blob cannot be had.
    Blob(E),
    /// The image is of no use.
    Image(Error),
}

/// The layers of the image `digest`, the lowest first. `get` gets blobs, whose digest and size it has compared.
///
/// # Errors
/// An error of `get`; or the image is not one for linux/amd64, or has what is no layer.
pub fn layers<E>(
    digest: &Digest,
    mut get: impl FnMut(&[Wanted]) -> Result<Vec<PathBuf>, E>,
) -> Result<Vec<PathBuf>, LayersError<E>> {
    let mut document = |digest: &Digest, size: Option<u64>| {
        let wanted = Wanted { digest: *digest, size, is_manifest: true };
        let paths = get(&[wanted]).map_err(LayersError::Blob)?;
        let path = paths.first().ok_or(LayersError::Image(Error::image("it has no manifest")))?;
        read(path).and_then(|bytes| document::parse(&bytes)).map_err(LayersError::Image)
    };
    let layers = match document(digest, None)? {
        Document::Manifest(layers) => layers,
        Document::Index(manifests) => {
            let chosen = document::choose(manifests).map_err(LayersError::Image)?;
            match document(&chosen.digest, Some(chosen.size))? {
                Document::Manifest(layers) => layers,
                Document::Index(_) => {
                    let problem = "its index names an index for linux/amd64, not a manifest";
                    return Err(LayersError::Image(Error::image(problem)));
                }
            }
        }
    };
    let wanted: Vec<Wanted> = layers
        .iter()
        .map(|layer| Wanted { digest: layer.digest, size: Some(layer.size), is_manifest: false })
        .collect();
    get(&wanted).map_err(LayersError::Blob)
}

/// The bytes of a manifest or index.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Error::image(format!(
            "its manifest has more than {} MiB",
            DOCUMENT_LIMIT >> 20
        )));
    }
    Ok(bytes)
}
