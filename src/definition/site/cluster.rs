//! How many nodes a role has, and on how many hosts.

use std::collections::BTreeMap;

use super::proof::{Role, View, broken};
use crate::definition::error::Error;
use crate::definition::overlay::Node;
use crate::definition::swap::Cluster;

/// Checks the nodes of `role` against its `[cluster]`, that of the uppermost image that has one.
pub(super) fn check(view: &View<'_>, role: &Role<'_>) -> Vec<Error> {
    let Some(cluster) = role.stack.iter().rev().find_map(|image| image.cluster.as_ref()) else {
        return Vec::new();
    };
    let nodes: Vec<&Node> =
        view.site.nodes.iter().filter(|node| node.image == *role.name()).collect();
    let arbitrators: Vec<&Node> = match &cluster.arbitrator {
        Some((image, _)) => view.nodes_of(image).collect(),
        None => Vec::new(),
    };
    let mut errors = Vec::new();
    errors.extend(check_count(view, role, cluster, &nodes).err());
    if errors.is_empty() {
        errors.extend(check_votes(view, role, cluster, &nodes, &arbitrators).err());
    }
    if cluster.spread {
        let voters = nodes.iter().chain(&arbitrators).copied();
        errors.extend(check_hosts(role, cluster, voters));
    }
    errors
}

fn check_count(
    view: &View<'_>,
    role: &Role<'_>,
    cluster: &Cluster,
    nodes: &[&Node],
) -> Result<(), Error> {
    let Some(last) = nodes.last() else { return Ok(()) };
    let (wanted, place) = match (&cluster.minimum, &cluster.exactly) {
        (Some((least, place)), _) if nodes.len() < *least as usize => {
            (format!("at least {least}"), place)
        }
        (_, Some((number, place))) if nodes.len() != *number as usize => {
            (format!("exactly {number}"), place)
        }
        _ => return Ok(()),
    };
    let message = format!(
        "site `{}` has {} of `{}`, which needs {wanted}",
        view.site.name,
        counted(nodes.len(), "node"),
        role.name(),
    );
    Err(broken(&last.place, message, format!("{place} says so")))
}

/// Half of the votes is no majority: a network that falls into two equal halves stops both.
fn check_votes(
    view: &View<'_>,
    role: &Role<'_>,
    cluster: &Cluster,
    nodes: &[&Node],
    arbitrators: &[&Node],
) -> Result<(), Error> {
    let votes = nodes.len() + arbitrators.len();
    let Some(last) = nodes.last().filter(|_| cluster.odd && votes.is_multiple_of(2)) else {
        return Ok(());
    };
    let with = match arbitrators.len() {
        0 => String::new(),
        count => format!(" and {}", counted(count, "arbitrator")),
    };
    let message = format!(
        "site `{}` has {} of `{}`{with}, an even number of votes: when the network falls into two \
         halves, neither is a majority and both stop",
        view.site.name,
        counted(nodes.len(), "node"),
        role.name(),
    );
    let help = match &cluster.arbitrator {
        Some((image, _)) if arbitrators.is_empty() => {
            format!(
                "add a node, take one away, or add one of `{image}`, which has a vote and no data"
            )
        }
        _ => "add a node, or take one away".to_owned(),
    };
    Err(broken(&last.place, message, help))
}

fn check_hosts<'a>(
    role: &Role<'_>,
    cluster: &Cluster,
    nodes: impl Iterator<Item = &'a Node>,
) -> Vec<Error> {
    let mut errors = Vec::new();
    let mut hosts: BTreeMap<String, &Node> = BTreeMap::new();
    for node in nodes {
        let Some((host, place)) = &node.host else {
            let message = format!("`{}` does not say which host it lies on", node.name);
            let help = format!(
                "add `host`, the name of the Proxmox node: no two nodes of `{}` may lie on one ({})",
                role.name(),
                cluster.place,
            );
            errors.push(broken(&node.place, message, help));
            continue;
        };
        if let Some(other) = hosts.insert(host.as_str().to_ascii_lowercase(), node) {
            let message = format!(
                "`{}` lies on `{host}`, and so does `{}`: one failing host takes both away",
                node.name, other.name,
            );
            let help = format!("put them on different hosts; {} says so", cluster.place);
            errors.push(broken(place, message, help));
        }
    }
    errors
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
