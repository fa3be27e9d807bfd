//! Commands for a Proxmox VE node, held against the description of Proxmox's API: those of `qm`, `pct`, `pvesm` and `pveum` are
//! calls of it, with the parameters as options.

use std::collections::BTreeMap;

use crate::pve::Flavour;
use crate::pve::schema::{Schema, schema};

/// A command, the call that it makes, and what its arguments are (`$cmddef` in `PVE/CLI/qm.pm` of qemu-server, `pct.pm` of
/// pve-container, `pvesm.pm` of pve-storage, `pveum.pm` of pve-access-control).
type Known = (&'static str, &'static str, &'static str, &'static [&'static str]);

const CALLS: &[Known] = &[
    ("qm create", "POST", "/nodes/pve1/qemu", &["vmid"]),
    ("qm set", "PUT", "/nodes/pve1/qemu/{vmid}/config", &["vmid"]),
    ("qm start", "POST", "/nodes/pve1/qemu/{vmid}/status/start", &["vmid"]),
    ("qm stop", "POST", "/nodes/pve1/qemu/{vmid}/status/stop", &["vmid"]),
    ("qm shutdown", "POST", "/nodes/pve1/qemu/{vmid}/status/shutdown", &["vmid"]),
    ("qm disk resize", "PUT", "/nodes/pve1/qemu/{vmid}/resize", &["vmid", "disk", "size"]),
    ("qm disk move", "POST", "/nodes/pve1/qemu/{vmid}/move_disk", &["vmid", "disk", "storage"]),
    ("qm guest exec", "POST", "/nodes/pve1/qemu/{vmid}/agent/exec", &["vmid", "command"]),
    ("pct create", "POST", "/nodes/pve1/lxc", &["vmid", "ostemplate"]),
    ("pct set", "PUT", "/nodes/pve1/lxc/{vmid}/config", &["vmid"]),
    ("pct start", "POST", "/nodes/pve1/lxc/{vmid}/status/start", &["vmid"]),
    ("pct stop", "POST", "/nodes/pve1/lxc/{vmid}/status/stop", &["vmid"]),
    ("pct shutdown", "POST", "/nodes/pve1/lxc/{vmid}/status/shutdown", &["vmid"]),
    ("pvesm set", "PUT", "/storage/{storage}", &["storage"]),
    ("pveum role add", "POST", "/access/roles", &["roleid"]),
    ("pveum pool add", "POST", "/pools", &["poolid"]),
    ("pveum user add", "POST", "/access/users", &["userid"]),
    (
        "pveum user token add",
        "POST",
        "/access/users/{userid}/token/{tokenid}",
        &["userid", "tokenid"],
    ),
    ("pveum acl modify", "PUT", "/access/acl", &["path"]),
];

/// Commands that are no calls of the API: how many arguments they take, and their options (in the same files).
const OTHERS: &[(&str, usize, &[&str])] = &[
    ("qm importdisk", 3, &["format", "target-disk"]),
    ("qm terminal", 1, &["iface", "escape"]),
    ("pct enter", 1, &["keep-env"]),
    ("pct push", 3, &["user", "group", "perms"]),
];

/// Where a node looks for files of these names (`PVE/Storage/Plugin.pm`: `template/cache` for `vztmpl`, `import`).
const PLACES: &[(&str, &str)] =
    &[(".tar.zst", "/var/lib/vz/template/cache/"), (".qcow2", "/var/lib/vz/import/")];

/// Programs beside those of Proxmox.
const PLAIN: &[&str] = &["install", "genisoimage", "shred"];

/// Whether a description of the API is at hand, to judge commands by.
pub fn can_judge() -> bool {
    schema().is_some()
}

/// What is wrong with a command for a node.
pub fn judge(words: &[String]) -> Result<(), String> {
    if words[0] == "scp" {
        return judge_copy(&words[1..]);
    }
    if PLAIN.contains(&words[0].as_str()) {
        return Ok(());
    }
    let text = words.join(" ");
    let starts = |name: &str| text == name || text.starts_with(&format!("{name} "));
    // `pct exec` passes on what follows the number.
    if starts("pct exec") {
        return match words.get(3).map(String::as_str) {
            Some("--") => Ok(()),
            _ => Err("`pct exec VMID -- COMMAND`".to_owned()),
        };
    }
    if let Some((name, count, options)) = OTHERS.iter().find(|known| starts(known.0)) {
        let (arguments, given) = parts(&words[name.split(' ').count()..])?;
        if arguments.len() != *count {
            return Err(format!("{name} takes {count} arguments"));
        }
        let unknown = given.keys().find(|option| !options.contains(&option.as_str()));
        return unknown.map_or(Ok(()), |option| Err(format!("{name} has no --{option}")));
    }
    let Some((name, method, path, names)) = CALLS.iter().find(|known| starts(known.0)) else {
        return Err("it is not known to tests/documentation/node.rs".to_owned());
    };
    let (arguments, given) = parts(&words[name.split(' ').count()..])?;
    // One that is missing is missing in the call, too. What follows the last one belongs to it: a command and its arguments.
    let mut parameters = given;
    let mut path = (*path).to_owned();
    for (name, value) in names.iter().zip(&arguments) {
        path = path.replace(&format!("{{{name}}}"), value);
        parameters.insert((*name).to_owned(), value.clone());
    }
    let Some(schema) = schema() else { return Ok(()) };
    [Flavour::V8, Flavour::V9]
        .into_iter()
        .try_for_each(|flavour| call(&schema, flavour, method, &path, parameters.clone()))
}

fn call(
    schema: &Schema,
    flavour: Flavour,
    method: &str,
    path: &str,
    mut parameters: Options,
) -> Result<(), String> {
    let segments: Vec<String> = path.split('/').skip(1).map(str::to_owned).collect();
    let endpoint = schema
        .endpoint(flavour, method, &segments)
        .ok_or_else(|| format!("the API has no {method} {path}"))?;
    parameters.extend(endpoint.in_path.iter().cloned());
    match schema.check(flavour, &endpoint, &parameters).first() {
        Some((name, why)) => Err(format!("{flavour:?}: --{name}: {why}")),
        None => Ok(()),
    }
}

/// The options of a command, with their values.
type Options = BTreeMap<String, String>;

/// The arguments of a command, and its options.
fn parts(words: &[String]) -> Result<(Vec<String>, Options), String> {
    let (mut arguments, mut options) = (Vec::new(), Options::new());
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            Some("") => arguments.extend(words.by_ref().cloned()),
            Some(option) => {
                let value = words.next().ok_or_else(|| format!("--{option} has no value"))?;
                options.insert(option.to_owned(), value.clone());
            }
            None => arguments.push(word.clone()),
        }
    }
    Ok((arguments, options))
}

