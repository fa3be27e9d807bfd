//! Everything there is to say of one role, or of one image.

use super::defined::{self, Definitions};
use super::usage::Usage;
use super::{
    Artifact, Belongs, LayerRow, Note, PackageRow, Provenance, RoleReport, UnitRow, UserRow,
};
use crate::artifact::manifest::{Check, Manifest};
use crate::artifact::name::Format;
use crate::definition::{Plan, Project};
use crate::digest::Digest;
use crate::inspect::Error;
use crate::inspect::compare::{Account, Accounts, compare, units_of};
use crate::inspect::image::{Image, Layer};
use crate::inspect::ownership::Ownership;
use crate::inspect::tree::Tree;
use crate::lock::Lock;

/// What is known of an image.
pub struct Known<'a> {
    /// It, from its manifest or from definitions.
    pub image: &'a Image,
    /// The manifests of its artifacts in all formats, if they were built; that of `image` first.
    pub manifests: &'a [Manifest],
    /// The image that was built before it.
    pub previous: Option<&'a Image>,
    /// The project, what the role is there, its lock and the SHA-256 of that.
    pub definitions: Option<(&'a Project, &'a Plan, &'a Lock, Digest)>,
    /// What builds it.
    pub command: &'a str,
}

/// Says everything.
///
/// # Errors
/// A layer cannot be read.
pub fn describe(known: &Known<'_>) -> Result<RoleReport, Error> {
    let Known { image, manifests, previous, .. } = known;
    let facts = &image.facts;
    let definitions = known
        .definitions
        .map(|(project, plan, lock, digest)| Definitions::new(project, plan, (lock, digest)));
    let definitions = definitions.as_ref();
    let tree = image.archives.as_deref().map(Tree::new).transpose()?;
    let usage = match &tree {
        Some(tree) => Some(Usage::of(&image.layers, tree, &Ownership::read(tree)?)),
        None => None,
    };
    let packages = packages(image, usage.as_ref(), definitions);
    let manifest = manifests.first().filter(|it| Some(it.digest) == facts.digest);
    let difference = previous.map(|previous| compare(previous, image)).transpose()?;
    let users = Accounts::of(image, tree.as_ref())?.map(|accounts| {
        let row = |(name, user): (String, Account)| UserRow {
            name,
            uid: user.uid,
            gid: user.gid,
            home: user.home,
            shell: user.shell,
        };
        accounts.users().into_iter().map(row).collect()
    });
    let units = units_of(image, tree.as_ref())?
        .map(|units| units.into_iter().map(|(name, reasons)| UnitRow { name, reasons }).collect());
    let parameters = facts.parameters.iter().map(|(name, value)| match definitions {
        Some(definitions) => definitions.parameter(name, value),
        None => super::ParameterRow {
            name: name.clone(),
            value: value.clone(),
            origin: None,
            place: None,
            doc: None,
        },
    });
    let volumes = facts.states.iter().map(|state| match definitions {
        Some(definitions) => definitions.volume(state),
        None => defined::volume(state),
    });
    let secrets = facts.secrets.iter().map(|name| match definitions {
        Some(definitions) => definitions.secret(name),
        None => super::SecretRow { name: name.clone(), path: None, required: None, doc: None },
    });
    Ok(RoleReport {
        role: facts.role.clone(),
        version: facts.version.clone(),
        summary: definitions.map(|it| it.plan.summary.clone()),
        site: facts.site.clone(),
        format: facts.format,
        digest: facts.digest,
        notes: notes(known),
        artifacts: manifests.iter().map(artifact).collect(),
        layers: layers(image, known),
        parameters: parameters.collect(),
        volumes: volumes.collect(),
        endpoints: definitions.map(Definitions::endpoints),
        secrets: secrets.collect(),
        units,
        users,
        checks: checks(manifest, definitions),
        checked: manifest.is_some(),
        provenance: Provenance {
            builder: manifest.map(|it| it.builder.clone()),
            lock: definitions.map(Definitions::lock),
            repositories: definitions.map(|it| it.repositories(&packages)).unwrap_or_default(),
            sources: match (manifest, definitions) {
                (Some(manifest), _) if !manifest.sources.is_empty() => {
                    manifest.sources.iter().map(defined::source).collect()
                }
                (_, Some(definitions)) => definitions.sources(),
                _ => Vec::new(),
            },
            unpinned: facts.unpinned.clone(),
        },
        packages,
        usage,
        difference,
    })
}

