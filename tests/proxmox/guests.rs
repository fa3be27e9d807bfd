//! Making guests, changing, starting, stopping and destroying them.

use std::time::Duration;

use imgbuild::proxmox::{ConfigChange, Reason};

use crate::pve::{self, Flavour, Kind};
use crate::{BOTH, container, filled, machine, new_machine, volume, wait};

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
        assert_eq!(state.size_bytes(), Some(8 << 30));
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
            let losing = ConfigChange::new().set("rootfs", "local-lvm:vm-4101-disk-9");
            assert!(client.configure(&guest, &losing, &config.digest).is_err());
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
