//! Proves that what the definitions and a site say of each other holds together: what would
//! otherwise be found out when guests are up and do not find each other.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Site, cluster, connections, hosting, public_names};
use crate::definition::endpoint::{Endpoint, present};
use crate::definition::error::{Error, Problem, Result};
use crate::definition::image::Image;
use crate::definition::name::{EndpointName, ImageName, ParameterName};
use crate::definition::overlay::Node;
use crate::definition::place::Place;
use crate::definition::project::Project;
use crate::definition::stack::Settings;

/// The parameter that holds the addresses which one node of a role has at any time.
const VIRTUAL_ADDRESSES: &str = "virtual_addresses";

/// Proves that the project's sites hold together.
///
/// - Every address in a parameter that `[[connections]]` names is that of a node which runs the
///   image it connects to, or a virtual address of one; the ports are the same on both sides; and
///   the endpoint lets the role in.
/// - Roles have the number of nodes, of votes and of hosts that `[cluster]` demands.
/// - Public names lead to the image that serves them.
/// - Where a site says where its guests live, every one of them has a size, a host and its volumes.
///
/// A role whose values are not settled is passed over: [`Project::plan`] says what it lacks.
///
/// # Errors
/// Everything that does not hold, in one [`Error::Several`].
pub fn prove(project: &Project) -> Result<()> {
    let mut errors = connections::check_targets(project);
    for overlay in project.sites() {
        let view = View::new(project, overlay.name.as_str())?;
        for role in view.roles.values() {
            errors.extend(connections::check(&view, role));
            errors.extend(cluster::check(&view, role));
            errors.extend(public_names::check(&view, role));
        }
        errors.extend(check_virtual_addresses(&view));
        errors.extend(hosting::check(project, &view.site));
    }
    // What several sites share would be said once for each.
    let mut said = Vec::new();
    errors.retain(|error| {
        let new = !said.iter().any(|other| other == &key(error));
        if new {
            said.push(key(error));
        }
        new
    });
    Error::collect((), errors)
}

fn key(error: &Error) -> String {
    match error {
        Error::Located(located) => {
            format!("{} {:?} {located}", located.file.name(), located.span)
        }
        other => other.to_string(),
    }
}

/// A site with everything that its roles are there.
pub(super) struct View<'a> {
    pub(super) site: Site,
    /// The roles that have nodes, and whose values are settled.
    pub(super) roles: BTreeMap<ImageName, Role<'a>>,
}

/// A role that has nodes at a site.
pub(super) struct Role<'a> {
    /// Its images, root first.
    pub(super) stack: Vec<&'a Image>,
    pub(super) values: Settings,
    pub(super) endpoints: BTreeMap<&'a EndpointName, (&'a Endpoint, u16)>,
}

/// Who answers at an address.
pub(super) enum Holder<'a> {
    Node(&'a Node),
    /// The role whose nodes share the address.
    Virtual(&'a ImageName),
}

impl Role<'_> {
    pub(super) fn name(&self) -> &ImageName {
        &self.stack[self.stack.len() - 1].name
    }

    /// Whether it is `image` or stands on it.
    pub(super) fn runs(&self, image: &ImageName) -> bool {
        self.stack.iter().any(|one| one.name == *image)
    }

    /// The addresses that one of its nodes has at any time.
    pub(super) fn virtual_addresses(&self) -> impl Iterator<Item = IpAddr> {
        let setting = self.values.get(VIRTUAL_ADDRESSES);
        let records = setting.and_then(|setting| setting.value.as_array());
        records.into_iter().flatten().filter_map(|record| record["address"].as_str()?.parse().ok())
    }
}

