//! Making the segments that a disk is put together from, once each.

use std::io::{self, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::erofs::{self, Image, Node};
use super::loader;
use super::segment::{self, Segment};
use super::verity::Sealed;
use super::volume::{self, ESP};
use super::{ALIGNMENT, BootFiles, Compression, DISK_LIMIT, Error, SegmentStore};
use crate::digest::{Digest, Hasher};

/// What must be on the EFI system partition.
const ESP_FILES: [&str; 4] =
    ["EFI/BOOT/BOOTX64.EFI", "imgbuild/vmlinuz", "imgbuild/initrd.img", "imgbuild/grub.cfg"];

/// A layer of a disk.
pub struct Layer<'a> {
    /// The digest of all that determines the nodes, as [`Nodes::key`](super::Nodes::key) is.
    pub key: Digest,
    /// The paths of the layer; called only if its segment is missing.
    pub nodes: &'a (dyn Fn() -> Result<Vec<Node<'a>>, Error> + Sync),
}

/// What a disk boots with.
pub struct Boot<'a> {
    /// The digest of all that determines the files.
    pub key: Digest,
    /// The files; called only if one of their segments is missing.
    pub files: &'a (dyn Fn() -> Result<BootFiles, Error> + Sync),
}

/// What a disk has to know of a layer's segment.
#[derive(Serialize, Deserialize)]
pub(super) struct LayerNote {
    pub root: Digest,
    pub blocks: u64,
}

/// What a disk has to know of the core image's segment.
#[derive(Serialize, Deserialize)]
pub(super) struct BiosNote {
    pub content: Digest,
    pub boot_code: Vec<u8>,
}

/// What a disk has to know of the EFI system partition's segment.
#[derive(Serialize, Deserialize)]
pub(super) struct EspNote {
    pub content: Digest,
}

/// Makes the segment of `layer`, with up to `threads` threads. Meant to be run while the next layer
/// is built. Returns whether it was not in the store before.
///
/// # Errors
/// As [`assemble`](super::assemble).
pub fn prepare(
    layer: &Layer<'_>,
    store: &dyn SegmentStore,
    compression: Compression,
    threads: usize,
) -> Result<bool, Error> {
    Ok(Works { store, compression, threads }.layer(layer)?.new)
}

/// Makes the segments of `boot`. Returns whether any was not in the store before.
///
/// # Errors
/// As [`assemble`](super::assemble).
pub fn prepare_boot(
    boot: &Boot<'_>,
    store: &dyn SegmentStore,
    compression: Compression,
    threads: usize,
) -> Result<bool, Error> {
    let (bios, esp) = Works { store, compression, threads }.boot(boot)?;
    Ok(bios.new || esp.new)
}

/// A segment, whether it was made now, and its note.
pub(super) struct Made<N> {
    pub segment: Segment,
    pub note: N,
    pub new: bool,
}

/// How segments come to be.
pub(super) struct Works<'a> {
    pub store: &'a dyn SegmentStore,
    pub compression: Compression,
    pub threads: usize,
}

impl Works<'_> {
    /// The segment of a layer.
    pub fn layer(&self, layer: &Layer<'_>) -> Result<Made<LayerNote>, Error> {
        self.provide("layer", &layer.key, &|output| {
            let image = Image::new((layer.nodes)()?)?;
            check_layer(image.size())?;
            let note =
                |sealed: &Sealed| LayerNote { root: sealed.root, blocks: sealed.data_blocks };
            segment::write_sealed(
                &image,
                image.uuid(),
                note,
                self.compression,
                self.threads,
                output,
            )
        })
    }

    /// The segments of the core image and of the EFI system partition.
    pub fn boot(&self, boot: &Boot<'_>) -> Result<(Made<BiosNote>, Made<EspNote>), Error> {
        let bios = self.provide("bios", &boot.key, &|output| {
            let files = (boot.files)()?;
            let core = loader::core(&files.core, ALIGNMENT)?;
            let boot_code = loader::boot_code(&files.sector, ALIGNMENT)?;
            let note = BiosNote { content: Digest::of(&core), boot_code: boot_code.to_vec() };
            segment::write(&core, &note, self.compression, self.threads, output)
        })?;
        let esp = self.provide("esp", &boot.key, &|output| {
            let files = (boot.files)()?;
            for name in ESP_FILES {
                if !files.esp.iter().any(|(path, _)| path.as_os_str() == name) {
                    return Err(Error::NoBootFile(format!("boot/imgbuild/esp/{name}").into()));
                }
            }
            let volume = volume::volume(&ESP, &files.esp)?;
            let note = EspNote { content: volume.content };
            segment::write(&volume.fat, &note, self.compression, self.threads, output)
        })?;
        Ok((bios, esp))
    }

    /// The segment of something of a kind, from the store or written by `write`. One that is
    /// damaged is written again.
    fn provide<N: DeserializeOwned>(
        &self,
        kind: &str,
        key: &Digest,
        write: &dyn Fn(&mut dyn Write) -> Result<(), Error>,
    ) -> Result<Made<N>, Error> {
        let key = self.key(kind, key);
        let found = self.store.find(&key).and_then(|path| Segment::open(&path).ok());
        if let Some(segment) = found
            && let Some(note) = segment.note()
        {
            return Ok(Made { segment, note, new: false });
        }
        let mut failure = None;
        let kept = self.store.keep(&key, &mut |output| {
            write(output).map_err(|error| {
                let kind = match &error {
                    Error::Store(source) => source.kind(),
                    _ => io::ErrorKind::Other,
                };
                failure = Some(error);
                kind.into()
            })
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let segment = Segment::open(&kept.map_err(Error::Store)?).map_err(Error::Store)?;
        let note = segment.note().ok_or(Error::Store(io::ErrorKind::InvalidData.into()))?;
        Ok(Made { segment, note, new: true })
    }

    /// Everything that determines the bytes of a segment.
    fn key(&self, kind: &str, content: &Digest) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field("imgbuild disk segment");
        hasher.field(kind);
        hasher.field(content.to_string());
        hasher.update(segment::FORMAT_VERSION.to_le_bytes());
        hasher.update(erofs::FORMAT_VERSION.to_le_bytes());
        hasher.update(u64::from(zstd::zstd_safe::version_number()).to_le_bytes());
        hasher.update(self.compression.level.to_le_bytes());
        hasher.finish()
    }
}

fn check_layer(size: u64) -> Result<(), Error> {
    match size > DISK_LIMIT {
        true => Err(Error::LayerTooLarge { size, limit: DISK_LIMIT }),
        false => Ok(()),
    }
}
