//! GRUB for machines with a BIOS, made ready for its place on the disk.
//!
//! `grub-install` embeds GRUB by copying two files with a few numbers put in, which is done here in
//! the same way (GRUB 2.12, `util/setup.c`, and `include/grub/i386/pc/boot.h` for the offsets).
//!
//! - `boot.img` is the boot sector. It loads one sector of the disk, the first of the core image,
//!   and is told which; and it is told to trust no BIOS that passes a floppy drive as the boot
//!   drive, by two no-operations in place of a jump.
//! - `core.img` is the rest, in sectors that follow one another: the first one loads the others by
//!   a list of runs that grows down from its end, here of one run.

use super::Error;

/// Bytes of a sector.
const SECTOR: usize = 512;

/// What the boot sector has for code: the rest is the disk's signature and partition table
/// (`GRUB_BOOT_MACHINE_WINDOWS_NT_MAGIC`).
pub(super) const BOOT_CODE: usize = 0x1b8;

/// `GRUB_BOOT_MACHINE_KERNEL_SECTOR`, `GRUB_BOOT_MACHINE_BOOT_DRIVE` and
/// `GRUB_BOOT_MACHINE_DRIVE_CHECK`.
const KERNEL_SECTOR: usize = 0x5c;
const BOOT_DRIVE: usize = 0x64;
const DRIVE_CHECK: usize = 0x66;

/// The signature of a boot sector (`GRUB_BOOT_MACHINE_SIGNATURE`), at its end.
const SIGNATURE: [u8; 2] = [0x55, 0xaa];

/// The first entry of the list of runs (`struct grub_pc_bios_boot_blocklist`): 64 bits for the
/// first sector, 16 for their number, 16 for the segment that they are loaded to.
const RUN_START: usize = SECTOR - 12;
const RUN_LENGTH: usize = SECTOR - 4;
const RUN_SEGMENT: usize = SECTOR - 2;

/// `GRUB_BOOT_I386_PC_KERNEL_SEG` and one sector: where the second sector of the core image is
/// loaded to.
const SEGMENT: u16 = 0x800 + (SECTOR >> 4) as u16;

/// The most that fits in low memory: `(0x78000 - GRUB_KERNEL_I386_PC_LINK_ADDR) >>
/// GRUB_DISK_SECTOR_BITS` sectors, the link address being 0x9000.
pub(super) const CORE_LIMIT: usize = 0x78000 - 0x9000;

/// The code for the first sector of a disk that has the core image at `core_sector`.
pub(super) fn boot_code(image: &[u8], core_sector: u64) -> Result<[u8; BOOT_CODE], Error> {
    if image.len() != SECTOR || image[SECTOR - 2..] != SIGNATURE {
        return Err(Error::BootSector { size: image.len() });
    }
    let mut code = [0; BOOT_CODE];
    code.copy_from_slice(&image[..BOOT_CODE]);
    code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&core_sector.to_le_bytes());
    code[BOOT_DRIVE] = 0xff;
    code[DRIVE_CHECK..DRIVE_CHECK + 2].fill(0x90);
    Ok(code)
}

/// The core image for a place at `sector`, in whole sectors.
pub(super) fn core(image: &[u8], sector: u64) -> Result<Vec<u8>, Error> {
    if image.len() > CORE_LIMIT {
        return Err(Error::CoreTooLarge { size: image.len(), limit: CORE_LIMIT });
    }
    // With two runs in the list the number of sectors is not that of one of them.
    let one_run = |image: &[u8]| {
        image.len() > SECTOR
            && image[RUN_SEGMENT..SECTOR] == SEGMENT.to_le_bytes()
            && image[RUN_LENGTH - 12..RUN_SEGMENT - 12] == [0, 0]
    };
    if !one_run(image) {
        return Err(Error::NoCore { size: image.len() });
    }
    let mut core = image.to_vec();
    core.resize(image.len().next_multiple_of(SECTOR), 0);
    let rest = (core.len() / SECTOR - 1) as u16;
    core[RUN_START..RUN_START + 8].copy_from_slice(&(sector + 1).to_le_bytes());
    core[RUN_LENGTH..RUN_LENGTH + 2].copy_from_slice(&rest.to_le_bytes());
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::disk::testing::{boot_image, core_image};

    #[test]
    fn the_boot_sector_names_the_core_image() {
        let code = boot_code(&boot_image(), 2048).unwrap();
        assert_eq!(code[KERNEL_SECTOR..KERNEL_SECTOR + 8], [0, 8, 0, 0, 0, 0, 0, 0]);
        assert_eq!(code[BOOT_DRIVE], 0xff);
        assert_eq!(code[DRIVE_CHECK..DRIVE_CHECK + 2], [0x90, 0x90]);
        let untouched = |index: &usize| !(KERNEL_SECTOR..=DRIVE_CHECK + 1).contains(index);
        assert!((0..BOOT_CODE).filter(untouched).all(|index| code[index] == boot_image()[index]));
    }

    #[test]
    fn the_core_image_names_its_other_sectors() {
        let core = core(&core_image(1700), 2048).unwrap();
        assert_eq!(core.len(), 4 * SECTOR);
        assert_eq!(core[RUN_START..SECTOR], [1, 8, 0, 0, 0, 0, 0, 0, 3, 0, 0x20, 8]);
        assert_eq!(core[SECTOR..1700], core_image(1700)[SECTOR..]);
        assert!(core[1700..].iter().all(|byte| *byte == 0));
    }

    #[test]
    fn files_that_are_something_else_are_refused() {
        assert!(matches!(boot_code(&[0; 512], 1), Err(Error::BootSector { size: 512 })));
        assert!(matches!(boot_code(&boot_image()[..511], 1), Err(Error::BootSector { size: 511 })));
        assert!(matches!(core(&[0; 4096], 1), Err(Error::NoCore { size: 4096 })));
        assert!(matches!(core(&core_image(2048)[..512], 1), Err(Error::NoCore { size: 512 })));
        assert!(core(&core_image(CORE_LIMIT), 1).is_ok());
        let error = core(&core_image(CORE_LIMIT + 1), 1).unwrap_err();
        assert!(matches!(error, Error::CoreTooLarge { size, .. } if size == CORE_LIMIT + 1));
    }
}
