//! What is in the registry: layers, and notes about who builds them.

use serde::{Deserialize, Serialize};

use super::claim::{Board, Note};
use crate::build::LayerRecord;
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::registry::{self, Descriptor, EMPTY_BYTES, MANIFEST, Manifest, Repository, Tag, Which};

/// The type of a layer.
pub const LAYER_TYPE: &str = "application/vnd.imgbuild.layer.v1";

/// The type of a note that says who builds a layer.
pub const CLAIM_TYPE: &str = "application/vnd.imgbuild.claim.v1";

/// The annotation with the record of a layer, as JSON: `{ "key", "layer" }`.
pub const RECORD: &str = "imgbuild.layer";

/// The annotation with the signature of that text (SSHSIG, in its armour).
pub const SIGNATURE: &str = "imgbuild.signature";

/// The annotation with a note, as JSON.
pub(crate) const NOTE: &str = "imgbuild.claim";

/// What the registry remembers of a layer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// The digest of everything that decides what it is.
    pub key: Digest,
    /// What a store remembers of it.
    pub layer: LayerRecord,
    /// When whoever has signed says that it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Moment>,
}

/// What a manifest tells of a layer.
#[derive(Debug)]
pub(super) struct Told {
    pub record: Record,
    /// The record as it stands there, which is what is signed.
    pub text: String,
    pub signature: Option<String>,
    pub blob: Descriptor,
}

pub(super) fn layer_tag(key: &Digest) -> Tag {
    tag("layer", key)
}

fn tag(kind: &str, key: &Digest) -> Tag {
    format!("{kind}-{key}").parse().expect("71 characters that a tag may have")
}

/// The manifest of a layer whose record is `text`.
pub(super) fn layer(text: String, signature: Option<String>, blob: Descriptor) -> Manifest {
    let mut manifest = Manifest::new(LAYER_TYPE, vec![blob]);
    manifest.annotations.insert(RECORD.to_owned(), text);
    let signature = signature.map(|text| (SIGNATURE.to_owned(), text));
    manifest.annotations.extend(signature);
    manifest
}

/// What the manifest `bytes` tells of a layer. An error says why it is none.
pub(super) fn read_layer(bytes: &[u8]) -> Result<Told, String> {
    let mut manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|error| format!("it is no manifest: {error}"))?;
    if manifest.artifact_type.as_deref() != Some(LAYER_TYPE) {
        return Err(format!("its type is not `{LAYER_TYPE}`"));
    }
    let Some(text) = manifest.annotations.remove(RECORD) else {
        return Err(format!("it has no annotation `{RECORD}`"));
    };
    let record: Record = serde_json::from_str(&text)
        .map_err(|error| format!("its annotation `{RECORD}` says nothing: {error}"))?;
    let [blob] = <[Descriptor; 1]>::try_from(manifest.layers)
        .map_err(|blobs| format!("it has {} blobs instead of one", blobs.len()))?;
    let signature = manifest.annotations.remove(SIGNATURE);
    Ok(Told { record, text, signature, blob })
}

/// Pushes the empty document, which manifests mention that have nothing to say of themselves.
pub(super) fn push_empty(repository: &Repository) -> Result<(), registry::Error> {
    repository.push_bytes(EMPTY_BYTES).map(drop)
}

/// Notes in a repository.
pub(super) struct Notes {
    repository: Repository,
    /// Whether the empty document is known to be there.
    has_empty: std::sync::OnceLock<()>,
}

impl Notes {
    pub fn new(repository: Repository) -> Self {
        Self { repository, has_empty: std::sync::OnceLock::new() }
    }
}

impl Board for Notes {
    type Error = super::Trouble;

    fn read(&self, key: &Digest) -> Result<Option<Note>, Self::Error> {
        let found = self.repository.manifest(&Which::Tag(tag("claim", key)))?;
        Ok(found.and_then(|found| read_note(&found.bytes)))
    }

    fn write(&self, key: &Digest, note: &Note) -> Result<(), Self::Error> {
        if self.has_empty.get().is_none() {
            push_empty(&self.repository)?;
            let _ = self.has_empty.set(());
        }
        let bytes = note_manifest(note).to_bytes();
        self.repository.put_manifest(&Which::Tag(tag("claim", key)), MANIFEST, &bytes)?;
        Ok(())
    }
}

fn note_manifest(note: &Note) -> Manifest {
    // A manifest without blobs may be refused (OCI image specification, "Guidelines for Artifact Usage").
    let mut manifest = Manifest::new(CLAIM_TYPE, vec![Descriptor::empty()]);
    let text = serde_json::to_string(note).expect("text and numbers are JSON");
    manifest.annotations.insert(NOTE.to_owned(), text);
    manifest
}

fn read_note(bytes: &[u8]) -> Option<Note> {
    let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
    serde_json::from_str(manifest.annotations.get(NOTE)?).ok()
}

/// Whether `bytes` tell of a layer.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_layer(bytes: &[u8]) -> bool {
    read_layer(bytes).is_ok()
}

/// Whether `bytes` are a note.
#[cfg(any(test, fuzzing))]
pub(crate) fn is_note(bytes: &[u8]) -> bool {
    read_note(bytes).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::voucher::Voucher;
    use super::*;

    fn record() -> Record {
        let accounts = Default::default();
        let digest = Digest::of("archive");
        let layer = LayerRecord { digest, size: 7, entries: 1, epoch: 3, accounts, seconds: 1.5 };
        Record { key: Digest::of("key"), layer, signed: None }
    }

    fn manifest() -> Manifest {
        let (text, signature) = Voucher::default().vouch(&mut record()).unwrap();
        layer(text, signature, blob())
    }

    fn blob() -> Descriptor {
        Descriptor::new(super::super::BLOB_TYPE, Digest::of("packed"), 5)
    }

    #[test]
    fn the_bytes_of_a_known_layer_are_stable() {
        let bytes = manifest().to_bytes();
        insta::assert_snapshot!(String::from_utf8(bytes).unwrap());
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let read = read_layer(&manifest().to_bytes()).unwrap();
        let (found, wanted) = (read.record, record());
        assert_eq!((found.key, found.layer.digest), (wanted.key, wanted.layer.digest));
        assert_eq!(read.blob, blob());
        let mut cases = vec![b"".to_vec(), b"{}".to_vec(), EMPTY_BYTES.repeat(3)];
        let mut change = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            cases.push(manifest.to_bytes());
        };
        change(&|manifest| manifest.layers.push(blob()));
        change(&|manifest| manifest.layers.clear());
        change(&|manifest| manifest.artifact_type = None);
        change(&|manifest| manifest.annotations.clear());
        change(&|manifest| _ = manifest.annotations.insert(RECORD.to_owned(), "{}".to_owned()));
        for bytes in cases {
            assert!(read_layer(&bytes).is_err(), "{}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn what_is_no_note_counts_as_none() {
        let note = Note { holder: "a".to_owned(), beat: 1, over: false };
        assert_eq!(read_note(&note_manifest(&note).to_bytes()), Some(note));
        assert_eq!(read_note(&manifest().to_bytes()), None);
        assert_eq!(read_note(b"["), None);
    }
}
