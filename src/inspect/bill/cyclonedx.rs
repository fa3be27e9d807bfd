//! A bill in CycloneDX 1.6, written as JSON.
//!
//! <https://cyclonedx.org/docs/1.6/json/> and its schema `bom-1.6.schema.json`. Only fields that are written
//! are here.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Bill, File, Layer, Package, Upstream, image_purl, uuid};
use crate::artifact::name::Format;
use crate::digest::Digest;

const IMAGE: &str = "image";
const SYSTEM: &str = "distribution";

/// What is said of components that the form has no field for.
const LAYER: &str = "imgbuild:layer";
const ARCHITECTURE: &str = "imgbuild:architecture";
const PATH: &str = "imgbuild:path";
const PUBLISHED: &str = "imgbuild:hash-published";
const SITE: &str = "imgbuild:site";
const DIGEST: &str = "imgbuild:digest";
const UNPINNED: &str = "imgbuild:unpinned";

/// A document.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    bom_format: &'static str,
    spec_version: &'static str,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

/// What the document is about, and who made it.
#[derive(Clone, Debug, Serialize)]
struct Metadata {
    timestamp: String,
    tools: Tools,
    component: Component,
}

#[derive(Clone, Debug, Serialize)]
struct Tools {
    components: Vec<Component>,
}

/// Anything that is a part of something.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Component {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(rename = "bom-ref", skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    supplier: Option<Supplier>,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<Licence>,
    #[serde(skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pedigree: Option<Pedigree>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    external_references: Vec<ExternalReference>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Clone, Debug, Serialize)]
struct Supplier {
    name: String,
}

#[derive(Clone, Debug, Serialize)]
struct Hash {
    alg: &'static str,
    content: String,
}

/// One expression, or names that SPDX does not know; never both in a list.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Licence {
    Expression { expression: String, acknowledgement: &'static str },
    Named { license: Named },
}

#[derive(Clone, Debug, Serialize)]
struct Named {
    name: String,
    acknowledgement: &'static str,
}

/// What a component was made from.
#[derive(Clone, Debug, Serialize)]
struct Pedigree {
    ancestors: Vec<Component>,
}

#[derive(Clone, Debug, Serialize)]
struct ExternalReference {
    #[serde(rename = "type")]
    kind: &'static str,
    url: String,
}

#[derive(Clone, Debug, Serialize)]
struct Property {
    name: &'static str,
    value: String,
}

/// What a component needs, or what it consists of.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<String>,
}

/// The document of `bill`.
pub fn document(bill: &Bill) -> Document {
    let mut components = vec![system(bill)];
    let mut graph: BTreeMap<String, Vec<String>> = BTreeMap::new();
    graph.insert(SYSTEM.to_owned(), Vec::new());
    let mut image = vec![SYSTEM.to_owned()];
    for (position, layer) in bill.layers.iter().enumerate() {
        components.push(layer_component(layer));
        image.push(layer_reference(layer));
        let packages = bill.packages.iter().filter(|it| it.layers.contains(&position));
        let sources = bill.sources.iter().filter(|it| it.layer == Some(position));
        let files = layer.files.iter().map(|file| file_reference(layer, file));
        let within = packages.map(package_reference).chain(sources.map(upstream_reference));
        graph.insert(layer_reference(layer), within.chain(files).collect());
    }
    for package in &bill.packages {
        components.push(package_component(bill, package));
        let needed = package.depends.iter().map(|&it| package_reference(&bill.packages[it]));
        graph.insert(package_reference(package), needed.collect());
    }
    for upstream in &bill.sources {
        components.push(upstream_component(bill, upstream));
        graph.insert(upstream_reference(upstream), Vec::new());
    }
    for layer in &bill.layers {
        for file in &layer.files {
            components.push(file_component(layer, file));
            graph.insert(file_reference(layer, file), Vec::new());
        }
    }
    graph.insert(IMAGE.to_owned(), image);
    let dependencies = graph.into_iter().map(|(reference, mut depends_on)| {
        depends_on.sort();
        depends_on.dedup();
        Dependency { reference, depends_on }
    });
    Document {
        bom_format: "CycloneDX",
        spec_version: "1.6",
        serial_number: format!("urn:uuid:{}", uuid(&bill.manifest, "cyclonedx")),
        version: 1,
        metadata: metadata(bill),
        components,
        dependencies: dependencies.collect(),
    }
}

