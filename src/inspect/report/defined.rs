//! What the definitions and the lock say of a role.

use super::{
    EndpointRow, LockSummary, Origin, ParameterRow, RepositoryRow, SecretRow, SourceRow, VolumeRow,
};
use crate::artifact::manifest;
use crate::definition::{
    Admitted, Image, Network, Parameter, ParameterName, Pin, Plan, Project, Protocol, Secret,
    Setting, State, Upstream,
};
use crate::digest::Digest;
use crate::lock::Lock;

/// A project, its lock, and what a role is there.
pub(super) struct Definitions<'a> {
    pub plan: &'a Plan,
    pub stack: Vec<&'a Image>,
    pub lock: &'a Lock,
    pub lock_digest: Digest,
}

impl<'a> Definitions<'a> {
    pub fn new(project: &'a Project, plan: &'a Plan, lock: (&'a Lock, Digest)) -> Self {
        let names = plan.layers.iter().map(|layer| layer.image.as_str());
        let stack = names.filter_map(|name| project.image(name).ok()).collect();
        Self { plan, stack, lock: lock.0, lock_digest: lock.1 }
    }

    pub fn lock(&self) -> LockSummary {
        LockSummary { sha256: self.lock_digest, snapshot: self.lock.snapshot.clone() }
    }

    /// The repository, or else the source, of a package.
    pub fn package_from(&self, package: &manifest::Package) -> Option<String> {
        let packages = self.lock.images.values().flat_map(|image| &image.packages);
        let mut same = packages.filter(|it| it.sha256 == package.sha256);
        let found = same.find(|it| it.name == package.name)?;
        Some(match &found.source {
            Some(source) => format!("source {source}"),
            None => found.repository.clone(),
        })
    }

    pub fn parameter(&self, name: &str, value: &serde_json::Value) -> ParameterRow {
        let declared: Option<(&ParameterName, &Parameter)> =
            self.stack.iter().find_map(|image| image.parameters.get_key_value(name));
        // What was built may have had other values than the definitions have now.
        let setting = declared.and_then(|(name, _)| self.plan.values.get(name));
        let setting = setting.filter(|setting| setting.value == *value);
        ParameterRow {
            name: name.to_owned(),
            value: value.clone(),
            origin: setting.zip(declared).map(|(it, (_, declared))| origin(it, declared)),
            place: setting.map(|it| format!("{}:{}", it.place.file(), it.place.line())),
            doc: declared.map(|(_, declared)| declared.doc.clone()),
        }
    }

    pub fn volume(&self, state: &manifest::State) -> VolumeRow {
        let mut defined = self.plan.states.iter();
        let defined = defined.find(|it: &&State| it.name.as_str() == state.name);
        let shape = self.plan.site.as_ref().and_then(|site| site.guests.get(&self.plan.role));
        let mut volumes = shape.into_iter().flat_map(|(shape, _)| &shape.volumes);
        let sized = volumes.find(|(name, _)| name.as_str() == state.name);
        VolumeRow {
            gib: sized.map(|(_, (volume, _))| volume.size_gib),
            doc: defined.map(|state| state.doc.clone()),
            ..volume(state)
        }
    }

    pub fn secret(&self, name: &str) -> SecretRow {
        let secret: Option<&Secret> = self.plan.secrets.get(name);
        SecretRow {
            name: name.to_owned(),
            path: secret.map(|secret| secret.path.to_string()),
            required: secret.map(|secret| secret.required),
            doc: secret.map(|secret| secret.doc.clone()),
        }
    }

    pub fn endpoints(&self) -> Vec<EndpointRow> {
        let endpoints = self.plan.endpoints.iter().map(|endpoint| EndpointRow {
            name: endpoint.name.to_string(),
            port: (endpoint.protocol != Protocol::Vrrp).then_some(endpoint.port),
            last_port: (endpoint.last_port > endpoint.port).then_some(endpoint.last_port),
            protocol: endpoint.protocol.as_str().to_owned(),
            clients: match &endpoint.admitted {
                Admitted::World => None,
                Admitted::Only(networks) => {
                    Some(networks.iter().map(|it| self.client(it)).collect())
                }
            },
            doc: endpoint.doc.clone(),
        });
        endpoints.collect()
    }

    /// A network, or the node that it is.
    fn client(&self, network: &Network) -> String {
        let mut nodes = self.plan.site.iter().flat_map(|site| &site.nodes);
        match nodes.find(|node| Network::host(node.address.address()) == *network) {
            Some(node) => format!("{} ({})", node.name, node.address.address()),
            None => network.to_string(),
        }
    }

    pub fn repositories(&self, packages: &[super::PackageRow]) -> Vec<RepositoryRow> {
        let repositories = self.plan.debian.repositories.iter().map(|repository| {
            let mut locked = self.lock.repositories.iter();
            let stack = |image: &str| self.stack.iter().any(|it| it.name.as_str() == image);
            let locked = locked.find(|it| it.name == repository.name && stack(&it.image));
            let from = |row: &&super::PackageRow| row.from.as_deref() == Some(&repository.name);
            RepositoryRow {
                name: repository.name.clone(),
                url: repository.url.clone(),
                suite: repository.suite.clone(),
                components: repository.components.clone(),
                signed_by: repository.signed_by.clone(),
                date: locked.map(|it| it.date.to_string()),
                release: locked.map(|it| it.release),
                packages: packages.iter().filter(from).count(),
            }
        });
        repositories.collect()
    }

    pub fn sources(&self) -> Vec<SourceRow> {
        let layers = self.plan.layers.iter();
        let sources = layers.flat_map(|layer| layer.sources.iter().map(move |it| (layer, it)));
        sources.map(|(layer, source)| upstream(source, layer.image.as_str())).collect()
    }
}

fn origin(setting: &Setting, declared: &Parameter) -> Origin {
    if setting.place == declared.place {
        Origin::Default
    } else if setting.place.file().starts_with("overlays/") {
        Origin::Overlay
    } else {
        Origin::Definition
    }
}

/// What a manifest says of a volume.
pub(super) fn volume(state: &manifest::State) -> VolumeRow {
    VolumeRow {
        name: state.name.clone(),
        path: state.path.display().to_string(),
        owner: state.owner.clone(),
        group: state.group.clone(),
        mode: state.mode.clone(),
        gib: None,
        doc: None,
    }
}

fn upstream(source: &Upstream, image: &str) -> SourceRow {
    let (pin, unverified) = match &source.pin {
        Pin::Unverified(how) => (None, Some(how.clone())),
        pin => (Some(pin.to_string()), None),
    };
    SourceRow {
        name: source.name.to_string(),
        kind: source.kind.word().to_owned(),
        pin,
        unverified,
        published: source.published.clone(),
        urls: source.urls.clone(),
        image: image.to_owned(),
    }
}

/// What a manifest says of a source.
pub(super) fn source(source: &manifest::Source) -> SourceRow {
    let oci = source.oci.as_ref().map(|oci| oci.digest.clone());
    let sha256 = source.sha256.map(|digest| digest.to_string());
    SourceRow {
        name: source.name.clone(),
        kind: source.kind.clone(),
        pin: source.commit.clone().or(oci).or(sha256),
        unverified: None,
        published: source.published.clone(),
        urls: source.urls.clone(),
        image: source.image.clone(),
    }
}
