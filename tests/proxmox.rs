//! The client of Proxmox VE against a fake one, in both versions.

#[path = "support/pve/mod.rs"]
mod pve;

use std::io::{self, Read};
use std::time::Duration;

use imgbuild::digest::{Digest, Hasher};
use imgbuild::proxmox::{
    Addresses, Card, Client, CloudInit, Config, ConfigChange, Content, Error, Fingerprint, Guest,
    GuestKind, Lock, MoveVolume, NewContainer, NewMachine, NewVolume, Reason, Resolving, Trust,
    Upid, Upload, Vmid, VolumeId,
};
use pve::{Certificate, Fault, Flavour, Kind, Pve, Spoil, When};

const BOTH: [Flavour; 2] = [Flavour::V8, Flavour::V9];
const IMAGE: &str = "imgbuild-galera-1.0.0-0123456789ab.qcow2";
const TEMPLATE: &str = "imgbuild-galera-1.0.0-0123456789ab.tar.zst";

fn vmid(number: u32) -> Vmid {
    Vmid::new(number).unwrap()
}

fn guest(kind: GuestKind, number: u32) -> Guest {
    Guest { node: "pve1".parse().unwrap(), kind, vmid: vmid(number) }
}

fn machine(number: u32) -> Guest {
    guest(GuestKind::Machine, number)
}

fn container(number: u32) -> Guest {
    guest(GuestKind::Container, number)
}

/// Waits for a task, without ticks.
fn wait(client: &Client, upid: Upid) -> Result<Vec<String>, Error> {
    client.wait(&upid, Duration::from_secs(20), &mut || Ok::<_, Error>(()))
}

fn upload_bytes(
    client: &Client,
    content: Content,
    name: &str,
    bytes: &[u8],
) -> Result<Upid, Error> {
    let upload = Upload {
        node: &"pve1".parse().unwrap(),
        storage: &"local".parse().unwrap(),
        content,
        name,
        size_bytes: bytes.len() as u64,
        digest: Digest::of(bytes),
    };
    client.upload(&upload, &mut &bytes[..], &mut |_| {})
}

fn new_machine(number: u32) -> NewMachine {
    NewMachine {
        vmid: vmid(number),
        name: format!("galera{number}"),
        description: "galera\n\nimage = \"0123\"".to_owned(),
        cores: 2,
        memory_mib: 2048,
        root: Some((
            "local-lvm".parse().unwrap(),
            format!("local:import/{IMAGE}").parse().unwrap(),
        )),
        uefi: None,
        volumes: vec![NewVolume {
            index: 1,
            storage: "local-lvm".parse().unwrap(),
            size_gib: 8,
            place: "state-mysql".to_owned(),
        }],
        card: Some(Card {
            bridge: "vmbr0".to_owned(),
            vlan: Some(30),
            mac: Some("BC:24:11:0A:0B:0C".to_owned()),
            firewall: true,
        }),
        cloud_init: Some(CloudInit {
            storage: "local-lvm".parse().unwrap(),
            addresses: Addresses {
                ipv4: Some("10.20.30.11/24".to_owned()),
                gateway4: Some("10.20.30.1".parse().unwrap()),
                ipv6: Some("fd00::11/64".to_owned()),
                gateway6: Some("fd00::1".parse().unwrap()),
            },
            resolving: Resolving {
                servers: vec!["10.20.30.1".parse().unwrap(), "fd00::1".parse().unwrap()],
                domain: Some("campus.example".to_owned()),
            },
            ssh_keys: Some("ssh-ed25519 AAAAC3+/= ops@campus\nssh-ed25519 AAAAD b".to_owned()),
        }),
        pool: Some("imgbuild".to_owned()),
        onboot: true,
    }
}

fn new_container(number: u32) -> NewContainer {
    NewContainer {
        vmid: vmid(number),
        name: format!("galera{number}"),
        description: "galera".to_owned(),
        cores: 2,
        memory_mib: 2048,
        swap_mib: 0,
        template: format!("local:vztmpl/{TEMPLATE}").parse().unwrap(),
        storage: "local-lvm".parse().unwrap(),
        root_gib: 4,
        volumes: vec![NewVolume {
            index: 0,
            storage: "local-lvm".parse().unwrap(),
            size_gib: 8,
            place: "/var/lib/mysql".to_owned(),
        }],
        card: Some(Card { bridge: "vmbr0".to_owned(), vlan: None, mac: None, firewall: false }),
        addresses: Addresses { ipv4: Some("dhcp".to_owned()), ..Addresses::default() },
        resolving: Resolving { servers: vec!["10.20.30.1".parse().unwrap()], domain: None },
        ssh_keys: Some("ssh-ed25519 AAAAC3 ops@campus".to_owned()),
        pool: Some("imgbuild".to_owned()),
        onboot: false,
    }
}

