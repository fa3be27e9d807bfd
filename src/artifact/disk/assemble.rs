//! Putting a disk together from segments.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;

use serde::{Deserialize, Serialize};

use super::cluster::{CLUSTER, Packed, Packer};
use super::erofs::{self, Image, Node};
use super::loader::{self, BOOT_CODE};
use super::segment::{self, Segment};
use super::source::Source;
use super::table::{self, BACKUP_SECTORS, PARTITION_LIMIT, Purpose, Slot};
use super::uuid::Uuid;
use super::verity::Sealed;
use super::volume::{self, ESP, ROOTS};
use super::{BootFiles, Compression, DISK_LIMIT, Error, SECTOR, SegmentStore, qcow2};
use crate::digest::{Digest, Hasher};

/// Partitions begin and end at multiples of this many sectors: 1 MiB.
const ALIGNMENT: u64 = (1 << 20) / SECTOR;

/// What a disk's size is a multiple of. Proxmox counts in whole GiB.
const DISK_UNIT: u64 = 1 << 30;

/// `COMMAND_LINE_SIZE` of Linux on x86 (`arch/x86/include/asm/setup.h`), and what of it is left to everything but
/// the names of layers.
const COMMAND_LINE: usize = 2048;
const COMMAND_LINE_REST: usize = 512;

/// Partitions that are no layers.
const OTHER_PARTITIONS: usize = 3;

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

/// A disk that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Bytes of the disk that the guest sees.
    pub virtual_size: u64,
    /// Its partitions, from number 1 on.
    pub partitions: Vec<Partition>,
    /// Segments that were compressed now.
    pub segments_compressed: usize,
    /// Segments that were only copied.
    pub segments_reused: usize,
}

/// A partition of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// Its name in the partition table.
    pub label: String,
    /// Its GUID, as in `/dev/disk/by-partuuid`.
    pub uuid: String,
    /// The first sector, of 512 bytes.
    pub first_sector: u64,
    /// The number of sectors.
    pub sectors: u64,
    /// The root hash of dm-verity, for a layer.
    pub root_hash: Option<Digest>,
    /// The number of data blocks of 4096 bytes, for a layer. The verity superblock is in the next.
    pub data_blocks: Option<u64>,
}

/// What a disk has to know of a layer's segment.
#[derive(Serialize, Deserialize)]
struct LayerNote {
    root: Digest,
    blocks: u64,
}

/// What a disk has to know of the core image's segment.
#[derive(Serialize, Deserialize)]
struct BiosNote {
    content: Digest,
    boot_code: Vec<u8>,
}

/// What a disk has to know of the EFI system partition's segment.
#[derive(Serialize, Deserialize)]
struct EspNote {
    content: Digest,
}

/// Makes the segment of `layer`, with up to `threads` threads. Meant to be run while the next layer is built.
/// Returns whether it was not in the store before.
///
/// # Errors
/// As [`assemble`].
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
/// As [`assemble`].
pub fn prepare_boot(
    boot: &Boot<'_>,
    store: &dyn SegmentStore,
    compression: Compression,
    threads: usize,
) -> Result<bool, Error> {
    let (bios, esp) = Works { store, compression, threads }.boot(boot)?;
    Ok(bios.new || esp.new)
}

