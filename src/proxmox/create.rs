//! Making guests.

use std::net::IpAddr;

use super::client::Client;
use super::config::{DESCRIPTION_LIMIT, of};
use super::error::{Error, Method, Reason};
use super::names::{GuestKind, NodeName, StorageName, Vmid, VolumeId};
use super::property::{Properties, PropertyError};
use super::request::Parameters;
use super::task::Upid;

/// The network card of a machine, `net0`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The bridge of the node that it is on.
    pub bridge: String,
    /// The VLAN.
    pub vlan: Option<u16>,
    /// The MAC address; one is made up without.
    pub mac: Option<String>,
    /// Whether the firewall of Proxmox guards it.
    pub firewall: bool,
}

impl Card {
    fn options(&self, properties: Properties) -> Result<Properties, PropertyError> {
        properties
            .with("bridge", &self.bridge)?
            .with_some("tag", self.vlan)?
            .with_some("firewall", self.firewall.then_some(1))
    }
}

/// The addresses of a guest's first interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// `10.0.0.5/24`, or `dhcp`.
    pub ipv4: Option<String>,
    /// The router.
    pub gateway4: Option<IpAddr>,
    /// `fd00::5/64`, `dhcp` or `auto`.
    pub ipv6: Option<String>,
    /// The router.
    pub gateway6: Option<IpAddr>,
}

impl Addresses {
    fn options(&self, properties: Properties) -> Result<Properties, PropertyError> {
        properties
            .with_some("ip", self.ipv4.as_ref())?
            .with_some("gw", self.gateway4)?
            .with_some("ip6", self.ipv6.as_ref())?
            .with_some("gw6", self.gateway6)
    }
}

/// What a guest is told about names: `nameserver` and `searchdomain`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolving {
    /// The servers.
    pub servers: Vec<IpAddr>,
    /// The domain, or several with spaces between.
    pub domain: Option<String>,
}

impl Resolving {
    fn parameters(&self, parameters: Parameters) -> Parameters {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        parameters
            .with_some("nameserver", (!servers.is_empty()).then(|| servers.join(" ")))
            .with_some("searchdomain", self.domain.as_ref())
    }
}

/// A new, empty state volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVolume {
    /// The number of its key: `scsi1` of a machine, `mp1` of a container.
    pub index: u8,
    /// Where.
    pub storage: StorageName,
    /// How large.
    pub size_gib: u32,
    /// Of a machine: the image that it is made of, which then says how large. Empty without.
    pub source: Option<VolumeId>,
    /// Whether it is part of backups.
    pub backup: bool,
    /// By what the guest knows it: of a machine the serial number of the disk, at most 20 characters; of a
    /// container the directory that it is mounted on.
    pub place: String,
}

/// A virtual machine to make, stopped. What is not here is the same for all (`docs/disk.md`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMachine {
    /// Its number.
    pub vmid: Vmid,
    /// Its name, which becomes the host name: letters, digits, `-`, `.`.
    pub name: String,
    /// What people read about it.
    pub description: String,
    /// Virtual processors.
    pub cores: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// The disk that it starts from: where it goes, and the image that it is made of. `None` for a machine
    /// that is never started.
    pub root: Option<(StorageName, VolumeId)>,
    /// Whether it starts by UEFI; the variables go to that storage.
    pub uefi: Option<StorageName>,
    /// New, empty state volumes.
    pub volumes: Vec<NewVolume>,
    /// Its network card.
    pub card: Option<Card>,
    /// The cloud-init drive: where it goes, and what it tells.
    pub cloud_init: Option<CloudInit>,
    /// The pool that it goes to. A token with rights on the pool only needs it.
    pub pool: Option<String>,
    /// Whether it starts with its node.
    pub onboot: bool,
}

/// What a machine is told by its cloud-init drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudInit {
    /// Where the drive goes.
    pub storage: StorageName,
    /// The addresses of `net0`.
    pub addresses: Addresses,
    /// Names.
    pub resolving: Resolving,
    /// Public keys of SSH, one a line.
    pub ssh_keys: Option<String>,
}