/// A fake with the artifacts, machines 4001 and 4002 and containers 4101 and 4102.
fn filled(flavour: Flavour) -> (Pve, Client) {
    let pve = Pve::start(flavour);
    let client = pve.client();
    for (content, name) in [(Content::Import, IMAGE), (Content::Template, TEMPLATE)] {
        wait(&client, upload_bytes(&client, content, name, b"bytes").unwrap()).unwrap();
    }
    for number in [4001, 4002] {
        let mut new = new_machine(number);
        if number == 4002 {
            new.volumes.clear();
        }
        wait(&client, client.create_machine(&pve.node(), &new).unwrap()).unwrap();
    }
    for number in [4101, 4102] {
        let mut new = new_container(number);
        if number == 4102 {
            new.volumes.clear();
        }
        wait(&client, client.create_container(&pve.node(), &new).unwrap()).unwrap();
    }
    (pve, client)
}

fn volume(config: &Config, key: &str) -> Option<String> {
    config.drive(key)?.volume.map(|volume| volume.to_string())
}

#[test]
fn the_cluster_is_described() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let version = client.version().unwrap();
        assert!(version.is_supported());
        assert_eq!(version.has_agent_privileges(), flavour == Flavour::V9);
        let nodes = client.nodes().unwrap();
        assert_eq!((nodes.len(), nodes[0].online), (1, true));
        let status = client.cluster_status().unwrap();
        assert_eq!((status.name, status.quorate, status.asked), (None, true, Some(pve.node())));
        pve.cluster().clustered = true;
        pve.cluster().nodes.insert("pve2".to_owned(), false);
        let status = client.cluster_status().unwrap();
        assert_eq!(status.name.as_deref(), Some("campus"));
        assert_eq!(status.nodes[1], ("pve2".parse().unwrap(), false));
        let guests = client.guests().unwrap();
        assert_eq!(guests.len(), 4);
        assert_eq!(guests[0].guest, machine(4001));
        assert_eq!(guests[2].guest, container(4101));
        assert_eq!(
            (guests[0].name.as_str(), guests[0].pool.as_deref()),
            ("galera4001", Some("imgbuild"))
        );
        assert!(!client.is_free(vmid(4001)).unwrap());
        assert!(client.is_free(vmid(4003)).unwrap());
        let pool = client.pool("imgbuild").unwrap().unwrap();
        assert_eq!(pool.guests.len(), 4);
        let privileges = client.privileges("/vms/4001").unwrap();
        assert!(privileges.contains("VM.Config.Disk") && !privileges.contains("VM.Migrate"));
        assert!(client.privileges("/vms/999").unwrap().is_empty());
        assert!(client.ha_resources().unwrap().is_empty());
        pve.cluster().ha.insert(4001, "started".to_owned());
        assert_eq!(client.ha_resources().unwrap()[0].vmid(), Some(vmid(4001)));
        assert!(client.status(&machine(4001)).unwrap().ha_managed);
        let server = client.server_time().unwrap();
        let difference = server.duration_since(std::time::SystemTime::now());
        let difference = difference.unwrap_or_else(|error| error.duration());
        assert!(difference < Duration::from_secs(30), "{difference:?}");
    }
}

#[test]
fn storages_and_what_is_on_them_are_listed() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let node = pve.node();
        let all = client.storages(&node, None).unwrap();
        assert_eq!(all.len(), 2);
        let import = client.storages(&node, Some(Content::Import)).unwrap();
        assert_eq!(import[0].name.as_str(), "local");
        let local = client.storage(&node, &"local".parse().unwrap()).unwrap();
        assert!(local.takes(Content::Import) && local.takes(Content::Template));
        assert!(!local.takes(Content::Images));
        assert!(local.free_bytes.unwrap() < local.total_bytes.unwrap());
        let artifacts = client.content(&node, &local.name, Content::Import).unwrap();
        assert_eq!(artifacts.len(), 1);
        assert_eq!(artifacts[0].id.name(), format!("import/{IMAGE}"));
        assert_eq!(artifacts[0].size_bytes, Some(5));
        let missing = client.storage(&node, &"fast".parse().unwrap()).unwrap_err();
        assert!(matches!(missing.reason(), Reason::Forbidden { .. }), "{missing}");
        let upid = client.delete_artifact(&node, &artifacts[0].id).unwrap().unwrap();
        wait(&client, upid).unwrap();
        assert!(client.content(&node, &local.name, Content::Import).unwrap().is_empty());
        let disk: VolumeId = "local-lvm:vm-4001-disk-0".parse().unwrap();
        let refused = client.delete_artifact(&node, &disk).unwrap_err();
        assert!(refused.to_string().contains("is no uploaded file"), "{refused}");
    }
}