/// Writes the disk of the image `image`, made of `layers`, lowest first, to `output`, which must be empty
/// and at its beginning. Segments that the store lacks are made by up to `threads` threads and kept in it. `progress` is
/// called with the number of bytes as they come to be in the output.
///
/// Needs about 5 MiB of memory per thread, 1/128 of the largest layer that is new, and all of the boot files if they are. The output
/// is not synced.
///
/// # Errors
/// See [`Error`]. What is in `output` then is worthless.
#[expect(clippy::too_many_arguments, reason = "each is something else")]
pub fn assemble(
    image: Digest,
    boot: &Boot<'_>,
    layers: &[Layer<'_>],
    store: &dyn SegmentStore,
    compression: Compression,
    threads: usize,
    output: &mut File,
    progress: &dyn Fn(u64),
) -> Result<Assembled, Error> {
    let limit = PARTITION_LIMIT - OTHER_PARTITIONS;
    if layers.len() > limit {
        return Err(Error::TooManyPartitions { layers: layers.len(), limit });
    }
    let works = Works { store, compression, threads };
    let (bios, esp) = works.boot(boot)?;
    let layers = layers.iter().map(|layer| works.layer(layer)).collect::<Result<Vec<_>, _>>()?;
    let all = || [bios.new, esp.new].into_iter().chain(layers.iter().map(|layer| layer.new));
    let segments_compressed = all().filter(|new| *new).count();
    let segments_reused = all().filter(|new| !*new).count();

    let roots = [("imgbuild/roots.cfg".into(), roots_script(&layers)?.into_bytes())];
    let roots = volume::volume(&ROOTS, &roots)?;
    let slots = slots(&bios, &esp, roots.content, &layers);
    let end = slots.last().map_or(0, |slot| slot.first_sector + slot.sectors) + BACKUP_SECTORS;
    let virtual_size = (end * SECTOR).next_multiple_of(DISK_UNIT);
    if virtual_size > DISK_LIMIT {
        return Err(Error::DiskTooLarge { size: virtual_size, limit: DISK_LIMIT });
    }
    let boot_code = <[u8; BOOT_CODE]>::try_from(bios.note.boot_code.as_slice());
    let boot_code = boot_code.map_err(|_| Error::Store(io::ErrorKind::InvalidData.into()))?;
    let table = table::write(virtual_size / SECTOR, Uuid::of(&image), &slots, boot_code)?;
    let first_cluster = |slot: &Slot| slot.first_sector * SECTOR / CLUSTER;
    let mut small = Small::new(compression)?;
    for (number, cluster) in table.chunks() {
        small.add(number, cluster)?;
    }
    let mut cluster = vec![0; CLUSTER as usize];
    for number in 0..ROOTS.size / CLUSTER {
        roots.fat.read_at(number * CLUSTER, &mut cluster).map_err(Error::Read)?;
        small.add(first_cluster(&slots[2]) + number, &cluster)?;
    }
    let small = small.finish();

    let segments: Vec<(&Slot, &Segment)> = slots[..2]
        .iter()
        .zip([&bios.segment, &esp.segment])
        .chain(slots[OTHER_PARTITIONS..].iter().zip(layers.iter().map(|layer| &layer.segment)))
        .collect();
    let mut parts = vec![small.part()];
    for (slot, segment) in &segments {
        let run = qcow2::Run { first: first_cluster(slot), table: &segment.table };
        parts.push(qcow2::Part { size: segment.size, runs: vec![run] });
    }
    let mut beginning = qcow2::metadata(virtual_size, &parts);
    beginning.extend_from_slice(&small.bytes);
    let files: Vec<(&File, u64)> =
        segments.iter().map(|(_, segment)| (&segment.file, segment.size)).collect();
    let (sha256, size) = write(beginning, &files, output, progress)?;
    let partitions = slots.iter().enumerate().map(|(number, slot)| {
        let layer = number.checked_sub(OTHER_PARTITIONS).map(|number| &layers[number].note);
        Partition {
            label: slot.label.clone(),
            uuid: slot.uuid.to_string(),
            first_sector: slot.first_sector,
            sectors: slot.sectors,
            root_hash: layer.map(|note| note.root),
            data_blocks: layer.map(|note| note.blocks),
        }
    });
    let partitions = partitions.collect();
    Ok(Assembled { sha256, size, virtual_size, partitions, segments_compressed, segments_reused })
}

/// A segment, whether it was made now, and its note.
struct Made<N> {
    segment: Segment,
    note: N,
    new: bool,
}

/// How segments come to be.
struct Works<'a> {
    store: &'a dyn SegmentStore,
    compression: Compression,
    threads: usize,
}

