//! `overlay.toml`: what one site adds: values, files and the nodes it consists of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use super::document::{Entries, Item, parse};
use super::error::{Problem, Result};
use super::hosting::{GuestShape, Hosting};
use super::image::Image;
use super::lint::{Holder, Rule};
use super::name::{Hostname, ImageName, SiteName};
use super::network::{InterfaceAddress, Network};
use super::place::{Place, read_text};
use super::schema;
use super::site::PublicName;
use super::suggest::did_you_mean;

/// An overlay as its file says it.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// The name of its directory.
    pub name: SiteName,
    /// What the site is, in one line.
    pub summary: String,
    /// The overlay it is laid upon, and where it says so.
    pub extends: Option<(SiteName, Place)>,
    /// Values by image, to be checked against the declarations of the image's stack.
    pub(super) values: BTreeMap<ImageName, (Place, Entries)>,
    /// The nodes it adds to, or changes in, the overlay it extends.
    pub(super) nodes: Vec<DeclaredNode>,
    /// What name servers say of its names.
    pub(super) names: Vec<PublicName>,
    /// The networks of those who look after it, if it says so.
    pub(super) operators: Option<Vec<Network>>,
    /// Where its guests live, if it says so.
    pub(super) hosting: Option<Hosting>,
    /// What guests of a role are, and where their names stand.
    pub(super) guests: BTreeMap<ImageName, (GuestShape, Place)>,
    /// What it says of the level of lints.
    pub lints: Vec<Rule>,
    /// The beginning of the file, for messages about the overlay as a whole.
    pub place: Place,
}

/// A node as the overlay gives it, perhaps without a number.
#[derive(Clone, Debug)]
pub(super) struct DeclaredNode {
    name: Hostname,
    image: ImageName,
    image_place: Place,
    address: InterfaceAddress,
    address_place: Place,
    gateway: Option<IpAddr>,
    number: Option<u32>,
    host: Option<(Hostname, Place)>,
    place: Place,
}

/// A guest of a site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its host name, unique in the site.
    pub name: Hostname,
    /// The role it runs.
    pub image: ImageName,
    /// Its address, unique in the site, and the length of the network's prefix.
    pub address: InterfaceAddress,
    /// The router, in the same network.
    pub gateway: Option<IpAddr>,
    /// Its number among the nodes of its role, from 1.
    pub number: u32,
    /// The Proxmox node that it lies on, and where the overlay says so.
    pub host: Option<(Hostname, Place)>,
    /// Where its name stands.
    pub place: Place,
}

impl Overlay {
    /// Reads the overlay of the site `name` below `root`, the directory of the project.
    pub(super) fn read(root: &Path, name: SiteName) -> Result<Self> {
        let path = Path::new("overlays").join(name.as_str()).join("overlay.toml");
        let source = read_text(root, &path)?;
        let file = parse(&source)?;
        let table = file.table(&schema::OVERLAY.names())?;
        Ok(Self {
            name,
            summary: table.require("summary")?.line()?,
            extends: table.optional("extends", |item| Ok((item.parse()?, item.place.clone())))?,
            values: table
                .map("images", |_, place, item| Ok((place.clone(), item.entries()?.clone())))?,
            nodes: table.list("nodes", DeclaredNode::read)?,
            names: table.map("names", public_name)?.into_values().collect(),
            operators: table.optional("operators", operators)?,
            hosting: table.optional("proxmox", Hosting::read)?,
            guests: table
                .map("guests", |_, place, item| Ok((GuestShape::read(item)?, place.clone())))?,
            lints: Rule::read_all(&table, Holder::Site)?,
            place: file.place.clone(),
        })
    }
}

fn public_name(name: &Hostname, place: &Place, item: &Item) -> Result<PublicName> {
    let address = item.string()?.parse().map_err(|_| item.unexpected("an address"))?;
    Ok(PublicName { name: name.clone(), address, place: place.clone() })
}

fn operators(item: &Item) -> Result<Vec<Network>> {
    item.table(&schema::OPERATORS.names())?.require("networks")?.each(Item::parse)
}

