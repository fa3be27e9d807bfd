//! One guest: its configuration, what it says, its end.

use serde_json::{Value, json};

use super::super::Flavour;
use super::super::cluster::{Cluster, Config, Guest, Kind, is_drive, owner_of, volume_of};
use super::super::wire::Reply;
use super::{Answer, Parameters, check_digest, check_lock, fail, find, ok, power, unknown, volume};

pub type Address<'a> = (&'a str, Kind, u32);

pub fn call(
    cluster: &mut Cluster,
    method: &str,
    address: Address<'_>,
    segments: &[&str],
    parameters: &Parameters,
) -> Answer {
    let (_, kind, vmid) = address;
    let path = format!("/vms/{vmid}");
    match (method, segments) {
        ("GET", ["config"]) => {
            cluster.check(&path, &["VM.Audit"])?;
            config(find(cluster, address)?, parameters)
        }
        ("PUT", ["config"]) => change(cluster, address, parameters),
        ("GET", ["pending"]) => {
            cluster.check(&path, &["VM.Audit"])?;
            ok(pending(find(cluster, address)?))
        }
        ("GET", ["snapshot"]) => {
            cluster.check(&path, &["VM.Audit"])?;
            let names = find(cluster, address)?.snapshots.keys();
            let mut list: Vec<Value> =
                names.map(|name| json!({ "name": name, "description": "" })).collect();
            list.push(json!({ "name": "current", "description": "You are here!" }));
            ok(json!(list))
        }
        ("GET", ["status", "current"]) => {
            cluster.check(&path, &["VM.Audit"])?;
            let managed = u8::from(cluster.ha.contains_key(&vmid));
            cluster.look();
            let guest = find(cluster, address)?;
            let mut status = json!({
                "vmid": vmid, "status": if guest.running { "running" } else { "stopped" },
                "ha": { "managed": managed }, "uptime": 0,
            });
            if let Some(lock) = guest.config.get("lock") {
                status["lock"] = json!(lock);
            }
            ok(status)
        }
        ("POST", ["status", what]) => {
            cluster.check(&path, &["VM.PowerMgmt"])?;
            power::call(cluster, address, what, parameters)
        }
        ("POST", ["move_disk" | "move_volume"]) => {
            cluster.check(&path, &["VM.Config.Disk"])?;
            volume::call(cluster, address, parameters)
        }
        ("POST", ["agent", "ping"]) | ("GET", ["agent", "network-get-interfaces"])
            if kind == Kind::Qemu =>
        {
            let needed: &[&str] = match cluster.flavour {
                Flavour::V8 => &["VM.Monitor"],
                Flavour::V9 => &["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"],
            };
            cluster.check_any(&path, needed)?;
            agent(find(cluster, address)?, vmid, method == "POST")
        }
        ("GET", ["interfaces"]) if kind == Kind::Lxc => {
            cluster.check(&path, &["VM.Audit"])?;
            let guest = find(cluster, address)?;
            if !guest.running {
                return fail(format!("CT {vmid} is not running"));
            }
            ok(interfaces(guest))
        }
        ("DELETE", []) => {
            cluster.check(&path, &["VM.Allocate"])?;
            destroy(cluster, address, parameters)
        }
        _ => unknown(method, segments),
    }
}

fn config(guest: &Guest, parameters: &Parameters) -> Answer {
    if let Some(name) = parameters.get("snapshot") {
        return match guest.snapshots.get(name) {
            Some(config) => ok(json!(config)),
            None => fail(format!("snapshot '{name}' does not exist")),
        };
    }
    let mut values: Config = guest.config.clone();
    if parameters.get("current").is_none_or(|current| current == "0") {
        for (key, value) in &guest.pending {
            match value {
                Some(value) => values.insert(key.clone(), value.clone()),
                None => values.remove(key),
            };
        }
    }
    let mut answer = json!({ "digest": guest.digest() });
    for (key, value) in values {
        // Numbers come as numbers, and descriptions with a line end more.
        answer[&key] = match (key.as_str(), value.parse::<u64>()) {
            ("description", _) => json!(format!("{value}\n")),
            (
                "cores" | "onboot" | "balloon" | "swap" | "unprivileged" | "protection",
                Ok(number),
            ) => {
                json!(number)
            }
            _ => json!(value),
        };
    }
    ok(answer)
}