/// A container to make, stopped; unprivileged, with nesting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewContainer {
    /// Its number.
    pub vmid: Vmid,
    /// Its host name.
    pub name: String,
    /// What people read about it.
    pub description: String,
    /// Virtual processors.
    pub cores: u16,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Swap in MiB.
    pub swap_mib: u32,
    /// The template.
    pub template: VolumeId,
    /// Where its root goes.
    pub storage: StorageName,
    /// The size of its root.
    pub root_gib: u32,
    /// New, empty state volumes. Files of the template below their directories are copied into them.
    pub volumes: Vec<NewVolume>,
    /// Its network card, `eth0`.
    pub card: Option<Card>,
    /// The addresses of the card.
    pub addresses: Addresses,
    /// Names.
    pub resolving: Resolving,
    /// Public keys of SSH for root, one a line.
    pub ssh_keys: Option<String>,
    /// The pool that it goes to.
    pub pool: Option<String>,
    /// Whether it starts with its node.
    pub onboot: bool,
    /// Whether Proxmox leaves alone what is in it. It need not be a system then, and is never started.
    pub unmanaged: bool,
}

impl NewMachine {
    fn parameters(&self) -> Result<Parameters, (&'static str, PropertyError)> {
        let mut parameters = Parameters::new()
            .with("vmid", self.vmid)
            .with("name", &self.name)
            .with("description", &self.description)
            .with("ostype", "l26")
            .with("machine", "q35")
            .with("bios", if self.uefi.is_some() { "ovmf" } else { "seabios" })
            .with("cpu", "x86-64-v2-AES")
            .with("cores", self.cores)
            .with("memory", self.memory_mib)
            .with("balloon", 0)
            .with("scsihw", "virtio-scsi-single")
            .with("serial0", "socket")
            .with("vga", "serial0")
            .with("agent", "enabled=1,fstrim_cloned_disks=1")
            .with("rng0", "source=/dev/urandom")
            .with_flag("onboot", self.onboot)
            .with_some("pool", self.pool.as_ref());
        if let Some(storage) = &self.uefi {
            let disk = format!("{storage}:0,efitype=4m,pre-enrolled-keys=0");
            parameters = parameters.with("efidisk0", disk);
        }
        if let Some((storage, image)) = &self.root {
            let disk = root_disk(storage, image).map_err(|error| ("scsi0", error))?;
            parameters = parameters.with("scsi0", disk).with("boot", "order=scsi0");
        }
        for volume in &self.volumes {
            let disk = state_disk(volume).map_err(|error| ("scsiN", error))?;
            parameters = parameters.with(format!("scsi{}", volume.index), disk);
        }
        if let Some(card) = &self.card {
            let net = machine_card(card).map_err(|error| ("net0", error))?;
            parameters = parameters.with("net0", net);
        }
        if let Some(drive) = &self.cloud_init {
            parameters = drive.parameters(parameters)?;
        }
        Ok(parameters)
    }
}

