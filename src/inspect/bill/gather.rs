//! From a manifest and layers to a bill.

use std::path::Path;
use std::sync::Arc;

use sha1_checked::{Digest as _, Sha1};

use super::packages::Packages;
use super::{Bill, Distribution, File, Layer, Upstream};
use crate::artifact::manifest::{LayerKind, Manifest};
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::inspect::image::{self, words};
use crate::inspect::tree::{self, Tree};
use crate::inspect::{Error, Inspector};
use crate::layer::archive::Archive;
use crate::layer::entry::Kind;
use crate::store::Store;

impl Bill {
    /// What is in the image of `manifest`, whose layers are in `store`.
    ///
    /// # Errors
    /// A layer is not there, or cannot be read.
    pub fn new(
        inspector: &Inspector<'_>,
        store: &Store,
        manifest: Manifest,
    ) -> Result<Self, Error> {
        let boot = manifest.disk.iter().flat_map(|disk| &disk.boot);
        let stacks = [manifest.layers.iter().collect::<Vec<_>>(), boot.collect()];
        let mut archives = Vec::new();
        for stack in &stacks {
            let layers: Vec<image::Layer> =
                stack.iter().map(|&layer| image::Layer::from(layer.clone())).collect();
            archives.push(inspector.open(&layers)?.ok_or_else(|| unbuilt(&manifest))?);
        }
        let mut layers: Vec<Layer> = Vec::new();
        let mut created = 0;
        for (layer, archive) in stacks.iter().flatten().zip(archives.iter().flatten()) {
            if layers.iter().any(|one| one.digest == layer.digest) {
                continue;
            }
            let times = archive.index.entries().iter().map(|member| member.entry.mtime);
            created = created.max(times.max().unwrap_or_default());
            let files = match layer.kind {
                LayerKind::Files => files(archive)?,
                _ => Vec::new(),
            };
            let (image, kind, digest) = (layer.image.clone(), layer.kind, layer.digest);
            layers.push(Layer { image, kind, digest, files });
        }
        let trees: Result<Vec<Tree<'_>>, Error> =
            archives.iter().filter(|stack| !stack.is_empty()).map(|it| Tree::new(it)).collect();
        let trees = trees?;
        let distribution = match trees.first() {
            Some(tree) => Distribution::read(tree)?,
            None => Distribution::default(),
        };
        let packages = Packages { store, trees: &trees, layers: &layers }.read(&manifest)?;
        let sources = manifest.sources.iter().map(|source| {
            let layer = layers
                .iter()
                .position(|it| it.image == source.image && it.kind == LayerKind::Sources);
            Upstream { source: source.clone(), layer }
        });
        let sources = sources.collect();
        let created = Moment::from_unix(created);
        Ok(Self { manifest, created, distribution, layers, packages, sources })
    }
}

fn unbuilt(manifest: &Manifest) -> Error {
    Error::NotBuilt {
        role: words(&manifest.role, manifest.site.as_deref()),
        wanted: "what is in the image: not all of its layers are in the store".to_owned(),
    }
}

/// The regular files of a layer.
fn files(archive: &Arc<Archive>) -> Result<Vec<File>, Error> {
    let mut files = Vec::new();
    for member in archive.index.entries() {
        let Kind::File { size } = member.entry.kind else { continue };
        let bytes = tree::bytes(archive, member.data_offset, size as usize)?;
        let sha1 = Sha1::digest(&bytes);
        files.push(File {
            path: member.entry.path.clone(),
            sha256: Digest::of(&bytes),
            sha1: hexadecimal(&sha1),
        });
    }
    Ok(files)
}

/// `bytes` in hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl Distribution {
    /// What the tree says of itself, as os-release(5) has it.
    fn read(tree: &Tree<'_>) -> Result<Self, Error> {
        let text = tree.text(tree.place(Path::new("usr/lib/os-release")))?;
        Ok(Self::parse(&text))
    }

    pub(super) fn parse(text: &str) -> Self {
        let value = |name: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once('='));
            let (_, value) = lines.find(|(found, _)| *found == name)?;
            let value = value.trim().trim_matches(['"', '\'']);
            (!value.is_empty()).then(|| value.to_owned())
        };
        // What a system is that does not say it (os-release(5), `ID`).
        let id = value("ID").unwrap_or_else(|| "linux".to_owned());
        Self { id, version: value("VERSION_ID"), codename: value("VERSION_CODENAME") }
    }
}