impl Works<'_> {
    fn layer(&self, layer: &Layer<'_>) -> Result<Made<LayerNote>, Error> {
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

    fn boot(&self, boot: &Boot<'_>) -> Result<(Made<BiosNote>, Made<EspNote>), Error> {
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

    /// The segment of something of a kind, from the store or written by `write`. One that is damaged
    /// is written again.
    fn provide<N: serde::de::DeserializeOwned>(
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

/// What tells the loader about the layers.
fn roots_script(layers: &[Made<LayerNote>]) -> Result<String, Error> {
    let names: Vec<String> =
        layers.iter().map(|layer| format!("{}:{}", layer.note.root, layer.note.blocks)).collect();
    let names = names.join(",");
    let length = "imgbuild.layers=".len() + names.len();
    let limit = COMMAND_LINE - COMMAND_LINE_REST;
    if length > limit {
        return Err(Error::TooManyLayers { layers: layers.len(), length, limit });
    }
    Ok(format!("set imgbuild_layers=\"{names}\"\n"))
}

/// Where each partition goes: one directly after the other.
fn slots(
    bios: &Made<BiosNote>,
    esp: &Made<EspNote>,
    roots: Digest,
    layers: &[Made<LayerNote>],
) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::with_capacity(OTHER_PARTITIONS + layers.len());
    let mut add = |label: String, purpose, uuid, size: u64| {
        let first_sector = slots.last().map_or(ALIGNMENT, |slot| slot.first_sector + slot.sectors);
        let sectors = size.div_ceil(SECTOR).next_multiple_of(ALIGNMENT);
        slots.push(Slot { label, purpose, uuid, first_sector, sectors });
    };
    let made_of = |label: &str, content: Digest| {
        let mut hasher = Hasher::new();
        hasher.field("imgbuild disk partition");
        hasher.field(label);
        hasher.field(content.to_string());
        Uuid::of(&hasher.finish())
    };
    add("bios".to_owned(), Purpose::Bios, made_of("bios", bios.note.content), 1);
    add("boot".to_owned(), Purpose::Esp, made_of("boot", esp.note.content), ESP.size);
    add("roots".to_owned(), Purpose::Data, made_of("roots", roots), ROOTS.size);
    for (number, layer) in layers.iter().enumerate() {
        let size = layer.segment.table.len() as u64 * CLUSTER;
        let uuid = Uuid::of(&layer.note.root);
        add(format!("layer-{number:02}"), Purpose::Data, uuid, size);
    }
    slots
}

/// The parts of a disk that are made anew for each: packed in memory.
struct Small {
    packer: Packer,
    bytes: Vec<u8>,
    /// Clusters of the guest and their entries.
    entries: Vec<(u64, [u64; 1])>,
    /// Those that are kept as they are.
    raw: Vec<(u64, Vec<u8>)>,
}

impl Small {
    fn new(compression: Compression) -> Result<Self, Error> {
        let packer = Packer::new(compression).map_err(Error::Compress)?;
        Ok(Self { packer, bytes: Vec::new(), entries: Vec::new(), raw: Vec::new() })
    }

    fn add(&mut self, number: u64, cluster: &[u8]) -> Result<(), Error> {
        match self.packer.pack(cluster).map_err(Error::Compress)? {
            Packed::Zero => {}
            Packed::Raw => self.raw.push((number, cluster.to_vec())),
            Packed::Compressed(bytes) => {
                let entry = qcow2::compressed_entry(self.bytes.len() as u64, bytes.len() as u64);
                self.entries.push((number, [entry]));
                self.bytes.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }

    /// Completes the last host cluster and appends those that are kept as they are.
    fn finish(mut self) -> Self {
        self.bytes.resize(self.bytes.len().next_multiple_of(CLUSTER as usize), 0);
        for (number, cluster) in std::mem::take(&mut self.raw) {
            self.entries.push((number, [qcow2::standard_entry(self.bytes.len() as u64)]));
            self.bytes.extend_from_slice(&cluster);
        }
        self
    }

    fn part(&self) -> qcow2::Part<'_> {
        let runs = self.entries.iter().map(|(first, table)| qcow2::Run { first: *first, table });
        qcow2::Part { size: self.bytes.len() as u64, runs: runs.collect() }
    }
}

/// Writes `beginning` and then that many bytes of each of `files`. Returns the digest and the number of all.
fn write(
    beginning: Vec<u8>,
    files: &[(&File, u64)],
    output: &mut File,
    progress: &dyn Fn(u64),
) -> Result<(Digest, u64), Error> {
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let first = &beginning;
        let digest = scope.spawn(move || digest_of(first, receiver));
        output.write_all(&beginning).map_err(Error::Write)?;
        let mut total = beginning.len() as u64;
        progress(total);
        for (file, size) in files {
            // The kernel copies from file to file by itself, without the bytes passing through here, or shares the
            // blocks where the file system can.
            let mut file: &File = file;
            io::Seek::rewind(&mut file).map_err(Error::Store)?;
            let copied = io::copy(&mut file.take(*size), output).map_err(Error::Write)?;
            if copied != *size {
                return Err(Error::Store(io::ErrorKind::UnexpectedEof.into()));
            }
            total += size;
            progress(*size);
            let _ = sender.send((file, *size));
        }
        drop(sender);
        let digest = digest.join().expect("hashing does not panic").map_err(Error::Store)?;
        Ok((digest, total))
    })
}

/// Hashes `beginning` and then that many bytes of each file, as they arrive.
fn digest_of(beginning: &[u8], files: mpsc::Receiver<(&File, u64)>) -> io::Result<Digest> {
    let mut hasher = Hasher::new();
    hasher.update(beginning);
    let mut buffer = vec![0; 256 * 1024];
    for (file, size) in files {
        let mut offset = 0;
        while offset < size {
            let count = (size - offset).min(buffer.len() as u64) as usize;
            file.read_exact_at(&mut buffer[..count], offset)?;
            hasher.update(&buffer[..count]);
            offset += count as u64;
        }
    }
    Ok(hasher.finish())
}