#[test]
fn guests_are_made_as_they_are_wanted() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let config = client.config(&machine(4001)).unwrap();
        assert_eq!(config.name(), Some("galera4001"));
        assert_eq!(config.description(), "galera\n\nimage = \"0123\"");
        assert_eq!(volume(&config, "scsi0").as_deref(), Some("local-lvm:vm-4001-disk-0"));
        let state = config.drive("scsi1").unwrap();
        assert_eq!(state.options.get("serial"), Some("state-mysql"));
        assert_eq!(state.size(), Some("8G"));
        assert_eq!(config.get("ciupgrade"), Some("0"));
        assert_eq!(config.get("boot"), Some("order=scsi0"));
        assert!(
            config.get("net0").unwrap().starts_with("virtio=BC:24:11:0A:0B:0C,bridge=vmbr0,tag=30")
        );
        let keys = pve::wire::decode(config.get("sshkeys").unwrap(), false);
        assert_eq!(keys, "ssh-ed25519 AAAAC3+/= ops@campus\nssh-ed25519 AAAAD b");
        assert!(config.flag("onboot"));
        let config = client.config(&container(4101)).unwrap();
        assert_eq!(config.name(), Some("galera4101"));
        assert_eq!(config.drive("mp0").unwrap().options.get("mp"), Some("/var/lib/mysql"));
        assert_eq!(config.get("features"), Some("nesting=1"));
        let pve_cluster = pve.cluster();
        assert_eq!(pve_cluster.guests[&4101].pool.as_deref(), Some("imgbuild"));
        drop(pve_cluster);
        let taken = client.create_machine(&pve.node(), &new_machine(4101)).unwrap_err();
        assert_eq!(*taken.reason(), Reason::AlreadyExists, "{taken}");
        // A machine without a disk, to keep a record on.
        let mut bare = new_machine(4000);
        (bare.root, bare.cloud_init, bare.card) = (None, None, None);
        bare.volumes.clear();
        wait(&client, client.create_machine(&pve.node(), &bare).unwrap()).unwrap();
        assert!(client.config(&machine(4000)).unwrap().drives().is_empty());
        // One that starts by UEFI.
        let mut uefi = new_machine(4005);
        uefi.uefi = Some("local-lvm".parse().unwrap());
        wait(&client, client.create_machine(&pve.node(), &uefi).unwrap()).unwrap();
        assert!(client.config(&machine(4005)).unwrap().drive("efidisk0").is_some());
    }
}

#[test]
fn a_configuration_is_changed_only_as_long_as_nobody_else_has() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        for guest in [machine(4001), container(4101)] {
            let digest = client.config(&guest).unwrap().digest;
            let change = ConfigChange::new()
                .description("what\nis = \"kept\"")
                .tags(["imgbuild", "IMG-0123", "a"])
                .onboot(false);
            client.configure(&guest, &change, &digest).unwrap();
            let config = client.config(&guest).unwrap();
            assert_eq!(config.description(), "what\nis = \"kept\"");
            assert_eq!(config.tags(), ["a", "img-0123", "imgbuild"]);
            assert!(!config.flag("onboot"));
            let late = client.configure(&guest, &change, &digest).unwrap_err();
            assert_eq!(*late.reason(), Reason::Modified, "{late}");
            let destroying = ConfigChange::new().delete("unused0");
            assert!(client.configure(&guest, &destroying, &config.digest).is_err());
            let long = ConfigChange::new().description(&"x".repeat(9000));
            assert!(client.configure(&guest, &long, &config.digest).is_err());
            assert!(client.pending(&guest).unwrap().is_empty());
            wait(&client, client.start(&guest).unwrap()).unwrap();
            let change = ConfigChange::new().set("cores", 4);
            client.configure(&guest, &change, &config.digest).unwrap();
            let pending = client.pending(&guest).unwrap();
            assert_eq!(pending[0].key, "cores");
            assert_eq!(pending[0].value.as_deref(), Some("4"));
            assert_eq!(client.config(&guest).unwrap().get("cores"), Some("2"));
            let config = pve.cluster().guests[&guest.vmid.number()].config.clone();
            let mut cluster = pve.cluster();
            let changed = cluster.guests.get_mut(&guest.vmid.number()).unwrap();
            changed.snapshots.insert("before".to_owned(), config);
            drop(cluster);
            let found = client.snapshots(&guest).unwrap();
            assert_eq!(found.len(), 1);
            let kept = client.snapshot_config(&guest, &found[0]).unwrap();
            assert!(!kept.drives().is_empty());
        }
    }
}