fn pending(guest: &Guest) -> Value {
    let mut items: Vec<Value> =
        guest.config.iter().map(|(key, value)| json!({ "key": key, "value": value })).collect();
    for (key, value) in &guest.pending {
        let mut item = json!({ "key": key });
        if let Some(current) = guest.config.get(key) {
            items.retain(|item| item["key"] != *key);
            item["value"] = json!(current);
        }
        match value {
            Some(value) => item["pending"] = json!(value),
            None => item["delete"] = json!(1),
        }
        items.push(item);
    }
    json!(items)
}

/// Tags as they are written: small letters, in order, each once.
pub fn sorted_tags(text: &str) -> String {
    let mut tags: Vec<_> =
        text.split([';', ',', ' ']).filter(|tag| !tag.is_empty()).map(str::to_lowercase).collect();
    tags.sort();
    tags.dedup();
    tags.join(";")
}

fn change(cluster: &mut Cluster, address: Address<'_>, parameters: &Parameters) -> Answer {
    let (node, kind, vmid) = address;
    let deleted: Vec<String> = parameters
        .get("delete")
        .map(|list| list.split([',', ';', ' ']).map(str::to_owned).collect())
        .unwrap_or_default();
    let set: Vec<(String, String)> = parameters
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "digest" | "delete" | "node" | "vmid"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let keys = set.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    cluster.check_keys(vmid, None, keys.chain(deleted.iter().map(|key| (key.as_str(), ""))))?;
    let guest = find(cluster, address)?;
    check_digest(guest, parameters.get("digest")).or_else(fail)?;
    check_lock(guest).or_else(fail)?;
    let guest = guest.clone();
    for (key, value) in &set {
        if is_drive(key) {
            if super::create::asks_for_new(value) {
                return fail("the fake makes volumes only with guests");
            }
            let volume = volume_of(value).filter(|volume| cluster.sees(node, volume));
            if volume.is_none() && !value.starts_with("none") {
                return fail(format!("volume '{value}' does not exist"));
            }
        }
        if key == "boot" {
            let order = value.strip_prefix("order=").unwrap_or(value);
            if let Some(missing) = order.split(';').find(|key| !guest.config.contains_key(*key)) {
                return fail(format!("invalid bootorder: device '{missing}' does not exist"));
            }
        }
    }
    for key in &deleted {
        let drive = guest.config.contains_key(key) && is_drive(key);
        if drive && guest.config.get("protection").is_some_and(|value| value == "1") {
            let word = kind.word();
            return fail(format!(
                "can't remove {word} {vmid} drive '{key}' - protection mode enabled"
            ));
        }
        if drive && key.starts_with("unused") {
            let volume = guest.volume(key).unwrap_or_default();
            if owner_of(&volume) == Some(vmid) {
                cluster.volumes.remove(&volume);
                cluster.history.push(format!("free {volume}"));
            }
        }
    }
    let guest = cluster.guests.get_mut(&vmid).ok_or(Reply::error(500, "it is gone"))?;
    for key in deleted {
        delete(guest, &key);
    }
    for (key, value) in set {
        let value = if key == "tags" { sorted_tags(&value) } else { value };
        if guest.running && waits(kind, &key) {
            guest.pending.insert(key, Some(value));
        } else {
            replace(guest, &key, value);
        }
    }
    ok(Value::Null)
}

/// Whether a key changes only when the guest is started anew (`$fast_plug_option` in `PVE/QemuServer.pm`).
fn waits(kind: Kind, key: &str) -> bool {
    let fast =
        ["name", "onboot", "shares", "startup", "description", "protection", "tags", "hookscript"];
    let hotplugged = kind == Kind::Qemu && (is_drive(key) || key.starts_with("net"));
    !fast.contains(&key) && !hotplugged
}

fn delete(guest: &mut Guest, key: &str) {
    if guest.running && waits(guest.kind, key) && guest.config.contains_key(key) {
        guest.pending.insert(key.to_owned(), None);
        return;
    }
    let Some(value) = guest.config.remove(key) else { return };
    if is_drive(key) && !key.starts_with("unused") {
        keep_unused(guest, &value);
        leave_boot_order(guest, key);
    }
}

