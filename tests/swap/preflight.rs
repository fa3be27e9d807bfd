//! What stands in the way of a swap: all of it, before anything is begun.

use std::collections::BTreeSet;

use super::pve::{Cluster, Flavour, Guest, Kind};
use super::support::programs::read;
use super::{NODES, Site, base};

/// Something in the way: what makes it so, and what has to be said of it.
type Case = (fn(&mut Cluster), &'static str, &'static [&'static str]);

const CASES: &[Case] = &[
    (|it| it.version = Some("8.3.5".to_owned()), "version", &["8.3.5", "8.4"]),
    (
        |it| take(it, "/pool/imgbuild", "VM.PowerMgmt"),
        "privilege",
        &["VM.PowerMgmt", "/pool/imgbuild"],
    ),
    (|it| take(it, "/pool/imgbuild", "VM.Allocate"), "privilege", &["VM.Allocate"]),
    (
        |it| take(it, "/storage/local", "Datastore.AllocateTemplate"),
        "privilege",
        &["/storage/local"],
    ),
    (
        |it| take(it, "/storage/local-lvm", "Datastore.AllocateSpace"),
        "privilege",
        &["/storage/local-lvm"],
    ),
    (|it| take(it, "/sdn/zones/localnetwork/vmbr0", "SDN.Use"), "privilege", &["vmbr0", "SDN.Use"]),
    (|it| it.pools.clear(), "pool", &["pveum pool add imgbuild"]),
    (
        |it| forget_content(it, "local", "vztmpl"),
        "storage",
        &["vztmpl", "pvesm set local --content"],
    ),
    (|it| forget_content(it, "local-lvm", "rootdir"), "storage", &["rootdir"]),
    (|it| drop(it.storages.remove("local-lvm")), "storage", &["local-lvm on pve1"]),
    (|it| storage(it, "local-lvm").active = false, "storage", &["not active"]),
    (
        |it| storage(it, "local-lvm").used = 999 << 30,
        "room",
        &["local-lvm on pve1", "1.0 GiB is free"],
    ),
    (|it| storage(it, "local").used = 1000 << 30, "room", &["local on pve1"]),
    (|it| stranger(it, 4000, "other"), "numbers", &["4000", "lease"]),
    (
        |it| (4001..=4097).for_each(|id| stranger(it, id, "other")),
        "numbers",
        &["3 guests", "2 numbers"],
    ),
    (|it| unseen(it, 4001), "numbers", &["4001", "VM.Audit"]),
    (|it| stranger(it, 150, "app2"), "guests", &["app2", "guest 150"]),
];

fn take(cluster: &mut Cluster, path: &str, privilege: &str) {
    let acl = cluster.acl.iter_mut().find(|acl| acl.path == path).unwrap();
    assert!(acl.privileges.remove(privilege), "{privilege}");
}

fn storage<'a>(cluster: &'a mut Cluster, name: &str) -> &'a mut super::pve::cluster::Storage {
    cluster.storages.get_mut(name).unwrap()
}

fn forget_content(cluster: &mut Cluster, name: &str, content: &str) {
    assert!(storage(cluster, name).content.remove(content), "{content}");
}

fn stranger(cluster: &mut Cluster, vmid: u32, name: &str) {
    unseen(cluster, vmid);
    let guest = cluster.guests.get_mut(&vmid).unwrap();
    guest.pool = Some("imgbuild".to_owned());
    guest.config.insert("hostname".to_owned(), name.to_owned());
}

/// A guest in no pool, so that the token does not see it.
fn unseen(cluster: &mut Cluster, vmid: u32) {
    cluster.guests.insert(vmid, Guest::new("pve1", Kind::Lxc));
}

/// What `preflight` says is in the way, as `check: at: text: help`.
pub(super) fn obstacles(site: &Site) -> Vec<String> {
    let ended = site.run(&["preflight", "--json"]);
    let told = read(&ended.stdout);
    let checks = told["checks"].as_array().unwrap();
    let found: Vec<String> = checks
        .iter()
        .filter(|check| check["finding"] == "obstacle")
        .map(|check| {
            let parts = ["check", "at", "text", "help"];
            parts.map(|part| check[part].as_str().unwrap_or_default()).join(": ")
        })
        .collect();
    assert_eq!(told["ready"], found.is_empty());
    assert_eq!(ended.code, i32::from(!found.is_empty()), "{}", ended.stderr);
    found
}

