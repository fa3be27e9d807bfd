//! What the manifest says of a built stack.

use super::{Layer, LockedPlan};
use crate::artifact::manifest::{self, Builder, File, Manifest, Package, SCHEMA, State};
use crate::artifact::name::image_digest;
use crate::digest::Digest;

/// The digest of the image that `layers` make, the same in every format.
pub(super) fn image(plan: &LockedPlan, layers: &[Layer]) -> Digest {
    let digests: Vec<Digest> = layers.iter().map(|layer| layer.record.digest).collect();
    image_digest(plan.role(), plan.plan.version.as_str(), &digests)
}

/// The manifest of the image in the form of `artifact`.
pub(super) fn manifest(plan: &LockedPlan, layers: &[Layer], artifact: File) -> Manifest {
    let settled = &plan.plan;
    Manifest {
        schema: SCHEMA,
        role: plan.role().to_owned(),
        version: settled.version.to_string(),
        site: settled.site.as_ref().map(|site| site.name.to_string()),
        digest: image(plan, layers),
        artifact,
        layers: layers.iter().map(layer).collect(),
        parameters: settled
            .values
            .iter()
            .map(|(name, setting)| (name.to_string(), setting.value.clone()))
            .collect(),
        packages: packages(plan),
        states: settled.states.iter().map(state).collect(),
        secrets: settled.secrets.keys().map(ToString::to_string).collect(),
        unpinned: plan.unpinned.clone(),
        builder: Builder::this(),
        checks: plan
            .checks
            .iter()
            .map(|check| manifest::Check {
                image: check.image.clone(),
                command: check.command.clone(),
            })
            .collect(),
    }
}

fn layer(layer: &Layer) -> manifest::Layer {
    manifest::Layer {
        image: layer.image.clone(),
        kind: layer.kind,
        digest: layer.record.digest,
        size: layer.record.size,
        key: layer.inputs.key(),
    }
}

fn packages(plan: &LockedPlan) -> Vec<Package> {
    let mut packages: Vec<Package> = plan
        .images
        .iter()
        .flat_map(|image| image.packages.iter().map(move |pinned| (image, &pinned.package)))
        .map(|(image, package)| Package {
            name: package.name.clone(),
            version: package.version.clone(),
            architecture: package.architecture.clone(),
            sha256: package.sha256,
            image: image.name.clone(),
        })
        .collect();
    packages.sort_by(|a, b| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    packages
}

fn state(state: &crate::definition::State) -> State {
    State {
        path: state.path.to_string().into(),
        owner: state.owner.clone(),
        group: state.group.clone(),
        mode: format!("{:04o}", state.mode.bits()),
    }
}