#[test]
fn guests_start_stop_and_go() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        pve.cluster().guests.get_mut(&4001).unwrap().addresses = vec!["10.20.30.11".to_owned()];
        pve.cluster().guests.get_mut(&4101).unwrap().addresses = vec!["10.20.30.12".to_owned()];
        for guest in [machine(4001), container(4101)] {
            assert!(!client.agent_answers(&guest).unwrap());
            assert_eq!(client.interfaces(&guest).unwrap(), None);
            wait(&client, client.start(&guest).unwrap()).unwrap();
            assert!(client.status(&guest).unwrap().running);
            assert!(client.agent_answers(&guest).unwrap());
            let interfaces = client.interfaces(&guest).unwrap().unwrap();
            assert_eq!(interfaces[0].name, "eth0");
            assert_eq!(interfaces[0].mac, "bc:24:11:00:00:01");
            assert!(interfaces[0].addresses[0].is_ipv4());
            let again = client.start(&guest).unwrap_err();
            assert!(again.message().contains("already running"), "{again}");
            let refused = client.destroy(&guest).unwrap_err();
            assert!(refused.message().contains("is running - destroy failed"), "{refused}");
            pve.cluster().guests.get_mut(&guest.vmid.number()).unwrap().stubborn = true;
            let patience = Duration::from_secs(1);
            let stubborn = client.shutdown(&guest, patience, false).unwrap();
            let failed = wait(&client, stubborn).unwrap_err();
            assert!(matches!(failed.reason(), Reason::Task { .. }), "{failed}");
            assert!(client.status(&guest).unwrap().running);
            wait(&client, client.shutdown(&guest, patience, true).unwrap()).unwrap();
            assert!(!client.status(&guest).unwrap().running);
            wait(&client, client.start(&guest).unwrap()).unwrap();
            wait(&client, client.stop(&guest).unwrap()).unwrap();
            wait(&client, client.destroy(&guest).unwrap()).unwrap();
            let gone = client.config(&guest).unwrap_err();
            // Its rights came from its pool, so without it they are gone, too.
            assert!(matches!(gone.reason(), Reason::NotFound | Reason::Forbidden { .. }), "{gone}");
        }
        let left = pve.cluster().volumes.keys().filter(|name| name.contains("vm-4001")).count();
        assert_eq!(left, 0);
    }
}

/// Moves the state of one guest to the other, with the digests of now.
fn hand_over(client: &Client, from: &Guest, key: &str, to: &Guest) -> Result<Vec<String>, Error> {
    let from_digest = client.config(from)?.digest;
    let to_digest = client.config(to)?.digest;
    let upid = client.move_volume(&MoveVolume {
        from,
        key,
        from_digest: &from_digest,
        to: to.vmid,
        to_key: key,
        to_digest: &to_digest,
    })?;
    wait(client, upid)
}

#[test]
fn a_state_volume_changes_hands_and_comes_back() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        for (old, new, key) in
            [(machine(4001), machine(4002), "scsi1"), (container(4101), container(4102), "mp0")]
        {
            let before = client.config(&old).unwrap();
            let name = volume(&before, key).unwrap();
            let identity = pve.cluster().volumes[&name].identity;
            hand_over(&client, &old, key, &new).unwrap();
            assert_eq!(volume(&client.config(&old).unwrap(), key), None);
            let after = client.config(&new).unwrap();
            let moved = after.drive(key).unwrap();
            assert_eq!(moved.volume.as_ref().unwrap().owner(), Some(new.vmid));
            assert_eq!(moved.options, before.drive(key).unwrap().options.clone().renamed(&moved));
            assert_eq!(pve.cluster().volumes[&volume(&after, key).unwrap()].identity, identity);
            // The one that gave it away can go, and the volume stays.
            hand_over(&client, &new, key, &old).unwrap();
            hand_over(&client, &old, key, &new).unwrap();
            wait(&client, client.destroy(&old).unwrap()).unwrap();
            let name = volume(&client.config(&new).unwrap(), key).unwrap();
            assert_eq!(pve.cluster().volumes[&name].identity, identity);
        }
    }
}

/// The options of a drive, with the volume of another one.
trait Renamed {
    fn renamed(self, drive: &imgbuild::proxmox::Drive) -> Self;
}

impl Renamed for imgbuild::proxmox::Properties {
    fn renamed(self, drive: &imgbuild::proxmox::Drive) -> Self {
        let first = self.first().unwrap_or_default();
        let own = drive.volume.as_ref().unwrap().to_string();
        self.to_string().replacen(first, &own, 1).parse().unwrap()
    }
}

