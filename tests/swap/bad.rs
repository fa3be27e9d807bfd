//! What an operator is told of what keeps a swap from being done. Nothing is changed by any of it.

use std::fmt::Write as _;

use super::pve::{Certificate, Cluster, Flavour, Guest, Kind, Pve};
use super::support::programs::read;
use super::{NODES, Site, all, base};

/// What is in the way, what makes it so, and what has to be said.
type Case = (&'static str, fn(&mut Cluster), &'static [&'static str]);

const CASES: &[Case] = &[
    ("no quorum", |it| (it.clustered, it.quorate) = (true, false), &["quorum", "pvecm status"]),
    (
        "a lock",
        |it| drop(own(it, 4003).config.insert("lock".to_owned(), "backup".to_owned())),
        &["app3 (guest 4003 on pve1)", "backup"],
    ),
    (
        "a snapshot",
        |it| {
            let config = own(it, 4003).config.clone();
            own(it, 4003).snapshots.insert("before".to_owned(), config);
        },
        &["app3", "snapshot `before`", "`data`"],
    ),
    ("HA", |it| drop(it.ha.insert(4003, "started".to_owned())), &["app3", "high availability"]),
    (
        "a guest that has moved",
        |it| {
            it.clustered = true;
            it.nodes.insert("pve2".to_owned(), true);
            own(it, 4003).node = "pve2".to_owned();
            it.volumes
                .iter_mut()
                .filter(|(name, _)| name.contains("vm-4003-"))
                .for_each(|(_, volume)| volume.node = Some("pve2".to_owned()));
        },
        &["app3", "pve2", "pve1"],
    ),
    (
        "somebody else's guest of that name",
        |it| {
            let mut guest = Guest::new("pve1", Kind::Lxc);
            guest.pool = Some("imgbuild".to_owned());
            guest.config.insert("hostname".to_owned(), "app3".to_owned());
            it.guests.insert(150, guest);
        },
        &["app3", "guest 150"],
    ),
];

fn own(cluster: &mut Cluster, vmid: u32) -> &mut Guest {
    cluster.guests.get_mut(&vmid).expect("a guest of the site")
}

/// A site that is deployed, and has a newer image.
fn outdated(site: &Site) -> String {
    let first = site.build("1");
    site.succeed(&["swap", "--yes"]);
    site.build("2");
    first
}

#[test]
fn a_swap_is_refused_with_what_where_why_and_what_to_do() {
    let Some(base) = base() else { return };
    for flavour in [Flavour::V8, Flavour::V9] {
        let site = Site::new(base, flavour);
        let first = outdated(&site);
        let before = site.pve.changes().len();
        let mut told = String::new();
        for (case, make, says) in CASES {
            let restore = keep(&site.pve.cluster());
            make(&mut site.pve.cluster());
            for arguments in [&["swap", "app3", "--yes"][..], &["plan", "app3"]] {
                let ended = site.run(arguments);
                assert_eq!(ended.code, 1, "{case}: {}", ended.stderr);
                let said = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(says.iter().all(|word| said.contains(word)), "{case}: {}", ended.stderr);
                if arguments[0] == "swap" {
                    writeln!(told, "{case}:\n{}", ended.stderr).unwrap();
                }
            }
            let ended = site.run(&["swap", "app3", "--yes", "--json"]);
            let twin = read(&ended.stdout);
            assert_eq!(twin["outcome"], "refused", "{case}: {twin}");
            assert!(!twin["reason"].as_str().unwrap().is_empty(), "{case}: {twin}");
            let ended = site.run(&["plan", "app3", "--json"]);
            let plan = read(&ended.stdout);
            assert_eq!((&plan["ending"], &plan["refusal"]), (&"refused".into(), &twin["reason"]));
            restore(&mut site.pve.cluster());
        }
        assert_eq!(site.pve.changes().len(), before, "{:?}", site.pve.changes());
        assert_eq!(site.running(), all(&first));
        if flavour == Flavour::V9 {
            insta::assert_snapshot!("refused", told);
        }
    }
}

/// What brings back what cases change.
fn keep(cluster: &Cluster) -> impl FnOnce(&mut Cluster) + use<> {
    let (guests, volumes) = (cluster.guests.clone(), cluster.volumes.clone());
    let (nodes, ha) = (cluster.nodes.clone(), cluster.ha.clone());
    move |cluster| {
        (cluster.guests, cluster.volumes) = (guests, volumes);
        (cluster.nodes, cluster.ha) = (nodes, ha);
        (cluster.clustered, cluster.quorate) = (false, true);
    }
}

/// What Proxmox VE refuses only when it is asked for it: nothing is half done, and all runs as before.
#[test]
fn what_proxmox_refuses_on_the_way_is_told_and_leaves_all_as_it_was() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let first = outdated(&site);
    let volumes = site.volumes();
    let cases: [Case; 3] = [
        (
            "a storage that takes no templates",
            |it| {
                it.storages.get_mut("local").unwrap().content.remove("vztmpl");
            },
            &["local", "vztmpl"],
        ),
        ("a privilege", |it| take(it, "VM.Allocate"), &["VM.Allocate", "/pool/imgbuild"]),
        ("a later privilege", |it| take(it, "VM.Config.Disk"), &["VM.Config.Disk"]),
    ];
    for (case, make, says) in cases {
        let (acl, storages) = {
            let cluster = site.pve.cluster();
            (cluster.acl.clone(), cluster.storages.clone())
        };
        make(&mut site.pve.cluster());
        let ended = site.run(&["swap", "app3", "--yes"]);
        assert!([1, 4].contains(&ended.code), "{case}: {}", ended.stderr);
        assert!(says.iter().all(|word| ended.stderr.contains(word)), "{case}: {}", ended.stderr);
        assert_eq!((site.running(), site.volumes()), (all(&first), volumes.clone()), "{case}");
        let mut cluster = site.pve.cluster();
        (cluster.acl, cluster.storages) = (acl, storages);
    }
    // With the privileges it goes on.
    site.succeed(&["swap", "app3", "--yes"]);
}

fn take(cluster: &mut Cluster, privilege: &str) {
    for acl in &mut cluster.acl {
        acl.privileges.remove(privilege);
    }
}

/// Numbers of the site that others have are left alone.
#[test]
fn a_number_that_somebody_else_has_is_left_alone() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let foreign = |name: &str| {
        let mut guest = Guest::new("pve1", Kind::Lxc);
        guest.pool = Some("imgbuild".to_owned());
        guest.running = true;
        guest.config.insert("hostname".to_owned(), name.to_owned());
        guest
    };
    for vmid in [4001, 4003] {
        site.pve.cluster().guests.insert(vmid, foreign("mail"));
    }
    // One that the token does not see.
    let mut hidden = foreign("hidden");
    hidden.pool = None;
    site.pve.cluster().guests.insert(4004, hidden);
    let digests =
        |site: &Site| [4001, 4003, 4004].map(|vmid| site.pve.cluster().guests[&vmid].digest());
    let before = digests(&site);
    let first = site.build("1");
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(&first));
    assert_eq!(digests(&site), before);
    let touched =
        |call: &String| ["/4001", "/4003", "/4004"].iter().any(|vmid| call.contains(vmid));
    let calls = site.pve.changes();
    assert!(!calls.iter().any(touched), "{calls:?}");
    // The number of the lease can be only that.
    let other = Site::new(base, Flavour::V9);
    other.pve.cluster().guests.insert(4000, foreign("mail"));
    other.build("1");
    let ended = other.run(&["swap", "--yes"]);
    assert_ne!(ended.code, 0);
    assert!(
        ended.stderr.contains("guest 4000 (mail)") && ended.stderr.contains("vmids"),
        "{}",
        ended.stderr
    );
    assert!(other.pve.changes().is_empty(), "{:?}", other.pve.changes());
}

