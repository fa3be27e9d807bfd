//! What a site should be: its overlay and its artifacts, as the engine and Proxmox VE need to know them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use super::platform::GuestId;
use super::proxmox::{ArtifactFile, NodeAddress, Place, RoleShape};
use super::secrets::Declared;
use super::wanted::{Node, Role, Wanted, WantedError};
use crate::artifact::manifest::{Manifest, SCHEMA};
use crate::artifact::name::Format;
use crate::definition::{
    self, GuestKind, GuestShape, Hosting, Hostname, ImageName, Plan, Project, Site, SiteName, Swap,
    VolumeName,
};

/// What the names of manifests end with.
const MANIFEST: &str = ".manifest.json";

/// The port on which guests answer for their health, where no parameter says another one.
const HEALTH_PORT: &str = "health_http_port";

/// A site that cannot be deployed as it is.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The overlay does not say where guests live.
    #[error("the site `{0}` does not say where its guests live")]
    #[diagnostic(help("add [proxmox] and [guests.ROLE] to its overlay: docs/overlay.md"))]
    NoHosting(SiteName),
    /// A role has no artifact that is up to date.
    #[error("no artifact in {} is what the definitions say now of: {}", directory.display(), names(roles))]
    #[diagnostic(help("build them: `imgbuild build {} --site {site}{} --out {}`", roles.iter().map(ImageName::as_str).collect::<Vec<_>>().join(" "), flag(*format), directory.display()))]
    NoArtifact {
        /// Where artifacts were looked for.
        directory: PathBuf,
        /// The site.
        site: SiteName,
        /// The roles without one.
        roles: Vec<ImageName>,
        /// The only format that will do, if there is only one.
        format: Option<Format>,
    },
    /// Two artifacts of a role, built from different things that were given by hand.
    #[error("two artifacts of {role} are what the definitions say now: {} and {}", files[0].display(), files[1].display())]
    #[diagnostic(help(
        "they differ in what `--source` was given; remove the one that shall not run, and its manifest"
    ))]
    Ambiguous {
        /// The role.
        role: ImageName,
        /// The two.
        files: [PathBuf; 2],
    },
    /// A directory or file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in the overlay does not fit.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Definition(#[from] definition::Error),
    /// The site contradicts itself.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Wanted(#[from] WantedError),
}

/// How `build` is told to make nothing but `format`.
fn flag(format: Option<Format>) -> &'static str {
    match format {
        Some(Format::LxcTemplate) => " --format lxc",
        Some(Format::Qcow2) => " --format qcow2",
        None => "",
    }
}

fn names(roles: &[ImageName]) -> String {
    roles.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", ")
}

/// An artifact and its manifest.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// Where the file is.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: Manifest,
}

/// The artifacts in `directory` that were built for `site`, or for none. Manifests of other versions of this program are
/// passed over, and so are those whose artifact is gone.
///
/// # Errors
///
/// When the directory cannot be read. One that is not there has no artifacts.
pub fn artifacts(directory: &Path, site: Option<&SiteName>) -> Result<Vec<Artifact>, Error> {
    let failed = |path: &Path, source| Error::Read { path: path.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(directory, error)),
    };
    let mut artifacts = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(MANIFEST)) {
            continue;
        }
        let text = fs::read(&path).map_err(|error| failed(&path, error))?;
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&text) else { continue };
        let file = directory.join(&manifest.artifact.name);
        let ours =
            manifest.schema == SCHEMA && manifest.site.as_deref() == site.map(SiteName::as_str);
        if ours && file.is_file() {
            artifacts.push(Artifact { path: file, manifest });
        }
    }
    artifacts.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(artifacts)
}

/// The artifact of `role` among those `found` that `is_current`, if there is one.
///
/// # Errors
///
/// [`Error::Ambiguous`], and what `is_current` fails with.
pub(crate) fn choose<'a, E>(
    found: &'a [Artifact],
    role: &ImageName,
    format: Format,
    is_current: impl Fn(&ImageName, &Manifest) -> Result<bool, E>,
) -> Result<Result<Option<&'a Artifact>, Error>, E> {
    let mut chosen: Option<&Artifact> = None;
    for artifact in found {
        let manifest = &artifact.manifest;
        let fits = manifest.role == role.as_str() && manifest.artifact.format == format;
        if !fits || !is_current(role, manifest)? {
            continue;
        }
        if let Some(other) = chosen.replace(artifact) {
            let files = [other.path.clone(), artifact.path.clone()];
            return Ok(Err(Error::Ambiguous { role: role.clone(), files }));
        }
    }
    Ok(Ok(chosen))
}