impl<'a> View<'a> {
    pub(super) fn new(project: &'a Project, name: &str) -> Result<Self> {
        let overlays = project.overlays(name)?;
        let site = project.settled_site(name)?;
        let mut roles = BTreeMap::new();
        for node in &site.nodes {
            if roles.contains_key(&node.image) {
                continue;
            }
            let stack = project.stack(node.image.as_str())?;
            let Ok(values) = project.values(&stack, &overlays) else { continue };
            let Ok(endpoints) = present(&stack, &values) else { continue };
            roles.insert(node.image.clone(), Role { stack, values, endpoints });
        }
        Ok(Self { site, roles })
    }

    /// Whether a node of the role `name` runs `image`.
    pub(super) fn runs(&self, name: &ImageName, image: &ImageName) -> bool {
        self.roles.get(name).is_some_and(|role| role.runs(image))
    }

    /// The nodes that run `image`.
    pub(super) fn nodes_of<'v>(&'v self, image: &'v ImageName) -> impl Iterator<Item = &'v Node> {
        self.site.nodes.iter().filter(|node| self.runs(&node.image, image))
    }

    /// Who has `address`.
    pub(super) fn holder(&self, address: IpAddr) -> Option<Holder<'_>> {
        let node = self.site.nodes.iter().find(|node| node.address.address() == address);
        let role = || {
            let mut roles = self.roles.iter();
            roles.find(|(_, role)| role.virtual_addresses().any(|one| one == address))
        };
        node.map(Holder::Node).or_else(|| role().map(|(name, _)| Holder::Virtual(name)))
    }

    /// The address that `host` stands for: itself, that of the node of this name, or that of a
    /// public name.
    pub(super) fn address_of(&self, host: &str) -> Option<IpAddr> {
        let is = |name: &str| name.eq_ignore_ascii_case(host);
        let node = || self.site.nodes.iter().find(|node| is(node.name.as_str()));
        let name = || self.site.names.iter().find(|public| is(public.name.as_str()));
        host.parse()
            .ok()
            .or_else(|| node().map(|node| node.address.address()))
            .or_else(|| name().map(|public| public.address))
    }

    /// What there is of `image`, for a help text: `nodes of moodle: moodle1 (10.20.40.11)`.
    pub(super) fn addresses_in_words(&self, image: &ImageName) -> String {
        let mut words: Vec<String> = self
            .nodes_of(image)
            .map(|node| format!("{} ({})", node.name, node.address.address()))
            .collect();
        let roles = self.roles.values().filter(|role| role.runs(image));
        let shared = roles.flat_map(Role::virtual_addresses);
        words.extend(shared.map(|address| format!("their virtual address {address}")));
        match words.as_slice() {
            [] => format!("no node of site `{}` runs `{image}`", self.site.name),
            words => format!("what runs `{image}` there: {}", words.join(", ")),
        }
    }
}

/// The error of one thing at `place` that does not hold.
pub(super) fn broken(place: &Place, message: String, help: String) -> Error {
    place.error_with_help(Problem::Contradiction(message), Some(help))
}

/// A virtual address is nobody's own, and one role's only.
fn check_virtual_addresses(view: &View<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut taken: BTreeMap<IpAddr, &ImageName> = BTreeMap::new();
    for (name, role) in &view.roles {
        let Some(setting) = role.values.get(VIRTUAL_ADDRESSES) else { continue };
        for address in role.virtual_addresses() {
            let node = view.site.nodes.iter().find(|node| node.address.address() == address);
            let other = taken.insert(address, name);
            let whose = match (node, other) {
                (Some(node), _) => format!("node `{}` has it for itself", node.name),
                (None, Some(other)) => format!("`{other}` has it, too"),
                (None, None) => continue,
            };
            let message = format!("the virtual address {address} of `{name}` is taken: {whose}");
            let help = "give it an address that nothing else has".to_owned();
            errors.push(broken(&setting.place.within(&address.to_string()), message, help));
        }
    }
    errors
}

/// The parameter `name` as messages name it, with the role.
pub(super) fn parameter_in_words(name: &ParameterName, role: &Role<'_>) -> String {
    format!("`{name}` of `{}`", role.name())
}
