//! Indexes and manifests.

use serde::Deserialize;

use super::super::Error;
use crate::digest::Digest;

/// What a blob is, and how its bytes are known (OCI image specification, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    media_type: String,
    #[serde(deserialize_with = "sha256")]
    pub digest: Digest,
    pub size: u64,
    platform: Option<Platform>,
}

/// What an image runs on (image-index.md), in Go's words.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// An index or a manifest.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Document {
    /// Manifests for several platforms.
    Index(Vec<Descriptor>),
    /// The layers of one image, the lowest first.
    Manifest(Vec<Descriptor>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: u64,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    layers: Option<Vec<Descriptor>>,
}

const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
/// What types of layers begin with; the rest says how they are compressed, as does their content.
const LAYERS: [&str; 4] = [
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
];

/// Only SHA-256 has to be known to everybody (descriptor.md, "Registered Algorithms").
fn sha256<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("sha256:");
    let digest = digits.and_then(|digits| digits.parse().ok());
    digest.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no SHA-256 digest")))
}

/// Reads an index or a manifest, whose bytes are verified.
pub(super) fn parse(bytes: &[u8]) -> Result<Document, Error> {
    let raw: Raw = serde_json::from_slice(bytes)
        .map_err(|error| Error::image(format!("its manifest is malformed: {error}")))?;
    if raw.schema_version != 2 {
        let version = raw.schema_version;
        return Err(Error::image(format!("its manifest is of version {version}, not 2")));
    }
    let is = |types: &[&str]| raw.media_type.as_deref().is_none_or(|it| types.contains(&it));
    match (raw.manifests, raw.layers) {
        (Some(manifests), None) if is(&INDEXES) => Ok(Document::Index(manifests)),
        (None, Some(layers)) if is(&MANIFESTS) => {
            let is_layer = |layer: &&Descriptor| {
                LAYERS.iter().any(|start| layer.media_type.starts_with(start))
            };
            match layers.iter().find(|layer| !is_layer(layer)) {
                Some(Descriptor { media_type, .. }) => {
                    let problem =
                        format!("it has a part of the type `{media_type}`, which is no layer");
                    Err(Error::image(problem))
                }
                None => Ok(Document::Manifest(layers)),
            }
        }
        // What can be read in two ways is read by somebody in the other one.
        (Some(_), Some(_)) => Err(Error::image("its manifest is an index as well")),
        _ => Err(Error::image("its digest is that of neither a manifest nor an index")),
    }
}

/// The only manifest for linux/amd64.
pub(super) fn choose(manifests: Vec<Descriptor>) -> Result<Descriptor, Error> {
    let is_ours = |manifest: &Descriptor| {
        manifest.platform.as_ref().is_some_and(|it| it.os == "linux" && it.architecture == "amd64")
    };
    let known: Vec<String> = manifests
        .iter()
        .filter_map(|manifest| manifest.platform.as_ref())
        .map(|platform| format!("{}/{}", platform.os, platform.architecture))
        .collect();
    let mut ours = manifests.into_iter().filter(is_ours);
    match (ours.next(), ours.next()) {
        (Some(manifest), None) => Ok(manifest),
        (Some(_), Some(_)) => {
            let problem = "its index has several manifests for linux/amd64: pin one of those";
            Err(Error::image(problem))
        }
        (None, _) if known.is_empty() => Err(Error::image("its index has nothing for linux/amd64")),
        (None, _) => {
            let problem =
                format!("its index has nothing for linux/amd64, only {}", known.join(", "));
            Err(Error::image(problem))
        }
    }
}