#[test]
fn each_thing_in_the_way_is_named() {
    let Some(base) = base() else { return };
    for flavour in [Flavour::V8, Flavour::V9] {
        let site = Site::new(base, flavour);
        let none = obstacles(&site);
        assert!(none.len() == 1 && none[0].contains("imgbuild build app"), "{none:?}");
        site.build("1");
        assert_eq!(obstacles(&site), [""; 0]);
        for (make, check, says) in CASES {
            let before = keep(&site.pve.cluster());
            make(&mut site.pve.cluster());
            let found = obstacles(&site);
            let own = found.iter().filter(|line| line.starts_with(check));
            let own: Vec<_> =
                own.filter(|line| says.iter().all(|word| line.contains(word))).collect();
            assert_eq!(own.len(), 1, "{check} {says:?}: {found:#?}");
            before(&mut site.pve.cluster());
        }
        assert_eq!(obstacles(&site), [""; 0], "all was put back");
        assert!(site.pve.changes().is_empty(), "it only reads: {:?}", site.pve.changes());
    }
}

/// What brings back the parts of a cluster that cases change.
fn keep(cluster: &Cluster) -> impl FnOnce(&mut Cluster) + use<> {
    let (storages, pools) = (cluster.storages.clone(), cluster.pools.clone());
    let (guests, acl) = (cluster.guests.clone(), cluster.acl.clone());
    move |cluster| {
        cluster.version = None;
        (cluster.storages, cluster.pools) = (storages, pools);
        (cluster.guests, cluster.acl) = (guests, acl);
    }
}

#[test]
fn all_that_is_in_the_way_is_named_at_once() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    site.build("1");
    site.succeed(&["swap", "--yes"]);
    site.build("2");
    {
        let mut cluster = site.pve.cluster();
        let ids: Vec<u32> = cluster.guests.keys().copied().filter(|id| *id > 4000).collect();
        assert_eq!(ids.len(), usize::from(NODES));
        cluster.ha.insert(ids[0], "started".to_owned());
        let guest = cluster.guests.get_mut(&ids[1]).unwrap();
        let config = guest.config.clone();
        guest.snapshots.insert("before".to_owned(), config);
        let guest = cluster.guests.get_mut(&ids[2]).unwrap();
        guest.config.insert("lock".to_owned(), "backup".to_owned());
        take(&mut cluster, "/pool/imgbuild", "VM.Config.Disk");
        take(&mut cluster, "/pool/imgbuild", "VM.Config.CPU");
        take(&mut cluster, "/nodes", "Sys.Audit");
        forget_content(&mut cluster, "local", "vztmpl");
        stranger(&mut cluster, 4050, "other");
        cluster.clustered = true;
        cluster.quorate = false;
    }
    let before = site.pve.changes().len();
    let found = obstacles(&site).join("\n");
    for expected in [
        "VM.Config.Disk",
        "VM.Config.CPU",
        "vztmpl",
        "quorum",
        "high availability",
        "snapshot `before`",
        "is locked (backup)",
    ] {
        assert!(found.contains(expected), "{expected}: {found}");
    }
    let told = site.run(&["preflight"]);
    assert_eq!(told.code, 1);
    let first: BTreeSet<&str> =
        told.stdout.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(first.is_superset(&BTreeSet::from(["ok", "warn", "NO"])), "{}", told.stdout);
    let long = told.stdout.lines().find(|line| line.chars().count() > 100);
    assert_eq!(long, None, "{}", told.stdout);
    for warned in ["tasks of others", "4050"] {
        assert!(told.stdout.contains(warned) && !found.contains(warned), "{warned}: {found}");
    }
    assert_eq!(site.pve.changes().len(), before, "it only reads");
}

#[test]
fn hosts_that_are_not_there_are_named() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    site.build("1");
    site.pve.cluster().nodes.insert("pve2".to_owned(), false);
    let overlay = site.project.read("overlays/campus/overlay.toml");
    let at = overlay.rfind("host = \"pve1\"").unwrap();
    for (host, says) in
        [("pve2", "host: pve2: it is offline"), ("pve3", "host: pve3: the cluster has no")]
    {
        let changed = format!("{}host = \"{host}\"{}", &overlay[..at], &overlay[at + 13..]);
        site.project.write("overlays/campus/overlay.toml", &changed);
        let found = obstacles(&site);
        assert!(found.iter().any(|line| line.starts_with(says)), "{found:?}");
    }
}
