//! OCI images made by a test, in a registry on its server or in a layout on disk.

use std::fs;
use std::path::Path;

use imgbuild::digest::Digest;

use super::http::Server;

/// An image for linux/amd64 in an index with one for another platform.
pub struct Image {
    /// The digest of the index.
    pub index: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The digests of its layers, the lowest first.
    pub layers: Vec<Digest>,
    documents: Vec<Vec<u8>>,
    blobs: Vec<Vec<u8>>,
}

/// A layer of these files, each with its mode; a target with `->` before it makes a link, `=>` a hard link.
pub fn layer(files: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, mode, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        header.set_mtime(4_000_000_000);
        header.set_uid(1000);
        header.set_size(0);
        let link = content.split_once("> ").filter(|(sign, _)| matches!(*sign, "-" | "="));
        if let Some((sign, target)) = link {
            let kind = if sign == "-" { tar::EntryType::Symlink } else { tar::EntryType::Link };
            header.set_entry_type(kind);
            builder.append_link(&mut header, path, target).unwrap();
        } else {
            header.set_size(content.len() as u64);
            builder.append_data(&mut header, path, content.as_bytes()).unwrap();
        }
    }
    zstd::encode_all(&builder.into_inner().unwrap()[..], 1).unwrap()
}

fn descriptor(kind: &str, bytes: &[u8]) -> serde_json::Value {
    serde_json::json!({
        "mediaType": kind,
        "digest": format!("sha256:{}", Digest::of(bytes)),
        "size": bytes.len(),
    })
}

impl Image {
    /// One of these layers, the lowest first.
    pub fn new(layers: Vec<Vec<u8>>) -> Self {
        const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
        let manifest = |config: &[u8], layers: &[Vec<u8>]| {
            let kind = "application/vnd.oci.image.layer.v1.tar+zstd";
            let layers: Vec<_> = layers.iter().map(|layer| descriptor(kind, layer)).collect();
            let manifest = serde_json::json!({
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": descriptor("application/vnd.oci.image.config.v1+json", config),
                "layers": layers,
            });
            serde_json::to_vec(&manifest).unwrap()
        };
        let config = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
        let (ours, other) = (manifest(&config, &layers), manifest(b"{}", &[]));
        let part = |bytes: &[u8], architecture: &str| {
            let mut part = descriptor(MANIFEST, bytes);
            part["platform"] = serde_json::json!({ "os": "linux", "architecture": architecture });
            part
        };
        let index = serde_json::to_vec(&serde_json::json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [part(&other, "arm64"), part(&ours, "amd64")],
        }))
        .unwrap();
        Self {
            index: Digest::of(&index),
            manifest: Digest::of(&ours),
            layers: layers.iter().map(Digest::of).collect(),
            documents: vec![index, ours],
            blobs: [layers, vec![config]].concat(),
        }
    }

    /// Serves it as `name` at `server`, as a registry does.
    pub fn serve(&self, server: &Server, name: &str) {
        for (kind, blobs) in [("manifests", &self.documents), ("blobs", &self.blobs)] {
            for blob in blobs {
                let path = format!("/v2/{name}/{kind}/sha256:{}", Digest::of(blob));
                server.file(&path, blob.clone());
            }
        }
    }

    /// Writes it to `directory` as a layout.
    pub fn layout(&self, directory: &Path) {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        for blob in self.documents.iter().chain(&self.blobs) {
            fs::write(blobs.join(Digest::of(blob).to_string()), blob).unwrap();
        }
    }
}