#[test]
fn a_volume_does_not_change_hands_when_it_must_not() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        for (old, new, key) in
            [(machine(4001), machine(4002), "scsi1"), (container(4101), container(4102), "mp0")]
        {
            let number = old.vmid.number();
            let refused = |what: &str| {
                let error = hand_over(&client, &old, key, &new).unwrap_err();
                assert!(error.to_string().contains(what), "{error}");
                error
            };
            let change = |change: &dyn Fn(&mut pve::Guest)| {
                change(pve.cluster().guests.get_mut(&number).unwrap());
            };
            change(&|guest| guest.running = true);
            refused("while the source");
            change(&|guest| guest.running = false);
            let config = pve.cluster().guests[&number].config.clone();
            change(&|guest| {
                guest.snapshots.insert("s".to_owned(), config.clone());
            });
            refused("used by a snapshot");
            change(&|guest| guest.snapshots.clear());
            change(&|guest| {
                guest.config.insert("lock".to_owned(), "backup".to_owned());
            });
            let locked = refused("is locked (backup)");
            assert_eq!(*locked.reason(), Reason::Locked(Lock::Config("backup".to_owned())));
            assert!(locked.is_transient());
            change(&|guest| {
                guest.config.remove("lock");
            });
            pve.cluster().storages.get_mut("local-lvm").unwrap().can_rename = false;
            refused("does not support moving");
            pve.cluster().storages.get_mut("local-lvm").unwrap().can_rename = true;
            // Somebody changed the target in the meantime.
            let from_digest = client.config(&old).unwrap().digest;
            let stale = client.config(&new).unwrap().digest;
            client.configure(&new, &ConfigChange::new().description("new"), &stale).unwrap();
            let moved = client.move_volume(&MoveVolume {
                from: &old,
                key,
                from_digest: &from_digest,
                to: new.vmid,
                to_key: key,
                to_digest: &stale,
            });
            assert_eq!(*moved.unwrap_err().reason(), Reason::Modified);
            hand_over(&client, &old, key, &new).unwrap();
            let error = hand_over(&client, &old, key, &new).unwrap_err();
            assert!(error.message().contains("does not exist"), "{error}");
        }
        let error = hand_over(&client, &machine(4001), "scsi0", &machine(4002)).unwrap_err();
        assert!(error.message().contains("already in use"), "{error}");
    }
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    let trust = |pve: &Pve| Trust::authorities(pve.authority().as_bytes()).unwrap();
    let met = |pve: &Pve, trust: &Trust, words: &str| {
        let client = Client::new(&pve.url(), trust, pve.token().parse().unwrap()).unwrap();
        let error = client.version().unwrap_err();
        assert_eq!(*error.reason(), Reason::Untrusted { met: Some(pve.fingerprint()) }, "{error}");
        let text = error.to_string();
        assert!(text.contains(words) && text.contains(&pve.fingerprint().to_string()), "{text}");
        assert!(pve.seen().is_empty());
    };
    let good = Pve::start(Flavour::V9);
    let expired = Pve::with_certificate(Flavour::V9, Certificate::Expired);
    let other = Pve::with_certificate(Flavour::V9, Certificate::OtherHost);
    met(&good, &Trust::Certificate(Fingerprint::of(b"x")), "not the certificate that was expected");
    met(&good, &trust(&other), "none of the authorities");
    met(&good, &Trust::Public, "none of the authorities");
    met(&expired, &trust(&expired), "expired");
    met(&other, &trust(&other), "not valid for name");
    // By its fingerprint a server is known whatever its certificate says of itself.
    for pve in [&expired, &other, &good] {
        assert!(pve.client().version().is_ok());
    }
    let client = Client::new(&good.url(), &trust(&good), good.token().parse().unwrap()).unwrap();
    assert!(client.version().is_ok());
    let localhost = good.url().replace("127.0.0.1", "localhost");
    let client = Client::new(&localhost, &trust(&good), good.token().parse().unwrap()).unwrap();
    assert!(client.version().is_ok());
}

#[test]
fn what_is_no_proxmox_is_said_to_be_none() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        use std::io::Write;
        let _ = socket.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n");
    });
    let token = format!("{}={}", pve::TOKEN, pve::SECRET).parse().unwrap();
    let client = Client::new(&url, &Trust::Public, token).unwrap().at_pace(pve::hasty());
    let error = client.version().unwrap_err();
    assert!(
        matches!(error.reason(), Reason::Untrusted { met: None } | Reason::Unreachable),
        "{error:?}"
    );
    thread.join().unwrap();
    let pve = Pve::start(Flavour::V9);
    pve.plan(When::Request(1), Fault::Garbage("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html"));
    let error = pve.client().version().unwrap_err();
    assert_eq!(*error.reason(), Reason::Garbled, "{error}");
}

#[test]
fn a_token_without_rights_is_told_which_it_needs() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let secret = "ffffffff-89ab-4cde-8f01-23456789abcd";
        let wrong = format!("{}={secret}", pve::TOKEN).parse().unwrap();
        let stranger =
            Client::new(&pve.url(), &Trust::Certificate(pve.fingerprint()), wrong).unwrap();
        let error = stranger.version().unwrap_err();
        assert_eq!(*error.reason(), Reason::Unauthorized);
        assert_eq!(error.message(), "invalid token value!");
        assert!(!format!("{error:?}{error}").contains("ffffffff"));
        for acl in &mut pve.cluster().acl {
            acl.privileges.remove("VM.Config.Disk");
            acl.privileges.remove("Datastore.AllocateTemplate");
        }
        let error = hand_over(&client, &machine(4001), "scsi1", &machine(4002)).unwrap_err();
        let expected = Reason::Forbidden {
            path: "/vms/4001".to_owned(),
            privilege: "VM.Config.Disk".to_owned(),
        };
        assert_eq!(*error.reason(), expected, "{error}");
        let help = miette::Diagnostic::help(&error).unwrap().to_string();
        assert!(help.contains("VM.Config.Disk") && help.contains("/vms/4001"), "{help}");
        // The refusal comes before the file is read to its end.
        let upload = Upload {
            node: &pve.node(),
            storage: &"local".parse().unwrap(),
            content: Content::Import,
            name: "x.qcow2",
            size_bytes: 1 << 40,
            digest: Digest::of(""),
        };
        let mut endless = Generated::new(1 << 40);
        let error = client.upload(&upload, &mut endless, &mut |_| {}).unwrap_err();
        assert!(matches!(error.reason(), Reason::Forbidden { .. }), "{error}");
    }
}

