//! Which source package a locked package was built from.
//!
//! The tracker speaks of source packages, the lock of binary ones. Their control files and the indexes of
//! repositories have a field `Source` (deb-control(5)); both are known by the SHA-256 of the file, which the lock has.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::debian::deb::Deb;
use crate::debian::{control, relation};
use crate::digest::Digest;
use crate::lock::{Lock, LockedPackage};
use crate::store::Store;

/// How well it is known which source package a package was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Certainty {
    /// The package or the index of its repository says so.
    Known,
    /// It is where it lies in the archive, and the version is the package's own.
    Assumed,
}

/// A source package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub name: String,
    pub version: String,
    pub certainty: Certainty,
}

/// What is known of source packages.
#[derive(Clone, Debug, Default)]
pub struct Origins(HashMap<Digest, (String, String)>);

impl Origins {
    /// What the packages of `lock` say that `store` has.
    pub fn of_store(lock: &Lock, store: &Store) -> Self {
        let mut origins = Self::default();
        for package in lock.images.values().flat_map(|image| &image.packages) {
            if !origins.0.contains_key(&package.sha256)
                && let Some(blob) = store.blob(&package.sha256)
                && let Ok(deb) = Deb::open(blob.path())
                && let Some(text) =
                    deb.control_file("control").and_then(|it| str::from_utf8(it).ok())
                && let Some(paragraph) = control::paragraphs(text).next()
            {
                origins.add(package.sha256, paragraph);
            }
        }
        origins
    }

    /// Adds what `index`, a `Packages` file, says.
    pub fn add_index(&mut self, index: &str) {
        for paragraph in control::paragraphs(index) {
            let digest = control::field(paragraph, "SHA256").ok().flatten();
            if let Some(digest) = digest.and_then(|digest| digest.parse().ok()) {
                self.add(digest, paragraph);
            }
        }
    }

    fn add(&mut self, digest: Digest, paragraph: &str) {
        let field = |name| control::field(paragraph, name).ok().flatten();
        if let (Some(package), Some(version)) = (field("Package"), field("Version")) {
            let source = control::source(field("Source"), package, version);
            let followed = followed(source, version, field("Built-Using").unwrap_or_default());
            self.0.insert(digest, followed);
        }
    }

    /// The source package of `package`; none if the tracker follows the one of which it was made, and nobody here knows
    /// which that is.
    pub(super) fn of(&self, package: &LockedPackage) -> Option<Origin> {
        if let Some((name, version)) = self.0.get(&package.sha256) {
            let (name, version) = (name.clone(), version.clone());
            return Some(Origin { name, version, certainty: Certainty::Known });
        }
        let name = source_of_path(&package.path).unwrap_or(&package.name).to_owned();
        let version = without_rebuild(&package.version).to_owned();
        let (name, version) = followed((name, version), &package.version, "");
        let certainty = Certainty::Assumed;
        (!name.ends_with(SIGNED)).then_some(Origin { name, version, certainty })
    }
}

/// Source packages that hold nothing but signed copies of what others made are called so.
const SIGNED: &str = "-signed";

/// The source package that the tracker follows for one that holds signed copies: `linux` for `linux-signed-amd64`, whose
/// packages have the version of `linux`, and what `Built-Using` (Debian policy, 7.8) names for `grub-efi-amd64-signed`.
fn followed(
    (name, version): (String, String),
    package_version: &str,
    built_using: &str,
) -> (String, String) {
    if name.starts_with("linux-signed-") {
        return ("linux".to_owned(), without_rebuild(package_version).to_owned());
    }
    let relations = relation::parse_field(built_using).unwrap_or_default();
    let first = relations.first().and_then(|relation| relation.alternatives.first());
    match first.and_then(|it| Some((it.name, it.constraint?.version))) {
        Some((made_of, version)) if name.ends_with(SIGNED) => {
            (made_of.to_owned(), version.to_owned())
        }
        _ => (name, version),
    }
}