impl DeclaredNode {
    fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::NODE.names())?;
        let name = table.require("name")?;
        let image = table.require("image")?;
        let address_item = table.require("address")?;
        let address: InterfaceAddress = address_item.parse()?;
        let gateway = table.optional("gateway", |item| {
            item.parse::<IpAddr>()
                .ok()
                .filter(|gateway| address.reaches(*gateway) && *gateway != address.address())
                .ok_or_else(|| {
                    item.unexpected(format!("another address in the network of {address}"))
                })
        })?;
        Ok(Self {
            name: name.parse()?,
            image: image.parse()?,
            image_place: image.place.clone(),
            address,
            address_place: address_item.place.clone(),
            gateway,
            number: table
                .optional("number", |item| item.integer_in(1..=9999, "a number from 1 to 9999"))?,
            host: table.optional("host", |item| Ok((item.parse()?, item.place.clone())))?,
            place: name.place.clone(),
        })
    }
}

/// The nodes of a site: those of `chain`, outermost overlay first. A node with the name of an
/// earlier overlay's node takes its place.
pub(super) fn nodes(chain: &[&Overlay], images: &BTreeMap<ImageName, Image>) -> Result<Vec<Node>> {
    let mut declared: Vec<&DeclaredNode> = Vec::new();
    for overlay in chain {
        let mut here = BTreeMap::new();
        for node in &overlay.nodes {
            let key = node.name.as_str().to_ascii_lowercase();
            if let Some(other) = here.insert(key.clone(), &node.place) {
                return Err(taken(&node.place, format!("the node name `{}`", node.name), other));
            }
            let same = |other: &&DeclaredNode| other.name.as_str().eq_ignore_ascii_case(&key);
            match declared.iter().position(same) {
                Some(index) => declared[index] = node,
                None => declared.push(node),
            }
        }
    }
    check_references(&declared, images)?;
    number(&declared)
}

fn taken(place: &Place, what: String, other: &Place) -> super::Error {
    place.error(Problem::Duplicate { what, taken: format!("given at {other}") })
}

fn check_references(nodes: &[&DeclaredNode], images: &BTreeMap<ImageName, Image>) -> Result<()> {
    let mut addresses: BTreeMap<IpAddr, &Place> = BTreeMap::new();
    for node in nodes {
        let roles = || images.values().filter(|image| image.role).map(|image| image.name.as_str());
        match images.get(&node.image) {
            None => {
                let problem = Problem::UnknownImage(node.image.to_string());
                let help = did_you_mean(node.image.as_str(), roles());
                return Err(node.image_place.error_with_help(problem, help));
            }
            Some(image) if !image.role => {
                let message =
                    format!("`{}` is only a layer of other images, no node can run it", image.name);
                let help = format!("roles: {}", roles().collect::<Vec<_>>().join(", "));
                let problem = Problem::Contradiction(message);
                return Err(node.image_place.error_with_help(problem, Some(help)));
            }
            Some(_) => {}
        }
        let address = node.address.address();
        if let Some(other) = addresses.insert(address, &node.address_place) {
            return Err(taken(&node.address_place, format!("the address {address}"), other));
        }
    }
    Ok(())
}

/// Gives every node without a number its place among the nodes of its image.
fn number(declared: &[&DeclaredNode]) -> Result<Vec<Node>> {
    let mut counts: BTreeMap<&ImageName, u32> = BTreeMap::new();
    let mut numbers: BTreeSet<(&ImageName, u32)> = BTreeSet::new();
    let mut nodes = Vec::with_capacity(declared.len());
    for node in declared {
        let count = counts.entry(&node.image).or_default();
        *count += 1;
        let number = node.number.unwrap_or(*count);
        if !numbers.insert((&node.image, number)) {
            let what = format!("the number {number} among the nodes of `{}`", node.image);
            let taken = "given to another one".to_owned();
            let help = Some("set `number` on each of them".to_owned());
            return Err(node.place.error_with_help(Problem::Duplicate { what, taken }, help));
        }
        nodes.push(Node {
            name: node.name.clone(),
            image: node.image.clone(),
            address: node.address,
            gateway: node.gateway,
            number,
            host: node.host.clone(),
            place: node.place.clone(),
        });
    }
    Ok(nodes)
}
