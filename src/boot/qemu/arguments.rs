//! The command line of QEMU for a machine as Proxmox VE configures it: q35, one virtio-scsi controller and
//! I/O thread a disk (`virtio-scsi-single`), a serial console, the agent's channel.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{Accelerator, Bus, Firmware, PROGRAM};
use crate::boot::Identity;

/// The serial numbers and labels by which guests find disks.
pub(super) const SECRETS_SERIAL: &str = "imgbuild-secrets";

/// A disk besides the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DataDisk {
    /// The raw image.
    pub(super) path: PathBuf,
    /// Its serial number.
    pub(super) serial: Option<String>,
    /// Whether the guest may not write to it.
    pub(super) read_only: bool,
    /// Whether nobody needs what was written to it once QEMU has ended.
    pub(super) volatile: bool,
}

/// Everything that the command line says.
#[derive(Clone, Debug)]
pub(super) struct Machine<'a> {
    pub(super) name: &'a str,
    pub(super) accelerator: Accelerator,
    /// The firmware's variables, for one that has some.
    pub(super) firmware: (Firmware, &'a Path),
    /// The first disk and its format.
    pub(super) disk: (&'a Path, &'static str),
    pub(super) bus: Bus,
    pub(super) data_disks: &'a [DataDisk],
    pub(super) memory_mib: u32,
    pub(super) processors: usize,
    pub(super) identity: Option<&'a Identity>,
    /// Where QEMU makes its sockets and writes the console's log.
    pub(super) directory: &'a Path,
    pub(super) extra: &'a [OsString],
}

/// The code of OVMF without Secure Boot, as Debian's package `ovmf` has it.
pub(super) const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";

/// Program and arguments.
pub(super) fn arguments(machine: &Machine<'_>) -> Vec<OsString> {
    let mut line = Line(vec![PROGRAM.into()]);
    line.add("-name", machine.name);
    line.flag("-nodefaults");
    line.flag("-no-user-config");
    line.add("-machine", "q35");
    match machine.accelerator {
        Accelerator::Kvm => {
            line.add("-accel", "kvm");
            line.add("-cpu", "host");
        }
        // The smallest model that has all Debian needs: the fewer features, the less to emulate.
        Accelerator::Emulation => {
            line.add("-accel", "tcg,thread=multi");
            line.add("-cpu", "Nehalem");
        }
    }
    line.add("-smp", &machine.processors.to_string());
    line.add("-m", &machine.memory_mib.to_string());
    // As on Proxmox VE, where the console of the web interface is one.
    line.add("-vga", "std");
    line.add("-display", "none");
    line.add("-device", "virtio-rng-pci");
    if machine.firmware.0 == Firmware::Ovmf {
        line.file("-drive", Path::new(OVMF_CODE), "if=pflash,unit=0,format=raw,readonly=on");
        line.file("-drive", machine.firmware.1, "if=pflash,unit=1,format=raw");
    }
    line.console_and_agent(machine.directory);
    line.disks(machine);
    line.network(machine.identity);
    line.0.extend_from_slice(machine.extra);
    line.0
}

struct Line(Vec<OsString>);

impl Line {
    fn flag(&mut self, flag: &str) {
        self.0.push(flag.into());
    }

    fn add(&mut self, flag: &str, value: &str) {
        self.0.extend([flag.into(), value.into()]);
    }

    /// An option of a list with a file, in which QEMU wants commas doubled.
    fn file(&mut self, flag: &str, path: &Path, options: &str) {
        let mut value = OsString::from(options);
        value.push(",file=");
        value.push(escaped(path));
        self.0.extend([flag.into(), value]);
    }

    fn console_and_agent(&mut self, directory: &Path) {
        let directory = directory.display();
        let server = "server=on,wait=off";
        self.add(
            "-chardev",
            &format!(
                "socket,id=console,path={directory}/console.sock,{server},logfile={directory}/console.log"
            ),
        );
        self.add("-serial", "chardev:console");
        self.add("-device", "virtio-serial-pci");
        self.add("-chardev", &format!("socket,id=agent,path={directory}/agent.sock,{server}"));
        self.add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0");
    }

