//! The partition table: GPT (UEFI specification 2.10, chapter 5), primary and backup, behind a
//! protective MBR with GRUB's boot code.

use std::io;

use gpt::mbr::ProtectiveMBR;
use gpt::partition::Partition as GptPartition;
use gpt::partition_types::{BIOS, EFI, LINUX_FS, Type};
use gpt::{GptConfig, GptError};

use super::loader::BOOT_CODE;
use super::sparse::Sparse;
use super::uuid::Uuid;
use super::{Error, SECTOR};

/// Entries of a partition table, as everybody makes them.
pub(super) const PARTITION_LIMIT: usize = 128;

/// Sectors of the backup table and its header at the end of the disk.
pub(super) const BACKUP_SECTORS: u64 = 33;

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Holds GRUB's core image.
    Bios,
    /// What UEFI firmware looks for a loader in.
    Esp,
    /// Nothing that anybody should look for by type.
    Data,
}

/// A partition to be.
#[derive(Debug)]
pub(super) struct Slot {
    pub label: String,
    pub purpose: Purpose,
    pub uuid: Uuid,
    pub first_sector: u64,
    pub sectors: u64,
}

/// A disk of `sectors` sectors with nothing but its table.
pub(super) fn write(
    sectors: u64,
    disk_uuid: Uuid,
    slots: &[Slot],
    boot_code: [u8; BOOT_CODE],
) -> Result<Sparse, Error> {
    let mut disk = Sparse::new(sectors * SECTOR);
    // "Set to the size of the disk minus one. Set to 0xFFFFFFFF if the size is too large."
    let protected = u32::try_from(sectors - 1).unwrap_or(u32::MAX);
    let mut mbr = ProtectiveMBR::with_lb_size(protected);
    mbr.set_bootcode(boot_code);
    mbr.overwrite_lba0(&mut disk).map_err(|error| Error::Table(io::Error::other(error)))?;
    write_gpt(disk, disk_uuid, slots).map_err(|error| Error::Table(io::Error::other(error)))
}

fn write_gpt(disk: Sparse, disk_uuid: Uuid, slots: &[Slot]) -> Result<Sparse, GptError> {
    let guid = |uuid: Uuid| uuid.to_string().parse().expect("a UUID reads as one");
    let mut table =
        GptConfig::new().writable(true).create_from_device(disk, Some(guid(disk_uuid)))?;
    let partitions = slots.iter().zip(1..).map(|(slot, number)| {
        let partition = GptPartition {
            part_type_guid: slot.purpose.kind(),
            part_guid: guid(slot.uuid),
            first_lba: slot.first_sector,
            last_lba: slot.first_sector + slot.sectors - 1,
            flags: 0,
            name: slot.label.clone(),
        };
        (number, partition)
    });
    table.update_partitions(partitions.collect())?;
    table.write()
}

impl Purpose {
    fn kind(self) -> Type {
        match self {
            Self::Bios => BIOS,
            Self::Esp => EFI,
            Self::Data => LINUX_FS,
        }
    }
}
