//! Storages and uploads (`PVE/API2/Storage/`).

use regex::Regex;
use serde_json::{Value, json};

use super::super::cluster::{Cluster, Volume, owner_of};
use super::super::upload::Uploaded;
use super::super::wire::Reply;
use super::{Answer, Parameters, fail, ok, unknown};

pub fn call(
    cluster: &mut Cluster,
    method: &str,
    node: &str,
    segments: &[&str],
    parameters: &Parameters,
) -> Answer {
    match (method, segments) {
        ("GET", []) => {
            let content = parameters.get("content");
            let names: Vec<String> = cluster.storages.keys().cloned().collect();
            let visible = names.iter().filter(|name| may_see(cluster, name).is_ok());
            let fitting = visible.filter(|name| {
                content.is_none_or(|content| cluster.storages[*name].content.contains(content))
            });
            ok(fitting.map(|name| describe(cluster, node, name)).collect())
        }
        ("GET", [storage, "status"]) => {
            may_see(cluster, storage)?;
            exists(cluster, storage)?;
            ok(describe(cluster, node, storage))
        }
        ("GET", [storage, "content"]) => {
            may_see(cluster, storage)?;
            exists(cluster, storage)?;
            ok(list(cluster, node, storage, parameters))
        }
        ("DELETE", [storage, "content", volume]) => {
            exists(cluster, storage)?;
            cluster.check(&format!("/storage/{storage}"), &["Datastore.Allocate"])?;
            if !cluster.sees(node, volume) {
                return fail(format!("volume '{volume}' does not exist"));
            }
            if let Some(owner) = owner_of(volume).filter(|vmid| cluster.guests.contains_key(vmid)) {
                return fail(format!("cannot remove image, a guest with VMID '{owner}' exists!"));
            }
            let key = cluster.file_key(node, volume);
            let volume = (*volume).to_owned();
            let id = volume.split('/').next_back().unwrap_or_default().to_owned();
            let work = move |cluster: &mut Cluster| {
                let gone = cluster.files.remove(&key);
                if let (Some(file), Some(backing)) = (gone, &cluster.backing) {
                    let _ = std::fs::remove_file(backing.file(file.identity));
                }
                Ok(vec![format!("Removed volume '{volume}'")])
            };
            ok(json!(cluster.task(node, "imgdel", &id, Box::new(work))))
        }
        _ => unknown(method, segments),
    }
}

fn may_see(cluster: &Cluster, storage: &str) -> Result<(), Reply> {
    cluster
        .check_any(&format!("/storage/{storage}"), &["Datastore.Audit", "Datastore.AllocateSpace"])
}

fn exists(cluster: &Cluster, storage: &str) -> Result<(), Reply> {
    if cluster.storages.contains_key(storage) {
        Ok(())
    } else {
        fail(format!("storage '{storage}' does not exist"))
    }
}

fn describe(cluster: &Cluster, node: &str, name: &str) -> Value {
    let storage = &cluster.storages[name];
    let used = cluster.used(node, name);
    let content: Vec<_> = storage.content.iter().map(String::as_str).collect();
    json!({
        "storage": name, "type": storage.kind, "content": content.join(","), "enabled": 1,
        "active": u8::from(storage.active), "shared": u8::from(storage.shared), "total": storage.total, "used": used,
        "avail": storage.total.saturating_sub(used),
    })
}

fn list(cluster: &Cluster, node: &str, storage: &str, parameters: &Parameters) -> Value {
    let prefix = format!("{storage}:");
    let wanted = parameters.get("content").map(String::as_str);
    let files = cluster.files.iter().filter(|((own, _), _)| own.is_empty() || own == node);
    let files = files.map(|((_, name), volume)| (name, volume));
    let volumes = cluster.volumes.iter().chain(files).filter(|(name, _)| {
        let kind = match name.strip_prefix(&prefix).map(|name| name.split('/').next()) {
            Some(Some("import")) => "import",
            Some(Some("vztmpl")) => "vztmpl",
            Some(_) => "images",
            None => return false,
        };
        let both = matches!((kind, wanted), ("images", Some("rootdir")));
        cluster.sees(node, name) && (wanted.is_none_or(|wanted| wanted == kind) || both)
    });
    volumes
        .map(|(name, volume)| {
            let format = name.rsplit('.').next().unwrap_or("raw");
            let mut item = json!({
                "volid": name, "size": volume.size, "ctime": 1_795_000_000, "format": format,
                "content": wanted.unwrap_or("images"),
            });
            if let Some(owner) = owner_of(name) {
                item["vmid"] = json!(owner);
            }
            item
        })
        .collect()
}

/// What follows an upload that has arrived: checks, and the task that puts the file in its place
/// (`PVE/API2/Storage/Status.pm`).
pub fn upload(cluster: &mut Cluster, node: &str, storage: &str, file: Uploaded) -> Answer {
    exists(cluster, storage)?;
    let content = file.content.clone().unwrap_or_default();
    if !cluster.storages[storage].content.contains(&content) {
        return fail(format!("storage '{storage}' does not support '{content}' content"));
    }
    let other = Regex::new("[^a-zA-Z0-9_.-]").expect("a pattern");
    let name = file.filename.rsplit('/').next().unwrap_or_default();
    let name = other.replace_all(name, "_").into_owned();
    let pattern = match content.as_str() {
        "import" => r"^[a-zA-Z0-9\-.+=_]+\.(ova|qcow2|raw|vmdk)$",
        _ => r"^[^/]+\.tar\.(gz|xz|zst|bz2)$",
    };
    if !Regex::new(pattern).expect("a pattern").is_match(&name) {
        let why = "invalid filename or wrong extension".to_owned();
        return Err(Reply::parameters(vec![("filename".to_owned(), why)]));
    }
    if file.checksum.is_some() != file.algorithm.is_some() {
        return Err(Reply::parameters(vec![("checksum".to_owned(), "requires".to_owned())]));
    }
    let (node_name, storage) = (node.to_owned(), storage.to_owned());
    let work = move |cluster: &mut Cluster| {
        let got = file.digest.map(|digest| digest.to_string()).unwrap_or_default();
        if let Some(expect) = file.checksum.filter(|expect| *expect != got) {
            return Err(format!("checksum mismatch: got '{got}' != expect '{expect}'"));
        }
        let shared = cluster.storages[&storage].shared;
        let identity = file.kept.unwrap_or_else(|| cluster.number());
        let volume = format!("{storage}:{content}/{name}");
        let key = cluster.file_key(&node_name, &volume);
        cluster.files.insert(
            key,
            Volume {
                node: (!shared).then_some(node_name),
                size: file.size,
                identity,
                digest: file.digest,
            },
        );
        Ok(vec![format!("target file: {name}"), "finished file import successfully".to_owned()])
    };
    // The task runs on the node that was talked to, whichever node the storage is of.
    let local = cluster.local();
    ok(json!(cluster.task(&local, "imgcopy", "", Box::new(work))))
}
