//! Starting and stopping.

use std::time::Duration;

use serde_json::json;

use super::super::backing::Backing;
use super::super::cluster::{Cluster, Kind, Work};
use super::guest::Address;
use super::{Answer, Parameters, check_lock, fail, find, ok, unknown};

pub fn call(
    cluster: &mut Cluster,
    address: Address<'_>,
    what: &str,
    parameters: &Parameters,
) -> Answer {
    let (node, kind, vmid) = address;
    let guest = find(cluster, address)?;
    check_lock(guest).or_else(fail)?;
    if what == "start" && guest.running && !cluster.ha.contains_key(&vmid) {
        return fail(format!("{} {vmid} already running", kind.word()));
    }
    let guest = find(cluster, address)?;
    if what != "start" && kind == Kind::Lxc && !guest.running {
        return fail(format!("CT {vmid} not running"));
    }
    // `PVE/API2/LXC/Status.pm`, `PVE/API2/Qemu.pm`: a minute, unless somebody says otherwise.
    let timeout = parameters.get("timeout").and_then(|text| text.parse().ok()).unwrap_or(60);
    let timeout = Duration::from_secs(timeout);
    let force = parameters.get("forceStop").is_some_and(|force| force == "1");
    let work: Work = match what {
        "start" => Box::new(move |cluster| start(cluster, vmid)),
        "shutdown" => Box::new(move |cluster| {
            let guest = cluster.guests.get(&vmid).ok_or("it is gone")?;
            if guest.running && guest.stubborn && !force {
                return Err("VM quit/powerdown failed - got timeout".to_owned());
            }
            let ask = move |backing: &dyn Backing| match backing.shutdown(vmid, timeout) {
                Err(_) if force => backing.stop(vmid),
                done => done,
            };
            let then = move |cluster: &mut Cluster, done: Result<(), String>| {
                done.and_then(|()| stop(cluster, vmid))
            };
            cluster.beside(vmid, ask, Box::new(then))
        }),
        "stop" => Box::new(move |cluster| {
            let end = move |backing: &dyn Backing| backing.stop(vmid);
            let then = move |cluster: &mut Cluster, done: Result<(), String>| {
                done.and_then(|()| stop(cluster, vmid))
            };
            cluster.beside(vmid, end, Box::new(then))
        }),
        _ => return unknown("POST", &["status", what]),
    };
    let prefix = if kind == Kind::Qemu { "qm" } else { "vz" };
    let id = vmid.to_string();
    if let Some(state) = cluster.ha.get_mut(&vmid) {
        // Only queued: the task is done at once, and the guest follows when HA gets to it.
        let wanted = if what == "start" { "started" } else { "stopped" };
        wanted.clone_into(state);
        let queued = if what == "start" { "hastart" } else { "hastop" };
        let upid = cluster.task(node, queued, &id, Box::new(|_| Ok(Vec::new())));
        cluster.task(node, "ha", &id, work);
        return ok(json!(upid));
    }
    ok(json!(cluster.task(node, &format!("{prefix}{what}"), &id, work)))
}

/// Starts a guest, with the changes that waited for it.
pub fn start(cluster: &mut Cluster, vmid: u32) -> Result<Vec<String>, String> {
    let guest = cluster.guests.get_mut(&vmid).ok_or("it is gone")?;
    if guest.running {
        return Err(format!("{} {vmid} already running", guest.kind.word()));
    }
    apply_pending(guest);
    let node = guest.node.clone();
    let drives = guest.config.iter().filter(|(key, _)| super::super::cluster::is_drive(key));
    let volumes: Vec<_> =
        drives.filter_map(|(_, value)| super::super::cluster::volume_of(value)).collect();
    if let Some(missing) = volumes.iter().find(|volume| !cluster.sees(&node, volume)) {
        return Err(format!("no such logical volume '{missing}'"));
    }
    let config = cluster.guests.get(&vmid).ok_or("it is gone")?.config.clone();
    let mounted = cluster.mounted(&config);
    let begin = move |backing: &dyn Backing| backing.start(vmid, &config, &mounted);
    let then = move |cluster: &mut Cluster, started: Result<(), String>| {
        started?;
        let guest = cluster.guests.get_mut(&vmid).ok_or("it is gone")?;
        guest.running = true;
        guest.starts += 1;
        cluster.history.push(format!("start {vmid}"));
        Ok(Vec::new())
    };
    cluster.beside(vmid, begin, Box::new(then))
}

fn stop(cluster: &mut Cluster, vmid: u32) -> Result<Vec<String>, String> {
    let guest = cluster.guests.get_mut(&vmid).ok_or("it is gone")?;
    if guest.running {
        guest.running = false;
        apply_pending(guest);
        cluster.history.push(format!("stop {vmid}"));
    }
    Ok(Vec::new())
}

fn apply_pending(guest: &mut super::super::cluster::Guest) {
    for (key, value) in std::mem::take(&mut guest.pending) {
        match value {
            Some(value) => guest.config.insert(key, value),
            None => guest.config.remove(&key),
        };
    }
}
