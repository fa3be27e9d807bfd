//! Making guests.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{
    NodeAddress, Proxmox, RoleShape, SECRETS, SECRETS_DIRECTORY, SECRETS_SERIAL, failed, node,
    vmid, volumes,
};
use crate::definition::{GuestKind, Hostname, VolumeName};
use crate::digest::Digest;
use crate::proxmox::{
    Addresses, Card, CloudInit, ConfigChange, NewContainer, NewMachine, NewVolume, Resolving,
    StorageName, VolumeId,
};
use crate::swap::{CallError, NewGuest, Watch};

/// Memory that a container may swap out, in MiB. Databases and load balancers must not.
const SWAP_MIB: u32 = 0;

impl Proxmox {
    pub(super) fn make(&self, guest: &NewGuest, watch: &mut dyn Watch) -> Result<(), CallError> {
        match self.delivery(guest) {
            Some(secrets) => self.make_with_secrets(guest, secrets, watch),
            None => self.make_of(guest, None, watch),
        }
    }

    /// Makes a guest; a machine's volume of secrets of the image `secrets`.
    pub(super) fn make_of(
        &self,
        guest: &NewGuest,
        secrets: Option<VolumeId>,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let missing = |what: &str| {
            CallError::Failed(format!("nothing is known about the {what} of guest {}", guest.id))
        };
        let shape = self.place.roles.get(&guest.record.role).ok_or_else(|| missing("role"))?;
        let address = self.place.nodes.get(&guest.record.node).ok_or_else(|| missing("node"))?;
        let description = guest.record.describe("");
        let description = description.map_err(|error| CallError::Failed(error.to_string()))?;
        let host = node(&guest.host)?;
        let task = match guest.kind {
            GuestKind::Machine => {
                let mut machine = self.machine(guest, shape, address, description)?;
                let mut volumes = machine.volumes.iter_mut();
                if let Some(volume) = volumes.find(|volume| volume.place == SECRETS_SERIAL) {
                    volume.source = secrets;
                }
                self.client.create_machine(&host, &machine)
            }
            GuestKind::Container => {
                let container = self.container(guest, shape, address, description)?;
                self.client.create_container(&host, &container)
            }
        };
        self.wait(&task.map_err(|error| failed(&error))?, watch)?;
        // Tags are checked before the guest is in its pool, so it gets them now. They are for people: when this
        // fails, the next record brings them.
        let tagged = || -> Result<(), CallError> {
            let made = self.find(guest.id)?;
            let config = self.client.config(&made).map_err(|error| failed(&error))?;
            let tags = guest.record.tags();
            let change = ConfigChange::new().tags(tags.iter().map(String::as_str));
            self.client.configure(&made, &change, &config.digest).map_err(|error| failed(&error))
        };
        let _ = tagged();
        Ok(())
    }

    fn machine(
        &self,
        guest: &NewGuest,
        shape: &RoleShape,
        address: &NodeAddress,
        description: String,
    ) -> Result<NewMachine, CallError> {
        Ok(NewMachine {
            vmid: vmid(guest.id)?,
            name: guest.record.node.to_string(),
            description,
            cores: shape.cores,
            memory_mib: shape.memory_mib,
            root: Some((
                shape.storage.clone(),
                self.stored(&format!("import/{}", guest.artifact))?,
            )),
            uefi: None,
            // scsi0 is the root.
            volumes: new_volumes(&guest.fresh, shape, 1, &|name, _| volumes::serial(name)),
            card: Some(self.card(shape, &guest.record.node, address)),
            cloud_init: Some(CloudInit {
                storage: shape.storage.clone(),
                addresses: addresses(address),
                resolving: self.resolving(),
                ssh_keys: None,
            }),
            pool: self.pool(),
            onboot: false,
        })
    }

    fn container(
        &self,
        guest: &NewGuest,
        shape: &RoleShape,
        address: &NodeAddress,
        description: String,
    ) -> Result<NewContainer, CallError> {
        Ok(NewContainer {
            vmid: vmid(guest.id)?,
            name: guest.record.node.to_string(),
            description,
            cores: shape.cores,
            memory_mib: shape.memory_mib,
            swap_mib: SWAP_MIB,
            template: self.stored(&format!("vztmpl/{}", guest.artifact))?,
            storage: shape.storage.clone(),
            root_gib: shape.root_gib,
            volumes: new_volumes(&guest.fresh, shape, 0, &|_, directory| directory.to_owned()),
            card: Some(self.card(shape, &guest.record.node, address)),
            addresses: addresses(address),
            resolving: self.resolving(),
            ssh_keys: None,
            pool: self.pool(),
            onboot: false,
            unmanaged: false,
        })
    }

    fn card(&self, shape: &RoleShape, node: &Hostname, address: &NodeAddress) -> Card {
        Card {
            bridge: shape.bridge.to_string(),
            vlan: shape.vlan,
            mac: Some(self.mac(node, address)),
            // A guest guards itself: its image has the rules.
            firewall: false,
        }
    }

    /// The hardware address of a node, the same for all its guests, of which one runs at a time: its neighbours
    /// would look for the one before for up to a minute, until they forget its hardware address. Locally
    /// administered and for one receiver (IEEE 802-2014, 8.2.2).
    pub(super) fn mac(&self, node: &Hostname, address: &NodeAddress) -> String {
        let own = format!("{}\0{node}\0{}", self.place.site, address.address);
        let digits = Digest::of(own).to_string();
        let bytes = (0..5).filter_map(|byte| digits.get(2 * byte..2 * byte + 2));
        bytes.fold("02".to_owned(), |mac, byte| mac + ":" + &byte.to_uppercase())
    }

    fn resolving(&self) -> Resolving {
        Resolving {
            servers: self.place.name_servers.clone(),
            domain: self.place.search_domain.as_ref().map(ToString::to_string),
        }
    }

    pub(super) fn pool(&self) -> Option<String> {
        self.place.pool.as_ref().map(ToString::to_string)
    }

    pub(super) fn stored(&self, name: &str) -> Result<VolumeId, CallError> {
        let text = format!("{}:{name}", self.place.artifacts);
        text.parse().map_err(|error| CallError::Failed(format!("{error}")))
    }
}

fn addresses(address: &NodeAddress) -> Addresses {
    let own = Some(address.address.to_string());
    match address.address.address() {
        IpAddr::V4(_) => Addresses { ipv4: own, gateway4: address.gateway, ..Addresses::default() },
        IpAddr::V6(_) => Addresses { ipv6: own, gateway6: address.gateway, ..Addresses::default() },
    }
}

/// The volumes of `fresh`, from the key with the number `first` on. `place` says by what the guest knows one.
fn new_volumes(
    fresh: &BTreeMap<VolumeName, u32>,
    shape: &RoleShape,
    first: u8,
    place: &dyn Fn(&VolumeName, &str) -> String,
) -> Vec<NewVolume> {
    let numbered = (first..).zip(fresh);
    numbered
        .map(|(index, (name, size_gib))| {
            let known = shape.volumes.get(name).cloned();
            let (storage, directory) = known.unwrap_or_else(|| secrets(shape));
            NewVolume {
                index,
                storage,
                size_gib: *size_gib,
                source: None,
                // Whoever reads backups need not read secrets.
                backup: name.as_str() != SECRETS,
                place: place(name, &directory),
            }
        })
        .collect()
}

/// Secrets lie where the guest does.
fn secrets(shape: &RoleShape) -> (StorageName, String) {
    debug_assert!(!shape.volumes.keys().any(|name| name.as_str() == SECRETS));
    (shape.storage.clone(), SECRETS_DIRECTORY.to_owned())
}
