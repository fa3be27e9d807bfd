//! Making guests (`create_vm` of `PVE/API2/Qemu.pm`, `PVE/API2/LXC.pm`).

use serde_json::json;

use super::super::access::option;
use super::super::backing::Backing;
use super::super::cluster::{Cluster, Config, Guest, Kind, is_drive, volume_of};
use super::super::wire::Reply;
use super::{Answer, Parameters, fail, ok};

const GIB: u64 = 1 << 30;

pub fn call(cluster: &mut Cluster, node: &str, kind: Kind, parameters: &Parameters) -> Answer {
    let vmid: u32 = parameters.get("vmid").and_then(|text| text.parse().ok()).unwrap_or(0);
    let pool = parameters.get("pool").cloned();
    if let Some(pool) = &pool {
        cluster.check(&format!("/pool/{pool}"), &["VM.Allocate"])?;
        if !cluster.pools.contains(pool) {
            return fail(format!("pool '{pool}' does not exist"));
        }
    } else {
        cluster.check(&format!("/vms/{vmid}"), &["VM.Allocate"])?;
    }
    let pairs = parameters.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    cluster.check_keys(vmid, pool.as_deref(), pairs)?;
    check_values(cluster, node, kind, parameters)?;
    if let Some(other) = cluster.guests.get(&vmid) {
        let word = other.kind.word();
        return fail(format!(
            "unable to create {} {vmid} - {word} {vmid} already exists on node '{}'",
            kind.word(),
            other.node
        ));
    }
    // It exists from now on, and is taken away again if the task fails.
    let mut guest = Guest::new(node, kind);
    guest.config.insert("lock".to_owned(), "create".to_owned());
    guest.pool = pool;
    cluster.guests.insert(vmid, guest);
    let (node_name, given) = (node.to_owned(), parameters.clone());
    let work = move |cluster: &mut Cluster| match fill(cluster, &node_name, vmid, kind, &given) {
        Ok(config) => {
            let template = given.get("ostemplate").and_then(|file| cluster.file(&node_name, file));
            let template = template.map_or(0, |file| file.identity);
            let volumes = cluster.mounted(&config);
            let unpack = move |backing: &dyn Backing| backing.unpack(vmid, template, &volumes);
            let then = move |cluster: &mut Cluster, unpacked: Result<(), String>| {
                if let Err(error) = unpacked {
                    return undone(cluster, vmid, kind, &error);
                }
                let guest = cluster.guests.get_mut(&vmid).ok_or("it is gone")?;
                guest.config = config;
                cluster.history.push(format!("create {vmid}"));
                Ok(Vec::new())
            };
            cluster.beside(vmid, unpack, Box::new(then))
        }
        Err(error) => undone(cluster, vmid, kind, &error),
    };
    let name = if kind == Kind::Qemu { "qmcreate" } else { "vzcreate" };
    ok(json!(cluster.task(node, name, &vmid.to_string(), Box::new(work))))
}

/// Takes away what was not made to its end.
fn undone(
    cluster: &mut Cluster,
    vmid: u32,
    kind: Kind,
    error: &str,
) -> Result<Vec<String>, String> {
    cluster.guests.remove(&vmid);
    let own = |volume: &String| super::super::cluster::owner_of(volume) == Some(vmid);
    cluster.volumes.retain(|volume, _| !own(volume));
    Err(format!("unable to create {} {vmid} - {error}", kind.word()))
}

/// What is refused before the task.
fn check_values(
    cluster: &Cluster,
    node: &str,
    kind: Kind,
    parameters: &Parameters,
) -> Result<(), Reply> {
    for key in ["args", "hookscript", "lock"] {
        if parameters.contains_key(key) {
            return fail(format!("only root can set '{key}' config"));
        }
    }
    if kind == Kind::Lxc {
        let template = &parameters["ostemplate"];
        if !cluster.sees(node, template) {
            return fail(format!("volume '{template}' does not exist"));
        }
        let features = parameters.get("features").map_or("", String::as_str);
        if features.split(',').any(|feature| !matches!(feature, "" | "nesting=1")) {
            return fail("changing feature flags (except nesting) is only allowed for root@pam");
        }
        if parameters.get("unprivileged").is_some_and(|value| value == "0") {
            cluster.check("/", &["Sys.Modify"])?;
        }
    }
    for (key, value) in parameters.iter().filter(|(key, _)| is_drive(key)) {
        let first = value.split(',').next().unwrap_or_default();
        let Some((storage, size)) = first.split_once(':') else {
            return fail(format!("only root can use arbitrary devices: {key}"));
        };
        cluster.check(&format!("/storage/{storage}"), &["Datastore.AllocateSpace"])?;
        let Some(found) = cluster.storages.get(storage) else {
            return fail(format!("storage '{storage}' does not exist"));
        };
        let content = if kind == Kind::Qemu { "images" } else { "rootdir" };
        if !found.content.contains(content) {
            return fail(format!("storage '{storage}' does not support content-type '{content}'"));
        }
        let Some(source) = option(value, "import-from") else { continue };
        if size != "0" {
            return fail(format!("'{key}' - cannot use import-from with a size"));
        }
        if source.starts_with('/') {
            return fail("Only root can use path sources");
        }
        let (source_storage, name) = source.split_once(':').unwrap_or_default();
        cluster.check_any(
            &format!("/storage/{source_storage}"),
            &["Datastore.AllocateSpace", "Datastore.Audit"],
        )?;
        if !name.starts_with("import/") || !cluster.sees(node, source) {
            return fail(format!("volume '{source}' does not exist"));
        }
    }
    Ok(())
}