/// `plan` as the engine needs to know it. A role without an `artifact` wants an image that nobody has, under no
/// name.
pub(crate) fn role(
    plan: &Plan,
    kind: GuestKind,
    mut volumes: BTreeMap<VolumeName, u32>,
    artifact: Option<&Artifact>,
) -> Role {
    if let (false, Ok(secrets)) = (plan.secrets.is_empty(), super::proxmox::SECRETS.parse()) {
        volumes.insert(secrets, SECRETS_GIB);
    }
    let artifact = artifact.map(|artifact| &artifact.manifest);
    let swap = plan.swap.as_ref();
    let seconds = |number: u32| Duration::from_secs(number.into());
    let arbitrator = plan.cluster.as_ref().and_then(|cluster| cluster.arbitrator.as_ref());
    Role {
        name: plan.role.clone(),
        order: swap.map_or(0, |swap| swap.order),
        kind,
        image: artifact.map_or_else(nothing, |manifest| manifest.digest),
        artifact: artifact.map_or_else(String::new, |it| it.artifact.name.clone()),
        volumes,
        patience: seconds(swap.map_or(0, |swap| swap.patience)) + SHUTDOWN,
        ready_within: seconds(swap.map_or(Swap::READY_WITHIN, |swap| swap.ready_within)),
        arbitrator: arbitrator.map(|(image, _)| image.clone()),
        needs: plan.needs.clone(),
    }
}

/// The port on which nodes of `plan` answer for their health; 0 if it has none.
pub(crate) fn health_port(plan: &Plan) -> u16 {
    let mut settings = plan.values.iter();
    let port = settings.find(|(name, _)| name.as_str() == HEALTH_PORT);
    let port = port.and_then(|(_, setting)| setting.value.as_u64());
    port.and_then(|port| port.try_into().ok()).unwrap_or(0)
}

/// A site, and the artifacts for it.
pub struct Deployment {
    /// The site.
    pub site: Site,
    /// Where its guests live.
    pub hosting: Hosting,
    /// The roles that have nodes, each with what it is.
    roles: BTreeMap<ImageName, (Plan, GuestShape)>,
    /// The artifact of each role, where there is one that is up to date.
    chosen: BTreeMap<ImageName, Artifact>,
    /// Where artifacts were looked for.
    directory: PathBuf,
}

impl Deployment {
    /// The site `name` of `project` with those artifacts in `directory` for which `is_current` holds. What
    /// `check` proves of a site is taken for granted.
    ///
    /// # Errors
    ///
    /// A site that does not say where its guests live, or a role without a plan.
    pub fn new<E: From<Error>>(
        project: &Project,
        name: &str,
        directory: &Path,
        is_current: impl Fn(&ImageName, &Manifest) -> Result<bool, E>,
    ) -> Result<Self, E> {
        let site = project.settled_site(name).map_err(Error::from)?;
        let hosting = site.hosting.clone().ok_or_else(|| Error::NoHosting(site.name.clone()))?;
        let found = artifacts(directory, Some(&site.name))?;
        let mut roles = BTreeMap::new();
        let mut chosen = BTreeMap::new();
        for node in &site.nodes {
            let role = &node.image;
            let Some((shape, _)) = site.guests.get(role) else { continue };
            if roles.contains_key(role) {
                continue;
            }
            let plan = project.plan(role.as_str(), Some(name)).map_err(Error::from)?;
            if let Some(artifact) = choose(&found, role, format(shape.kind), &is_current)?? {
                chosen.insert(role.clone(), artifact.clone());
            }
            roles.insert(role.clone(), (plan, shape.clone()));
        }
        Ok(Self { site, hosting, roles, chosen, directory: directory.to_owned() })
    }

