//! Who talks to whom at a site.

use std::collections::BTreeMap;

use super::{EdgeKind, Graph, Member, Node, NodeKind, Subject};
use crate::definition::site::{Client, Link, links};
use crate::definition::{Error, Project, Protocol};

/// What edges call everybody outside of the site. No role has such a name.
const WORLD: &str = "(world)";

/// Letters of a line in a box.
const LINE: usize = 32;

/// The roles of the site `name` with their nodes, and the connections between them.
///
/// # Errors
/// An unknown site.
pub fn site(project: &Project, name: &str) -> Result<Graph, Error> {
    let site = project.settled_site(name)?;
    let links = links(project, name)?;
    let mut graph = Graph::new(Subject::Site, format!("Who connects to whom at {name}"));
    if links.iter().any(|link| link.from == Client::World) {
        graph.nodes.push(Node::new(WORLD, NodeKind::World, "everybody"));
    }
    for guest in &site.nodes {
        let id = guest.image.as_str();
        let index = graph.nodes.iter().position(|node| node.id == id).unwrap_or_else(|| {
            graph.nodes.push(Node::new(id, NodeKind::Role, id));
            graph.nodes.len() - 1
        });
        graph.nodes[index].members.push(Member {
            name: guest.name.to_string(),
            address: guest.address.address().to_string(),
            host: guest.host.as_ref().map(|(host, _)| host.to_string()),
        });
    }
    let mut edges: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for link in &links {
        let from = match &link.from {
            Client::World => WORLD,
            Client::Role(role) => role.as_str(),
        };
        edges.entry((from, link.to.as_str())).or_default().push(port(link));
    }
    for ((from, to), labels) in edges {
        match graph.nodes.iter_mut().find(|node| from == to && node.id == to) {
            // An arrow from a box to itself would only say less clearly what a line in it does.
            Some(node) if node.members.len() > 1 => {
                node.lines.push("among themselves:".to_owned());
                node.lines.extend(filled(&labels));
            }
            Some(_) => {}
            None => graph.connect(from, to, EdgeKind::Connects, labels),
        }
    }
    Ok(graph)
}

/// `words` in lines that are not much longer than those of guests.
fn filled(words: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (number, word) in words.iter().enumerate() {
        let comma = if number + 1 < words.len() { "," } else { "" };
        match lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < LINE) {
            Some(line) => *line += &format!(" {word}{comma}"),
            None => lines.push(format!("{word}{comma}")),
        }
    }
    lines
}

/// `http 80`, `media 16384–32768/udp`, `vrrp`.
fn port(link: &Link) -> String {
    let Link { endpoint, port, last_port, protocol, .. } = link;
    let protocol = match protocol {
        Protocol::Tcp => "",
        Protocol::Udp => "/udp",
        Protocol::Vrrp => return endpoint.to_string(),
    };
    match last_port > port {
        true => format!("{endpoint} {port}–{last_port}{protocol}"),
        false => format!("{endpoint} {port}{protocol}"),
    }
}
