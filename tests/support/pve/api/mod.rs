//! What each call does: the semantics of PVE that replacing guests relies on.

mod create;
mod guest;
mod power;
mod site;
mod storage;
mod volume;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::cluster::{Cluster, Guest, Kind};
use super::wire::Reply;

/// The parameters of a call.
pub type Parameters = BTreeMap<String, String>;
/// What a call answers: data, or an error.
pub type Answer = Result<Reply, Reply>;

pub use storage::upload;

/// A failure with the status that most have.
pub fn fail<T>(message: impl Into<String>) -> Result<T, Reply> {
    Err(Reply::error(500, message))
}

/// Answers with data.
pub fn ok(data: Value) -> Answer {
    Ok(Reply::data(data))
}

/// Makes a call.
pub fn call(
    cluster: &mut Cluster,
    method: &str,
    segments: &[String],
    parameters: &Parameters,
) -> Answer {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if method != "GET" && !cluster.quorate {
        return fail("cluster not ready - no quorum?");
    }
    if let ["nodes", node, ..] = segments[..] {
        match cluster.nodes.get(node) {
            Some(true) => {}
            Some(false) => return Err(Reply::error(595, "No route to host")),
            None => {
                return fail(format!(
                    "hostname lookup '{node}' failed - failed to get address info"
                ));
            }
        }
    }
    match (method, &segments[..]) {
        ("GET", ["nodes", node, "tasks"]) => ok(tasks(cluster, node)),
        ("GET", ["nodes", node, "tasks", upid, what]) => {
            task(cluster, node, upid, what, parameters)
        }
        (_, ["nodes", node, "storage", rest @ ..]) => {
            storage::call(cluster, method, node, rest, parameters)
        }
        ("POST", ["nodes", node, "qemu"]) => create::call(cluster, node, Kind::Qemu, parameters),
        ("POST", ["nodes", node, "lxc"]) => create::call(cluster, node, Kind::Lxc, parameters),
        (_, ["nodes", node, kind @ ("qemu" | "lxc"), vmid, rest @ ..]) => {
            let kind = if *kind == "qemu" { Kind::Qemu } else { Kind::Lxc };
            let vmid = vmid.parse().unwrap_or(0);
            guest::call(cluster, method, (node, kind, vmid), rest, parameters)
        }
        ("GET", rest) => site::call(cluster, rest, parameters),
        _ => unknown(method, &segments),
    }
}

/// What the fake cannot do is not there.
pub fn unknown(method: &str, segments: &[&str]) -> Answer {
    Err(Reply::error(501, format!("Method '{method} /{}' not implemented", segments.join("/"))))
}

/// The guest, if it is of this kind and on this node.
pub fn find<'a>(
    cluster: &'a mut Cluster,
    (node, kind, vmid): (&str, Kind, u32),
) -> Result<&'a mut Guest, Reply> {
    let found = cluster.guests.get_mut(&vmid);
    match found.filter(|guest| guest.node == node && guest.kind == kind) {
        Some(guest) => Ok(guest),
        None => {
            let directory = if kind == Kind::Qemu { "qemu-server" } else { "lxc" };
            fail(format!(
                "Configuration file 'nodes/{node}/{directory}/{vmid}.conf' does not exist"
            ))
        }
    }
}

/// Refuses while a guest has a lock.
pub fn check_lock(guest: &Guest) -> Result<(), String> {
    match guest.config.get("lock") {
        Some(lock) => Err(format!("{} is locked ({lock})", guest.kind.word())),
        None => Ok(()),
    }
}

/// Refuses unless a digest, if one is given, is that of the guest.
pub fn check_digest(guest: &Guest, digest: Option<&String>) -> Result<(), String> {
    match digest {
        Some(digest) if *digest != guest.digest() => {
            Err("detected modified configuration - file changed by other user? Try again."
                .to_owned())
        }
        _ => Ok(()),
    }
}

/// The tasks of a node that run, and the last that ended.
fn tasks(cluster: &Cluster, node: &str) -> Value {
    let on_node = cluster.tasks.iter().rev().filter(|task| task.node == node).take(20);
    on_node
        .map(|task| {
            let mut item = json!({
                "upid": task.upid, "node": task.node, "type": task.kind, "user": task.user,
                "id": task.upid.split(':').nth(6), "pid": 1, "pstart": 1, "starttime": 1,
            });
            match &task.exit {
                Some(exit) => item["status"] = json!(exit),
                None => item["status"] = json!("RUNNING"),
            }
            item
        })
        .collect()
}

fn task(
    cluster: &mut Cluster,
    node: &str,
    upid: &str,
    what: &str,
    parameters: &Parameters,
) -> Answer {
    let found = cluster.tasks.iter().find(|task| task.upid == upid && task.node == node);
    let Some(task) = found else {
        return Err(Reply::parameters(vec![("upid".to_owned(), "no such task".to_owned())]));
    };
    match what {
        "status" => {
            let (user, token) = task.user.split_once('!').unwrap_or((&task.user, ""));
            let mut status = json!({
                "upid": task.upid, "node": task.node, "type": task.kind, "user": user, "tokenid": token,
                "id": task.upid.split(':').nth(6), "pid": 1, "pstart": 1, "starttime": 1,
                "status": if task.exit.is_none() { "running" } else { "stopped" },
            });
            if let Some(exit) = &task.exit {
                status["exitstatus"] = json!(exit);
            }
            ok(status)
        }
        "log" => {
            let number = |name: &str, default: usize| {
                parameters.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
            };
            let lines: Vec<_> = task
                .log
                .iter()
                .enumerate()
                .skip(number("start", 0))
                .take(number("limit", 50))
                .map(|(index, line)| json!({ "n": index + 1, "t": line }))
                .collect();
            let total = task.log.len() as u64;
            Ok(Reply { total: Some(total), ..Reply::data(json!(lines)) })
        }
        _ => unknown("GET", &["nodes", node, "tasks", upid, what]),
    }
}
