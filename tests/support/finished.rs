//! An artifact as a build leaves it, without a build.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use imgbuild::artifact::manifest::{Builder, File, Layer, LayerKind, Manifest, SCHEMA};
use imgbuild::artifact::name::{Format, artifact_name, image_digest};
use imgbuild::digest::Digest;

/// Writes the template of a role `app` with this `content`, and its manifest, into `directory`. Returns what their names
/// begin with.
pub fn finished(directory: &Path, content: &[u8]) -> String {
    finished_as("app", directory, content)
}

/// The same of another role.
pub fn finished_as(role: &str, directory: &Path, content: &[u8]) -> String {
    let (version, layer) = ("1.0.0", Digest::of("a layer"));
    let digest = image_digest(role, version, &[layer]);
    let stem = artifact_name(role, version, &digest).unwrap();
    let format = Format::LxcTemplate;
    let name = format!("{stem}{}", format.extension());
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join(&name), content).unwrap();
    let manifest = Manifest {
        schema: SCHEMA,
        role: role.to_owned(),
        version: version.to_owned(),
        site: Some("campus".to_owned()),
        digest,
        artifact: File { name, format, sha256: Digest::of(content), size: content.len() as u64 },
        layers: vec![Layer {
            image: role.to_owned(),
            kind: LayerKind::Files,
            digest: layer,
            size: 7,
            key: Digest::of("its key"),
        }],
        parameters: BTreeMap::new(),
        packages: Vec::new(),
        sources: Vec::new(),
        states: Vec::new(),
        secrets: Vec::new(),
        unpinned: Vec::new(),
        builder: Builder::this(),
        checks: Vec::new(),
        tolerated: Vec::new(),
        disk: None,
    };
    fs::write(directory.join(format!("{stem}.manifest.json")), manifest.to_json()).unwrap();
    stem
}
