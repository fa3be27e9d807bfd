//! Bootable disks for virtual machines: one qcow2 out of a stack of layers.
//!
//! # The disk, version 1
//!
//! A GPT with partitions at boundaries of 1 MiB, on a disk of whole GiB:
//!
//! | number | name | content |
//! |---|---|---|
//! | 1 | `bios` | 1 MiB: GRUB's core image for a BIOS, at sector 2048 |
//! | 2 | `boot` | 128 MiB: the EFI system partition, with loader, kernel and initramfs, the same for all roles |
//! | 3 | `roots` | 1 MiB: a FAT volume with the file `imgbuild/roots.cfg`, which names the layers |
//! | 4 … | `layer-00` … | the layers, lowest first: each an [EROFS](erofs) image and its dm-verity hash tree |
//!
//! `roots.cfg` is one line of GRUB's script, `set imgbuild_layers="HASH:BLOCKS,…"`: for each layer,
//! lowest first, the root hash of its tree and the number of its data blocks of 4096 bytes. The
//! superblock of cryptsetup is in the block after these, and the tree after that. The partition's
//! GUID is the first half of its root hash; the disk's is that of the image digest; others are made
//! of what the partition holds.
//!
//! # Layers on one another
//!
//! At boot the file systems are stacked by overlayfs, whereas everything else here sees the stack
//! as [`Merged`](crate::layer::index::Merged) does. The two agree (Linux `fs/overlayfs/namei.c`,
//! `ovl_lookup_single`, and `Documentation/filesystems/overlayfs.rst`):
//!
//! - **Directories** of several layers are merged, with the metadata of the highest. So a directory
//!   that a layer does not have itself, but has something in, is there with the metadata that it
//!   has in the layers below; otherwise a made-up one would cover it.
//! - **Anything else** covers what is below it, and a directory does not merge with what lies below
//!   something that is none: a lookup ends at the first whiteout or non-directory it meets
//!   (`d->stop`). So a directory in place of a lower file needs no whiteout beside it and no opaque
//!   attribute, nor does a file in place of a directory. A directory that one layer removes and a
//!   higher one makes anew has nothing of the removed one.
//! - **Whiteouts** are kept only where there is something to remove. overlayfs hides them in
//!   directories that it merges; one in a directory of a single layer would be listed, though not
//!   to be opened (`ovl_iterate` in `fs/overlayfs/readdir.c`).
//! - **Hard links** join names within their layer in both. Where a higher layer replaces or removes
//!   the first name, `Merged` promotes the next to be the file; in the file system all names share
//!   one inode from the start, and overlayfs shows what is left of them with the same content and
//!   metadata. Only the link count that stat(2) tells still includes the covered names.
//!
//! # Segments
//!
//! Every partition is compressed by itself, cluster by cluster, to a form that does not depend on
//! where it comes to lie (see the module `segment`), and kept in the store under a key made of all
//! that determines its bytes. A disk is put together by copying these, so a changed configuration
//! file costs one small partition.
//!
//! The result does not depend on the number of threads nor on what the store holds.

mod assemble;
mod cluster;
pub mod erofs;
mod error;
mod fat;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod loader;
mod nodes;
mod qcow2;
mod segment;
mod small;
mod source;
mod sparse;
mod table;
mod uuid;
mod verity;
mod volume;
mod works;

#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "targets of a fuzzer need but a part"))]
mod testing;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;

use crate::digest::Digest;

pub use assemble::{Assembled, Partition, assemble};
pub use error::Error;
pub use nodes::{BootFiles, Nodes, nodes_below, nodes_of_layer};
pub use volume::NameRule;
pub use works::{Boot, Layer, prepare, prepare_boot};

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// Partitions begin and end at multiples of this many sectors: 1 MiB.
const ALIGNMENT: u64 = (1 << 20) / SECTOR;

/// The largest disk in bytes, and so the largest layer. What a protective MBR can describe, and
/// 32-bit sector numbers in loaders.
pub const DISK_LIMIT: u64 = 2 << 40;

/// Where compressed partitions are kept between builds.
pub trait SegmentStore: Sync {
    /// The file that holds exactly the segment stored under `key`, if there is one.
    fn find(&self, key: &Digest) -> Option<PathBuf>;

    /// Keeps what `write` writes under `key` and returns the file that now holds it. Nothing
    /// half-written may ever be found under a key, not even after a crash or if `write` fails.
    /// Several threads or processes may keep the same segment at once.
    ///
    /// # Errors
    /// Those of `write`, and if the segment cannot be kept.
    fn keep(
        &self,
        key: &Digest,
        write: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
    ) -> io::Result<PathBuf>;
}

/// How disks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// zstd's compression level.
    pub level: i32,
}

impl Compression {
    /// What artifacts are made with. Measured on the layers of the haproxy image (Debian 13, 217
    /// MiB of files, 9072 paths) and a kernel of 11.7 MB that nothing compresses further, hashing
    /// and all included:
    ///
    /// | level | file | CPU s |
    /// |---|---|---|
    /// | 1 | 104.1 MB | 1.6 |
    /// | 3 | 100.6 MB | 2.1 |
    /// | 4 | 99.7 MB | 2.4 |
    /// | 5 | 98.0 MB | 3.4 |
    /// | **6** | **96.5 MB** | **4.3** |
    /// | 7 | 96.0 MB | 5.0 |
    /// | 9 | 95.7 MB | 6.8 |
    /// | 12 | 95.4 MB | 16 |
    ///
    /// Up to 6 a second of CPU time saves 1.6 MB, beyond it 0.7 MB and less.
    pub const STANDARD: Self = Self { level: 6 };
}
