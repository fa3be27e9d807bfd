//! What a site should be, as far as replacing guests is concerned.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::platform::GuestId;
use crate::definition::{GuestKind, Hostname, ImageName, SiteName, VolumeName};
use crate::digest::Digest;

/// A role as its nodes at the site should run it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its name.
    pub name: ImageName,
    /// Roles with a lower number are replaced first, and deployed last if none needs the other: `[swap] order`.
    pub order: u32,
    /// What its guests are.
    pub kind: GuestKind,
    /// The digest in the manifest of the artifact for this kind.
    pub image: Digest,
    /// The file name of that artifact.
    pub artifact: String,
    /// The state volumes of each node, and their sizes in GiB when they are made.
    pub volumes: BTreeMap<VolumeName, u32>,
    /// How long a guest may take to drain and shut down.
    pub patience: Duration,
    /// How long a started guest may take until it is ready.
    pub ready_within: Duration,
    /// The role whose nodes vote together with those of this one: `[cluster] arbitrator`.
    pub arbitrator: Option<ImageName>,
    /// The roles that it connects to: they are deployed before it, if the site has them.
    pub needs: BTreeSet<ImageName>,
}

/// A node of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its host name, which all its guests have, one after the other.
    pub name: Hostname,
    /// The role it runs.
    pub role: ImageName,
    /// The host that its guests lie on.
    pub host: Hostname,
    /// Its number among the nodes of its role. The highest is replaced first.
    pub number: u32,
}

/// A site: every node has a role, and names are unique.
#[derive(Clone, Debug)]
pub struct Wanted {
    site: SiteName,
    roles: BTreeMap<ImageName, Role>,
    nodes: Vec<Node>,
    ids: RangeInclusive<GuestId>,
    grace: Duration,
    positions: HashMap<String, usize>,
}

/// A site that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum WantedError {
    /// Two nodes have one name, whatever the case of its letters.
    #[error("the site has two nodes called `{0}`")]
    #[diagnostic(help("guests find out who they are by their host name; rename one of the nodes"))]
    Twice(Hostname),
    /// A node has a role that is not among those given.
    #[error("the node `{node}` has the role `{role}`, which the site does not have")]
    #[diagnostic(help("give the node a role that has an image"))]
    NoRole {
        /// The node.
        node: Hostname,
        /// Its role.
        role: ImageName,
    },
    /// The range of guest ids is empty.
    #[error("the range of guest ids from {0} to {1} is empty")]
    #[diagnostic(help("write the lower id first"))]
    NoIds(GuestId, GuestId),
}

impl Wanted {
    /// A site with the given roles and nodes, whose new guests get `ids`, and whose old guests are
    /// kept for `grace`.
    ///
    /// # Errors
    ///
    /// Two nodes with one name, a node without a role, an empty range.
    pub fn new(
        site: SiteName,
        roles: Vec<Role>,
        nodes: Vec<Node>,
        ids: RangeInclusive<GuestId>,
        grace: Duration,
    ) -> Result<Self, WantedError> {
        if ids.is_empty() {
            return Err(WantedError::NoIds(*ids.start(), *ids.end()));
        }
        let roles: BTreeMap<_, _> =
            roles.into_iter().map(|role| (role.name.clone(), role)).collect();
        let mut positions = HashMap::new();
        for (position, node) in nodes.iter().enumerate() {
            if positions.insert(key(node.name.as_str()), position).is_some() {
                return Err(WantedError::Twice(node.name.clone()));
            }
            if !roles.contains_key(&node.role) {
                let (node, role) = (node.name.clone(), node.role.clone());
                return Err(WantedError::NoRole { node, role });
            }
        }
        Ok(Self { site, roles, nodes, ids, grace, positions })
    }

    /// The site.
    pub fn site(&self) -> &SiteName {
        &self.site
    }

    /// Its nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Its roles, by name.
    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.roles.values()
    }

    /// The role of `node`, which must be one of this site.
    pub fn role(&self, node: &Node) -> &Role {
        &self.roles[&node.role]
    }

    /// The role called `name`.
    pub fn role_named(&self, name: &str) -> Option<&Role> {
        self.roles.get(name)
    }

    /// The node called `name`, whatever the case of its letters.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.position(name).map(|position| &self.nodes[position])
    }

    /// Where in [`Wanted::nodes`] the node called `name` is.
    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.positions.get(name).or_else(|| self.positions.get(&key(name))).copied()
    }

    /// The ids that new guests get.
    pub fn ids(&self) -> &RangeInclusive<GuestId> {
        &self.ids
    }

    /// How long old guests are kept.
    pub fn grace(&self) -> Duration {
        self.grace
    }

    /// The roles that vote together with `role`, itself included: while one of their nodes is away, all
    /// others have to be there.
    pub(super) fn electorate<'a>(&'a self, role: &'a Role) -> BTreeSet<&'a ImageName> {
        let mut roles = BTreeSet::from([&role.name]);
        loop {
            let before = roles.len();
            for other in self.roles.values() {
                if let Some(arbitrator) = &other.arbitrator
                    && (roles.contains(&other.name) || roles.contains(arbitrator))
                {
                    roles.extend([&other.name, arbitrator]);
                }
            }
            if roles.len() == before {
                return roles;
            }
        }
    }
}

impl Wanted {
    /// How many roles have to be deployed before `role`, one after the other, since each needs the one before.
    pub(super) fn depth(&self, role: &Role) -> usize {
        self.depth_below(role, &mut Vec::new())
    }

    /// Of roles that need each other, none is before the other.
    fn depth_below<'a>(&'a self, role: &'a Role, above: &mut Vec<&'a ImageName>) -> usize {
        above.push(&role.name);
        let needed = role.needs.iter().filter_map(|name| self.roles.get(name));
        let depths: Vec<usize> = needed
            .filter(|needed| !above.contains(&&needed.name))
            .collect::<Vec<_>>()
            .into_iter()
            .map(|needed| 1 + self.depth_below(needed, above))
            .collect();
        above.pop();
        depths.into_iter().max().unwrap_or(0)
    }
}

fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}
