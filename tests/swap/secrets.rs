//! Secrets get to the first guest of a node, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use imgbuild::definition::{GuestKind, Hostname};
use imgbuild::digest::Digest;
use imgbuild::swap::proxmox::{NodeAddress, Place, Proxmox, RoleShape};
use imgbuild::swap::secrets::SecretFile;
use imgbuild::swap::{
    CallError, GuestId, NewGuest, Origin, Phase, Platform, Record, Survey, Watch,
};

use super::pve::{Cluster, Fault, Flavour, Kind, Pve, When};
use super::support::programs::read;
use super::support::project::Project;
use super::{NODES, Site, all, base, swap_until, swap_until_killed};

/// What nobody may see.
pub const VALUE: &str = "Zu6aeth8ohTh";

/// Writes a file that only its owner may read, in directories that only he may read.
pub fn write(project: &Project, path: &str, content: &str) {
    project.write(path, content);
    let path = project.path().join(path);
    let directories = path.ancestors().skip(1).take(2);
    for (path, mode) in [(&*path, 0o600)].into_iter().chain(directories.map(|it| (it, 0o700))) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

/// The value is in nothing that Proxmox shows, and no file with it is left.
#[track_caller]
fn nothing_shows(pve: &Pve) {
    assert!(!format!("{:?}", pve.seen()).contains(VALUE), "in a request");
    let cluster = pve.cluster();
    for guest in cluster.guests.values() {
        assert!(!format!("{:?}", guest.config).contains(VALUE), "{guest:?}");
    }
    let logs = cluster.tasks.iter().map(|task| format!("{} {:?}", task.upid, task.log));
    assert!(!logs.chain(cluster.history.clone()).any(|text| text.contains(VALUE)), "in a task");
    assert_eq!(left(&cluster), [""; 0]);
}

/// Uploaded files with secrets.
fn left(cluster: &Cluster) -> Vec<String> {
    let files = cluster.files.keys().map(|(_, name)| name.clone());
    files.filter(|name| name.contains("secrets")).collect()
}

/// The guests that have a volume of secrets, and whether they run.
fn holders(cluster: &Cluster) -> Vec<(u32, bool)> {
    let holds = |value: &String| {
        value.contains("mp=/etc/imgbuild/secrets") || value.contains("serial=imgbuild-secrets")
    };
    let guests = cluster.guests.iter().filter(|(_, guest)| guest.config.values().any(holds));
    guests.map(|(vmid, guest)| (*vmid, guest.running)).collect()
}

#[test]
fn a_first_deployment_wants_secrets_and_delivers_them() {
    let Some(base) = base() else { return };
    for flavour in [Flavour::V8, Flavour::V9] {
        let site = Site::new(base, flavour);
        let first = site.build("1");
        let plan = site.succeed(&["plan"]);
        assert!(plan.contains("app1 needs secrets"), "{plan}");
        let plan = read(&site.succeed(&["plan", "--json"]));
        assert_eq!(plan["secrets"][0]["names"][0], "app.password");
        refused_before_anything(&site);
        site.succeed(&["swap", "--yes"]);
        assert_eq!(site.running(), all(&first));
        nothing_shows(&site.pve);
        let cluster = site.pve.cluster();
        let holders = holders(&cluster);
        assert_eq!(holders.len(), usize::from(NODES));
        assert!(holders.iter().all(|(_, running)| *running), "{holders:?}");
        // The guests, and the lease: no carrier is left.
        assert_eq!(cluster.guests.len(), usize::from(NODES) + 1);
        drop(cluster);
        // They move on like any other volume, and nobody needs to give them again.
        let second = site.build("2");
        not_taken(&site);
        let ended = site.command(&["swap", "--yes"]).output().unwrap();
        assert!(ended.status.success(), "{ended:?}");
        assert_eq!(site.running(), all(&second));
        let holders = self::holders(&site.pve.cluster());
        assert!(
            holders.len() == usize::from(NODES) && holders.iter().all(|it| it.1),
            "{holders:?}"
        );
    }
}

/// Who gives secrets again is told that they are not taken, and how to renew one. The nodes are not touched.
fn not_taken(site: &Site) {
    site.build("1");
    let ended = site.run(&["swap", "--yes"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    for says in ["app1, app2, app3", "have their secrets already", "write it inside the guest"] {
        assert!(ended.stderr.contains(says), "{says}: {}", ended.stderr);
    }
    let ended = site.run(&["swap", "--yes", "app2", "--json"]);
    let told = read(&ended.stdout);
    assert_eq!(told["secrets_not_taken"], serde_json::json!(["app2"]), "{told}");
    site.build("2");
}

fn refused_before_anything(site: &Site) {
    let swap = |arguments: &[&str]| {
        let output = site.command(&["swap", "--yes"]).args(arguments).output().unwrap();
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for expected in ["app1 (app.password)", "--secrets DIR"] {
        let said = swap(&[]);
        assert!(said.contains(expected), "{said}");
    }
    write(&site.project, "typo/app1/app.pasword", VALUE);
    let said = swap(&["--secrets", "typo"]);
    assert!(said.contains("typo/app1/app.pasword") && said.contains("`app.password`"), "{said}");
    write(&site.project, "open/all/app.password", VALUE);
    let open = site.project.path().join("open/all/app.password");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let said = swap(&["--secrets", "open"]);
    assert!(said.contains("read by others") && said.contains("chmod"), "{said}");
    let before = site.pve.cluster().acl.clone();
    for acl in &mut site.pve.cluster().acl {
        acl.privileges.remove("Datastore.Allocate");
    }
    let said = swap(&["--secrets", "secrets"]);
    assert!(said.contains("Datastore.Allocate") && said.contains("/storage/local"), "{said}");
    site.pve.cluster().acl = before;
    assert!(site.pve.changes().is_empty(), "{:?}", site.pve.changes());
}

#[test]
fn whatever_interrupts_a_delivery_the_next_run_goes_on() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    let first = site.build("1");
    // So that the moments between can be met.
    for task in ["imgcopy", "imgdel", "vzcreate", "move_volume", "vzdestroy"] {
        let duration = Duration::from_millis(150);
        site.pve.cluster().durations.insert(task.to_owned(), duration);
    }
    let uploaded = |pve: &Pve| !left(&pve.cluster()).is_empty();
    assert!(swap_until(&site, uploaded), "the file was never there");
    assert!(uploaded(&site.pve), "the file was left behind");
    let carried = |pve: &Pve| carriers(&pve.cluster()) == 1;
    assert!(swap_until(&site, carried), "there was no carrier");
    assert_eq!(site.pve.cluster().guests.len(), 2, "the carrier and the lease");
    let delivered = |pve: &Pve| carriers(&pve.cluster()) == 1 && pve.cluster().guests.len() == 3;
    assert!(swap_until(&site, delivered), "the guest was not made");
    for calls in [30, 50, 70] {
        swap_until_killed(&site, calls);
    }
    site.succeed(&["swap", "--yes"]);
    assert_eq!(site.running(), all(&first));
    nothing_shows(&site.pve);
    let holders = holders(&site.pve.cluster());
    assert!(holders.len() == usize::from(NODES) && holders.iter().all(|it| it.1), "{holders:?}");
}

/// The containers that carry secrets.
fn carriers(cluster: &Cluster) -> usize {
    let carries = |guest: &&super::pve::Guest| {
        guest.config.get("ostype").is_some_and(|ostype| ostype == "unmanaged")
    };
    cluster.guests.values().filter(carries).count()
}

/// A site of one node, with a secret for it.
fn small(pve: &Pve, kind: GuestKind) -> (Proxmox, NewGuest) {
    let ending = match kind {
        GuestKind::Machine => "import/imgbuild-app-1.0.0-0123456789ab.qcow2",
        GuestKind::Container => "vztmpl/imgbuild-app-1.0.0-0123456789ab.tar.zst",
    };
    let file = super::pve::cluster::Volume {
        node: Some("pve1".to_owned()),
        size: 1 << 20,
        identity: 1,
        digest: None,
    };
    pve.cluster().files.insert(("pve1".to_owned(), format!("local:{ending}")), file);
    let node: Hostname = "app1".parse().unwrap();
    let host: Hostname = "pve1".parse().unwrap();
    let shape = RoleShape {
        cores: 1,
        memory_mib: 512,
        root_gib: 4,
        storage: "local-lvm".parse().unwrap(),
        bridge: "vmbr0".parse().unwrap(),
        vlan: None,
        volumes: BTreeMap::new(),
    };
    let address = NodeAddress {
        host: host.clone(),
        address: "127.77.0.1/24".parse().unwrap(),
        kind,
        role: "app".parse().unwrap(),
        gateway: None,
        health_port: 1,
    };
    let place = Place {
        site: "campus".parse().unwrap(),
        lease: GuestId(4000),
        ids: GuestId(4000)..=GuestId(4099),
        pool: Some("imgbuild".parse().unwrap()),
        artifacts: "local".parse().unwrap(),
        name_servers: Vec::new(),
        search_domain: None,
        roles: [("app".parse().unwrap(), shape)].into(),
        nodes: [(node.clone(), address)].into(),
        files: BTreeMap::new(),
    };
    let mut platform = Proxmox::new(pve.client(), place);
    let secret = SecretFile { name: "app.password".to_owned(), content: VALUE.into() };
    platform.give_secrets([(node.clone(), vec![secret])].into());
    let artifact = Path::new(ending).file_name().unwrap().to_str().unwrap().to_owned();
    let record = Record {
        site: "campus".parse().unwrap(),
        node,
        role: "app".parse().unwrap(),
        image: Digest::of("app"),
        artifact: artifact.clone(),
        generation: 1,
        phase: Phase::New,
        since: platform.server_time().unwrap(),
        origin: Origin::Swap,
        volumes: BTreeSet::from(["secrets".parse().unwrap()]),
        replaces: None,
        successor: None,
        reason: None,
    };
    let fresh = [("secrets".parse().unwrap(), 1)].into();
    let guest = NewGuest { id: GuestId(4001), host, kind, artifact, record, fresh };
    (platform, guest)
}

struct Patient;

impl Watch for Patient {
    fn tick(&mut self, _: &str) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// The guests of the site that hold volumes, with the volumes.
fn seen(survey: &Survey) -> Vec<(u32, Vec<&str>)> {
    let with = survey.guests.iter().filter(|guest| !guest.volumes.is_empty());
    with.map(|guest| (guest.id.0, guest.volumes.keys().map(|name| name.as_str()).collect()))
        .collect()
}

fn each(work: impl Fn(&Pve, GuestKind)) {
    for flavour in [Flavour::V8, Flavour::V9] {
        for kind in [GuestKind::Machine, GuestKind::Container] {
            work(&Pve::start(flavour), kind);
        }
    }
}

#[test]
fn a_guest_is_made_with_its_secrets() {
    each(|pve, kind| {
        let (platform, guest) = small(pve, kind);
        platform.create(&guest, &mut Patient).unwrap();
        nothing_shows(pve);
        let survey = platform.survey().unwrap();
        assert_eq!(seen(&survey), [(4001, vec!["secrets"])]);
        let cluster = pve.cluster();
        assert_eq!(cluster.guests.keys().collect::<Vec<_>>(), [&4001]);
        let drives: Vec<_> =
            cluster.guests[&4001].config.values().filter(|it| it.contains("secrets")).collect();
        assert!(drives.iter().any(|drive| drive.contains("backup=0")), "{drives:?}");
        let uploads = pve.changes();
        assert!(uploads.iter().any(|call| call.contains("/upload")), "{uploads:?}");
    });
}

#[test]
fn nothing_is_uploaded_that_could_not_be_removed() {
    each(|pve, kind| {
        let (platform, guest) = small(pve, kind);
        for acl in &mut pve.cluster().acl {
            acl.privileges.remove("Datastore.Allocate");
        }
        let error = platform.create(&guest, &mut Patient).unwrap_err();
        assert!(error.to_string().contains("Datastore.Allocate"), "{error}");
        assert!(pve.changes().is_empty(), "{:?}", pve.changes());
    });
}

#[test]
fn a_file_that_stays_is_told_and_removed_by_the_next_run() {
    each(|pve, kind| {
        let (platform, guest) = small(pve, kind);
        for _ in 0..3 {
            pve.plan(When::Next("DELETE", "/content/"), Fault::Refuse(500, "disk is busy"));
        }
        let error = platform.create(&guest, &mut Patient).unwrap_err();
        assert!(matches!(error, CallError::Failed(_)), "{error}");
        assert!(error.to_string().contains("could not be removed"), "{error}");
        let files = left(&pve.cluster());
        assert_eq!(files.len(), 1);
        assert!(!files[0].contains("app") && !files[0].contains("campus"), "{files:?}");
        // The file of another site, which may be needed this moment.
        let other = ("pve1".to_owned(), "local:import/imgbuild-secrets-00000000-0.raw".to_owned());
        let file = pve.cluster().files.values().next().unwrap().clone();
        pve.cluster().files.insert(other.clone(), file);
        platform.tidy().unwrap();
        assert_eq!(left(&pve.cluster()), std::slice::from_ref(&other.1));
        pve.cluster().files.remove(&other);
        nothing_shows(pve);
    });
}

#[test]
fn the_file_goes_whatever_becomes_of_the_guest() {
    each(|pve, kind| {
        let (platform, guest) = small(pve, kind);
        let segment = if kind == GuestKind::Machine { "/qemu" } else { "/lxc" };
        pve.plan(When::Next("POST", segment), Fault::Refuse(500, "no space left"));
        assert!(platform.create(&guest, &mut Patient).is_err());
        nothing_shows(pve);
        assert!(pve.cluster().guests.is_empty());
        pve.plan(When::Next("POST", segment), Fault::CutAfter);
        assert!(platform.create(&guest, &mut Patient).is_err());
        assert_eq!(left(&pve.cluster()), [""; 0]);
    });
}

/// A carrier that could not be unloaded is a guest that was given up and has the volume.
#[test]
fn a_carrier_that_is_left_over_is_seen_by_the_engine() {
    for flavour in [Flavour::V8, Flavour::V9] {
        let pve = Pve::start(flavour);
        let (platform, guest) = small(&pve, GuestKind::Container);
        pve.plan(When::Next("POST", "/move_volume"), Fault::Refuse(500, "no"));
        assert!(platform.create(&guest, &mut Patient).is_err());
        nothing_shows(&pve);
        let survey = platform.survey().unwrap();
        assert_eq!(seen(&survey), [(4002, vec!["secrets"])]);
        let carrier = survey.guests.iter().find(|guest| guest.id.0 == 4002).unwrap();
        assert_eq!((carrier.record.phase, carrier.record.node.as_str()), (Phase::Failed, "app1"));
        assert_eq!(pve.cluster().guests[&4002].kind, Kind::Lxc);
        assert_eq!(pve.cluster().guests[&4002].config["ostype"], "unmanaged");
    }
}