/// A server that is not believed gets no token.
#[test]
fn a_server_that_is_not_who_it_should_be_is_not_talked_to() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    site.build("1");
    let overlay = site.project.read("overlays/campus/overlay.toml");
    let fingerprint = site.pve.fingerprint().to_string();
    let wrong =
        format!("{}{}", if fingerprint.starts_with('0') { "1" } else { "0" }, &fingerprint[1..]);
    let expired = Pve::with_certificate(Flavour::V9, Certificate::Expired);
    let elsewhere = Pve::with_certificate(Flavour::V9, Certificate::OtherHost);
    let with_authority = |pve: &Pve, authority: &Pve| {
        site.project.write("overlays/campus/ca.pem", authority.authority());
        let pinned = format!("fingerprint = \"{fingerprint}\"");
        overlay.replace(&site.pve.url(), &pve.url()).replace(&pinned, "ca = \"ca.pem\"")
    };
    let cases: [(String, &Pve, &[&str]); 4] = [
        (overlay.replace(&fingerprint, &wrong), &site.pve, &["fingerprint", &fingerprint]),
        (with_authority(&expired, &expired), &expired, &["expired"]),
        (with_authority(&elsewhere, &elsewhere), &elsewhere, &["pve.elsewhere.example"]),
        (with_authority(&site.pve, &site.pve), &expired, &[]),
    ];
    let mut told = String::new();
    for (overlay, pve, says) in &cases[..3] {
        site.project.write("overlays/campus/overlay.toml", overlay);
        site.project.write("overlays/campus/ca.pem", pve.authority());
        for verb in [&["status"][..], &["plan"], &["swap", "--yes"]] {
            let ended = site.run(verb);
            assert_eq!(ended.code, 1, "{}", ended.stderr);
            let said = ended.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(says.iter().all(|word| said.contains(word)), "{says:?}: {}", ended.stderr);
            assert!(!said.contains(super::pve::SECRET));
            if verb[0] == "plan" {
                told += &ended.stderr;
            }
        }
        assert!(pve.seen().is_empty(), "it was asked something: {:?}", pve.seen());
    }
    assert!(told.lines().count() >= 2 * 3, "{told}");
    // Signed by the authority that the site names.
    site.project.write("overlays/campus/overlay.toml", &cases[3].0);
    site.project.write("overlays/campus/ca.pem", site.pve.authority());
    assert!(site.succeed(&["plan"]).contains("to be deployed"));
    assert_eq!(site.running(), vec![None; NODES.into()]);
}