    /// The artifacts that are up to date.
    pub fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        self.chosen.values()
    }

    /// What guests of `role` are made of, if it has any.
    pub fn format(&self, role: &ImageName) -> Option<Format> {
        self.roles.get(role).map(|(_, shape)| format(shape.kind))
    }

    /// Roles without an artifact that is up to date.
    ///
    /// # Errors
    ///
    /// [`Error::NoArtifact`] for those among them for which `needed` holds.
    pub fn require_artifacts(&self, needed: impl Fn(&ImageName) -> bool) -> Result<(), Error> {
        let missing = self.roles.keys().filter(|role| !self.chosen.contains_key(*role));
        let roles: Vec<ImageName> = missing.filter(|role| needed(role)).cloned().collect();
        if roles.is_empty() {
            return Ok(());
        }
        let (directory, site) = (self.directory.clone(), self.site.name.clone());
        Err(Error::NoArtifact { directory, site, roles, format: None })
    }

    /// What the engine is to reach. Roles without an artifact want an image that nobody has, under no name:
    /// whoever deploys them calls [`Deployment::require_artifacts`] first, and to look at them, to take them
    /// back or to prune takes none.
    ///
    /// # Errors
    ///
    /// A site that contradicts itself.
    pub fn wanted(&self) -> Result<Wanted, Error> {
        let mut roles = Vec::new();
        for (name, (plan, shape)) in &self.roles {
            let volumes = shape.volumes.iter();
            let volumes = volumes.map(|(name, (volume, _))| (name.clone(), volume.size_gib));
            roles.push(role(plan, shape.kind, volumes.collect(), self.chosen.get(name)));
        }
        let nodes = self.site.nodes.iter().filter_map(|node| {
            let host = node.host.as_ref()?.0.clone();
            Some(Node {
                name: node.name.clone(),
                role: node.image.clone(),
                host,
                number: node.number,
            })
        });
        let ids = GuestId(self.hosting.vmids.start() + 1)..=GuestId(*self.hosting.vmids.end());
        let grace = Duration::from_secs(u64::from(self.hosting.grace_days) * 24 * 3600);
        Ok(Wanted::new(self.site.name.clone(), roles, nodes.collect(), ids, grace)?)
    }

    /// The secrets of each node.
    pub fn declared_secrets(&self) -> BTreeMap<Hostname, Declared> {
        let nodes = self.site.nodes.iter().filter_map(|node| {
            let (plan, _) = self.roles.get(&node.image)?;
            let files = plan.secrets.values().filter_map(|secret| {
                let name = Path::new(secret.path.as_str()).file_name()?.to_str()?;
                Some((name.to_owned(), secret.required))
            });
            let declared = Declared { role: node.image.clone(), files: files.collect() };
            Some((node.name.clone(), declared))
        });
        nodes.collect()
    }

    /// Where guests live.
    pub fn place(&self) -> Place {
        let hosting = &self.hosting;
        Place {
            site: self.site.name.clone(),
            lease: GuestId(*hosting.vmids.start()),
            ids: GuestId(*hosting.vmids.start())..=GuestId(*hosting.vmids.end()),
            pool: hosting.pool.clone(),
            artifacts: hosting.artifacts.clone(),
            name_servers: hosting.name_servers.clone(),
            search_domain: hosting.search_domain.clone(),
            roles: self.roles.iter().map(|(name, it)| (name.clone(), self.shape(it))).collect(),
            nodes: self.site.nodes.iter().filter_map(|node| self.address(node)).collect(),
            files: self.chosen.values().map(file).collect(),
        }
    }

    fn shape(&self, (plan, shape): &(Plan, GuestShape)) -> RoleShape {
        let own = || shape.storage.clone().unwrap_or_else(|| self.hosting.storage.clone());
        let volumes = plan.states.iter().map(|state| {
            let volume = shape.volumes.get(&state.name).map(|(volume, _)| volume);
            let storage = volume.and_then(|volume| volume.storage.clone()).unwrap_or_else(own);
            (state.name.clone(), (storage, state.path.to_string()))
        });
        RoleShape {
            cores: shape.cores.try_into().unwrap_or(u16::MAX),
            memory_mib: shape.memory_mib,
            root_gib: shape.root_gib,
            storage: own(),
            bridge: shape.bridge.clone(),
            vlan: shape.vlan,
            volumes: volumes.collect(),
        }
    }

    fn address(&self, node: &definition::Node) -> Option<(Hostname, NodeAddress)> {
        let (plan, shape) = self.roles.get(&node.image)?;
        Some((
            node.name.clone(),
            NodeAddress {
                host: node.host.as_ref()?.0.clone(),
                kind: shape.kind,
                role: node.image.clone(),
                address: node.address,
                gateway: node.gateway,
                health_port: health_port(plan),
            },
        ))
    }
}

/// The size of a volume for secrets: the least that every storage makes.
const SECRETS_GIB: u32 = 1;

/// What a guest needs to shut down once it has drained.
const SHUTDOWN: Duration = Duration::from_secs(90);

/// The digest of an image that nobody has built.
fn nothing() -> crate::digest::Digest {
    crate::digest::Digest::of(b"no artifact")
}

fn file(artifact: &Artifact) -> (String, ArtifactFile) {
    let described = &artifact.manifest.artifact;
    let file = ArtifactFile {
        path: artifact.path.clone(),
        size_bytes: described.size,
        sha256: described.sha256,
        disk_bytes: artifact.manifest.disk.as_ref().map(|disk| disk.virtual_size),
    };
    (described.name.clone(), file)
}

fn format(kind: GuestKind) -> Format {
    match kind {
        GuestKind::Container => Format::LxcTemplate,
        GuestKind::Machine => Format::Qcow2,
    }
}