/// Allocates volumes and writes the configuration.
fn fill(
    cluster: &mut Cluster,
    node: &str,
    vmid: u32,
    kind: Kind,
    parameters: &Parameters,
) -> Result<Config, String> {
    let mut config = Config::new();
    for (key, value) in parameters {
        let written = match key.as_str() {
            "vmid" | "node" | "pool" | "ostemplate" | "ssh-public-keys" => continue,
            "tags" => super::guest::sorted_tags(value),
            key if is_drive(key) => drive(cluster, node, vmid, value)?,
            key if key.starts_with("net") => network(cluster, kind, value),
            _ => value.clone(),
        };
        config.insert(key.clone(), written);
    }
    match kind {
        Kind::Qemu => {
            let number = cluster.number();
            config.insert("vmgenid".to_owned(), format!("00000000-0000-4000-8000-{number:012x}"));
        }
        Kind::Lxc => {
            config.insert("arch".to_owned(), "amd64".to_owned());
            config.entry("ostype".to_owned()).or_insert_with(|| "debian".to_owned());
            if !config.contains_key("rootfs") {
                return Err("the fake wants `rootfs`".to_owned());
            }
        }
    }
    Ok(config)
}

/// `STORAGE:GIB,…`, `STORAGE:0,import-from=…`, `STORAGE:cloudinit`.
pub fn drive(cluster: &mut Cluster, node: &str, vmid: u32, value: &str) -> Result<String, String> {
    let mut parts = value.split(',');
    let first = parts.next().unwrap_or_default();
    let (storage, size) = first.split_once(':').ok_or("no storage")?;
    if size == "cloudinit" {
        let volume = cluster.allocate(node, storage, vmid, "cloudinit", 4 << 20)?;
        return Ok(format!("{volume},media=cdrom"));
    }
    let source = option(value, "import-from");
    let bytes = match source {
        Some(source) => cluster.file(node, source).ok_or("the source is gone")?.size.max(1),
        None if option(value, "efitype").is_some() => 528 << 10,
        None => size.parse::<u64>().map_err(|_| format!("`{size}` is no size"))? * GIB,
    };
    let bytes = if source.is_some() { bytes.div_ceil(GIB) * GIB } else { bytes };
    let volume = cluster.allocate(node, storage, vmid, "", bytes)?;
    let mut written = volume;
    for option in parts.filter(|part| !part.starts_with("import-from=")) {
        written.extend([",", option]);
    }
    written += &if bytes >= GIB {
        format!(",size={}G", bytes / GIB)
    } else {
        format!(",size={}K", bytes >> 10)
    };
    Ok(written)
}

/// Without a MAC address one is made up.
fn network(cluster: &mut Cluster, kind: Kind, value: &str) -> String {
    let number = cluster.number();
    let mac = format!("BC:24:11:00:{:02X}:{:02X}", number >> 8 & 0xff, number & 0xff);
    match kind {
        Kind::Qemu if value.starts_with("virtio,") => {
            value.replacen("virtio", &format!("virtio={mac}"), 1)
        }
        Kind::Lxc if option(value, "hwaddr").is_none() => format!("{value},hwaddr={mac}"),
        _ => value.to_owned(),
    }
}

/// Whether a value asks for a new volume.
pub fn asks_for_new(value: &str) -> bool {
    volume_of(value).is_some_and(|volume| {
        volume.split_once(':').is_some_and(|(_, size)| {
            size.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') || size == "cloudinit"
        })
    })
}
