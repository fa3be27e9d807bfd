//! The client of Proxmox VE against a fake one, in both versions.

#[path = "../support/pve/mod.rs"]
mod pve;

mod cluster;
mod errors;
mod guests;
mod tasks;
mod trust;
mod uploads;
mod volumes;

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::time::Duration;

use imgbuild::digest::Digest;
use imgbuild::proxmox::{
    Addresses, Card, Client, CloudInit, Config, Content, Error, Guest, GuestKind, MoveVolume,
    NewContainer, NewMachine, NewVolume, Resolving, Upid, Upload, Vmid,
};
use pve::{Flavour, Pve};

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
    client.upload(&upload, &mut &bytes[..], &mut |_| ControlFlow::Continue(()))
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
            source: None,
            backup: true,
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
            source: None,
            backup: true,
            place: "/var/lib/mysql".to_owned(),
        }],
        card: Some(Card { bridge: "vmbr0".to_owned(), vlan: None, mac: None, firewall: false }),
        addresses: Addresses { ipv4: Some("dhcp".to_owned()), ..Addresses::default() },
        resolving: Resolving { servers: vec!["10.20.30.1".parse().unwrap()], domain: None },
        ssh_keys: Some("ssh-ed25519 AAAAC3 ops@campus".to_owned()),
        pool: Some("imgbuild".to_owned()),
        onboot: false,
        unmanaged: false,
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
