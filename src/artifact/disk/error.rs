//! Why a disk could not be made.

use std::io;
use std::path::PathBuf;

use super::erofs;
use super::volume::NameRule;
use crate::layer::index;

/// Why a disk could not be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The layers do not make a tree.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Merge(#[from] index::Error),
    /// A layer does not make a file system.
    #[error(transparent)]
    #[diagnostic(transparent)]
    FileSystem(#[from] erofs::Error),
    /// Something that is to be a layer of its own is not there.
    #[error("there is no directory `/{}` to make a layer of", .0.display())]
    #[diagnostic(help("does the image that machines boot with install a kernel?"))]
    NoDirectory(PathBuf),
    /// A file that machines boot with is not there.
    #[error("the image that machines boot with has no file `/{}`", .0.display())]
    #[diagnostic(help("its `[boot] command` leaves it there; what does its log say?"))]
    NoBootFile(PathBuf),
    /// The boot sector is something else.
    #[error("`boot.img` is no boot sector: {size} bytes instead of 512 that end with 55 AA")]
    #[diagnostic(help("it is /usr/lib/grub/i386-pc/boot.img of Debian's grub-pc-bin"))]
    BootSector {
        /// Bytes that it has.
        size: usize,
    },
    /// The core image is something else.
    #[error("`core.img`, of {size} bytes, is not what `grub-mkimage -O i386-pc` writes")]
    #[diagnostic(help("`boot.img`, `core.img` and the modules must be of one version of GRUB"))]
    NoCore {
        /// Bytes that it has.
        size: usize,
    },
    /// The core image does not fit in the memory that a BIOS leaves.
    #[error("`core.img` is {size} bytes long, more than the {limit} that can be loaded")]
    #[diagnostic(help("give `grub-mkimage` fewer modules"))]
    CoreTooLarge {
        /// Bytes that it has.
        size: usize,
        /// Bytes that it may have.
        limit: usize,
    },
    /// A volume is too small for its files.
    #[error("the files of the volume `{volume}` take {size} bytes, more than the {limit} it has")]
    #[diagnostic(help("are kernel and initramfs as small as they could be? see `[boot] command`"))]
    VolumeFull {
        /// The partition's name.
        volume: &'static str,
        /// Bytes that they take.
        size: u64,
        /// Bytes that there are.
        limit: u64,
    },
    /// A file cannot be called so on a FAT volume.
    #[error("`{}` cannot be on the volume that firmware boots from: {rule}", path.display())]
    Name {
        /// The file.
        path: PathBuf,
        /// The rule.
        rule: NameRule,
    },
    /// The partition table could not be written.
    #[error("cannot write the partition table")]
    Table(#[source] io::Error),
    /// A layer exceeds the limit.
    #[error("a layer of {size} bytes is too large for a disk, which has at most {limit}")]
    #[diagnostic(help("data does not belong in an image; a state volume takes any amount"))]
    LayerTooLarge {
        /// Bytes of its file system.
        size: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// All layers together exceed the limit.
    #[error("the layers make a disk of {size} bytes, more than {limit}")]
    #[diagnostic(help("data does not belong in an image; a state volume takes any amount"))]
    DiskTooLarge {
        /// Bytes of the disk.
        size: u64,
        /// Bytes that it may have.
        limit: u64,
    },
    /// The kernel cannot be told about all layers.
    #[error(
        "{layers} layers are too many: their names take {length} bytes of the kernel's command line, where {limit} are left for them"
    )]
    #[diagnostic(help(
        "each definition in the chain of `extends` makes up to three layers; join some definitions"
    ))]
    TooManyLayers {
        /// How many.
        layers: usize,
        /// Bytes that their names take.
        length: usize,
        /// Bytes that they may take.
        limit: usize,
    },
    /// There is no partition for every layer.
    #[error("{layers} layers are too many for a partition table, which has room for {limit}")]
    #[diagnostic(help(
        "each definition in the chain of `extends` makes up to three layers; join some definitions"
    ))]
    TooManyPartitions {
        /// How many.
        layers: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A layer's archive could not be read.
    #[error("cannot read the content of a layer")]
    #[diagnostic(help("is the store's disk in order? the layer is built again if it is deleted"))]
    Read(#[source] io::Error),
    /// zstd failed.
    #[error("cannot compress a part of the disk")]
    Compress(#[source] io::Error),
    /// A compressed partition could not be kept or found again.
    #[error("cannot keep a compressed part of the disk in the store")]
    #[diagnostic(help("is the disk of the store full? `imgbuild gc` makes room"))]
    Store(#[source] io::Error),
    /// The disk could not be written.
    #[error("cannot write the disk")]
    #[diagnostic(help("is the disk full?"))]
    Write(#[source] io::Error),
}
