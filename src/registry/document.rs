//! The documents of registries: manifests, indexes, and the descriptors in them (OCI image specification 1.1).

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use super::reference::lower_case;
use crate::digest::Digest;

/// A manifest of an image or of any other thing.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A list of manifests.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// What the empty document `{}` is ("Guidance for an Empty Descriptor").
pub const EMPTY: &str = "application/vnd.oci.empty.v1+json";

/// The empty document.
pub const EMPTY_BYTES: &[u8] = b"{}";

/// The annotation with the name of a file.
pub const TITLE: &str = "org.opencontainers.image.title";

/// What a blob or manifest is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of thing.
    pub media_type: String,
    /// The SHA-256 of its bytes.
    #[serde(with = "prefixed")]
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// What kind of thing a manifest is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// Further words.
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// That of `bytes`.
    pub fn of(media_type: &str, bytes: &[u8]) -> Self {
        Self::new(media_type, Digest::of(bytes), bytes.len() as u64)
    }

    /// That of `size` bytes with this digest.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let (media_type, annotations) = (media_type.to_owned(), BTreeMap::new());
        Self { media_type, digest, size, artifact_type: None, annotations }
    }

    /// That of the empty document.
    pub fn empty() -> Self {
        Self::of(EMPTY, EMPTY_BYTES)
    }

    /// With the name of a file.
    pub fn titled(mut self, name: &str) -> Self {
        self.annotations.insert(TITLE.to_owned(), name.to_owned());
        self
    }

    /// The name of a file that it is annotated with. Not checked: it may be anything.
    pub fn title(&self) -> Option<&str> {
        self.annotations.get(TITLE).map(String::as_str)
    }
}

/// A manifest. What is not among the fields is not kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// [`MANIFEST`].
    pub media_type: String,
    /// What kind of thing it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    /// A blob about it.
    pub config: Descriptor,
    /// Its blobs.
    pub layers: Vec<Descriptor>,
    /// The manifest that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    /// Further words.
    #[serde(default, deserialize_with = "or_none", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Manifest {
    /// One of these blobs.
    pub fn new(artifact_type: &str, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            artifact_type: Some(artifact_type.to_owned()),
            config: Descriptor::empty(),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }

    /// About the manifest `subject`.
    pub fn about(mut self, subject: Descriptor) -> Self {
        self.subject = Some(subject);
        self
    }

    /// As it is pushed: the same for the same fields.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text, numbers and maps of text are JSON")
    }
}

/// A list of manifests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// [`INDEX`].
    #[serde(default = "index")]
    pub media_type: String,
    /// The manifests, without those that are not understood: others may have digests by another algorithm.
    #[serde(default, deserialize_with = "understood")]
    pub manifests: Vec<Descriptor>,
}

fn index() -> String {
    INDEX.to_owned()
}

/// Those descriptors that are understood.
fn understood<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Descriptor>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Understood(Descriptor),
        Other(IgnoredAny),
    }
    let entries: Vec<Entry> = or_none(deserializer)?;
    let understood = entries.into_iter().filter_map(|entry| match entry {
        Entry::Understood(descriptor) => Some(descriptor),
        Entry::Other(_) => None,
    });
    Ok(understood.collect())
}

impl Default for Index {
    fn default() -> Self {
        Self { schema_version: 2, media_type: INDEX.to_owned(), manifests: Vec::new() }
    }
}

impl Index {
    /// As it is pushed.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("text, numbers and maps of text are JSON")
    }
}

/// A list of what is about a manifest, as those who push keep it. What others have written there stays as it is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    schema_version: u32,
    #[serde(default = "index")]
    media_type: String,
    #[serde(default, deserialize_with = "or_none")]
    manifests: Vec<Value>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Default for List {
    fn default() -> Self {
        Self { schema_version: 2, media_type: index(), manifests: Vec::new(), rest: Map::new() }
    }
}

impl List {
    /// Adds `entry`. Returns whether it was not there.
    pub fn add(&mut self, entry: &Descriptor) -> bool {
        if self.digests().any(|digest| digest == entry.digest) {
            return false;
        }
        self.manifests.push(serde_json::to_value(entry).expect("a descriptor is JSON"));
        // The same entries make the same list, whoever was first.
        self.manifests.sort_by(|one, other| one["digest"].as_str().cmp(&other["digest"].as_str()));
        true
    }

    /// Keeps those whose digest, if it is understood, is `wanted`. Returns whether any went.
    pub fn retain(&mut self, wanted: impl Fn(Option<Digest>) -> bool) -> bool {
        let before = self.manifests.len();
        self.manifests.retain(|entry| wanted(digest_of(entry)));
        self.manifests.len() != before
    }

    /// The digests that are understood.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.manifests.iter().filter_map(digest_of)
    }

    /// As it is pushed.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("what was read as JSON is JSON")
    }
}

fn digest_of(entry: &Value) -> Option<Digest> {
    entry.get("digest")?.as_str()?.strip_prefix("sha256:").and_then(lower_case)
}

/// What any document may say of itself and of what it is about.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Heading {
    pub media_type: Option<String>,
    pub artifact_type: Option<String>,
    pub config: Option<Kind>,
    pub subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "or_none")]
    pub annotations: BTreeMap<String, String>,
}

/// What kind of thing a descriptor is of.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Kind {
    pub media_type: String,
}

/// Nothing, also where it is written as `null`, as some registries do.
fn or_none<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

/// `sha256:…`, the only algorithm that is in use.
mod prefixed {
    use super::*;

    pub fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("sha256:{digest}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digest = text.strip_prefix("sha256:").and_then(lower_case);
        digest.ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no sha256:…")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_empty_descriptor_is_that_of_the_specification() {
        let digest = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
        let empty = Descriptor::empty();
        assert_eq!((empty.digest.to_string().as_str(), empty.size), (digest, 2));
    }

    #[test]
    fn manifests_have_the_same_bytes_for_ever() {
        let layer = Descriptor::of("text/plain", b"abc").titled("a.txt");
        let manifest =
            Manifest::new("application/x", vec![layer]).about(Descriptor::of(MANIFEST, b""));
        let text = String::from_utf8(manifest.to_bytes()).unwrap();
        assert_eq!(
            text,
            "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
             \"artifactType\":\"application/x\",\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\
             \"digest\":\"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\",\"size\":2},\
             \"layers\":[{\"mediaType\":\"text/plain\",\
             \"digest\":\"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\",\"size\":3,\
             \"annotations\":{\"org.opencontainers.image.title\":\"a.txt\"}}],\
             \"subject\":{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\
             \"digest\":\"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\",\"size\":0}}"
        );
        assert_eq!(serde_json::from_str::<Manifest>(&text).unwrap(), manifest);
    }

    #[test]
    fn digests_have_one_spelling() {
        for digest in ["", "sha256:", "sha512:00", &format!("sha256:{}", "A".repeat(64))] {
            let text = format!("{{\"mediaType\":\"x\",\"digest\":\"{digest}\",\"size\":1}}");
            assert!(serde_json::from_str::<Descriptor>(&text).is_err(), "{digest}");
        }
    }
}
