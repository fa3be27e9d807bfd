//! Calls about the cluster as a whole.

use serde_json::{Value, json};

use super::super::Flavour;
use super::super::cluster::{Cluster, Kind};
use super::super::wire::Reply;
use super::{Answer, Parameters, fail, ok, unknown};

pub fn call(cluster: &mut Cluster, segments: &[&str], parameters: &Parameters) -> Answer {
    match segments {
        ["version"] => {
            let (version, release) = match cluster.flavour {
                Flavour::V8 => ("8.4.5", "8.4"),
                Flavour::V9 => ("9.2.11", "9.2"),
            };
            let version = cluster.version.as_deref().unwrap_or(version);
            ok(json!({ "version": version, "release": release, "repoid": "0123456789abcdef" }))
        }
        ["access", "permissions"] => {
            let path = parameters.get("path").cloned().unwrap_or_else(|| "/".to_owned());
            let privileges = cluster.privileges(&path);
            if privileges.is_empty() {
                return ok(json!({}));
            }
            let privileges: Value =
                privileges.into_iter().map(|name| (name, json!(1))).collect();
            ok(json!({ path: privileges }))
        }
        ["nodes"] => ok(cluster
            .nodes
            .iter()
            .map(|(name, online)| {
                let status = if *online { "online" } else { "offline" };
                json!({ "node": name, "status": status, "type": "node", "id": format!("node/{name}") })
            })
            .collect()),
        ["cluster", "status"] => {
            cluster.check("/", &["Sys.Audit"])?;
            ok(status(cluster))
        }
        ["cluster", "resources"] => {
            cluster.look();
            ok(resources(cluster))
        }
        ["cluster", "nextid"] => next_id(cluster, parameters),
        ["cluster", "ha", "resources"] => {
            cluster.check("/", &["Sys.Audit"])?;
            let resource = |(vmid, state): (&u32, &String)| {
                let kind = match cluster.guests.get(vmid).map(|guest| guest.kind) {
                    Some(Kind::Lxc) => "ct",
                    _ => "vm",
                };
                json!({ "sid": format!("{kind}:{vmid}"), "state": state, "type": kind })
            };
            ok(cluster.ha.iter().map(resource).collect())
        }
        ["pools"] => pool(cluster, parameters),
        _ => unknown("GET", segments),
    }
}

fn status(cluster: &Cluster) -> Value {
    let mut items = Vec::new();
    if cluster.clustered {
        items.push(json!({
            "type": "cluster", "id": "cluster", "name": "campus", "version": 3,
            "nodes": cluster.nodes.len(), "quorate": u8::from(cluster.quorate),
        }));
    }
    for (index, (name, online)) in cluster.nodes.iter().enumerate() {
        items.push(json!({
            "type": "node", "id": format!("node/{name}"), "name": name, "nodeid": index,
            "ip": "127.0.0.1", "online": u8::from(*online), "local": u8::from(index == 0), "level": "",
        }));
    }
    json!(items)
}

fn resources(cluster: &Cluster) -> Value {
    let visible = cluster
        .guests
        .iter()
        .filter(|(vmid, _)| cluster.privileges(&format!("/vms/{vmid}")).contains("VM.Audit"));
    visible
        .map(|(vmid, guest)| {
            let mut item = json!({
                "type": guest.kind.segment(), "id": format!("{}/{vmid}", guest.kind.segment()),
                "vmid": vmid, "node": guest.node, "template": 0,
                "status": if guest.running { "running" } else { "stopped" },
            });
            // Of a node that is not there, only what is in the cluster's file system (`PVE/API2/Cluster.pm`).
            let there = cluster.nodes.get(&guest.node) == Some(&true);
            if !there {
                item["status"] = json!("unknown");
            }
            let name = guest.config.get("name").or(guest.config.get("hostname")).filter(|_| there);
            let ha = cluster.ha.get(vmid);
            for (key, value) in [
                ("name", name),
                ("tags", guest.config.get("tags")),
                ("lock", guest.config.get("lock")),
                ("pool", guest.pool.as_ref()),
                ("hastate", ha),
            ] {
                if let Some(value) = value {
                    item[key] = json!(value);
                }
            }
            item
        })
        .collect()
}

fn next_id(cluster: &Cluster, parameters: &Parameters) -> Answer {
    match parameters.get("vmid").and_then(|text| text.parse::<u32>().ok()) {
        Some(vmid) if cluster.guests.contains_key(&vmid) => {
            Err(Reply::parameters(vec![("vmid".to_owned(), format!("VM {vmid} already exists"))]))
        }
        Some(vmid) => ok(json!(vmid.to_string())),
        None => {
            let free = (100..).find(|vmid| !cluster.guests.contains_key(vmid));
            ok(json!(free.unwrap_or(100).to_string()))
        }
    }
}

fn pool(cluster: &Cluster, parameters: &Parameters) -> Answer {
    let Some(name) = parameters.get("poolid") else { return unknown("GET", &["pools"]) };
    cluster.check(&format!("/pool/{name}"), &["Pool.Audit"])?;
    if !cluster.pools.contains(name) {
        return fail(format!("pool '{name}' does not exist"));
    }
    let members = cluster.guests.iter().filter(|(_, guest)| guest.pool.as_ref() == Some(name));
    let members: Vec<_> = members
        .map(|(vmid, guest)| {
            let kind = guest.kind.segment();
            json!({ "vmid": vmid, "type": kind, "node": guest.node, "id": format!("{kind}/{vmid}") })
        })
        .collect();
    ok(json!([{ "poolid": name, "members": members }]))
}