    fn disks(&mut self, machine: &Machine<'_>) {
        // Writes go to a file that QEMU deletes as soon as it is open. Nobody needs it after a crash.
        let (disk, format) = machine.disk;
        let options = format!("if=none,id=disk0,format={format},snapshot=on,cache=unsafe");
        self.file("-drive", disk, &options);
        match machine.bus {
            Bus::VirtioScsi => self.scsi(0, None),
            Bus::VirtioBlk => {
                self.add("-object", "iothread,id=thread0");
                self.add("-device", "virtio-blk-pci,iothread=thread0,drive=disk0,bootindex=1");
            }
        }
        for (index, disk) in machine.data_disks.iter().enumerate() {
            let number = index + 1;
            let read_only = if disk.read_only { "on" } else { "off" };
            let cache = if disk.volatile { "unsafe" } else { "writeback" };
            let options =
                format!("if=none,id=disk{number},format=raw,readonly={read_only},cache={cache}");
            self.file("-drive", &disk.path, &options);
            self.scsi(number, disk.serial.as_deref());
        }
    }

    fn scsi(&mut self, number: usize, serial: Option<&str>) {
        self.add("-object", &format!("iothread,id=thread{number}"));
        self.add("-device", &format!("virtio-scsi-pci,id=scsi{number},iothread=thread{number}"));
        let serial = serial.map_or(String::new(), |serial| format!(",serial={serial}"));
        let boot = if number == 0 { ",bootindex=1" } else { "" };
        let device = format!("scsi-hd,bus=scsi{number}.0,drive=disk{number}{serial}{boot}");
        self.add("-device", &device);
    }

    /// A network that the guest is alone in.
    fn network(&mut self, identity: Option<&Identity>) {
        let mut value = "user,restrict=on,model=virtio-net-pci".to_owned();
        if let Some(identity) = identity {
            value.push_str(&format!(",mac={}", identity.mac()));
            if identity.address.address().is_ipv4() {
                // Or else QEMU gives the guest an address of the other kind, too.
                value.push_str(",ipv6=off");
            }
            let gateway = identity.gateway.filter(std::net::IpAddr::is_ipv4);
            // QEMU has its own name server at .3 and gives out addresses from .15 on, and both must
            // be in the network; the gateway is QEMU itself.
            if let Some(gateway) = gateway.filter(|_| identity.address.prefix() <= 24) {
                let server = if gateway.to_string().ends_with(".3") { 4 } else { 3 };
                let network = gateway.to_string();
                let network = network.rsplit_once('.').map_or("", |(network, _)| network);
                value.push_str(&format!(
                    ",net={network}.0/24,host={gateway},dns={network}.{server}"
                ));
            }
        }
        self.add("-nic", &value);
    }
}

