//! Boots the project's own disks as virtual machines under QEMU, with the firmware and the buses that Proxmox
//! VE has, and looks whether they do what they are for. Needs QEMU and, to build the disks, the network;
//! without QEMU every test here says so and passes. Where KVM does not work the processor is emulated.
//!
//! `IMGBUILD_TEST_DISKS` names a directory with disks of `haproxy` and `galera` to boot instead of building
//! them; they must have been built for the site of `tests/lab/overlay.toml`.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod support;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use imgbuild::artifact::manifest::{Disk, Manifest};
use imgbuild::artifact::name::Format;
use imgbuild::boot::qemu::{self, Accelerator, Bus, Firmware, Machine, Spec};
use imgbuild::boot::{Identity, Observation, SecretFile, Secrets, Volume, observe};
use imgbuild::digest::Digest;
use imgbuild::progress::Silent;
use support::images;

/// A start, with everything emulated, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(900);

/// One question to a guest.
const MOMENT: Duration = Duration::from_secs(120);

const GIBIBYTE: u64 = 1 << 30;

/// Where the artifacts are, built once.
fn disks() -> Option<&'static Path> {
    static DISKS: OnceLock<PathBuf> = OnceLock::new();
    if let Err(reason) = qemu::available() {
        eprintln!("skipped: {reason}");
        return None;
    }
    let given = || std::env::var_os("IMGBUILD_TEST_DISKS").map(PathBuf::from);
    Some(DISKS.get_or_init(|| given().unwrap_or_else(|| images::build("qcow2"))))
}

fn executable() -> PathBuf {
    env!("CARGO_BIN_EXE_imgbuild").into()
}

fn accelerator() -> Accelerator {
    Accelerator::detect(&executable()).unwrap()
}

/// A node of the campus site.
fn identity(name: &str, role: &str, address: &str, gateway: &str) -> Identity {
    Identity {
        name: name.parse().unwrap(),
        role: role.to_owned(),
        address: address.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        number: 1,
        stranger: false,
    }
}

fn proxy(disk: PathBuf, firmware: Firmware, bus: Bus) -> Spec {
    Spec {
        executable: executable(),
        disk,
        accelerator: accelerator(),
        firmware,
        bus,
        memory_mib: 1024,
        volumes: Vec::new(),
        secrets: Secrets(Vec::new()),
        identity: Some(identity("lb1", "haproxy", "10.20.40.2/24", "10.20.40.1")),
        password: None,
        extra_arguments: Vec::new(),
    }
}

/// The first node of the cluster, with `state` as its disk, or no such disk.
fn database(disk: PathBuf, firmware: Firmware, bus: Bus, state: Option<&Path>) -> Spec {
    let secret =
        |name: &str, content: &str| SecretFile { name: name.into(), content: content.into() };
    let token = format!("galera1 {}", Digest::of(format!("{:?}", Instant::now())).short());
    Spec {
        volumes: state
            .map(|path| Volume {
                name: "mysql".to_owned(),
                path: "/var/lib/mysql".to_owned(),
                disk: Some(path.to_owned()),
            })
            .into_iter()
            .collect(),
        secrets: Secrets(vec![
            secret("galera.database", "pass'word"),
            secret("galera.monitor", "back\\slash"),
            secret("galera.bootstrap", &token),
        ]),
        identity: Some(identity("galera1", "galera", "10.20.30.11/24", "10.20.30.1")),
        ..proxy(disk, firmware, bus)
    }
}

fn words(command: &[&str]) -> Vec<String> {
    command.iter().map(|word| (*word).to_owned()).collect()
}

/// Waits until `health` succeeds in the guest.
#[track_caller]
fn assert_healthy(machine: &mut Machine, health: &[&str]) -> Observation {
    let started = machine.started();
    let seen = observe(machine, Some(&words(health)), started, PATIENCE, &Silent).unwrap();
    assert!(seen.healthy, "{seen:#?}");
    assert_eq!(seen.state, "running");
    eprintln!("healthy after {:.0} s: {:?}", started.elapsed().as_secs_f64(), seen.analysis);
    seen
}

