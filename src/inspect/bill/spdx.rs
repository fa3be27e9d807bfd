//! A bill in SPDX 2.3, written as JSON.
//!
//! <https://spdx.github.io/spdx-spec/v2.3/> and its schema `schemas/spdx-schema.json`. The numbers of sections
//! below are those of the specification. Only fields that are written are here.

use std::collections::BTreeSet;

use serde::Serialize;
use sha1_checked::{Digest as _, Sha1};

use super::gather::hexadecimal;
use super::{Bill, Layer, Package, Upstream, image_purl, uuid};
use crate::artifact::name::Format;
use crate::digest::Digest;

const DOCUMENT: &str = "SPDXRef-DOCUMENT";
const IMAGE: &str = "SPDXRef-Image";
const NO_ASSERTION: &str = "NOASSERTION";

/// A document (clauses 5 and 6).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    spdx_version: &'static str,
    data_license: &'static str,
    #[serde(rename = "SPDXID")]
    id: &'static str,
    name: String,
    document_namespace: String,
    creation_info: CreationInfo,
    packages: Vec<Element>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    files: Vec<File>,
    relationships: Vec<Relationship>,
}

/// Who made the document, and when (6.8 to 6.10).
#[derive(Clone, Debug, Serialize)]
struct CreationInfo {
    created: String,
    creators: Vec<String>,
    comment: &'static str,
}

/// A package: anything that is a whole (clause 7).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Element {
    #[serde(rename = "SPDXID")]
    id: String,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_info: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_file_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<String>,
    download_location: String,
    files_analyzed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_verification_code: Option<VerificationCode>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    checksums: Vec<Checksum>,
    #[serde(skip_serializing_if = "Option::is_none")]
    homepage: Option<String>,
    license_concluded: &'static str,
    license_declared: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    license_comments: Option<String>,
    copyright_text: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_refs: Vec<ExternalRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_package_purpose: Option<&'static str>,
}

/// What the files of a package come to (7.9).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct VerificationCode {
    package_verification_code_value: String,
}

/// A hash (7.10, 8.4).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checksum {
    algorithm: &'static str,
    checksum_value: String,
}

/// A name that others give to a package (7.21, Annex F.3.5).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ExternalRef {
    reference_category: &'static str,
    reference_type: &'static str,
    reference_locator: String,
}

/// A file (clause 8).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(rename = "SPDXID")]
    id: String,
    file_name: String,
    checksums: Vec<Checksum>,
    license_concluded: &'static str,
    copyright_text: &'static str,
}

/// What one element has to do with another (clause 11).
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Relationship {
    spdx_element_id: String,
    relationship_type: &'static str,
    related_spdx_element: String,
}

/// The document of `bill`.
pub fn document(bill: &Bill) -> Document {
    let mut maker = Maker { bill, packages: Vec::new(), files: Vec::new(), links: Vec::new() };
    maker.image();
    for (position, layer) in bill.layers.iter().enumerate() {
        maker.layer(position, layer);
    }
    for package in &bill.packages {
        maker.package(package);
    }
    maker.source_packages();
    for upstream in &bill.sources {
        maker.upstream(upstream);
    }
    let manifest = &bill.manifest;
    let tool = &manifest.builder;
    Document {
        spdx_version: "SPDX-2.3",
        data_license: "CC0-1.0",
        id: DOCUMENT,
        name: manifest.artifact.name.clone(),
        document_namespace: format!("urn:uuid:{}", uuid(manifest, "spdx")),
        creation_info: CreationInfo {
            created: bill.created.to_string(),
            creators: vec![format!("Tool: {}-{}", tool.name, env!("CARGO_PKG_VERSION"))],
            comment: "The time is that of the last change of any file of the image, so that the same image \
                      always has the same document.",
        },
        packages: maker.packages,
        files: maker.files,
        relationships: maker.links,
    }
}

