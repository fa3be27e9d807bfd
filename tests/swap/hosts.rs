//! Hosts that are not there.

use super::pve::Flavour;
use super::support::programs::read;
use super::{Site, base};

/// A site whose third node lies on a second host.
fn site_on_two_hosts() -> Option<Site> {
    let site = Site::new(base()?, Flavour::V9);
    {
        let mut cluster = site.pve.cluster();
        cluster.clustered = true;
        cluster.nodes.insert("pve2".to_owned(), true);
    }
    let overlay = site.project.read("overlays/campus/overlay.toml");
    let at = overlay.rfind("host = \"pve1\"").unwrap();
    let changed = format!("{}host = \"pve2\"{}", &overlay[..at], &overlay[at + 13..]);
    site.project.write("overlays/campus/overlay.toml", &changed);
    Some(site)
}

#[test]
fn a_host_that_is_offline_stops_only_what_lies_on_it() {
    let Some(site) = site_on_two_hosts() else { return };
    let first = site.build("1");
    site.succeed(&["swap", "--yes"]);
    let second = site.build("2");
    site.pve.cluster().nodes.insert("pve2".to_owned(), false);
    // Shown, and not a reason to show nothing.
    let status = site.succeed(&["status"]);
    let line = status.lines().find(|line| line.starts_with("app3")).unwrap();
    assert!(line.contains("unknown"), "{status}");
    let status = read(&site.succeed(&["status", "--json"]));
    assert_eq!(status["nodes"][2]["standing"], "unknown");
    assert_eq!(status["nodes"][1]["standing"], "outdated");
    // Refused with what to do instead. Nothing is changed, not even the lease.
    let before = site.pve.changes().len();
    for arguments in
        [&["swap", "--yes"][..], &["swap", "app3", "--yes"], &["rollback", "app3", "--yes"]]
    {
        let ended = site.run(arguments);
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        let said = &ended.stderr;
        assert!(said.contains("app3: its guest 4003 is on pve2, which is offline"), "{said}");
        assert!(said.contains("name the nodes to change"), "{said}");
        assert!(said.lines().all(|line| line.chars().count() <= 100), "{said}");
    }
    assert_eq!(site.pve.changes().len(), before);
    let plan = site.run(&["plan"]);
    assert!(plan.stdout.contains("its host is offline"), "{}", plan.stdout);
    assert!(plan.stderr.contains("which is offline"), "{}", plan.stderr);
    // The guest on that host still answers, so the others of the role may be taken down.
    site.succeed(&["swap", "app1", "app2", "--yes"]);
    let new = Some(second);
    assert_eq!(site.running(), [new.clone(), new.clone(), Some(first)]);
    site.pve.cluster().nodes.insert("pve2".to_owned(), true);
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), [new.clone(), new.clone(), new]);
}

#[test]
fn without_the_host_of_the_lease_nothing_is_changed() {
    let Some(site) = site_on_two_hosts() else { return };
    site.build("1");
    site.succeed(&["swap", "--yes"]);
    site.build("2");
    {
        // As after the lease was moved to the other host.
        let mut cluster = site.pve.cluster();
        cluster.nodes.insert("pve3".to_owned(), true);
        cluster.guests.get_mut(&4000).unwrap().node = "pve3".to_owned();
        cluster.nodes.insert("pve3".to_owned(), false);
    }
    let before = site.pve.changes().len();
    let ended = site.run(&["swap", "--yes"]);
    assert_ne!(ended.code, 0);
    for says in ["is on pve3", "has no disks", "mv /etc/pve/nodes/pve3/qemu-server/4000.conf"] {
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
    assert_eq!(site.pve.changes().len(), before);
}