#[test]
fn a_storage_without_the_content_type_refuses_the_upload() {
    for flavour in BOTH {
        let pve = Pve::start(flavour);
        pve.cluster().storages.get_mut("local").unwrap().content.remove("import");
        let error = upload_bytes(&pve.client(), Content::Import, "x.qcow2", b"x").unwrap_err();
        assert_eq!(error.message(), "storage 'local' does not support 'import' content");
        let error = upload_bytes(&pve.client(), Content::Import, "x y.qcow2", b"x").unwrap_err();
        assert!(matches!(error.reason(), Reason::Parameters(_)), "{error}");
    }
}

#[test]
fn uploads_arrive_byte_by_byte() {
    let pve = Pve::start(Flavour::V9);
    let client = pve.client();
    for size in [0, 1, 100, 15_000, 16_384, 16_385, 300_000, 3_000_000] {
        let bytes: Vec<u8> = (0..size).map(|index: u32| (index % 251) as u8).collect();
        let name = format!("x-{size}.qcow2");
        wait(&client, upload_bytes(&client, Content::Import, &name, &bytes).unwrap()).unwrap();
        let cluster = pve.cluster();
        let stored = &cluster.volumes[&format!("local:import/{name}")];
        assert_eq!((stored.size, stored.digest), (size.into(), Some(Digest::of(&bytes))));
    }
    // Another digest than the file has.
    let (node, storage) = (pve.node(), "local".parse().unwrap());
    let mut upload = Upload {
        node: &node,
        storage: &storage,
        content: Content::Import,
        name: "wrong.qcow2",
        size_bytes: 3,
        digest: Digest::of("other"),
    };
    let upid = client.upload(&upload, &mut &b"abc"[..], &mut |_| {}).unwrap();
    let error = wait(&client, upid).unwrap_err();
    assert!(error.message().starts_with("checksum mismatch"), "{error}");
    // Another length.
    upload.size_bytes = 4;
    let error = client.upload(&upload, &mut &b"abc"[..], &mut |_| {}).unwrap_err();
    assert_eq!(*error.reason(), Reason::Source, "{error}");
    assert!(!pve.cluster().volumes.contains_key("local:import/wrong.qcow2"));
}

/// Uploads so many generated bytes and gives how much more memory this took at its peak.
fn upload_large(size: u64) -> u64 {
    let pve = Pve::start(Flavour::V9);
    let client = pve.client();
    let mut hasher = Hasher::new();
    io::copy(&mut Generated::new(size), &mut Sink(&mut hasher)).unwrap();
    let (node, storage) = (pve.node(), "local".parse().unwrap());
    let upload = Upload {
        node: &node,
        storage: &storage,
        content: Content::Import,
        name: "large.qcow2",
        size_bytes: size,
        digest: hasher.finish(),
    };
    pve.cluster().storages.get_mut("local").unwrap().total = 1 << 50;
    let before = peak();
    let mut last = 0;
    let upid = client
        .upload(&upload, &mut Generated::new(size), &mut |sent| {
            assert!(sent >= last);
            last = sent;
        })
        .unwrap();
    assert_eq!(last, size);
    wait(&client, upid).unwrap();
    peak() - before
}

/// Bytes that are cheap to make and not all the same.
struct Generated(io::Take<io::Repeat>);

impl Generated {
    fn new(size: u64) -> Self {
        Self(io::repeat(0x5a).take(size))
    }
}

impl Read for Generated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

struct Sink<'a>(&'a mut Hasher);

impl io::Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The most memory that this process had so far, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[test]
fn a_large_upload_takes_little_memory() {
    assert!(upload_large(300 << 20) < 64 << 20);
}

#[test]
#[ignore = "minutes: cargo test --release --test proxmox -- --ignored a_very_large_upload"]
fn a_very_large_upload_takes_little_memory() {
    assert!(upload_large(20 << 30) < 64 << 20);
}

#[test]
fn tasks_are_waited_for() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let guest = machine(4001);
        pve.cluster().durations.insert("qmstart".to_owned(), Duration::from_millis(700));
        let upid = client.start(&guest).unwrap();
        assert_eq!((upid.kind(), upid.id(), upid.user()), ("qmstart", "4001", pve::TOKEN));
        let mut ticks = 0;
        let tick: &mut dyn FnMut() -> Result<(), Error> = &mut || {
            ticks += 1;
            Ok(())
        };
        client.wait(&upid, Duration::from_secs(20), tick).unwrap();
        assert!(ticks > 2);
        wait(&client, client.stop(&guest).unwrap()).unwrap();
        // A tick that fails ends the waiting.
        #[derive(Debug)]
        enum Mine {
            Lost,
            Proxmox,
        }
        impl From<Error> for Mine {
            fn from(_: Error) -> Self {
                Self::Proxmox
            }
        }
        let upid = client.start(&guest).unwrap();
        let lost = client.wait(&upid, Duration::from_secs(20), &mut || Err(Mine::Lost));
        assert!(matches!(lost, Err(Mine::Lost)));
        let error =
            client.wait(&upid, Duration::from_millis(10), &mut || Ok::<_, Error>(())).unwrap_err();
        assert!(matches!(error.reason(), Reason::StillRunning { .. }), "{error}");
        assert!(error.may_have_happened());
        wait(&client, upid.clone()).unwrap();
        let unknown = upid.to_string().replace("UPID:pve1:0", "UPID:pve1:F").parse().unwrap();
        assert_eq!(*client.task_state(&unknown).unwrap_err().reason(), Reason::NotFound);
        assert!(client.task_log(&upid, 0, 10).unwrap().lines.contains(&"TASK OK".to_owned()));
    }
}