/// A document that is being made.
struct Maker<'a> {
    bill: &'a Bill,
    packages: Vec<Element>,
    files: Vec<File>,
    links: Vec<Relationship>,
}

impl Maker<'_> {
    fn link(&mut self, from: &str, kind: &'static str, to: &str) {
        self.links.push(Relationship {
            spdx_element_id: from.to_owned(),
            relationship_type: kind,
            related_spdx_element: to.to_owned(),
        });
    }

    fn image(&mut self) {
        let manifest = &self.bill.manifest;
        let purpose = match manifest.artifact.format {
            Format::LxcTemplate => "CONTAINER",
            Format::Qcow2 => "OPERATING_SYSTEM",
        };
        let unpinned = manifest.unpinned.join("; ");
        self.packages.push(Element {
            version_info: Some(manifest.version.clone()),
            package_file_name: Some(manifest.artifact.name.clone()),
            checksums: vec![sha256(manifest.artifact.sha256)],
            comment: Some(unpinned).filter(|text| !text.is_empty()),
            external_refs: vec![named(image_purl(manifest))],
            primary_package_purpose: Some(purpose),
            ..element(IMAGE.to_owned(), &manifest.role)
        });
        self.link(DOCUMENT, "DESCRIBES", IMAGE);
    }

    fn layer(&mut self, position: usize, layer: &Layer) {
        let id = layer_id(position);
        let mut sums: Vec<&str> = layer.files.iter().map(|file| file.sha1.as_str()).collect();
        sums.sort_unstable();
        let code = (!sums.is_empty()).then(|| VerificationCode {
            package_verification_code_value: hexadecimal(&Sha1::digest(sums.concat())),
        });
        self.packages.push(Element {
            files_analyzed: code.is_some(),
            package_verification_code: code,
            checksums: vec![sha256(layer.digest)],
            comment: Some("A layer of the image; the checksum is of its archive.".to_owned()),
            primary_package_purpose: Some("ARCHIVE"),
            ..element(id.clone(), &layer.name())
        });
        self.link(IMAGE, "CONTAINS", &id);
        for (number, file) in layer.files.iter().enumerate() {
            let file_id = format!("SPDXRef-File-{position}-{number}");
            self.link(&id, "CONTAINS", &file_id);
            let sha1 = Checksum { algorithm: "SHA1", checksum_value: file.sha1.clone() };
            self.files.push(File {
                id: file_id,
                file_name: format!("./{}", file.path.display()),
                checksums: vec![sha1, sha256(file.sha256)],
                license_concluded: NO_ASSERTION,
                copyright_text: NO_ASSERTION,
            });
        }
    }

    fn package(&mut self, package: &Package) {
        let id = package_id(package);
        let licence = &package.licence;
        let comments = match licence.names.is_empty() {
            true => "No machine-readable copyright file was found.".to_owned(),
            false => format!("The copyright file names: {}.", licence.names.join("; ")),
        };
        self.packages.push(Element {
            version_info: Some(package.version.clone()),
            supplier: Some(match &package.maintainer {
                // Whether it is one person or many, Debian does not say.
                Some(maintainer) => format!("Organization: {}", contact(maintainer)),
                None => NO_ASSERTION.to_owned(),
            }),
            download_location: location(package.url.clone()),
            checksums: vec![sha256(package.sha256)],
            homepage: package.homepage.clone(),
            license_declared: licence.expression.clone().unwrap_or_else(|| NO_ASSERTION.to_owned()),
            license_comments: Some(comments),
            comment: Some(format!("architecture: {}", package.architecture)),
            external_refs: vec![named(package.purl(&self.bill.distribution))],
            primary_package_purpose: Some("INSTALL"),
            ..element(id.clone(), &package.name)
        });
        for layer in &package.layers {
            self.link(&layer_id(*layer), "CONTAINS", &id);
        }
        self.link(&id, "GENERATED_FROM", &source_id(&package.source));
        let bill = self.bill;
        for needed in &package.depends {
            self.link(&id, "DEPENDS_ON", &package_id(&bill.packages[*needed]));
        }
    }

    /// The source packages, each once.
    fn source_packages(&mut self) {
        let bill = self.bill;
        let sources: BTreeSet<&(String, String)> =
            bill.packages.iter().map(|package| &package.source).collect();
        for source in sources {
            let (name, version) = source;
            self.packages.push(Element {
                version_info: Some(version.clone()),
                external_refs: vec![named(bill.distribution.purl(name, version, "source"))],
                primary_package_purpose: Some("SOURCE"),
                ..element(source_id(source), name)
            });
        }
    }

    fn upstream(&mut self, upstream: &Upstream) {
        let source = &upstream.source;
        let id = format!("SPDXRef-Upstream-{}", plain(&source.name));
        let published = source.published.iter().map(|it| format!("hash published at: {it}"));
        let about = [format!("{} at {}", source.kind, source.path.display())].into_iter();
        let about: Vec<String> = about.chain(published).collect();
        self.packages.push(Element {
            version_info: source.commit.clone(),
            download_location: location(upstream.location()),
            checksums: source.sha256.map(sha256).into_iter().collect(),
            comment: Some(about.join("; ")),
            external_refs: vec![named(upstream.purl())],
            primary_package_purpose: Some("SOURCE"),
            ..element(id.clone(), &source.name)
        });
        let layer = upstream.layer.map_or_else(|| IMAGE.to_owned(), layer_id);
        self.link(&layer, "CONTAINS", &id);
    }
}