/// A file that is copied has to go where the node looks for it.
fn judge_copy(words: &[String]) -> Result<(), String> {
    let [from, to] = words else { return Err("scp FROM TO".to_owned()) };
    let (_, to) = to.split_once(':').ok_or("the node is missing")?;
    let place = PLACES.iter().find(|(extension, _)| from.ends_with(extension));
    match place {
        Some((_, place)) if *place == to => Ok(()),
        _ => Err(format!("a node does not look for {from} in {to}")),
    }
}

#[test]
fn a_slip_of_the_pen_in_a_command_for_a_node_is_found() {
    if !can_judge() {
        return;
    }
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let good = "qm set 201 --scsi2 local-lvm:vm-201-disk-2,serial=imgbuild-secrets,ro=1,backup=0";
    assert_eq!(judge(&words(good)), Ok(()));
    for wrong in [
        "qm set 201 --scis2 local-lvm:vm-201-disk-2",
        "qm set 201 --scsi2 local-lvm:vm-201-disk-2,serail=x",
        "qm set 201 --ciupgrade no",
        "pct create 301",
        "pct create 301 local:vztmpl/x.tar.zst --unprivileged 1 --nesting 1",
        "qm importdisk 201 x.qcow2 local-lvm --target scsi0",
        "pvesm set local --contents backup",
        "pveum role add X --privileges VM.Audit",
        "qm destory 201",
        "scp out/x.qcow2 root@pve1:/var/lib/vz/images/",
    ] {
        assert!(judge(&words(wrong)).is_err(), "{wrong} was let through");
    }
}
