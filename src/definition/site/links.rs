//! Which roles of a site connect to which, as their values say it.

use std::collections::BTreeSet;

use super::connections::peers;
use super::proof::{Holder, Role, View};
use crate::definition::endpoint::{Clients, Protocol, holds};
use crate::definition::error::Result;
use crate::definition::name::{EndpointName, ImageName};
use crate::definition::project::Project;

/// Who connects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Client {
    /// Everybody.
    World,
    /// The nodes of a role.
    Role(ImageName),
}

/// A way from one role of a site to another, or to itself: its nodes speak to each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Who connects.
    pub from: Client,
    /// The role that it connects to.
    pub to: ImageName,
    /// What of it.
    pub endpoint: EndpointName,
    /// The first port there; 0 for a protocol without ports.
    pub port: u16,
    /// The last port, `port` if there is only one.
    pub last_port: u16,
    /// What it speaks.
    pub protocol: Protocol,
}

/// The ways of the site `name`, in order. A connection whose addresses are nobody's is left out:
/// [`prove`](super::prove) says what is wrong with it.
///
/// # Errors
/// An unknown site.
pub fn links(project: &Project, name: &str) -> Result<Vec<Link>> {
    let view = View::new(project, name)?;
    let mut links = BTreeSet::new();
    for role in view.roles.values() {
        for connection in role.stack.iter().flat_map(|image| &image.connections) {
            let setting = role.values.get(&connection.addresses.0);
            let Some(setting) = setting.filter(|_| holds(connection.when.as_ref(), &role.values))
            else {
                continue;
            };
            for peer in peers(&setting.value) {
                let server = server(&view, peer.host);
                let server = server.filter(|server| server.runs(&connection.to.0));
                let from = Client::Role(role.name().clone());
                links.extend(server.and_then(|it| link(from, it, &connection.endpoint.0)));
            }
        }
        for (name, (endpoint, _)) in &role.endpoints {
            match &endpoint.clients {
                Clients::Any => links.extend(link(Client::World, role, name)),
                Clients::Some { images, .. } if images.iter().any(|(it, _)| it == role.name()) => {
                    links.extend(link(Client::Role(role.name().clone()), role, name));
                }
                Clients::Some { .. } => {}
            }
        }
    }
    Ok(links.into_iter().collect())
}

/// The role that answers at `host`; none if that is the guest itself.
fn server<'v, 'a>(view: &'v View<'a>, host: &str) -> Option<&'v Role<'a>> {
    let address = view.address_of(host).filter(|address| !address.is_loopback())?;
    let role = match view.holder(address)? {
        Holder::Node(node) => &node.image,
        Holder::Virtual(role) => role,
    };
    view.roles.get(role)
}

fn link(from: Client, server: &Role<'_>, name: &EndpointName) -> Option<Link> {
    let (endpoint, port) = server.endpoints.get(name)?;
    Some(Link {
        from,
        to: server.name().clone(),
        endpoint: name.clone(),
        port: *port,
        last_port: endpoint.last_port.unwrap_or(*port),
        protocol: endpoint.protocol,
    })
}