fn replace(guest: &mut Guest, key: &str, value: String) {
    let before = guest.config.insert(key.to_owned(), value.clone());
    if !is_drive(key) {
        return;
    }
    // What is attached is not unused any more, and what was there is now.
    let volume = volume_of(&value);
    guest.config.retain(|other, text| {
        other == key || !other.starts_with("unused") || volume_of(text) != volume
    });
    if let Some(before) = before.filter(|before| volume_of(before) != volume) {
        keep_unused(guest, &before);
    }
}

fn keep_unused(guest: &mut Guest, value: &str) {
    let Some(volume) = volume_of(value).filter(|volume| !volume.contains("cloudinit")) else {
        return;
    };
    let free = (0..256).map(|number| format!("unused{number}"));
    let key = free.into_iter().find(|key| !guest.config.contains_key(key));
    guest.config.extend(key.map(|key| (key, volume)));
}

/// Takes a drive out of the boot order.
pub fn leave_boot_order(guest: &mut Guest, key: &str) {
    if let Some(boot) = guest.config.get_mut("boot") {
        let order = boot.trim_start_matches("order=");
        let left: Vec<_> = order.split(';').filter(|device| *device != key).collect();
        *boot = format!("order={}", left.join(";"));
    }
}

fn agent(guest: &Guest, vmid: u32, ping: bool) -> Answer {
    if !guest.config.get("agent").is_some_and(|agent| agent.contains('1')) {
        return fail("No QEMU guest agent configured");
    }
    if !guest.running {
        return fail(format!("VM {vmid} is not running"));
    }
    if !guest.agent {
        return fail("QEMU guest agent is not running");
    }
    if ping {
        return ok(json!({ "result": {} }));
    }
    ok(json!({ "result": interfaces(guest) }))
}

fn interfaces(guest: &Guest) -> Value {
    let addresses: Vec<_> = guest
        .addresses
        .iter()
        .map(|address| json!({ "ip-address": address, "prefix": 24, "ip-address-type": "ipv4" }))
        .collect();
    let mut interface = json!({
        "name": "eth0", "hardware-address": "BC:24:11:00:00:01", "ip-addresses": addresses,
    });
    if guest.kind == Kind::Lxc {
        interface["hwaddr"] = json!("bc:24:11:00:00:01");
    }
    json!([interface])
}

fn destroy(cluster: &mut Cluster, address: Address<'_>, parameters: &Parameters) -> Answer {
    let (node, kind, vmid) = address;
    let guest = find(cluster, address)?.clone();
    let word = kind.word();
    check_lock(&guest).or_else(fail)?;
    if guest.config.get("protection").is_some_and(|value| value == "1") {
        return fail(format!("can't remove {word} {vmid} - protection mode enabled"));
    }
    if cluster.ha.contains_key(&vmid) && parameters.get("purge").is_none_or(|purge| purge == "0") {
        return fail(format!(
            "unable to remove {word} {vmid} - used in HA resources and purge parameter not set."
        ));
    }
    if guest.running {
        return fail(format!("{word} {vmid} is running - destroy failed"));
    }
    let work = move |cluster: &mut Cluster| {
        let guest = cluster.guests.get(&vmid).ok_or("it is gone")?;
        if guest.running {
            return Err(format!("{word} {vmid} is running - destroy failed"));
        }
        // Only volumes that are its own by name *and* in its configuration or its snapshots.
        let configs = guest.snapshots.values().chain([&guest.config]);
        let referenced: Vec<String> = configs
            .flat_map(|config| config.iter().filter(|(key, _)| is_drive(key)))
            .filter_map(|(_, value)| volume_of(value))
            .filter(|volume| owner_of(volume) == Some(vmid))
            .collect();
        let then = move |cluster: &mut Cluster, removed: Result<(), String>| {
            removed?;
            for volume in referenced {
                if let Some(freed) = cluster.volumes.remove(&volume) {
                    cluster.history.push(format!("free {volume}"));
                    cluster.backing.iter().for_each(|backing| backing.free(freed.identity));
                }
            }
            cluster.guests.remove(&vmid);
            cluster.ha.remove(&vmid);
            cluster.history.push(format!("destroy {vmid}"));
            Ok(Vec::new())
        };
        cluster.beside(vmid, move |backing| backing.destroy(vmid), Box::new(then))
    };
    let name = if kind == Kind::Qemu { "qmdestroy" } else { "vzdestroy" };
    ok(json!(cluster.task(node, name, &vmid.to_string(), Box::new(work))))
}
