//! Endpoints with everything settled: which ports of a role are open at a site, and to whom.

use super::Site;
use crate::definition::endpoint::{Clients, Protocol, present};
use crate::definition::error::Result;
use crate::definition::image::Image;
use crate::definition::name::{EndpointName, ImageName};
use crate::definition::network::Network;
use crate::definition::project::Project;
use crate::definition::stack::Settings;

/// An endpoint of a role at a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEndpoint {
    /// Its name.
    pub name: EndpointName,
    /// The first port; 0 for a protocol without ports.
    pub port: u16,
    /// The last port, `port` if there is only one.
    pub last_port: u16,
    /// What it speaks.
    pub protocol: Protocol,
    /// Who may connect.
    pub admitted: Admitted,
    /// What it is for.
    pub doc: String,
}

/// Who may connect to an endpoint from outside of the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admitted {
    /// Everybody.
    World,
    /// These addresses: in order, and none within another. Perhaps none at all.
    Only(Vec<Network>),
}

/// The endpoints of `stack` with `values`. Without a site nobody knows who the clients are, so
/// everybody is admitted to all of them.
pub(in crate::definition) fn open(
    project: &Project,
    stack: &[&Image],
    values: &Settings,
    site: Option<&Site>,
) -> Result<Vec<OpenEndpoint>> {
    let present = present(stack, values)?.into_iter();
    let open = present.map(|(name, (endpoint, port))| OpenEndpoint {
        name: name.clone(),
        port,
        last_port: endpoint.last_port.unwrap_or(port),
        protocol: endpoint.protocol,
        admitted: match (&endpoint.clients, site) {
            (Clients::Any, _) | (_, None) => Admitted::World,
            (Clients::Some { images, operators }, Some(site)) => {
                let images: Vec<&ImageName> = images.iter().map(|(image, _)| image).collect();
                Admitted::Only(admitted(project, site, &images, *operators))
            }
        },
        doc: endpoint.doc.clone(),
    });
    Ok(open.collect())
}

fn admitted(
    project: &Project,
    site: &Site,
    images: &[&ImageName],
    operators: bool,
) -> Vec<Network> {
    let clients = site.nodes.iter().filter(|node| {
        let stack = project.stack(node.image.as_str()).unwrap_or_default();
        stack.iter().any(|image| images.contains(&&image.name))
    });
    let clients = clients.map(|node| Network::host(node.address.address()));
    let operators = site.operators.iter().copied().filter(|_| operators);
    without_overlaps(clients.chain(operators).collect())
}

/// The same addresses in as few networks as there are: nft(8) refuses sets whose elements overlap.
fn without_overlaps(mut networks: Vec<Network>) -> Vec<Network> {
    networks.sort_unstable();
    networks.dedup();
    let all = networks.clone();
    networks.retain(|network| !all.iter().any(|other| other != network && other.covers(network)));
    networks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_within_a_network_are_left_out() {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        for (given, kept) in [
            (
                &["10.0.0.2/32", "10.0.0.1/32", "10.0.0.2/32"][..],
                &["10.0.0.1/32", "10.0.0.2/32"][..],
            ),
            (&["10.0.0.1/32", "10.0.0.0/24", "10.0.0.0/16"], &["10.0.0.0/16"]),
            (&["10.0.0.0/24", "fd00::1/128", "fd00::/64"], &["10.0.0.0/24", "fd00::/64"]),
            (&["0.0.0.0/0", "fd00::1/128"], &["0.0.0.0/0", "fd00::1/128"]),
            (&[], &[]),
        ] {
            assert_eq!(without_overlaps(read(given)), read(kept), "{given:?}");
        }
    }
}