/// What a script for /bin/sh writes in the guest.
#[track_caller]
fn shell(machine: &mut Machine, script: &str) -> String {
    let output = machine.exec(&["/bin/sh", "-c", script], MOMENT).unwrap();
    assert!(output.success(), "{script}: {}", output.complaint());
    output.text()
}

const HAPROXY_LIVE: [&str; 1] = ["/usr/lib/imgbuild/haproxy-live"];
const GALERA_READY: [&str; 1] = ["/usr/lib/imgbuild/galera-ready"];

/// Writes wherever a guest can be written to, and removes what it can do without.
const LITTER: &str = "for directory in / /etc /usr/bin /usr/lib/imgbuild /var /var/lib /root /opt /srv /home /boot; do \
                      echo litter > $directory/litter || exit 1; done; rm -r /usr/share/doc; \
                      echo 'root::0:0::/root:/bin/sh' > /etc/passwd-; echo changed >> /etc/haproxy/imgbuild.cfg 2>/dev/null || true";
const FIND_LITTER: &str = "find / -xdev -name litter; test -d /usr/share/doc; grep -c ^changed /etc/haproxy/imgbuild.cfg 2>/dev/null || true";

#[test]
fn haproxy_boots_with_a_bios() {
    let Some(disks) = disks() else { return };
    let disk = images::artifact(disks, "haproxy", Format::Qcow2);
    let before = Digest::of_reader(File::open(&disk).unwrap()).unwrap();
    let mut machine =
        Machine::start(&proxy(disk.clone(), Firmware::SeaBios, Bus::VirtioScsi)).unwrap();
    let seen = assert_healthy(&mut machine, &HAPROXY_LIVE);
    assert!(seen.addresses.iter().any(|address| address.contains("10.20.40.2")), "{seen:?}");
    assert_eq!(
        shell(&mut machine, "uname -n; cat /run/imgbuild/node.env").lines().next(),
        Some("lb1")
    );
    // Once the drive was busy: a service that was being started had a copy of the mount open.
    assert_eq!(
        shell(&mut machine, "systemctl show --property PrivateMounts cloud-init-local.service"),
        "PrivateMounts=yes"
    );
    // The unit of the console has started; its program may take its time.
    wait_for_console(&machine, "lb1 login:");
    // Nobody has set a password, so none works.
    let locked = "awk -F: '$2 !~ /^[!*]/ { print $1 }' /etc/shadow";
    assert_eq!(shell(&mut machine, locked), "");
    let mounts = shell(&mut machine, "findmnt --noheadings --output FSTYPE,OPTIONS /");
    assert!(mounts.starts_with("overlay") && mounts.contains("upperdir="), "{mounts}");

    machine.power_off(PATIENCE).unwrap();
    assert_eq!(Digest::of_reader(File::open(&disk).unwrap()).unwrap(), before);
}

/// An empty disk.
fn empty_disk(directory: &Path) -> PathBuf {
    let path = directory.join("state.raw");
    File::create(&path).unwrap().set_len(2 * GIBIBYTE).unwrap();
    path
}

#[test]
#[ignore = "takes minutes where the processor is emulated; in a container a restart is tried with less"]
fn haproxy_boots_with_uefi_and_forgets_what_was_written() {
    let Some(disks) = disks() else { return };
    let disk = images::artifact(disks, "haproxy", Format::Qcow2);
    let mut machine = Machine::start(&proxy(disk, Firmware::Ovmf, Bus::VirtioBlk)).unwrap();
    assert_healthy(&mut machine, &HAPROXY_LIVE);
    shell(&mut machine, LITTER);
    machine.reboot(PATIENCE).unwrap();
    assert_healthy(&mut machine, &HAPROXY_LIVE);
    assert_eq!(shell(&mut machine, FIND_LITTER), "0");
    machine.power_off(PATIENCE).unwrap();
}

