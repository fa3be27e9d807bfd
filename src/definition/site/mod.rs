//! A site as a whole: its nodes, its names, and who reaches what on them.

mod cluster;
mod connections;
mod endpoints;
mod hosting;
mod links;
mod proof;
mod public_names;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub(super) use endpoints::open;
pub use endpoints::{Admitted, OpenEndpoint};
pub use links::{Client, Link, links};
pub use proof::prove;

use super::hosting::{GuestShape, Hosting};
use super::name::{Hostname, ImageName, SiteName};
use super::network::Network;
use super::overlay::{Node, Overlay};
use super::place::Place;

/// A site as templates see it.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// What it is, in one line.
    pub summary: String,
    /// Its nodes.
    pub nodes: Vec<Node>,
    /// What the name servers say of its public names, by name.
    pub names: Vec<PublicName>,
    /// The networks of those who look after it.
    pub operators: Vec<Network>,
    /// Where its guests live, if it says so.
    pub hosting: Option<Hosting>,
    /// What the guests of its roles are, and where the roles' names stand.
    pub guests: BTreeMap<ImageName, (GuestShape, Place)>,
}

/// A name of a site, and the address that name servers give for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicName {
    /// The name, as the overlay writes it.
    pub name: Hostname,
    /// The address.
    pub address: IpAddr,
    /// Where the name stands.
    pub place: Place,
}

impl Site {
    /// The site of `chain`, its overlays from the outermost on, with `nodes`.
    pub(super) fn new(site: &Overlay, chain: &[&Overlay], nodes: &[Node]) -> Self {
        let mut names: Vec<PublicName> = Vec::new();
        for public in chain.iter().flat_map(|overlay| &overlay.names) {
            let same =
                |other: &PublicName| other.name.as_str().eq_ignore_ascii_case(public.name.as_str());
            names.retain(|other| !same(other));
            names.push(public.clone());
        }
        names.sort_by(|left, right| left.name.cmp(&right.name));
        let operators = chain.iter().rev().find_map(|overlay| overlay.operators.clone());
        Self {
            name: site.name.clone(),
            summary: site.summary.clone(),
            nodes: nodes.to_vec(),
            names,
            operators: operators.unwrap_or_default(),
            hosting: chain.iter().rev().find_map(|overlay| overlay.hosting.clone()),
            guests: chain.iter().flat_map(|overlay| overlay.guests.clone()).collect(),
        }
    }
}