fn metadata(bill: &Bill) -> Metadata {
    let manifest = &bill.manifest;
    let kind = match manifest.artifact.format {
        Format::LxcTemplate => "container",
        Format::Qcow2 => "operating-system",
    };
    let mut properties = vec![property(DIGEST, manifest.digest.to_string())];
    properties.extend(manifest.site.iter().map(|site| property(SITE, site.clone())));
    properties.extend(manifest.unpinned.iter().map(|it| property(UNPINNED, it.clone())));
    let tool = Component {
        kind: "application",
        name: manifest.builder.name.clone(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        ..Component::default()
    };
    Metadata {
        timestamp: bill.created.to_string(),
        tools: Tools { components: vec![tool] },
        component: Component {
            kind,
            reference: Some(IMAGE.to_owned()),
            name: manifest.role.clone(),
            version: Some(manifest.version.clone()),
            hashes: vec![sha256(manifest.artifact.sha256)],
            purl: Some(image_purl(manifest)),
            properties,
            ..Component::default()
        },
    }
}

/// The distribution, by which programs know whose list of weaknesses to take.
fn system(bill: &Bill) -> Component {
    Component {
        kind: "operating-system",
        reference: Some(SYSTEM.to_owned()),
        name: bill.distribution.id.clone(),
        version: bill.distribution.version.clone(),
        ..Component::default()
    }
}

fn layer_component(layer: &Layer) -> Component {
    Component {
        kind: "file",
        reference: Some(layer_reference(layer)),
        name: layer.name(),
        hashes: vec![sha256(layer.digest)],
        ..Component::default()
    }
}

fn package_component(bill: &Bill, package: &Package) -> Component {
    let (source, version) = &package.source;
    let ancestor = Component {
        kind: "library",
        name: source.clone(),
        version: Some(version.clone()),
        purl: Some(bill.distribution.purl(source, version, "source")),
        ..Component::default()
    };
    let licence = &package.licence;
    let licenses = match &licence.expression {
        Some(expression) => vec![Licence::Expression {
            expression: expression.clone(),
            acknowledgement: "declared",
        }],
        None => licence.names.iter().map(|name| named(name)).collect(),
    };
    let mut properties = vec![property(ARCHITECTURE, package.architecture.clone())];
    let layers = package.layers.iter().map(|&it| property(LAYER, bill.layers[it].name()));
    properties.extend(layers);
    let homepage = package.homepage.iter().map(|url| reference("website", url));
    let supplier = package.maintainer.clone().map(|name| Supplier { name });
    Component {
        kind: "library",
        reference: Some(package_reference(package)),
        supplier,
        name: package.name.clone(),
        version: Some(package.version.clone()),
        hashes: vec![sha256(package.sha256)],
        licenses,
        purl: Some(package.purl(&bill.distribution)),
        pedigree: Some(Pedigree { ancestors: vec![ancestor] }),
        external_references: package
            .url
            .iter()
            .map(|url| reference("distribution", url))
            .chain(homepage)
            .collect(),
        properties,
    }
}

fn upstream_component(bill: &Bill, upstream: &Upstream) -> Component {
    let source = &upstream.source;
    let mut properties = vec![property(PATH, source.path.display().to_string())];
    properties.extend(upstream.layer.map(|it| property(LAYER, bill.layers[it].name())));
    properties.extend(source.published.iter().map(|it| property(PUBLISHED, it.clone())));
    let kind = if source.commit.is_some() { "vcs" } else { "distribution" };
    let urls = source.urls.iter().filter(|_| source.published.is_some() || kind == "vcs");
    Component {
        kind: if source.kind == "file" { "file" } else { "library" },
        reference: Some(upstream_reference(upstream)),
        name: source.name.clone(),
        version: source.commit.clone().or_else(|| Some(source.oci.as_ref()?.digest.clone())),
        hashes: source.sha256.map(sha256).into_iter().collect(),
        purl: Some(upstream.purl()),
        external_references: urls.map(|url| reference(kind, url)).collect(),
        properties,
        ..Component::default()
    }
}

fn file_component(layer: &Layer, file: &File) -> Component {
    Component {
        kind: "file",
        reference: Some(file_reference(layer, file)),
        name: format!("/{}", file.path.display()),
        hashes: vec![sha256(file.sha256)],
        properties: vec![property(LAYER, layer.name())],
        ..Component::default()
    }
}

fn sha256(digest: Digest) -> Hash {
    Hash { alg: "SHA-256", content: digest.to_string() }
}

fn named(name: &str) -> Licence {
    Licence::Named { license: Named { name: name.to_owned(), acknowledgement: "declared" } }
}

fn property(name: &'static str, value: String) -> Property {
    Property { name, value }
}

fn reference(kind: &'static str, url: &str) -> ExternalReference {
    ExternalReference { kind, url: url.to_owned() }
}

fn layer_reference(layer: &Layer) -> String {
    format!("layer:{}", layer.digest)
}

fn package_reference(package: &Package) -> String {
    format!("deb:{}:{}", package.name, package.sha256)
}

fn upstream_reference(upstream: &Upstream) -> String {
    format!("source:{}:{}", upstream.source.image, upstream.source.name)
}

fn file_reference(layer: &Layer, file: &File) -> String {
    format!("file:{}:/{}", layer.digest.short(), file.path.display())
}