/// What cannot be said, and how to change that.
fn notes(known: &Known<'_>) -> Vec<Note> {
    let Known { image, command, .. } = known;
    let name = match image.facts.format {
        Format::LxcTemplate => "template",
        Format::Qcow2 => "disk",
    };
    let mut notes = Vec::new();
    if image.facts.digest.is_none() {
        let text = match image.archives {
            None => format!(
                "No {name} of this role was built here as it is defined now, so sizes and units are not \
                 known, and its checks have not run."
            ),
            Some(_) => format!(
                "No {name} of this role was made here as it is defined now, although the store has all of its \
                 layers."
            ),
        };
        notes.push(Note { text, command: Some((*command).to_owned()) });
    } else if image.archives.is_none() {
        let text = format!(
            "The layers of this {name} are not in the store of this machine: only what its manifest says is known."
        );
        notes.push(Note { text, command: known.definitions.map(|_| (*command).to_owned()) });
    }
    if known.definitions.is_none() {
        let text = "Only what was built was looked at, without its project: endpoints, repositories and where \
                    values come from are not known.";
        notes.push(Note { text: text.to_owned(), command: None });
    }
    notes
}

fn artifact(manifest: &Manifest) -> Artifact {
    Artifact {
        name: manifest.artifact.name.clone(),
        format: manifest.artifact.format,
        digest: manifest.digest,
        sha256: manifest.artifact.sha256,
        bytes: manifest.artifact.size,
        virtual_bytes: manifest.disk.as_ref().map(|disk| disk.virtual_size),
    }
}

/// The layers of the image, and those that its disk has besides if that was built.
fn layers(image: &Image, known: &Known<'_>) -> Vec<LayerRow> {
    let sum = |layers: &[Layer]| layers.iter().map(|layer| layer.size).sum::<Option<u64>>();
    let all = sum(&image.layers).zip(sum(&image.boot)).map(|(one, other)| one + other);
    let row = |layer: &Layer, belongs, paths| LayerRow {
        name: layer.name(),
        image: layer.image.clone(),
        kind: layer.kind,
        belongs,
        digest: layer.digest,
        bytes: layer.size,
        paths,
        share: layer.size.zip(all).map(|(bytes, all)| bytes as f64 / all.max(1) as f64),
    };
    let own = image.layers.iter().enumerate().map(|(number, layer)| {
        let archive = image.archives.as_ref().and_then(|archives| archives.get(number));
        let paths = archive.map(|archive| archive.index.entries().len());
        let belongs = match known.definitions {
            Some((project, ..)) if is_machine(project, &layer.image) => Belongs::Disk,
            _ => Belongs::Image,
        };
        row(layer, belongs, paths)
    });
    let boot = image.boot.iter().map(|layer| row(layer, Belongs::Boot, None));
    own.chain(boot).collect()
}

fn is_machine(project: &Project, image: &str) -> bool {
    project.image(image).is_ok_and(|image| image.machine.is_some())
}

fn packages(
    image: &Image,
    usage: Option<&Usage>,
    definitions: Option<&Definitions<'_>>,
) -> Vec<PackageRow> {
    let sizes = usage.map(Usage::packages).unwrap_or_default();
    let row = |package: &crate::artifact::manifest::Package| PackageRow {
        name: package.name.clone(),
        version: package.version.clone(),
        architecture: package.architecture.clone(),
        image: package.image.clone(),
        from: definitions.and_then(|it| it.package_from(package)),
        // Those of a boot image are not in the tree.
        bytes: sizes
            .get(package.name.as_str())
            .copied()
            .filter(|_| image.layers.iter().any(|layer| layer.image == package.image)),
    };
    image.facts.packages.iter().map(row).collect()
}

/// The checks that an image has passed, or is to pass.
fn checks(manifest: Option<&Manifest>, definitions: Option<&Definitions<'_>>) -> Vec<Check> {
    match (manifest, definitions) {
        (Some(manifest), _) => manifest.checks.clone(),
        (None, Some(definitions)) => {
            let checks = definitions.stack.iter().flat_map(|image| {
                image.checks.iter().map(|check| Check {
                    image: image.name.to_string(),
                    command: check.command.clone(),
                })
            });
            checks.collect()
        }
        (None, None) => Vec::new(),
    }
}