impl CloudInit {
    fn parameters(
        &self,
        parameters: Parameters,
    ) -> Result<Parameters, (&'static str, PropertyError)> {
        let addresses =
            self.addresses.options(Properties::new()).map_err(|error| ("ipconfig0", error))?;
        // Proxmox decodes the keys once more (`PVE/API2/Qemu.pm`), so they are encoded once more.
        let keys = self.ssh_keys.as_ref().map(|keys| {
            percent_encoding::utf8_percent_encode(keys, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        });
        let parameters = parameters
            .with("ide2", format!("{}:cloudinit", self.storage))
            // The default is an upgrade of all packages at the first start.
            .with_flag("ciupgrade", false)
            .with("ipconfig0", addresses)
            .with_some("sshkeys", keys);
        Ok(self.resolving.parameters(parameters))
    }
}

fn root_disk(storage: &StorageName, image: &VolumeId) -> Result<Properties, PropertyError> {
    Properties::leading(format!("{storage}:0"))?
        .with("import-from", image)?
        .with("discard", "on")?
        .with("ssd", 1)?
        .with("iothread", 1)
}

fn state_disk(volume: &NewVolume) -> Result<Properties, PropertyError> {
    let size_gib = if volume.source.is_some() { 0 } else { volume.size_gib };
    Properties::leading(format!("{}:{size_gib}", volume.storage))?
        .with_some("import-from", volume.source.as_ref())?
        .with("serial", &volume.place)?
        .with("discard", "on")?
        .with("iothread", 1)?
        .with("backup", u8::from(volume.backup))
}

fn machine_card(card: &Card) -> Result<Properties, PropertyError> {
    let model = match &card.mac {
        Some(mac) => Properties::new().with("virtio", mac)?,
        None => Properties::leading("virtio")?,
    };
    card.options(model)
}

impl NewContainer {
    fn parameters(&self) -> Result<Parameters, (&'static str, PropertyError)> {
        let mut parameters = Parameters::new()
            .with("vmid", self.vmid)
            .with("hostname", &self.name)
            .with("description", &self.description)
            .with("ostemplate", &self.template)
            .with("rootfs", format!("{}:{}", self.storage, self.root_gib))
            .with_flag("unprivileged", true)
            // The sandboxes of systemd's units need it.
            .with("features", "nesting=1")
            .with("cores", self.cores)
            .with("memory", self.memory_mib)
            .with("swap", self.swap_mib)
            .with_flag("onboot", self.onboot)
            .with_some("ssh-public-keys", self.ssh_keys.as_ref())
            .with_some("pool", self.pool.as_ref());
        if self.unmanaged {
            // Otherwise Proxmox would look for both in the template (`PVE/LXC/Setup.pm`).
            parameters = parameters.with("ostype", "unmanaged").with("arch", "amd64");
        }
        for volume in &self.volumes {
            let mount = mount(volume).map_err(|error| ("mpN", error))?;
            parameters = parameters.with(format!("mp{}", volume.index), mount);
        }
        if let Some(card) = &self.card {
            let net = container_card(card, &self.addresses).map_err(|error| ("net0", error))?;
            parameters = parameters.with("net0", net);
        }
        Ok(self.resolving.parameters(parameters))
    }
}

fn mount(volume: &NewVolume) -> Result<Properties, PropertyError> {
    Properties::leading(format!("{}:{}", volume.storage, volume.size_gib))?
        .with("mp", &volume.place)?
        // Unlike disks, mount points are not part of backups of themselves (`PVE/LXC/Config.pm`).
        .with("backup", u8::from(volume.backup))
}

fn container_card(card: &Card, addresses: &Addresses) -> Result<Properties, PropertyError> {
    let net = Properties::new().with("name", "eth0")?;
    let net = card.options(net)?.with_some("hwaddr", card.mac.as_ref())?;
    addresses.options(net)?.with("type", "veth")
}

impl Client {
    /// Makes a virtual machine. When the task fails, Proxmox has removed it again.
    /// `POST /nodes/{node}/qemu`. Tags are set afterwards: their check comes before the guest is in its pool.
    ///
    /// # Errors
    ///
    /// [`Reason::AlreadyExists`], in the answer or from the task; [`Reason::Forbidden`];
    /// [`Reason::Parameters`], also for what cannot be written, without asking.
    pub fn create_machine(&self, node: &NodeName, machine: &NewMachine) -> Result<Upid, Error> {
        self.create(node, GuestKind::Machine, &machine.description, machine.parameters())
    }

    /// Makes a container. When the task fails, Proxmox has removed it again. `POST /nodes/{node}/lxc`.
    ///
    /// # Errors
    ///
    /// As [`Client::create_machine`].
    pub fn create_container(
        &self,
        node: &NodeName,
        container: &NewContainer,
    ) -> Result<Upid, Error> {
        self.create(node, GuestKind::Container, &container.description, container.parameters())
    }

    fn create(
        &self,
        node: &NodeName,
        kind: GuestKind,
        description: &str,
        parameters: Result<Parameters, (&'static str, PropertyError)>,
    ) -> Result<Upid, Error> {
        let path = of(node.as_str(), kind);
        let refuse = |name: &str, why: String| {
            let reason = Reason::Parameters([(name.to_owned(), why)].into());
            self.error(Method::Post, &path, reason, "the guest cannot be made")
        };
        if description.chars().count() > DESCRIPTION_LIMIT {
            let why = format!("it is longer than {DESCRIPTION_LIMIT} characters");
            return Err(refuse("description", why));
        }
        let parameters = parameters.map_err(|(name, error)| refuse(name, error.to_string()))?;
        self.change(Method::Post, &path, parameters)
    }
}
