//! Putting a disk together from segments.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::sync::mpsc;

use super::cluster::CLUSTER;
use super::loader::BOOT_CODE;
use super::segment::Segment;
use super::small::Small;
use super::source::Source;
use super::table::{self, BACKUP_SECTORS, PARTITION_LIMIT, Purpose, Slot};
use super::uuid::Uuid;
use super::volume::{self, ESP, ROOTS};
use super::works::{BiosNote, Boot, EspNote, Layer, LayerNote, Made, Works};
use super::{ALIGNMENT, Compression, DISK_LIMIT, Error, SECTOR, SegmentStore, qcow2};
use crate::digest::{Digest, Hasher};

/// What a disk's size is a multiple of. Proxmox counts in whole GiB.
const DISK_UNIT: u64 = 1 << 30;

/// `COMMAND_LINE_SIZE` of Linux on x86 (`arch/x86/include/asm/setup.h`), and what of it is left to
/// everything but the names of layers.
const COMMAND_LINE: usize = 2048;
const COMMAND_LINE_REST: usize = 512;

/// Partitions that are no layers.
const OTHER_PARTITIONS: usize = 3;

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

/// Writes the disk of the image `image`, made of `layers`, lowest first, to `output`, which must be
/// empty and at its beginning. Segments that the store lacks are made by up to `threads` threads
/// and kept in it. `progress` is called with the number of bytes as they come to be in the output.
///
/// Needs about 5 MiB of memory per thread, 1/128 of the largest layer that is new, and all of the
/// boot files if they are. The output has reached the disk when this returns.
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

/// Writes `beginning` and then that many bytes of each of `files`. Returns the digest and the
/// number of all.
fn write(
    beginning: Vec<u8>,
    files: &[(&File, u64)],
    output: &mut File,
    progress: &dyn Fn(u64),
) -> Result<(Digest, u64), Error> {
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let (written, to_sync) = mpsc::channel();
        let first = &beginning;
        let digest = scope.spawn(move || digest_of(first, receiver));
        output.write_all(&beginning).map_err(Error::Write)?;
        let mut output: &File = output;
        let synced = scope.spawn(move || sync(output, to_sync));
        let mut total = beginning.len() as u64;
        progress(total);
        for (file, size) in files {
            // The kernel copies from file to file by itself, without the bytes passing through
            // here, or shares the blocks where the file system can.
            let mut file: &File = file;
            io::Seek::rewind(&mut file).map_err(Error::Store)?;
            let copied = io::copy(&mut file.take(*size), &mut output).map_err(Error::Write)?;
            if copied != *size {
                return Err(Error::Store(io::ErrorKind::UnexpectedEof.into()));
            }
            total += size;
            progress(*size);
            // Who does not listen has failed, and says so itself.
            let _ = sender.send((file, *size));
            let _ = written.send(());
        }
        drop((sender, written));
        synced.join().expect("syncing does not panic").map_err(Error::Write)?;
        let digest = digest.join().expect("hashing does not panic").map_err(Error::Store)?;
        Ok((digest, total))
    })
}

/// Has what was written reach the disk, each time that there is more. Started early, it costs no time of its
/// own: the disk is slower than the rest, and would otherwise be idle until the end.
fn sync(output: &File, written: mpsc::Receiver<()>) -> io::Result<()> {
    while written.recv().is_ok() {
        while written.try_recv().is_ok() {}
        output.sync_data()?;
    }
    output.sync_data()
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