#[test]
#[ignore = "takes minutes where the processor is emulated"]
fn galera_boots_with_either_firmware_and_keeps_its_state() {
    let Some(disks) = disks() else { return };
    let disk = images::artifact(disks, "galera", Format::Qcow2);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let state = empty_disk(directory.path());

    let spec = database(disk.clone(), Firmware::SeaBios, Bus::VirtioScsi, Some(&state));
    let mut machine = Machine::start(&spec).unwrap();
    assert_healthy(&mut machine, &GALERA_READY);
    let owner = shell(
        &mut machine,
        "stat --format='%U:%G %a' /var/lib/mysql; findmnt --noheadings --output FSTYPE,LABEL /var/lib/mysql",
    );
    assert!(owner.starts_with("mysql:mysql 750\next4"), "{owner}");
    assert!(owner.ends_with("state-mysql"), "{owner}");
    shell(
        &mut machine,
        "mariadb --execute='CREATE TABLE moodle.kept (number INT PRIMARY KEY); INSERT INTO moodle.kept VALUES (4711)'",
    );
    machine.power_off(PATIENCE).unwrap();

    // Another machine made of the same image, with other firmware on another bus, takes over the state.
    let spec = database(disk, Firmware::Ovmf, Bus::VirtioBlk, Some(&state));
    let mut machine = Machine::start(&spec).unwrap();
    assert_healthy(&mut machine, &GALERA_READY);
    let query = "mariadb --batch --skip-column-names --execute='SELECT number FROM moodle.kept'";
    assert_eq!(shell(&mut machine, query), "4711");
    machine.power_off(PATIENCE).unwrap();
}

#[test]
#[ignore = "takes minutes where the processor is emulated; the proxy shows by itself what a restart forgets"]
fn galera_keeps_its_state_and_nothing_else_over_a_restart() {
    let Some(disks) = disks() else { return };
    let disk = images::artifact(disks, "galera", Format::Qcow2);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let state = empty_disk(directory.path());
    let spec = database(disk, Firmware::SeaBios, Bus::VirtioScsi, Some(&state));
    let mut machine = Machine::start(&spec).unwrap();
    assert_healthy(&mut machine, &GALERA_READY);
    shell(&mut machine, "mariadb --execute='CREATE TABLE moodle.kept (number INT PRIMARY KEY)'");
    shell(&mut machine, LITTER);
    machine.reboot(PATIENCE).unwrap();
    assert_eq!(shell(&mut machine, FIND_LITTER), "");
    let mounted = shell(
        &mut machine,
        "until mountpoint --quiet /var/lib/mysql; do sleep 1; done; ls /var/lib/mysql/moodle",
    );
    assert!(mounted.contains("kept."), "{mounted}");
    machine.power_off(PATIENCE).unwrap();
}