/// An element of which nothing is known but its name.
fn element(id: String, name: &str) -> Element {
    Element {
        id,
        name: name.to_owned(),
        version_info: None,
        package_file_name: None,
        supplier: None,
        download_location: NO_ASSERTION.to_owned(),
        files_analyzed: false,
        package_verification_code: None,
        checksums: Vec::new(),
        homepage: None,
        license_concluded: NO_ASSERTION,
        license_declared: NO_ASSERTION.to_owned(),
        license_comments: None,
        copyright_text: NO_ASSERTION,
        comment: None,
        external_refs: Vec::new(),
        primary_package_purpose: None,
    }
}

fn sha256(digest: Digest) -> Checksum {
    Checksum { algorithm: "SHA256", checksum_value: digest.to_string() }
}

fn named(purl: String) -> ExternalRef {
    ExternalRef {
        reference_category: "PACKAGE-MANAGER",
        reference_type: "purl",
        reference_locator: purl,
    }
}

/// What can be downloaded (7.7). What is a file of this machine is there for nobody else.
fn location(url: Option<String>) -> String {
    url.filter(|url| !url.contains("file:///")).unwrap_or_else(|| NO_ASSERTION.to_owned())
}

/// `NAME (ADDRESS)` of `NAME <ADDRESS>` (7.5).
fn contact(maintainer: &str) -> String {
    match maintainer.rsplit_once(" <") {
        Some((name, address)) => {
            format!("{} ({})", name.trim_matches('"'), address.trim_end_matches('>'))
        }
        None => maintainer.to_owned(),
    }
}

fn layer_id(position: usize) -> String {
    format!("SPDXRef-Layer-{position}")
}

fn package_id(package: &Package) -> String {
    format!("SPDXRef-Package-{}-{}", plain(&package.name), package.sha256.short())
}

fn source_id((name, version): &(String, String)) -> String {
    let digest = Digest::of(format!("{name} {version}"));
    format!("SPDXRef-Source-{}-{}", plain(name), digest.short())
}

/// `name` in the characters that identifiers have: letters, digits, `.` and `-` (3.2).
fn plain(name: &str) -> String {
    let keep = |it: char| it.is_ascii_alphanumeric() || matches!(it, '.' | '-');
    name.chars().map(|it| if keep(it) { it } else { '-' }).collect()
}
