//! What the manifest says of a built stack.

use super::plan::unpinned;
use super::{Check, Layer, LockedDisk, LockedImage, LockedPlan, LockedRole, PinnedPackage};
use crate::artifact::lint::Tolerated;
use crate::artifact::manifest::{
    self, Builder, Disk, File, Manifest, Oci, Package, SCHEMA, Source, State,
};
use crate::artifact::name::image_digest;
use crate::definition::{Pin, Plan, UpstreamKind};
use crate::digest::Digest;

/// The digest of the image that `layers` make, the same in every format.
pub(super) fn image(plan: &LockedPlan, layers: &[Layer]) -> Digest {
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.record.digest).collect();
    image_digest(plan.role(), plan.plan.version.as_str(), &digests)
}

/// The manifest of the image in the form of `artifact`.
pub(super) fn manifest(
    plan: &LockedPlan,
    layers: &[Layer],
    tolerated: &[Tolerated],
    artifact: File,
) -> Manifest {
    let images = plan.images.iter();
    let digest = image(plan, layers);
    describe(&plan.plan, (images, &plan.checks), (layers, tolerated), (digest, artifact))
}

/// The manifest of a disk, which `layers` are on, with what is tolerated in them, and `description` tells the
/// rest of.
pub(super) fn disk(
    role: &LockedRole,
    disk: &LockedDisk,
    contents: (&[Layer], &[Tolerated]),
    digest: Digest,
    artifact: File,
    description: Option<Disk>,
) -> Manifest {
    let machine = &disk.machine;
    let boot = disk.boot.images.iter().filter(|image| image.name == disk.boot_image.name);
    let images = role.plan.images.iter().chain([&machine.image]).chain(boot);
    let checks = [&*role.plan.checks, &machine.checks].concat();
    let manifest = describe(&machine.plan, (images, &checks), contents, (digest, artifact));
    Manifest { disk: description, ..manifest }
}

fn describe<'a>(
    settled: &Plan,
    (images, checks): (impl Iterator<Item = &'a LockedImage>, &[Check]),
    (layers, tolerated): (&[Layer], &[Tolerated]),
    (digest, artifact): (Digest, File),
) -> Manifest {
    let images: Vec<&LockedImage> = images.collect();
    Manifest {
        schema: SCHEMA,
        role: settled.role.to_string(),
        version: settled.version.to_string(),
        site: settled.site.as_ref().map(|site| site.name.to_string()),
        digest,
        artifact,
        layers: layers.iter().map(layer).collect(),
        parameters: settled
            .values
            .iter()
            .map(|(name, setting)| (name.to_string(), setting.value.clone()))
            .collect(),
        packages: packages(images.iter().copied()),
        sources: sources(images.iter().copied()),
        states: settled.states.iter().map(state).collect(),
        secrets: settled.secrets.keys().map(ToString::to_string).collect(),
        unpinned: unpinned(images.iter().copied()),
        builder: Builder::this(),
        checks: checks
            .iter()
            .map(|check| manifest::Check {
                image: check.image.clone(),
                command: check.command.clone(),
            })
            .collect(),
        tolerated: tolerated.iter().map(manifest::Tolerated::from).collect(),
        disk: None,
    }
}

/// What a manifest says of one layer.
pub(super) fn layer(layer: &Layer) -> manifest::Layer {
    manifest::Layer {
        image: layer.image.clone(),
        kind: layer.kind,
        digest: layer.record.digest,
        size: layer.record.size,
        key: layer.inputs.key(),
    }
}

/// The packages of `images`, by name.
pub(crate) fn packages<'a>(images: impl Iterator<Item = &'a LockedImage>) -> Vec<Package> {
    let mut packages: Vec<Package> = images
        .flat_map(|image| image.packages.iter().map(move |pinned| (image, pinned)))
        .map(|(image, pinned)| Package {
            name: pinned.package.name.clone(),
            version: pinned.package.version.clone(),
            architecture: pinned.package.architecture.clone(),
            sha256: pinned.package.sha256,
            url: pinned.urls.first().filter(|_| !is_given(image, pinned)).cloned(),
            image: image.name.clone(),
        })
        .collect();
    packages.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    packages
}

/// Whether something else was given by hand for a package of `image`.
fn is_given(image: &LockedImage, pinned: &PinnedPackage) -> bool {
    let name = pinned.package.source.as_deref();
    let mut files = image.files.iter();
    files.any(|file| Some(file.upstream.name.as_str()) == name && file.unpinned().is_some())
}

fn sources<'a>(images: impl Iterator<Item = &'a LockedImage>) -> Vec<Source> {
    let mut sources: Vec<Source> = images
        .flat_map(|image| image.sources.iter().map(move |source| (image, source)))
        .map(|(image, source)| {
            let pinned = source.unpinned().is_none();
            let pin = pinned.then_some(&source.upstream.pin);
            let commit = match pin {
                Some(Pin::Commit(commit)) => Some(commit.to_string()),
                _ => None,
            };
            let oci = match (pin, &source.upstream.kind) {
                (Some(pin @ Pin::Image(_)), UpstreamKind::Oci { image, path, .. }) => {
                    let (image, digest, path) =
                        (image.to_string(), pin.to_string(), path.to_string());
                    Some(Oci { image, digest, path: path.into() })
                }
                _ => None,
            };
            Source {
                name: source.upstream.name.to_string(),
                kind: source.upstream.kind.word().to_owned(),
                path: source
                    .upstream
                    .kind
                    .destination()
                    .map(|into| into.to_string().into())
                    .unwrap_or_default(),
                sha256: source.digest().filter(|_| commit.is_none() && oci.is_none()),
                directory: !pinned && source.is_directory(),
                commit,
                oci,
                published: source.upstream.published.clone().filter(|_| pinned),
                urls: source.upstream.urls.clone(),
                image: image.name.clone(),
            }
        })
        .collect();
    sources.sort_by(|a, b| (&a.name, &a.image).cmp(&(&b.name, &b.image)));
    sources
}

/// What a manifest says of a volume.
pub(crate) fn state(state: &crate::definition::State) -> State {
    State {
        name: state.name.to_string(),
        path: state.path.to_string().into(),
        owner: state.owner.clone(),
        group: state.group.clone(),
        mode: format!("{:04o}", state.mode.bits()),
    }
}