/// Waits until a text stands on the console.
#[track_caller]
fn wait_for_console(machine: &Machine, text: &str) -> String {
    let started = Instant::now();
    loop {
        let console = machine.console();
        if console.contains(text) {
            return console;
        }
        assert!(started.elapsed() < PATIENCE, "{text:?} is not on the console:\n{console}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

#[test]
#[ignore = "takes a minute where the processor is emulated"]
fn a_missing_state_volume_stops_the_service_and_not_the_boot() {
    let Some(disks) = disks() else { return };
    let disk = images::artifact(disks, "galera", Format::Qcow2);
    let spec = database(disk, Firmware::SeaBios, Bus::VirtioScsi, None);
    let mut machine = Machine::start(&spec).unwrap();
    wait_for_console(&machine, "state-mysql: no disk has this serial number");
    wait_for_console(&machine, "no state volume is mounted at /var/lib/mysql");
    wait_for_console(&machine, "galera1 login:");
    machine.wait_for_agent(PATIENCE).unwrap();
    let state = "systemctl is-active mariadb.service || true";
    assert_eq!(shell(&mut machine, state), "inactive");
    machine.power_off(PATIENCE).unwrap();
}

#[test]
#[ignore = "takes minutes where the processor is emulated; tests/volumes.rs has what decides that"]
fn a_state_volume_with_a_foreign_file_system_is_left_alone() {
    let Some(disks) = disks() else { return };
    let disk = images::artifact(disks, "galera", Format::Qcow2);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let state = empty_disk(directory.path());
    let made = Command::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "precious"])
        .arg(&state)
        .status();
    if made.is_err() {
        eprintln!("skipped: mke2fs is not installed");
        return;
    }
    let before = Digest::of_reader(File::open(&state).unwrap()).unwrap();
    let spec = database(disk, Firmware::SeaBios, Bus::VirtioScsi, Some(&state));
    let mut machine = Machine::start(&spec).unwrap();
    wait_for_console(&machine, "holds ext4 with the label \"precious\" and is left alone");
    wait_for_console(&machine, "no state volume is mounted at /var/lib/mysql");
    machine.wait_for_agent(PATIENCE).unwrap();
    machine.power_off(PATIENCE).unwrap();
    assert_eq!(Digest::of_reader(File::open(&state).unwrap()).unwrap(), before);
}

/// The manifest's account of the disk at `path`.
fn description(path: &Path) -> Disk {
    let manifest = path.with_extension("manifest.json");
    Manifest::from_json(&fs::read_to_string(manifest).unwrap()).unwrap().disk.unwrap()
}

/// A raw copy of a disk, to do harm to.
fn raw_copy(disk: &Path, directory: &Path) -> Option<(PathBuf, File)> {
    let raw = directory.join("disk.raw");
    let convert = Command::new("qemu-img")
        .args(["convert", "-f", "qcow2", "-O", "raw"])
        .args([disk, &raw])
        .status();
    match convert {
        Ok(status) => assert!(status.success()),
        Err(error) => {
            eprintln!("skipped: qemu-img: {error}");
            return None;
        }
    }
    let file = File::options().read(true).write(true).open(&raw).unwrap();
    Some((raw, file))
}

fn flip_a_bit(file: &File, at: u64) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

#[test]
fn a_flipped_bit_in_any_layer_is_refused() {
    let Some(disks) = disks() else { return };
    let disk = images::artifact(disks, "haproxy", Format::Qcow2);
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let Some((raw, file)) = raw_copy(&disk, directory.path()) else { return };
    let layers: Vec<_> = description(&disk)
        .partitions
        .into_iter()
        .filter_map(|partition| Some((partition.first_sector * 512, partition.data_blocks?)))
        .collect();
    assert!(layers.len() > 5, "{layers:?}");
    // The last block of data: what is in it is not needed to start. A layer of few blocks has its only
    // metadata there, and comes last.
    let harmed: Vec<_> =
        layers.iter().enumerate().filter(|(_, (_, blocks))| *blocks > 64).collect();
    for (_, (start, blocks)) in &harmed {
        flip_a_bit(&file, start + (blocks - 1) * 4096 + 17);
    }
    let mut machine = Machine::start(&proxy(raw, Firmware::SeaBios, Bus::VirtioScsi)).unwrap();
    machine.wait_for_agent(PATIENCE).unwrap();
    for (number, (_, blocks)) in &harmed {
        let read = |block: u64| {
            format!(
                "dd if=/dev/mapper/layer-{number:02} of=/dev/null bs=4096 count=1 skip={block} iflag=direct 2>&1 || true"
            )
        };
        let said = shell(&mut machine, &read(blocks - 1));
        assert!(said.contains("Input/output error"), "layer {number}: {said}");
        let said = shell(&mut machine, &read(blocks - 2));
        assert!(!said.contains("error"), "layer {number}: {said}");
    }
    machine.close().unwrap();

    // A layer that cannot even be mounted stops the start, with its name on the console.
    let (start, _) = layers.last().unwrap();
    flip_a_bit(&file, start + 1024);
    let machine = Machine::start(&proxy(
        directory.path().join("disk.raw"),
        Firmware::SeaBios,
        Bus::VirtioScsi,
    ))
    .unwrap();
    let name = format!("layer-{:02}", layers.len() - 1);
    let console = wait_for_console(&machine, "is damaged: import the image again");
    assert!(console.contains(&name), "{console}");
    machine.close().unwrap();
}
