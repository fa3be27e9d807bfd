//! Giving volumes to other guests (`move_disk` in `PVE/API2/Qemu.pm`, `move_volume` in `PVE/API2/LXC.pm`).

use serde_json::json;

use super::super::cluster::{Cluster, Guest, Kind, owner_of, volume_of};
use super::super::wire::Reply;
use super::guest::{Address, leave_boot_order};
use super::{Answer, Parameters, check_digest, check_lock, fail, find, ok};

/// What is asked for.
#[derive(Clone)]
struct Move {
    vmid: u32,
    kind: Kind,
    key: String,
    digest: Option<String>,
    to: u32,
    to_key: String,
    to_digest: Option<String>,
}

pub fn call(cluster: &mut Cluster, address: Address<'_>, parameters: &Parameters) -> Answer {
    let (node, kind, vmid) = address;
    let (source, target, task) = match kind {
        Kind::Qemu => ("disk", "target-disk", "qmmove"),
        Kind::Lxc => ("volume", "target-volume", "move_volume"),
    };
    let Some(to) = parameters.get("target-vmid").and_then(|text| text.parse::<u32>().ok()) else {
        return fail("the fake moves volumes only to other guests");
    };
    if parameters.contains_key("storage") {
        let why = "either set 'storage' or 'target-vmid', but not both".to_owned();
        return Err(Reply::parameters(vec![("storage".to_owned(), why)]));
    }
    find(cluster, address)?;
    cluster.check(&format!("/vms/{to}"), &["VM.Config.Disk"])?;
    let key = parameters[source].clone();
    let wish = Move {
        vmid,
        kind,
        to,
        to_key: parameters.get(target).cloned().unwrap_or_else(|| key.clone()),
        key,
        digest: parameters.get("digest").cloned(),
        to_digest: parameters.get("target-digest").cloned(),
    };
    if vmid == to {
        let word = kind.word();
        return fail(format!("target {word} and source {word} can't be the same"));
    }
    let volume = check(cluster, &wish).or_else(fail)?;
    let storage = volume.split(':').next().unwrap_or_default();
    cluster.check(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
    let id = format!("{vmid}-{}>{to}-{}", wish.key, wish.to_key);
    let node_name = node.to_owned();
    // Everything is checked again when it is done.
    let work = move |cluster: &mut Cluster| {
        check(cluster, &wish)?;
        rename(cluster, &node_name, &wish)
    };
    ok(json!(cluster.task(node, task, &id, Box::new(work))))
}

/// All that is refused; otherwise the volume.
fn check(cluster: &Cluster, wish: &Move) -> Result<String, String> {
    let Move { vmid, kind, key, to, to_key, .. } = wish;
    let word = kind.word();
    let source = cluster.guests.get(vmid).ok_or(format!("could not find {word} {vmid}"))?;
    let target = cluster
        .guests
        .get(to)
        .filter(|target| target.kind == *kind)
        .ok_or(format!("could not find target {word} {to}"))?;
    if source.node != target.node {
        return Err(format!(
            "Both {word}s need to be on the same node ({} != {})",
            source.node, target.node
        ));
    }
    check_lock(source)?;
    check_lock(target)?;
    let is_template = |guest: &Guest| guest.config.get("template").is_some_and(|text| text == "1");
    if is_template(source) || is_template(target) {
        return Err(format!("Can't move disks from or to template {word}s"));
    }
    check_digest(source, wish.digest.as_ref()).map_err(|why| format!("{word} {vmid}: {why}"))?;
    check_digest(target, wish.to_digest.as_ref()).map_err(|why| format!("{word} {to}: {why}"))?;
    if *kind == Kind::Lxc && (key == "rootfs" || to_key == "rootfs") {
        return Err("Cannot move to/from 'rootfs'".to_owned());
    }
    let value =
        source.config.get(key).ok_or(format!("Disk '{key}' for {word} '{vmid}' does not exist"))?;
    if target.config.contains_key(to_key) {
        return Err(format!("Target disk key '{to_key}' is already in use for {word} '{to}'"));
    }
    let volume = volume_of(value).ok_or(format!("disk '{key}' has no associated volume"))?;
    if value.contains("media=cdrom") {
        return Err("CD drive contents can't be moved to another VM".to_owned());
    }
    let unused = key.starts_with("unused");
    if *kind == Kind::Lxc && unused && !to_key.starts_with("unused") {
        return Err("Moving an unused volume to a used one is not possible".to_owned());
    }
    let uses = |config: &super::super::cluster::Config| {
        config.values().any(|value| volume_of(value).as_ref() == Some(&volume))
    };
    if source.snapshots.values().any(uses) {
        return Err(match kind {
            Kind::Qemu => "Can't move disk used by a snapshot to another VM".to_owned(),
            Kind::Lxc => "Cannot move volume used by a snapshot to another container".to_owned(),
        });
    }
    let storage = volume.split(':').next().unwrap_or_default();
    if !cluster.storages.get(storage).is_some_and(|storage| storage.can_rename) {
        return Err("Storage does not support moving of this disk to another VM".to_owned());
    }
    if source.running && !unused {
        return Err(match kind {
            Kind::Qemu => {
                "Cannot move disk to another VM while the source VM is running - detach first"
                    .to_owned()
            }
            Kind::Lxc => "Cannot move in-use volume while the source CT is running".to_owned(),
        });
    }
    Ok(volume)
}

/// Renames the volume, and takes the drive from one configuration to the other.
fn rename(cluster: &mut Cluster, node: &str, wish: &Move) -> Result<Vec<String>, String> {
    let source = cluster.guests.get_mut(&wish.vmid).ok_or("it is gone")?;
    let value = source.config.remove(&wish.key).ok_or("it is gone")?;
    leave_boot_order(source, &wish.key);
    let old = volume_of(&value).ok_or("no volume")?;
    let storage = old.split(':').next().unwrap_or_default().to_owned();
    let moved = cluster.volumes.remove(&old).ok_or(format!("volume '{old}' does not exist"))?;
    let new = cluster.allocate(node, &storage, wish.to, "", 0)?;
    debug_assert_eq!(owner_of(&new), Some(wish.to));
    cluster.volumes.insert(new.clone(), moved);
    // The options come along, but not from and to unused keys.
    let bare = wish.key.starts_with("unused") || wish.to_key.starts_with("unused");
    let written = if bare { new.clone() } else { value.replacen(&old, &new, 1) };
    let target = cluster.guests.get_mut(&wish.to).ok_or("it is gone")?;
    target.config.insert(wish.to_key.clone(), written);
    cluster.history.push(format!("move {old} {new}"));
    Ok(vec![format!("removing disk '{}' from VM '{}' config", wish.key, wish.vmid)])
}