#[test]
fn warnings_and_failures_of_tasks_are_told() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let guest = machine(4001);
        let start = |spoil| {
            pve.plan(When::Next("POST", "status/start"), Fault::Task(spoil));
            wait(&client, client.start(&guest).unwrap())
        };
        let warnings = start(Spoil::Warns("Systemd 257 detected.")).unwrap();
        assert_eq!(warnings, ["WARN: Systemd 257 detected."]);
        wait(&client, client.stop(&guest).unwrap()).unwrap();
        let error = start(Spoil::Fails("start failed: QEMU exited with code 1")).unwrap_err();
        let Reason::Task { upid, log } = error.reason() else { panic!("{error}") };
        assert_eq!(upid.kind(), "qmstart");
        assert_eq!(log, &["TASK ERROR: start failed: QEMU exited with code 1"]);
        assert!(error.to_string().contains("the task qmstart failed: start failed"), "{error}");
        let error = start(Spoil::Fails("VM is locked (backup)")).unwrap_err();
        assert_eq!(*error.reason(), Reason::Locked(Lock::Config("backup".to_owned())));
        let error = start(Spoil::Killed).unwrap_err();
        assert!(error.message().contains("was killed"), "{error}");
        assert!(!client.status(&guest).unwrap().running);
        let error =
            start(Spoil::FailsAfter("got no worker upid - start worker failed")).unwrap_err();
        assert!(matches!(error.reason(), Reason::Task { .. }));
        assert!(client.status(&guest).unwrap().running);
        // A guest that could not be made is not there.
        pve.cluster().storages.get_mut("local-lvm").unwrap().total = 0;
        let upid = client.create_machine(&pve.node(), &new_machine(4009)).unwrap();
        let error = wait(&client, upid).unwrap_err();
        assert!(error.to_string().contains("not enough free space"), "{error}");
        assert!(client.is_free(vmid(4009)).unwrap());
    }
}

#[test]
fn errors_of_the_server_are_understood_wherever_they_are_written() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let guest = machine(4001);
        let cases = [
            (500, "VM is locked (migrate)", Reason::Locked(Lock::Config("migrate".to_owned()))),
            (
                500,
                "can't lock file '/var/lock/qemu-server/lock-4001.conf' - got timeout",
                Reason::Locked(Lock::Busy),
            ),
            (
                500,
                "detected modified configuration - file changed by other user? Try again.",
                Reason::Modified,
            ),
            (500, "cluster not ready - no quorum?", Reason::NoQuorum),
            (501, "Method 'POST /x' not implemented", Reason::Unsupported),
            (596, "Connection timed out", Reason::NodeUnreachable(596)),
            (500, "something else\nin two lines", Reason::Other(500)),
        ];
        for (status, message, reason) in cases {
            pve.plan(When::Next("POST", "status/start"), Fault::Refuse(status, message));
            let error = client.start(&guest).unwrap_err();
            assert_eq!(*error.reason(), reason, "{error}");
            let first = message.lines().next().unwrap();
            assert!(error.message().starts_with(first), "{error}");
            let text = error.to_string();
            assert!(text.contains("POST /nodes/pve1/qemu/4001/status/start"), "{text}");
        }
        pve.cluster().quorate = false;
        assert_eq!(*client.start(&guest).unwrap_err().reason(), Reason::NoQuorum);
        assert!(client.config(&guest).is_ok());
        pve.cluster().quorate = true;
        assert!(!client.status(&guest).unwrap().running);
    }
}

#[test]
fn only_reads_are_made_again() {
    for flavour in BOTH {
        let (pve, client) = filled(flavour);
        let guest = machine(4001);
        pve.reset_faults();
        for fault in [Fault::Cut, Fault::CutAfter, Fault::Refuse(595, "No route to host")] {
            pve.plan(When::Next("GET", "/version"), fault);
            assert!(client.version().is_ok());
        }
        assert_eq!(pve.faults_left(), 0);
        for (fault, running) in [(Fault::Cut, false), (Fault::CutAfter, true)] {
            pve.plan(When::Next("POST", "status/start"), fault);
            let starts = pve.changes().len();
            let error = client.start(&guest).unwrap_err();
            assert_eq!(*error.reason(), Reason::Interrupted, "{error}");
            assert!(error.may_have_happened() && !error.is_transient());
            assert_eq!(pve.changes().len(), starts + 1);
            assert_eq!(client.status(&guest).unwrap().running, running);
        }
        // Nothing that listens.
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let token = pve.token().parse().unwrap();
        let nobody = Client::new(&format!("https://{closed}"), &Trust::Public, token).unwrap();
        let nobody = nobody.at_pace(pve::hasty());
        let error = nobody.stop(&guest).unwrap_err();
        assert_eq!(*error.reason(), Reason::Unreachable);
        assert!(!error.may_have_happened() && error.is_transient());
        // A node that is down.
        pve.cluster().nodes.insert("pve2".to_owned(), false);
        let there = Guest { node: "pve2".parse().unwrap(), ..guest.clone() };
        let error = client.config(&there).unwrap_err();
        assert_eq!(*error.reason(), Reason::NodeUnreachable(595));
    }
}

