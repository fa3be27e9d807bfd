//! Which drives of a guest are state volumes.

use super::{Proxmox, SECRETS, SECRETS_DIRECTORY, SECRETS_SERIAL};
use crate::definition::{ImageName, VolumeName};
use crate::proxmox::{Config, Drive, GuestKind};

/// What a drive of a guest is.
pub(super) enum Role {
    /// A state volume.
    State(VolumeName),
    /// Part of the guest itself: its root, its firmware's variables, its cloud-init drive.
    Own,
    /// Anything else that holds data.
    Other,
}

impl Proxmox {
    /// All drives of a guest that runs `role`, with what they are. Drives without a volume are left out.
    pub(super) fn drives(
        &self,
        kind: GuestKind,
        role: &ImageName,
        config: &Config,
    ) -> Vec<(Drive, Role)> {
        let drives = config.drives().into_iter().filter(|drive| drive.volume.is_some());
        drives
            .map(|drive| {
                let role = self.role_of(kind, role, &drive);
                (drive, role)
            })
            .collect()
    }

    /// The drive of `config` that is the state volume `name`.
    pub(super) fn drive_of(
        &self,
        kind: GuestKind,
        role: &ImageName,
        config: &Config,
        name: &VolumeName,
    ) -> Option<Drive> {
        let mut drives = self.drives(kind, role, config).into_iter();
        drives.find_map(|(drive, role)| match role {
            Role::State(found) if found == *name => Some(drive),
            _ => None,
        })
    }

    fn role_of(&self, kind: GuestKind, role: &ImageName, drive: &Drive) -> Role {
        if drive.is_unused() {
            return Role::Other;
        }
        let name = match kind {
            GuestKind::Machine => drive.options.get("serial").and_then(volume_of_serial),
            GuestKind::Container => {
                drive.options.get("mp").and_then(|path| self.volume_at(role, path))
            }
        };
        match (name, drive.key.as_str()) {
            (Some(name), _) => Role::State(name),
            (None, "rootfs" | "scsi0" | "efidisk0" | "tpmstate0") => Role::Own,
            (None, _) if is_cloud_init(drive) => Role::Own,
            (None, _) => Role::Other,
        }
    }

    fn volume_at(&self, role: &ImageName, path: &str) -> Option<VolumeName> {
        if path == SECRETS_DIRECTORY {
            return SECRETS.parse().ok();
        }
        let shape = self.place.roles.get(role)?;
        let mut volumes = shape.volumes.iter();
        volumes.find_map(|(name, (_, directory))| (directory == path).then(|| name.clone()))
    }
}

/// `state-mysql` → `mysql` (`docs/disk.md`).
fn volume_of_serial(serial: &str) -> Option<VolumeName> {
    if serial == SECRETS_SERIAL {
        return SECRETS.parse().ok();
    }
    serial.strip_prefix("state-")?.parse().ok()
}

/// The serial number of the disk that is the volume `name`.
pub(super) fn serial(name: &VolumeName) -> String {
    if name.as_str() == SECRETS { SECRETS_SERIAL.to_owned() } else { format!("state-{name}") }
}

/// `vm-100-cloudinit` (`PVE::QemuServer::Drive::drive_is_cloudinit`).
fn is_cloud_init(drive: &Drive) -> bool {
    drive.volume.as_ref().is_some_and(|volume| volume.name().contains("cloudinit"))
}

/// The first key of `config` that is free: `scsi1`, `mp0`.
pub(super) fn free_key(kind: GuestKind, config: &Config) -> Option<String> {
    // `$MAX_SCSI_DISKS` of PVE::QemuServer::Drive and `$MAX_MOUNT_POINTS` of PVE::LXC::Config; scsi0 is the root.
    let keys = match kind {
        GuestKind::Machine => ("scsi", 1..31),
        GuestKind::Container => ("mp", 0..256),
    };
    let (prefix, mut numbers) = keys;
    numbers.find_map(|number| {
        let key = format!("{prefix}{number}");
        config.get(&key).is_none().then_some(key)
    })
}
