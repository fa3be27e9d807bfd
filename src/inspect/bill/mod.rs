//! What an image is made of, for programs that look for weaknesses and licences: a bill of materials.
//!
//! A [`Bill`] is gathered from the manifest of an image and its layers in the store, and from nothing else: the
//! same image has the same bill, whoever asks for it, wherever and whenever. [`spdx`] and [`cyclonedx`] write
//! it in the two forms that such programs read.

pub mod cyclonedx;
mod gather;
pub mod licence;
mod packages;
pub mod purl;
pub mod spdx;

use std::path::PathBuf;

use crate::artifact::manifest::{LayerKind, Manifest, Source};
use crate::debian::date::Moment;
use crate::digest::{Digest, Hasher};
use licence::Licence;

/// What is in an image.
#[derive(Clone, Debug)]
pub struct Bill {
    /// Its manifest.
    pub manifest: Manifest,
    /// The last change of any of its files, as there is no clock in anything that is built.
    pub created: Moment,
    /// The distribution.
    pub distribution: Distribution,
    /// Its layers, lowest first, and then those that only the boot image of a disk has.
    pub layers: Vec<Layer>,
    /// Its packages, by name and architecture.
    pub packages: Vec<Package>,
    /// What is in no package.
    pub sources: Vec<Upstream>,
}

/// What os-release(5) says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`: `debian`.
    pub id: String,
    /// `VERSION_ID`: `13`.
    pub version: Option<String>,
    /// `VERSION_CODENAME`: `trixie`.
    pub codename: Option<String>,
}

/// A layer.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The definition that it comes from.
    pub image: String,
    /// What makes it.
    pub kind: LayerKind,
    /// The SHA-256 of its archive.
    pub digest: Digest,
    /// The files in it that come from definitions and overlays, by path. Only layers of files have any.
    pub files: Vec<File>,
}

impl Layer {
    /// What people call it: `haproxy files`.
    pub fn name(&self) -> String {
        format!("{} {}", self.image, self.kind.name())
    }
}

/// A file of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its path, without leading slash.
    pub path: PathBuf,
    /// The SHA-256 of its bytes.
    pub sha256: Digest,
    /// The SHA-1 of its bytes, in hexadecimal digits, which SPDX demands.
    pub sha1: String,
}

/// An installed package.
#[derive(Clone, Debug)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
    /// The SHA-256 of the `.deb`.
    pub sha256: Digest,
    /// Where the `.deb` may be had.
    pub url: Option<String>,
    /// The layers that have it, as positions in [`Bill::layers`].
    pub layers: Vec<usize>,
    /// The source package that it was built from, and its version.
    pub source: (String, String),
    /// `NAME <ADDRESS>`, as the package says it.
    pub maintainer: Option<String>,
    /// Where its authors say more.
    pub homepage: Option<String>,
    /// Its licences.
    pub licence: Licence,
    /// The packages of the image that it depends on, as positions in [`Bill::packages`], sorted.
    pub depends: Vec<usize>,
}

impl Package {
    /// Its package URL in an image of `distribution`.
    pub fn purl(&self, distribution: &Distribution) -> String {
        distribution.purl(&self.name, &self.version, &self.architecture)
    }
}

impl Distribution {
    /// The package URL of one of its packages, or, for the architecture `source`, source packages.
    pub fn purl(&self, name: &str, version: &str, architecture: &str) -> String {
        let release = self.codename.as_deref().unwrap_or_default();
        purl::deb(&self.id, name, version, architecture, release)
    }
}

/// Something that is in no package.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// What the manifest says of it.
    pub source: Source,
    /// The layer that has it, as a position in [`Bill::layers`].
    pub layer: Option<usize>,
}

impl Upstream {
    /// Its package URL.
    pub fn purl(&self) -> String {
        let Source { name, sha256, commit, oci, urls, published, .. } = &self.source;
        let url = urls.first();
        if let (Some(commit), Some(url)) = (commit, url) {
            return purl::commit(name, url, commit);
        }
        if let Some(oci) = oci {
            return purl::oci(&oci.image, &oci.digest);
        }
        let sha256 = sha256.map(|digest| digest.to_string());
        // What was given by hand, and is something else, is not what the URL has.
        let url = url.filter(|_| published.is_some());
        purl::generic(name, url.map(String::as_str), sha256.as_deref())
    }

    /// Where exactly it may be had, if it is that.
    pub fn location(&self) -> Option<String> {
        let Source { commit, oci, urls, published, .. } = &self.source;
        let url = urls.first()?;
        match (commit, oci) {
            (Some(commit), _) => Some(format!("git+{url}@{commit}")),
            (None, Some(_)) => Some(url.clone()),
            (None, None) => published.is_some().then(|| url.clone()),
        }
    }
}

/// The package URL of the image itself.
fn image_purl(manifest: &Manifest) -> String {
    let checksum = format!("sha256:{}", manifest.artifact.sha256);
    let qualifiers = [("checksum", &*checksum), ("file_name", &*manifest.artifact.name)];
    purl::purl("generic", None, &manifest.role, Some(&manifest.version), &qualifiers)
}

/// A UUID for the document in form `form` about the image of `manifest`, made of what decides what is in it
/// (version 8: RFC 9562, section 5.8).
fn uuid(manifest: &Manifest, form: &str) -> String {
    let mut hasher = Hasher::new();
    for field in [form, env!("CARGO_PKG_VERSION"), &manifest.to_json()] {
        hasher.field(field);
    }
    let digits = hasher.finish().to_string();
    // The variant is `10` in binary: the digit is one of `8` to `b`.
    let variant = u8::from_str_radix(&digits[15..16], 16).unwrap_or_default() & 3 | 8;
    format!(
        "{}-{}-8{}-{variant:x}{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..15],
        &digits[16..19],
        &digits[19..31]
    )
}

#[cfg(test)]
mod tests;
