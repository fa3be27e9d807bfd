//! What a lab should be: the nodes of a site, each a container.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;
use crate::artifact::manifest::Manifest;
use crate::artifact::name::Format;
use crate::boot::Identity;
use crate::definition::{
    GuestKind, Hostname, ImageName, Plan, Project, Site, VolumeName, did_you_mean,
};
use crate::swap::site::{Artifact, Error as SiteError, artifacts, choose, health_port, role};
use crate::swap::{GuestId, Node, Wanted};

/// The name of the only host that guests of a lab lie on.
pub(super) const HOST: &str = "lab";

/// The numbers that guests of a lab get.
const IDS: (u32, u32) = (100, 9999);

/// A site, as far as it is in a lab, and the templates for it.
pub struct LabSite {
    /// The site.
    pub site: Site,
    /// Its roles that are in the lab.
    pub(super) plans: BTreeMap<ImageName, Plan>,
    /// The template of each role, where there is one that is up to date.
    pub(super) chosen: BTreeMap<ImageName, Artifact>,
    /// Where templates were looked for.
    pub(super) directory: PathBuf,
}

/// The roles that have nodes at a site; of `names`, if there are any.
///
/// # Errors
///
/// [`Error::NoRole`].
pub fn roles(site: &Site, names: &[String]) -> Result<BTreeSet<ImageName>, Error> {
    let all: BTreeSet<ImageName> = site.nodes.iter().map(|node| node.image.clone()).collect();
    if names.is_empty() {
        return Ok(all);
    }
    let role = |name: &String| {
        all.iter().find(|role| role.as_str() == name).cloned().ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(ImageName::as_str).collect();
            let help = did_you_mean(name, known.iter().copied())
                .unwrap_or_else(|| format!("it has: {}", known.join(", ")));
            Error::NoRole { site: site.name.clone(), role: name.clone(), help }
        })
    };
    names.iter().map(role).collect()
}

impl LabSite {
    /// `roles` of the site `name`, with those templates in `directory` for which `is_current` holds. What `check`
    /// proves of a site is taken for granted.
    ///
    /// # Errors
    ///
    /// A role without a plan, a node that the lab's host could not ask how it is.
    pub fn new<E: From<Error>>(
        project: &Project,
        name: &str,
        roles: &BTreeSet<ImageName>,
        directory: &Path,
        is_current: impl Fn(&ImageName, &Manifest) -> Result<bool, E>,
    ) -> Result<Self, E> {
        let site = project.settled_site(name).map_err(Error::from)?;
        let found = artifacts(directory, Some(&site.name)).map_err(Error::from)?;
        let mut plans = BTreeMap::new();
        let mut chosen = BTreeMap::new();
        for role in roles.iter().filter(|role| site.nodes.iter().any(|it| it.image == **role)) {
            let plan = project.plan(role.as_str(), Some(name)).map_err(Error::from)?;
            let artifact = choose(&found, role, Format::LxcTemplate, &is_current)?;
            if let Some(artifact) = artifact.map_err(Error::from)? {
                chosen.insert(role.clone(), artifact.clone());
            }
            plans.insert(role.clone(), plan);
        }
        let this = Self { site, plans, chosen, directory: directory.to_owned() };
        this.sources()?;
        Ok(this)
    }

    /// The nodes that are in the lab.
    pub(super) fn nodes(&self) -> impl Iterator<Item = &crate::definition::Node> {
        self.site.nodes.iter().filter(|node| self.plans.contains_key(&node.image))
    }

    /// The roles that are in the lab.
    pub(super) fn plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.values()
    }

    /// The addresses of the lab's host: the gateways of all networks of the site, with their prefixes.
    pub(super) fn gateways(&self) -> Vec<String> {
        let nodes = self.site.nodes.iter();
        let gateways =
            nodes.filter_map(|node| Some(format!("{}/{}", node.gateway?, node.address.prefix())));
        gateways.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The templates that are up to date.
    pub fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        self.chosen.values()
    }

    /// Roles without a template that is up to date.
    ///
    /// # Errors
    ///
    /// [`SiteError::NoArtifact`] for those among them for which `needed` holds.
    pub fn require_artifacts(&self, needed: impl Fn(&ImageName) -> bool) -> Result<(), Error> {
        let missing = self.plans.keys().filter(|role| !self.chosen.contains_key(*role));
        let roles: Vec<ImageName> = missing.filter(|role| needed(role)).cloned().collect();
        if roles.is_empty() {
            return Ok(());
        }
        let (directory, site) = (self.directory.clone(), self.site.name.clone());
        let format = Some(Format::LxcTemplate);
        Err(SiteError::NoArtifact { directory, site, roles, format }.into())
    }

    /// What the engine is to reach. Replaced guests are kept until somebody prunes.
    ///
    /// # Errors
    ///
    /// A site that contradicts itself.
    pub fn wanted(&self) -> Result<Wanted, Error> {
        let roles = self.plans.iter().map(|(name, plan)| {
            // Directories have no size.
            let volumes = plan.states.iter().map(|state| (state.name.clone(), 0));
            role(plan, GuestKind::Container, volumes.collect(), self.chosen.get(name))
        });
        let nodes = self.nodes().map(|node| Node {
            name: node.name.clone(),
            role: node.image.clone(),
            host: host(),
            number: node.number,
        });
        let ids = GuestId(IDS.0)..=GuestId(IDS.1);
        let (roles, nodes) = (roles.collect(), nodes.collect());
        Ok(Wanted::new(self.site.name.clone(), roles, nodes, ids, Duration::ZERO)?)
    }

    /// Who guests of a node are, and what they run.
    pub(super) fn identity(&self, node: &Hostname) -> Option<(Identity, &Plan)> {
        let found = self.nodes().find(|it| it.name == *node)?;
        let plan = self.plans.get(&found.image)?;
        Some((Identity::of(plan, Some(node.as_str())).ok()?, plan))
    }

    /// What name servers would say: a lab has none.
    pub(super) fn names(&self) -> Vec<(IpAddr, String)> {
        let names = self.site.names.iter();
        names.map(|public| (public.address, public.name.to_string())).collect()
    }

    /// Where a node says how it is.
    pub(super) fn health_address(&self, node: &Hostname) -> Option<SocketAddr> {
        let found = self.nodes().find(|it| it.name == *node)?;
        let plan = self.plans.get(&found.image)?;
        Some((found.address.address(), health_port(plan)).into())
    }

    /// Where guests of a role have a volume.
    pub(super) fn volume_path(&self, role: &ImageName, volume: &VolumeName) -> Option<String> {
        let mut states = self.plans.get(role)?.states.iter();
        states.find(|state| state.name == *volume).map(|state| state.path.to_string())
    }

    /// The template of this name.
    pub(super) fn artifact(&self, name: &str) -> Option<&Artifact> {
        self.chosen.values().find(|artifact| artifact.manifest.artifact.name == name)
    }
}

/// The only host.
pub(super) fn host() -> Hostname {
    HOST.parse().expect("a word of letters is a host name")
}
