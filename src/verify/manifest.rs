//! The artifact and its manifest.

use std::collections::BTreeSet;
use std::fs::File;

use super::{Subject, Verdict};
use crate::artifact::manifest::{Disk, Layer, Manifest};
use crate::artifact::name::{Format, artifact_name, disk_digest, image_digest};
use crate::digest::Digest;
use crate::signature::files::{self, Files};

/// The most bytes of a manifest. Those of the largest images have some hundred thousand.
const LIMIT: u64 = 64 << 20;

const BUILD: &str = "build it again, or get it again from where it was built";

/// Reads the manifest and holds the artifact against it. Gives the manifest and its text, if it is one.
pub(super) fn read(files: &Files, verdict: &mut Verdict) -> Option<(Manifest, Vec<u8>)> {
    let path = files.manifest();
    let bytes = match files::read(&path, LIMIT) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => {
            let text = format!("{} is not there", path.display());
            verdict.refuse(Subject::Manifest, text, BUILD);
            return None;
        }
        Err(error) => {
            let text = format!("{} cannot be read: {error}", path.display());
            verdict.refuse(Subject::Manifest, text, "make it readable");
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes);
    let manifest = match Manifest::from_json(&text) {
        Ok(manifest) => manifest,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
            verdict.refuse(Subject::Manifest, format!("{error}{cause}"), BUILD);
            return None;
        }
    };
    compare(files, &manifest, verdict);
    verdict.role = Some(manifest.role.clone());
    verdict.site.clone_from(&manifest.site);
    verdict.image = Some(manifest.digest);
    match contradiction(files, &manifest) {
        None => verdict.ok(
            Subject::Manifest,
            format!(
                "its layers make the image {}, which it is named after",
                manifest.digest.short()
            ),
        ),
        Some(text) => verdict.refuse(Subject::Manifest, text, BUILD),
    }
    Some((manifest, bytes))
}

/// Holds the bytes of the artifact against the manifest.
fn compare(files: &Files, manifest: &Manifest, verdict: &mut Verdict) {
    let path = files.artifact();
    let opened = File::open(&path).and_then(|file| {
        let size = file.metadata()?.len();
        Ok((size, Digest::of_reader(file)?))
    });
    let (size, digest) = match opened {
        Ok(found) => found,
        Err(error) => {
            let text = format!("{} cannot be read: {error}", path.display());
            return verdict.refuse(Subject::Artifact, text, BUILD);
        }
    };
    verdict.sha256 = Some(digest);
    let said = &manifest.artifact;
    if digest == said.sha256 && size == said.size {
        return verdict.ok(Subject::Artifact, format!("{size} bytes, SHA-256 {digest}"));
    }
    let text = format!(
        "it has {size} bytes and the SHA-256 {digest}, and its manifest says {} bytes and {}",
        said.size, said.sha256
    );
    verdict.refuse(Subject::Artifact, text, BUILD);
}

/// What in the manifest does not fit the rest of it, or the name of the artifact.
fn contradiction(files: &Files, manifest: &Manifest) -> Option<String> {
    if let Some(text) = unfit_layers(manifest) {
        return Some(text);
    }
    let own = &manifest.artifact;
    if own.name != files.artifact_name() {
        return Some(format!("it is that of {}", own.name));
    }
    match artifact_name(&manifest.role, &manifest.version, &manifest.digest) {
        Ok(stem) => {
            let name = format!("{stem}{}", own.format.extension());
            (name != own.name).then(|| format!("an artifact of this image is called {name}"))
        }
        Err(error) => Some(error.to_string()),
    }
}

/// Most layers of an image: far more than any has. What a disk's are is tried for each definition that they are of.
const MOST_LAYERS: usize = 1000;

/// Why the layers that the manifest names do not make the image that it says it is of, if so. That nobody has made them
/// into another artifact, no manifest proves.
pub(crate) fn unfit_layers(manifest: &Manifest) -> Option<String> {
    let count = manifest.layers.len();
    if count > MOST_LAYERS {
        return Some(format!("it has {count} layers, and no image has more than {MOST_LAYERS}"));
    }
    let fits = match (&manifest.disk, manifest.artifact.format) {
        (None, Format::LxcTemplate) => image(manifest, &manifest.layers) == manifest.digest,
        (Some(disk), Format::Qcow2) => is_disk_of(manifest, disk),
        _ => return Some("it is of another format than it says".to_owned()),
    };
    let digest = manifest.digest.short();
    (!fits).then(|| format!("its layers do not make the image {digest} that it says it is"))
}

/// Whether `disk` and the layers of `manifest` make what that says it is. The layers that only machines have lie among
/// those of the image; they are those of one definition, which no manifest names as such.
fn is_disk_of(manifest: &Manifest, disk: &Disk) -> bool {
    let names: BTreeSet<&str> = manifest.layers.iter().map(|layer| layer.image.as_str()).collect();
    names.into_iter().map(Some).chain([None]).any(|name| {
        let is_machine = |layer: &&Layer| Some(layer.image.as_str()) == name;
        let (machine, own): (Vec<&Layer>, Vec<&Layer>) =
            manifest.layers.iter().partition(is_machine);
        image(manifest, own) == disk.image
            && disk_digest(&disk.image, &digests(machine), &digests(&disk.boot)) == manifest.digest
    })
}

/// The digest of the image that `layers` make.
fn image<'a>(manifest: &Manifest, layers: impl IntoIterator<Item = &'a Layer>) -> Digest {
    image_digest(&manifest.role, &manifest.version, &digests(layers))
}

fn digests<'a>(layers: impl IntoIterator<Item = &'a Layer>) -> Vec<Digest> {
    layers.into_iter().map(|layer| layer.digest).collect()
}
