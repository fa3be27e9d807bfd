//! The manifest beside each artifact: what is in it, and what it was made of.
//!
//! # Format, schema 2
//!
//! A JSON object with the fields of [`Manifest`], indented by two spaces, ended by a line feed, the
//! keys of `parameters` sorted at every depth. The same version of this program always writes the same
//! manifest for the same inputs: there is no time, host name, user or path of the building machine.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lint;
use super::name::Format;
use crate::digest::Digest;

/// The version of the format that this program writes and reads.
pub const SCHEMA: u32 = 2;

/// What an artifact is and what it was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format: [`SCHEMA`].
    pub schema: u32,
    /// The image that was built: the name of its definition.
    pub role: String,
    /// The version in its definition.
    pub version: String,
    /// The site whose overlay was applied, if any.
    pub site: Option<String>,
    /// What identifies the image in every format: [`super::name::image_digest`].
    pub digest: Digest,
    /// The file beside this manifest.
    pub artifact: File,
    /// What the image consists of, lowest first.
    pub layers: Vec<Layer>,
    /// The values of all parameters.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The installed packages, by name and architecture.
    pub packages: Vec<Package>,
    /// What is in no package, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
    /// The volumes that outlive the image.
    pub states: Vec<State>,
    /// The names of the secrets that the image needs when it runs. Their values are never in it.
    pub secrets: Vec<String>,
    /// The sources that were given by hand instead of by the lock. An artifact with any cannot be
    /// built again from its definitions.
    pub unpinned: Vec<String>,
    /// The program that built it.
    pub builder: Builder,
    /// The checks that the finished tree has passed, in order.
    pub checks: Vec<Check>,
    /// What lints object to in it and its definitions tolerate, by path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerated: Vec<Tolerated>,
    /// What only disks have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<Disk>,
}

/// What a disk has besides the layers of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// The image on it: the digest that a template of the same layers has.
    pub image: Digest,
    /// The size that a guest sees, in bytes.
    pub virtual_size: u64,
    /// The layers of the boot image, from which the kernel and what starts it were taken.
    pub boot: Vec<Layer>,
    /// The partitions, in the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// A partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// Its name in the partition table.
    pub label: String,
    /// Its GUID.
    pub uuid: String,
    /// Its first sector, of 512 bytes.
    pub first_sector: u64,
    /// The number of its sectors.
    pub sectors: u64,
    /// The layer in it; none for what all disks have, and for the kernel's modules.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// The root of its hash tree (dm-verity), without which the guest does not read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_hash: Option<Digest>,
    /// The blocks of 4096 bytes that the hash tree is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_blocks: Option<u64>,
}

/// An artifact's file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Its name, without directory.
    pub name: String,
    /// Its format.
    pub format: Format,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Layer {
    /// The image whose definition it comes from.
    pub image: String,
    /// What made it.
    pub kind: LayerKind,
    /// The SHA-256 of its archive.
    pub digest: Digest,
    /// The size of its archive in bytes.
    pub size: u64,
    /// The digest of everything it was made from.
    pub key: Digest,
}

/// What makes a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LayerKind {
    /// Installed packages.
    Packages,
    /// Sources from outside all repositories.
    Sources,
    /// Commands.
    Run,
    /// Rendered and copied files.
    Files,
    /// What the command of a boot image makes.
    Boot,
}

impl LayerKind {
    /// The word for it in records and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::Sources => "sources",
            Self::Run => "run",
            Self::Files => "files",
            Self::Boot => "boot",
        }
    }
}

/// One installed package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture: `amd64`, `all`, ….
    pub architecture: String,
    /// The SHA-256 of the `.deb`.
    pub sha256: Digest,
    /// Where the `.deb` may be had. None if it was given by hand and is something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The image whose layer installed it.
    pub image: String,
}

/// Something that is in no package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What it is: `archive`, `file`, `git`, `oci`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where in the image it is.
    pub path: PathBuf,
    /// The SHA-256 of what was taken, the file that was fetched or given; none of a commit or an OCI
    /// image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Whether it was given by hand as a directory, and is not what the lock pins.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub directory: bool,
    /// The commit whose tree it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The OCI image that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oci: Option<Oci>,
    /// Where its hash was published. None for what was given by hand and is something else.
    pub published: Option<String>,
    /// Where it may be had.
    pub urls: Vec<String>,
    /// The image whose layer has it.
    pub image: String,
}

/// A part of an OCI image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Oci {
    /// The image, with its registry.
    pub image: String,
    /// The digest of its manifest or index.
    pub digest: String,
    /// What was taken of it.
    pub path: PathBuf,
}

/// One volume that outlives the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What its disk and its file system are known by: `state-NAME`.
    pub name: String,
    /// Where it is mounted.
    pub path: PathBuf,
    /// The user that owns its root.
    pub owner: String,
    /// The group of its root.
    pub group: String,
    /// The mode of its root, in octal digits: `0750`.
    pub mode: String,
}

/// The program that built an artifact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Builder {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Builder {
    /// This program.
    pub fn this() -> Self {
        Self {
            name: env!("CARGO_PKG_NAME").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// A command that the finished tree has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The image whose definition asks for it.
    pub image: String,
    /// The program and its arguments.
    pub command: Vec<String>,
}

/// Something that a lint objects to and that is in the image all the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tolerated {
    /// The lint.
    pub lint: String,
    /// The path in the image.
    pub path: PathBuf,
    /// Why it is tolerated.
    pub reason: String,
    /// The definition or overlay that says so: `images/web/image.toml`.
    pub definition: String,
}

