//! The lab's host among those who look after the site: guests let nobody else ask how they are.

use std::net::IpAddr;

use super::{Error, LabSite};
use crate::definition::Network;

/// An address of the lab's host, and the networks that it uses it in instead of its own there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) address: IpAddr,
    /// Whether the host has it for nothing else.
    pub(super) new: bool,
    pub(super) networks: Vec<Network>,
}

impl LabSite {
    /// From which addresses the lab's host speaks to guests, where a network's gateway is none of an operator: from
    /// a gateway that is, or else from the first free address of the operators.
    ///
    /// # Errors
    ///
    /// [`Error::NoGateway`], [`Error::NoOperator`].
    pub(super) fn sources(&self) -> Result<Vec<Source>, Error> {
        let mut gateways = Vec::new();
        for node in self.nodes() {
            let gateway = node.gateway.ok_or_else(|| Error::NoGateway(node.name.clone()))?;
            let found = (gateway, node.address.network());
            if !gateways.contains(&found) {
                gateways.push(found);
            }
        }
        let taken: Vec<IpAddr> =
            self.site.nodes.iter().map(|node| node.address.address()).collect();
        choose(&self.site.operators, &gateways, &taken)
            .map_err(|addresses| Error::NoOperator { site: self.site.name.clone(), addresses })
    }
}

/// Fails with the gateways for which there is no address.
fn choose(
    operators: &[Network],
    gateways: &[(IpAddr, Network)],
    taken: &[IpAddr],
) -> Result<Vec<Source>, Vec<IpAddr>> {
    let may =
        |address: IpAddr| operators.iter().any(|network| network.covers(&Network::host(address)));
    let mut sources: Vec<Source> = Vec::new();
    let mut without = Vec::new();
    for (gateway, network) in gateways.iter().filter(|(gateway, _)| !may(*gateway)) {
        let same_kind = |address: &IpAddr| address.is_ipv4() == gateway.is_ipv4();
        let other =
            gateways.iter().map(|(other, _)| (*other, false)).filter(|(other, _)| may(*other));
        let free = operators.iter().filter_map(|network| {
            // A network is larger than the site, or full.
            let mut hosts = network.hosts().take(taken.len() + 1);
            Some((hosts.find(|address| !taken.contains(address))?, true))
        });
        let Some((address, new)) = other.chain(free).find(|(address, _)| same_kind(address)) else {
            without.push(*gateway);
            continue;
        };
        match sources.iter_mut().find(|source| source.address == address) {
            Some(source) => source.networks.push(*network),
            None => sources.push(Source { address, new, networks: vec![*network] }),
        }
    }
    if without.is_empty() { Ok(sources) } else { Err(without) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(operators: &[&str], gateways: &[&str], taken: &[&str]) -> Result<String, String> {
        let operators: Vec<Network> = operators.iter().map(|text| text.parse().unwrap()).collect();
        let gateways: Vec<(IpAddr, Network)> = gateways
            .iter()
            .map(|text| {
                let (address, network) = text.split_once(' ').unwrap();
                (address.parse().unwrap(), network.parse().unwrap())
            })
            .collect();
        let taken: Vec<IpAddr> = taken.iter().map(|text| text.parse().unwrap()).collect();
        let words = |source: &Source| {
            let networks: Vec<String> = source.networks.iter().map(Network::to_string).collect();
            format!("{} in {}", source.address, networks.join(" "))
        };
        match choose(&operators, &gateways, &taken) {
            Ok(sources) => Ok(sources.iter().map(words).collect::<Vec<_>>().join(", ")),
            Err(gateways) => Err(gateways.iter().map(IpAddr::to_string).collect()),
        }
    }

    #[test]
    fn the_host_of_the_lab_is_an_operator_wherever_guests_are() {
        let web = "10.20.40.1 10.20.40.0/24";
        let data = "10.20.30.1 10.20.30.0/24";
        for (operators, gateways, taken, expected) in [
            // Gateways that are operators need nothing.
            (&["10.20.40.1/32", "10.20.30.0/24"][..], &[web, data][..], &[][..], Ok("")),
            (
                &["10.20.10.0/24"],
                &[web, data],
                &[],
                Ok("10.20.10.1 in 10.20.40.0/24 10.20.30.0/24"),
            ),
            (&["10.20.10.0/24"], &[web], &["10.20.10.1"], Ok("10.20.10.2 in 10.20.40.0/24")),
            (&["10.20.10.7/32"], &[web], &[], Ok("10.20.10.7 in 10.20.40.0/24")),
            // A gateway that is one, rather than a new address.
            (
                &["10.20.10.0/24", "10.20.30.1/32"],
                &[web, data],
                &[],
                Ok("10.20.30.1 in 10.20.40.0/24"),
            ),
            (&["10.20.10.7/32"], &[web], &["10.20.10.7"], Err("10.20.40.1")),
            (&["fd00::/64"], &[web], &[], Err("10.20.40.1")),
            (
                &["10.20.10.0/24", "fd00::/64"],
                &["fd01::1 fd01::/64"],
                &[],
                Ok("fd00::1 in fd01::/64"),
            ),
            (&[], &[web, data], &[], Err("10.20.40.110.20.30.1")),
        ] {
            let seen = chosen(operators, gateways, taken);
            assert_eq!(seen, expected.map(str::to_owned).map_err(str::to_owned), "{operators:?}");
        }
    }
}