#[test]
fn connections_are_used_again_for_reads_only() {
    let pve = Pve::start(Flavour::V9);
    let client = pve.client();
    for _ in 0..10 {
        client.version().unwrap();
    }
    assert_eq!(pve.connections(), 1);
    let before = pve.connections();
    let wrong = client.start(&machine(4001)).unwrap_err();
    assert!(matches!(wrong.reason(), Reason::Forbidden { .. }));
    assert_eq!(pve.connections(), before + 1);
    client.version().unwrap();
}

#[test]
fn under_ha_a_task_that_is_done_does_not_mean_that_the_guest_is() {
    let (pve, client) = filled(Flavour::V9);
    let guest = machine(4001);
    wait(&client, client.start(&guest).unwrap()).unwrap();
    pve.cluster().ha.insert(4001, "started".to_owned());
    pve.cluster().durations.insert("ha".to_owned(), Duration::from_millis(600));
    let upid = client.stop(&guest).unwrap();
    assert_eq!(upid.kind(), "hastop");
    wait(&client, upid).unwrap();
    assert!(client.status(&guest).unwrap().running);
    std::thread::sleep(Duration::from_millis(700));
    assert!(!client.status(&guest).unwrap().running);
}

#[test]
fn destroying_a_guest_spares_the_volumes_of_others() {
    let (pve, client) = filled(Flavour::V9);
    // 4001 refers to a volume of 4002, and has one that its configuration does not know.
    {
        let mut cluster = pve.cluster();
        let foreign = cluster.guests[&4002].volume("scsi0").unwrap();
        let guest = cluster.guests.get_mut(&4001).unwrap();
        guest.config.insert("scsi7".to_owned(), foreign);
        guest.config.remove("scsi1");
    }
    wait(&client, client.destroy(&machine(4001)).unwrap()).unwrap();
    let cluster = pve.cluster();
    assert!(cluster.volumes.contains_key("local-lvm:vm-4002-disk-0"));
    assert!(cluster.volumes.contains_key("local-lvm:vm-4001-disk-1"));
    assert!(!cluster.volumes.contains_key("local-lvm:vm-4001-disk-0"));
    drop(cluster);
    pve.cluster()
        .guests
        .get_mut(&4002)
        .unwrap()
        .config
        .insert("protection".to_owned(), "1".to_owned());
    let error = client.destroy(&machine(4002)).unwrap_err();
    assert!(error.message().contains("protection mode enabled"), "{error}");
    assert_eq!(pve.cluster().guests[&4002].kind, Kind::Qemu);
}

#[test]
fn a_detached_drive_is_kept() {
    let (pve, client) = filled(Flavour::V9);
    let guest = machine(4001);
    let config = client.config(&guest).unwrap();
    let change = ConfigChange::new().delete("scsi0");
    client.configure(&guest, &change, &config.digest).unwrap();
    let config = client.config(&guest).unwrap();
    assert!(config.drive("unused0").unwrap().is_unused());
    assert_eq!(volume(&config, "unused0").as_deref(), Some("local-lvm:vm-4001-disk-0"));
    assert_eq!(config.get("boot"), Some("order="));
    let change = ConfigChange::new().set("scsi0", "local-lvm:vm-4001-disk-0,discard=on");
    client.configure(&guest, &change, &config.digest).unwrap();
    let config = client.config(&guest).unwrap();
    assert!(config.drive("unused0").is_none());
    client
        .configure(&guest, &ConfigChange::new().set("boot", "order=scsi0"), &config.digest)
        .unwrap();
    assert!(pve.cluster().history.iter().all(|line| !line.starts_with("free")));
}

#[test]
fn the_fake_fails_what_the_api_does_not_allow() {
    if pve::schema::schema().is_none() {
        return;
    }
    let (pve, client) = filled(Flavour::V8);
    let digest = client.config(&machine(4001)).unwrap().digest;
    for (key, value) in
        [("colour", "red"), ("onboot", "yes"), ("allow-ksm", "1"), ("net0", "virtio,bridge=a b")]
    {
        let error = client
            .configure(&machine(4001), &ConfigChange::new().set(key, value), &digest)
            .unwrap_err();
        let Reason::Parameters(errors) = error.reason() else { panic!("{error}") };
        assert!(errors.contains_key(key), "{error}");
    }
    assert_eq!(pve.take_invalid().len(), 4);
}