impl From<&lint::Tolerated> for Tolerated {
    fn from(tolerated: &lint::Tolerated) -> Self {
        Self {
            lint: tolerated.lint.clone(),
            path: Path::new("/").join(&tolerated.path),
            reason: tolerated.reason.clone(),
            definition: tolerated.definition.clone(),
        }
    }
}

/// A text that is not a manifest.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Not JSON, or not the fields of a manifest.
    #[error("this is not a manifest of an image")]
    Syntax(#[from] serde_json::Error),
    /// A manifest of another version of the format.
    #[error("this manifest has schema {0}, and only schema {SCHEMA} is understood")]
    #[diagnostic(help("it was written by another version of imgbuild; use that one"))]
    Schema(u32),
}

impl Manifest {
    /// The manifest as it stands in a file.
    pub fn to_json(&self) -> String {
        let mut sorted = self.clone();
        sorted.parameters.values_mut().for_each(serde_json::Value::sort_all_objects);
        let mut text = serde_json::to_string_pretty(&sorted).expect("all keys are strings");
        text.push('\n');
        text
    }

    /// Reads a manifest back.
    ///
    /// # Errors
    /// If `text` is anything else, or of another schema.
    pub fn from_json(text: &str) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Header {
            schema: u32,
        }
        let Header { schema } = serde_json::from_str(text)?;
        if schema != SCHEMA {
            return Err(Error::Schema(schema));
        }
        Ok(serde_json::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Manifest {
        let digest = |text: &str| Digest::of(text);
        Manifest {
            schema: SCHEMA,
            role: "haproxy".to_owned(),
            version: "1.0.0".to_owned(),
            site: Some("campus".to_owned()),
            digest: digest("image"),
            artifact: File {
                name: "imgbuild-haproxy-1.0.0-6105d6cc76af.tar.zst".to_owned(),
                format: Format::LxcTemplate,
                sha256: digest("file"),
                size: 65_208_909,
            },
            layers: vec![Layer {
                image: "base".to_owned(),
                kind: LayerKind::Packages,
                digest: digest("layer"),
                size: 100,
                key: digest("key"),
            }],
            parameters: [
                ("max_connections".to_owned(), json!(20_000)),
                ("backends".to_owned(), json!([{ "port": 80, "address": "10.0.0.1" }])),
            ]
            .into(),
            packages: vec![Package {
                name: "haproxy".to_owned(),
                version: "3.0.11-1+deb13u3".to_owned(),
                architecture: "amd64".to_owned(),
                sha256: digest("deb"),
                url: None,
                image: "haproxy".to_owned(),
            }],
            sources: Vec::new(),
            states: vec![State {
                name: "mysql".to_owned(),
                path: "/var/lib/mysql".into(),
                owner: "mysql".to_owned(),
                group: "mysql".to_owned(),
                mode: "0750".to_owned(),
            }],
            secrets: vec!["vrrp_password".to_owned()],
            unpinned: Vec::new(),
            builder: Builder { name: "imgbuild".to_owned(), version: "0.1.0".to_owned() },
            checks: vec![Check {
                image: "haproxy".to_owned(),
                command: vec!["/usr/sbin/haproxy".to_owned(), "-c".to_owned()],
            }],
            tolerated: Vec::new(),
            disk: None,
        }
    }

    #[test]
    fn the_text_of_a_manifest_is_stable() {
        insta::assert_snapshot!(sample().to_json());
    }

    /// The field came later than the schema: without it the text is what it was.
    #[test]
    fn packages_may_say_where_they_may_be_had() {
        let mut manifest = sample();
        manifest.packages[0].url = Some("http://deb.debian.org/debian/pool/haproxy.deb".to_owned());
        let text = manifest.to_json();
        assert!(
            text.contains("\"url\": \"http://deb.debian.org/debian/pool/haproxy.deb\""),
            "{text}"
        );
        assert_eq!(Manifest::from_json(&text).unwrap(), manifest);
    }

    #[test]
    fn a_manifest_round_trips() {
        let manifest = sample();
        assert_eq!(Manifest::from_json(&manifest.to_json()).unwrap(), manifest);
    }

    #[test]
    fn the_order_in_which_values_were_given_does_not_matter() {
        let mut other = sample();
        other
            .parameters
            .insert("backends".to_owned(), json!([{ "address": "10.0.0.1", "port": 80 }]));
        assert_eq!(other.to_json(), sample().to_json());
    }

    #[test]
    fn other_schemas_and_other_texts_are_refused() {
        let text = sample().to_json();
        let newer =
            text.replacen("\"schema\": 2", "\"schema\": 3", 1).replacen("\"role\"", "\"name\"", 1);
        assert!(matches!(Manifest::from_json(&newer), Err(Error::Schema(3))));
        let unknown = text.replacen("\"role\"", "\"rolle\"", 1);
        for text in ["", "{}", "[]", &unknown] {
            assert!(matches!(Manifest::from_json(text), Err(Error::Syntax(_))), "{text}");
        }
    }
}
