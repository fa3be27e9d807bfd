//! Bills of materials and provenance, against the manifest.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::sign::documents as made;
use super::signed::Beside;
use super::{Subject, Verdict};
use crate::artifact::manifest::Manifest;
use crate::digest::Digest;
use crate::inspect::Inspector;
use crate::signature::files::Files;
use crate::store::Store;

const AGAIN: &str = "get it again from where it was signed, or write it anew: `imgbuild sign`";

/// Holds the documents against the manifest and its `text`; bills against what the layers make, if `layers` are in a store.
/// Whether all bills are what these make.
pub(super) fn check(
    files: &Files,
    (manifest, text): (&Manifest, &[u8]),
    beside: &Beside,
    layers: Option<(Inspector<'_>, &Store)>,
    verdict: &mut Verdict,
) -> bool {
    let mut compared = 0;
    let [spdx, cyclonedx, provenance] = &beside.documents;
    match parse(provenance) {
        Ok(None) => verdict.unknown(Subject::Provenance, "there is none"),
        Err(why) => verdict.refuse(Subject::Provenance, why, AGAIN),
        Ok(Some(statement)) => match disagreement(files, (manifest, text), &statement) {
            Some(why) => verdict.refuse(Subject::Provenance, why, AGAIN),
            None => verdict.ok(
                Subject::Provenance,
                "it is of this artifact, and names the packages and sources of the manifest",
            ),
        },
    }
    let again = layers.map(|(inspector, store)| made(&inspector, store, manifest.clone()));
    for (form, index, read, sha256) in
        [("SPDX", 0, spdx, spdx_sha256 as Find), ("CycloneDX", 1, cyclonedx, cyclonedx_sha256)]
    {
        let document = match parse(read) {
            Ok(None) => {
                verdict.unknown(Subject::Sbom, format!("there is none as {form}"));
                continue;
            }
            Err(why) => {
                verdict.refuse(Subject::Sbom, format!("{form}: {why}"), AGAIN);
                continue;
            }
            Ok(Some(document)) => document,
        };
        if sha256(&document) != Some(manifest.artifact.sha256.to_string()) {
            verdict.refuse(Subject::Sbom, format!("{form}: it is of another artifact"), AGAIN);
            continue;
        }
        let bytes = read.as_ref().ok().and_then(Option::as_deref).unwrap_or_default();
        match &again {
            None => verdict.ok(
                Subject::Sbom,
                format!("{form}: it is of this artifact; without the layers, what it lists is not compared"),
            ),
            Some(Ok(documents)) if documents[index].as_bytes() == bytes => {
                compared += 1;
                verdict.ok(Subject::Sbom, format!("{form}: it is what the layers make, byte for byte"));
            }
            Some(Ok(_)) if !is_of_this_version(&document) => verdict.unknown(
                Subject::Sbom,
                format!("{form}: it is of this artifact; another version of imgbuild wrote it, so it is not compared"),
            ),
            Some(Ok(_)) => {
                verdict.refuse(Subject::Sbom, format!("{form}: it is not what the layers make"), AGAIN);
            }
            Some(Err(error)) => {
                verdict.refuse(Subject::Sbom, format!("{form}: it cannot be compared: {error}"), AGAIN);
            }
        }
    }
    compared == 2
}

type Find = fn(&Value) -> Option<String>;

fn parse(read: &std::io::Result<Option<Vec<u8>>>) -> Result<Option<Value>, String> {
    match read {
        Ok(None) => Ok(None),
        Ok(Some(bytes)) => {
            let value = serde_json::from_slice(bytes);
            value.map(Some).map_err(|error| format!("it is no JSON: {error}"))
        }
        Err(error) => Err(format!("it cannot be read: {error}")),
    }
}

/// The SHA-256 of what the document describes.
fn spdx_sha256(document: &Value) -> Option<String> {
    let list = |name: &str| document[name].as_array().into_iter().flatten();
    let mut described = list("relationships").filter(|it| it["relationshipType"] == "DESCRIBES");
    let id = &described.next()?["relatedSpdxElement"];
    if described.next().is_some() {
        return None;
    }
    let mut packages = list("packages").filter(|package| package["SPDXID"] == *id);
    let package = packages.next().filter(|_| packages.next().is_none())?;
    hash(&package["checksums"], "algorithm", "SHA256", "checksumValue")
}

fn cyclonedx_sha256(document: &Value) -> Option<String> {
    hash(&document["metadata"]["component"]["hashes"], "alg", "SHA-256", "content")
}

fn hash(list: &Value, name: &str, algorithm: &str, value: &str) -> Option<String> {
    let mut hashes = list.as_array()?.iter().filter(|it| it[name] == algorithm);
    Some(hashes.next()?[value].as_str()?.to_owned())
}

/// Whether a bill says that this version of the program wrote it.
fn is_of_this_version(document: &Value) -> bool {
    let (name, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let spdx = document["creationInfo"]["creators"].as_array().into_iter().flatten();
    let cyclonedx = document["metadata"]["tools"]["components"].as_array().into_iter().flatten();
    spdx.into_iter().any(|it| *it == format!("Tool: {name}-{version}"))
        || cyclonedx.into_iter().any(|it| it["name"] == name && it["version"] == version)
}

/// What of `statement` does not fit the manifest.
fn disagreement(
    files: &Files,
    (manifest, text): (&Manifest, &[u8]),
    statement: &Value,
) -> Option<String> {
    let wrong = |is: bool, what: &str| (!is).then(|| what.to_owned());
    let is_statement = statement["_type"] == "https://in-toto.io/Statement/v1"
        && statement["predicateType"] == "https://slsa.dev/provenance/v1";
    let own = &manifest.artifact;
    let sha256 = own.sha256.to_string();
    let subject = json!([{ "name": own.name, "digest": { "sha256": sha256 } }]);
    let build = &statement["predicate"]["buildDefinition"];
    let parameters = &build["externalParameters"];
    let of_build = parameters["role"] == manifest.role.as_str()
        && parameters["version"] == manifest.version.as_str()
        && parameters["site"].as_str() == manifest.site.as_deref()
        && parameters["format"] == json!(own.format)
        && parameters["unpinned"].as_array().map_or(0, Vec::len) == manifest.unpinned.len();
    let name = files.manifest();
    let name = name.file_name().unwrap_or_default().to_string_lossy();
    let byproduct = json!([{ "name": name, "digest": { "sha256": Digest::of(text).to_string() } }]);
    wrong(is_statement, "it is no SLSA provenance v1")
        .or_else(|| wrong(statement["subject"] == subject, "it is of another artifact"))
        .or_else(|| wrong(of_build, "it tells of another build than the manifest"))
        .or_else(|| {
            let byproducts = &statement["predicate"]["runDetails"]["byproducts"];
            wrong(*byproducts == byproduct, "it tells of another manifest")
        })
        .or_else(|| {
            let (said, is) = (resolved(build), dependencies(manifest));
            let mut different = said.symmetric_difference(&is);
            let (name, _) = different.next()?;
            Some(format!("it and the manifest differ in what {name} is"))
        })
}

/// What the statement says was built from and has a package URL: names and digests.
fn resolved(build: &Value) -> BTreeSet<(String, String)> {
    let list = build["resolvedDependencies"].as_array().into_iter().flatten();
    let list = list.filter(|it| it["uri"].as_str().is_some_and(|uri| uri.starts_with("pkg:")));
    let pair = |it: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let digest = it["digest"].as_object().and_then(|digest| digest.values().next());
        (text(&it["name"]), digest.map(text).unwrap_or_default())
    };
    list.map(pair).collect()
}

/// The same of the manifest.
fn dependencies(manifest: &Manifest) -> BTreeSet<(String, String)> {
    let packages = manifest.packages.iter().map(|it| (it.name.clone(), it.sha256.to_string()));
    let sources = manifest.sources.iter().map(|it| {
        let oci = it.oci.as_ref().and_then(|oci| oci.digest.strip_prefix("sha256:"));
        let sha256 = it.sha256.map(|digest| digest.to_string());
        let digest = sha256.or_else(|| oci.map(str::to_owned)).or_else(|| it.commit.clone());
        (it.name.clone(), digest.unwrap_or_default())
    });
    packages.chain(sources).collect()
}