/// The source package in a path of Debian's pool: `pool/main/h/haproxy/haproxy_3.0_amd64.deb`, and in the security
/// archive `pool/updates/main/…`. The directory before it is its first letter, or the first four of `lib…`.
fn source_of_path(path: &str) -> Option<&str> {
    let mut parts = path.strip_prefix("pool/")?.rsplit('/').skip(1);
    let (source, prefix) = (parts.next()?, parts.next()?);
    let letters = if source.starts_with("lib") { 4 } else { 1 };
    (source.get(..letters) == Some(prefix)).then_some(source)
}

/// `version` without the number of a rebuild, which is the binary package's alone: `5.2.37-2+b10`.
fn without_rebuild(version: &str) -> &str {
    match version.rsplit_once("+b") {
        Some((source, number))
            if !number.is_empty() && number.bytes().all(|it| it.is_ascii_digit()) =>
        {
            source
        }
        _ => version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_says_which_source_package_it_is() {
        for (path, source) in [
            ("pool/main/u/util-linux/bsdutils_2.41.5-0+deb13u1_amd64.deb", Some("util-linux")),
            ("pool/updates/main/o/openssl/libssl3t64_3.5.1-1+deb13u1_amd64.deb", Some("openssl")),
            ("pool/main/libz/libzstd/libzstd1_1.5.7_amd64.deb", Some("libzstd")),
            ("pool/non-free-firmware/i/intel/x.deb", Some("intel")),
            ("pool/main/web_1.0_amd64.deb", None),
            ("pool/l/lib/x.deb", None),
            ("haproxy/h/haproxy/x.deb", None),
            ("pool/é/é/x.deb", None),
        ] {
            assert_eq!(source_of_path(path), source, "{path}");
        }
    }

    /// As the indexes of trixie have them.
    #[test]
    fn signed_copies_are_of_what_they_are_copies_of() {
        let one = Digest::of("1");
        for (fields, source) in [
            (
                "Package: linux-image-cloud-amd64\nSource: linux-signed-amd64 (6.12.118+1)\nVersion: 6.12.118-1",
                ("linux", "6.12.118-1"),
            ),
            (
                "Package: grub-efi-amd64-signed\nVersion: 1+2.12+9+deb13u4\nBuilt-Using: grub2 (= 2.12-9+deb13u4)",
                ("grub2", "2.12-9+deb13u4"),
            ),
            (
                "Package: bsdutils\nSource: util-linux (2.41.5-0+deb13u1)\nVersion: 1:2.41.5-0+deb13u1",
                ("util-linux", "2.41.5-0+deb13u1"),
            ),
            (
                "Package: x\nVersion: 1-2+b1\nSource: y (1-2)\nBuilt-Using: golang-1.24 (= 1.24.4-1)",
                ("y", "1-2"),
            ),
        ] {
            let mut origins = Origins::default();
            origins.add_index(&format!("{fields}\nSHA256: {one}\n"));
            assert_eq!(origins.0[&one], (source.0.to_owned(), source.1.to_owned()), "{fields}");
        }
        let locked = |name: &str, version: &str, source: &str| LockedPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            repository: "trixie".to_owned(),
            path: format!("pool/main/{}/{source}/{name}.deb", &source[..1]),
            source: None,
            size: 1,
            sha256: one,
            snapshot: None,
        };
        let origins = Origins::default();
        let kernel = locked("linux-image-6.12.118", "6.12.118-1", "linux-signed-amd64");
        let origin = origins.of(&kernel).unwrap();
        assert_eq!((origin.name.as_str(), origin.version.as_str()), ("linux", "6.12.118-1"));
        assert_eq!(origins.of(&locked("shim-signed", "1.51", "shim-signed")), None);
    }

    #[test]
    fn a_rebuild_is_of_the_same_source() {
        for (version, source) in [
            ("5.2.37-2+b10", "5.2.37-2"),
            ("1:1.2+b1", "1:1.2"),
            ("1.0+beta", "1.0+beta"),
            ("1.0+b", "1.0+b"),
            ("1.0-1+deb13u1", "1.0-1+deb13u1"),
        ] {
            assert_eq!(without_rebuild(version), source);
        }
    }
}
