//! The role `cache`: two guests with a state volume each, a secret, and an address that one of them holds.

use super::site::Site;
use super::support::lab::wait_for;

const PASSWORD: &str = "oothieK4ahzeiPh9";

/// The gateway of the network of databases and caches, from where the site is looked at.
const BRIDGE: [&str; 1] = ["10.20.30.1/24"];

const OVERLAY: &str = "
[images.cache]
application_memory_mib = 64
virtual_interface = \"eth0\"
";

const NODES: [&str; 2] = ["cache1", "cache2"];

#[test]
#[ignore = "minutes: containers are made, and made anew"]
fn caches_are_deployed_changed_and_taken_back_with_their_sessions() {
    let Some(site) = Site::new("cache", &BRIDGE, OVERLAY) else { return };
    // So that a red gate is not waited for as long as it would be in earnest.
    site.project.edit("images/cache/image.toml", |text| {
        text.replacen("patience = 30\n", "patience = 30\nready_within = 30\n", 1)
    });
    site.secret("all/cache.password", PASSWORD);
    let first = site.build(|overlay| overlay);
    deployed(&site);
    let second = site.build(|overlay| overlay.replace("memory_mib = 64", "memory_mib = 48"));
    assert_ne!(first, second);
    replaced(&site);
    brought_back(&site);
    a_red_gate_is_taken_back(&site);
    cleaned_up(&site);
    assert_eq!(site.pve.take_invalid(), [""; 0]);
}

/// Runs a command on the sessions of whichever node may write.
fn primary(site: &Site) -> &'static str {
    let role = |node: &&str| site.inside(node).run("cat /run/imgbuild/cache/role") == "primary";
    wait_for("a primary", || NODES.into_iter().find(role))
}

#[track_caller]
fn memory(site: &Site, node: &str, mib: u32) {
    let guest = site.inside(node);
    let line = guest.run("grep '^maxmemory ' /etc/valkey/valkey-application.conf");
    assert_eq!(line, format!("maxmemory {mib}mb"), "{node}");
}

fn write(site: &Site, key: &str) {
    let guest = site.inside(primary(site));
    assert_eq!(guest.run(&format!("/usr/lib/imgbuild/cache-cli sessions SET {key} kept")), "OK");
}

#[track_caller]
fn read(site: &Site, keys: &[&str]) {
    for node in NODES {
        for key in keys {
            // Copies follow a moment later.
            let get = format!("/usr/lib/imgbuild/cache-cli sessions GET {key}");
            wait_for(&format!("{key} on {node}"), || {
                (site.inside(node).run(&get) == "kept").then_some(())
            });
        }
    }
}

/// Inode of the log of sessions on the volume: the same directory, wherever it is mounted.
fn volume(site: &Site, node: &str) -> String {
    site.inside(node).run("stat -c '%d:%i' /var/lib/valkey")
}

fn deployed(site: &Site) {
    site.succeed(&["swap", "cache", "--yes", "--secrets", "secrets"]);
    for node in NODES {
        memory(site, node, 64);
        let guest = site.inside(node);
        assert_eq!(guest.run("uname -n"), node);
        assert_eq!(guest.run("systemctl is-system-running"), "running");
        // As docs/swap.md says of them: root's, and nobody else's.
        let secret = "/etc/imgbuild/secrets/cache.password";
        assert_eq!(guest.run(&format!("cat {secret}")), PASSWORD);
        assert_eq!(guest.run(&format!("stat -c '%u:%g %a' {secret}")), "0:0 400");
        assert!(
            !guest
                .attempt(&format!("setpriv --reuid valkey --clear-groups cat {secret}"))
                .status
                .success()
        );
        assert_eq!(guest.run("stat -c %U:%G:%a /var/lib/valkey"), "valkey:valkey:750");
    }
    let uploads = site.lab.directory().join("files");
    let left = std::fs::read_dir(uploads).unwrap().count();
    assert_eq!(left, 2, "one template on each of two hosts, and no secrets");
    write(site, "deployed");
}

fn replaced(site: &Site) {
    let before = NODES.map(|node| (site.number(node), volume(site, node)));
    site.succeed(&["swap", "cache", "--yes"]);
    for (node, (old, state)) in NODES.into_iter().zip(before) {
        memory(site, node, 48);
        assert_eq!(volume(site, node), state, "the very same volume");
        assert_eq!(site.guests(node), (vec![site.number(node)], vec![old]), "the old one is kept");
        assert!(site.console(old).contains("drained"), "{}", site.console(old));
        let secret = site.inside(node).run("cat /etc/imgbuild/secrets/cache.password");
        assert_eq!(secret, PASSWORD);
    }
    read(site, &["deployed"]);
    write(site, "replaced");
}

fn brought_back(site: &Site) {
    // cache1 was drained last, and has given the address away.
    assert_eq!(primary(site), "cache2");
    let (newer, _) = site.guests("cache1");
    site.succeed(&["rollback", "cache1", "--yes"]);
    memory(site, "cache1", 64);
    memory(site, "cache2", 48);
    assert_eq!(site.guests("cache1").1, newer);
    read(site, &["deployed", "replaced"]);
}

/// An image that never becomes ready: the address cannot be held on a card that there is not.
fn a_red_gate_is_taken_back(site: &Site) {
    site.build(|overlay| overlay.replace("interface = \"eth0\"", "interface = \"eth7\""));
    let before = NODES.map(|node| (site.number(node), volume(site, node)));
    let status = site.succeed(&["status"]).stdout;
    let leads = |line: &&str| line.starts_with("cache") && line.ends_with("ready, leads");
    let leads: Vec<&str> = status.lines().filter(leads).collect();
    assert!(leads.len() == 1 && leads[0].starts_with("cache2"), "{status}");
    let ended = site.run(&["swap", "cache", "--yes"]);
    assert_eq!(ended.code, 4, "{}", ended.stderr);
    // The copy, and not the primary, although that has the higher number.
    assert!(ended.stderr.contains("cache1: RED: not ready after 30 s"), "{}", ended.stderr);
    for (node, before) in NODES.into_iter().zip(before) {
        assert_eq!((site.number(node), volume(site, node)), before, "{node}");
    }
    read(site, &["deployed", "replaced"]);
    write(site, "survived");
    read(site, &["survived"]);
}

fn cleaned_up(site: &Site) {
    let stopped = NODES.map(|node| site.guests(node).1).concat();
    assert!(stopped.iter().all(|vmid| site.has_root(*vmid)));
    site.succeed(&["prune", "--yes"]);
    let left = NODES.map(|node| site.guests(node).1).concat();
    assert!(left.len() < stopped.len(), "{left:?} of {stopped:?}");
    for vmid in stopped.iter().filter(|vmid| !left.contains(vmid)) {
        assert!(!site.has_root(*vmid), "{vmid}");
    }
    read(site, &["deployed", "replaced", "survived"]);
}