fn escaped(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::new();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            name: "galera1".parse().unwrap(),
            role: "galera".to_owned(),
            address: "10.77.0.11/24".parse().unwrap(),
            gateway: Some("10.77.0.1".parse().unwrap()),
            number: 1,
            stranger: true,
        }
    }

    fn shown(arguments: &[OsString]) -> String {
        let mut text = String::new();
        for argument in arguments {
            let argument = argument.to_str().unwrap();
            text.push_str(if argument.starts_with('-') { "\n" } else { " " });
            text.push_str(argument);
        }
        text
    }

    fn machine<'a>(identity: &'a Identity, disks: &'a [DataDisk]) -> Machine<'a> {
        Machine {
            name: "galera1",
            accelerator: Accelerator::Emulation,
            firmware: (Firmware::SeaBios, Path::new("")),
            disk: (Path::new("/out/a,b.qcow2"), "qcow2"),
            bus: Bus::VirtioScsi,
            data_disks: disks,
            memory_mib: 2048,
            processors: 2,
            identity: Some(identity),
            directory: Path::new("/var/tmp/x"),
            extra: &[],
        }
    }

    #[test]
    fn an_emulated_machine_with_seabios() {
        let disks = [
            DataDisk {
                path: "/var/tmp/x/state-mysql.raw".into(),
                serial: Some("state-mysql".to_owned()),
                read_only: false,
                volatile: true,
            },
            DataDisk {
                path: "/var/tmp/x/cidata.raw".into(),
                serial: None,
                read_only: true,
                volatile: false,
            },
        ];
        let identity = identity();
        insta::assert_snapshot!(shown(&arguments(&machine(&identity, &disks))), @r#"
         qemu-system-x86_64
        -name galera1
        -nodefaults
        -no-user-config
        -machine q35
        -accel tcg,thread=multi
        -cpu Nehalem
        -smp 2
        -m 2048
        -vga std
        -display none
        -device virtio-rng-pci
        -chardev socket,id=console,path=/var/tmp/x/console.sock,server=on,wait=off,logfile=/var/tmp/x/console.log
        -serial chardev:console
        -device virtio-serial-pci
        -chardev socket,id=agent,path=/var/tmp/x/agent.sock,server=on,wait=off
        -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
        -drive if=none,id=disk0,format=qcow2,snapshot=on,cache=unsafe,file=/out/a,,b.qcow2
        -object iothread,id=thread0
        -device virtio-scsi-pci,id=scsi0,iothread=thread0
        -device scsi-hd,bus=scsi0.0,drive=disk0,bootindex=1
        -drive if=none,id=disk1,format=raw,readonly=off,cache=unsafe,file=/var/tmp/x/state-mysql.raw
        -object iothread,id=thread1
        -device virtio-scsi-pci,id=scsi1,iothread=thread1
        -device scsi-hd,bus=scsi1.0,drive=disk1,serial=state-mysql
        -drive if=none,id=disk2,format=raw,readonly=on,cache=writeback,file=/var/tmp/x/cidata.raw
        -object iothread,id=thread2
        -device virtio-scsi-pci,id=scsi2,iothread=thread2
        -device scsi-hd,bus=scsi2.0,drive=disk2
        -nic user,restrict=on,model=virtio-net-pci,mac=02:ae:55:92:2c:53,ipv6=off,net=10.77.0.0/24,host=10.77.0.1,dns=10.77.0.3
        "#);
    }

    #[test]
    fn a_real_machine_with_ovmf_and_virtio_blk() {
        let identity = identity();
        let extra = ["-trace".into(), "x".into()];
        let machine = Machine {
            accelerator: Accelerator::Kvm,
            firmware: (Firmware::Ovmf, Path::new("/var/tmp/x/vars.fd")),
            disk: (Path::new("/d.raw"), "raw"),
            bus: Bus::VirtioBlk,
            identity: None,
            extra: &extra,
            ..machine(&identity, &[])
        };
        insta::assert_snapshot!(shown(&arguments(&machine)), @r#"
         qemu-system-x86_64
        -name galera1
        -nodefaults
        -no-user-config
        -machine q35
        -accel kvm
        -cpu host
        -smp 2
        -m 2048
        -vga std
        -display none
        -device virtio-rng-pci
        -drive if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd
        -drive if=pflash,unit=1,format=raw,file=/var/tmp/x/vars.fd
        -chardev socket,id=console,path=/var/tmp/x/console.sock,server=on,wait=off,logfile=/var/tmp/x/console.log
        -serial chardev:console
        -device virtio-serial-pci
        -chardev socket,id=agent,path=/var/tmp/x/agent.sock,server=on,wait=off
        -device virtserialport,chardev=agent,name=org.qemu.guest_agent.0
        -drive if=none,id=disk0,format=raw,snapshot=on,cache=unsafe,file=/d.raw
        -object iothread,id=thread0
        -device virtio-blk-pci,iothread=thread0,drive=disk0,bootindex=1
        -nic user,restrict=on,model=virtio-net-pci
        -trace x
        "#);
    }

    #[test]
    fn the_network_is_the_guests_own() {
        let network = |address: &str, gateway: Option<&str>| {
            let gateway = gateway.map(|gateway| gateway.parse().unwrap());
            let identity = Identity { address: address.parse().unwrap(), gateway, ..identity() };
            let mut line = Line(Vec::new());
            line.network(Some(&identity));
            line.0[1].to_str().unwrap().split_once(",mac=").unwrap().1[17..].to_owned()
        };
        assert_eq!(
            network("10.20.30.2/16", Some("10.20.40.3")),
            ",ipv6=off,net=10.20.40.0/24,host=10.20.40.3,dns=10.20.40.4"
        );
        assert_eq!(network("10.20.30.2/30", Some("10.20.30.1")), ",ipv6=off");
        assert_eq!(network("10.20.30.2/24", None), ",ipv6=off");
        assert_eq!(network("fd00::2/64", Some("fd00::1")), "");
    }

    #[test]
    fn paths_are_bytes() {
        use std::os::unix::ffi::OsStrExt;
        let odd = std::ffi::OsStr::from_bytes(b"/\xff,x");
        assert_eq!(escaped(Path::new(odd)).as_bytes(), b"/\xff,,x");
    }
}
