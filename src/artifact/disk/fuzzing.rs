//! What disks are written as, and read by readers that share nothing with the writers: imgbuild itself reads no disk
//! image but its own segments.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;

use ::gpt::GptConfig;

pub use super::testing::noise;

use super::cluster::CLUSTER;
use super::erofs::{reader, testing};
use super::loader::BOOT_CODE;
use super::qcow2::{self, Part, Run};
use super::segment::{self, Segment};
use super::table::{self, BACKUP_SECTORS, PARTITION_LIMIT, Purpose, Slot};
use super::uuid::Uuid;
use super::{Compression, SECTOR};
use crate::fuzzing::{Choices, Scratch};
use crate::layer::archive::Archive;

/// The file system of `archive` is read as it was written.
pub fn erofs(archive: &Archive) {
    assert_eq!(reader::read(&testing::image(archive)), testing::expected(archive));
}

/// An image file with parts that the bytes describe: their clusters come out at their places, and every reference
/// is counted.
pub fn qcow2(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let (mut end, mut expected, mut parts) = (0, BTreeMap::new(), Vec::new());
    while !choices.is_over() && parts.len() < 4 {
        let first = end + choices.below(20_000) as u64;
        let clusters: Vec<_> = (0..choices.below(12)).map(|_| cluster(&mut choices)).collect();
        let kept =
            (first..).zip(&clusters).filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0));
        expected.extend(kept.map(|(number, bytes)| (number, bytes.clone())));
        end = first + clusters.len() as u64;
        parts.push((first, written(&clusters)));
    }
    let size = (end * CLUSTER + 1).next_multiple_of(CLUSTER << (choices.byte() % 14));
    let parts: Vec<_> = parts
        .iter()
        .map(|(first, (_, segment))| (*first, segment))
        .map(|(first, segment)| Part {
            size: segment.size,
            runs: vec![Run { first, table: &segment.table }],
        })
        .zip(parts.iter().map(|(_, (bytes, _))| bytes))
        .collect();
    let (parts, contents): (Vec<_>, Vec<_>) = parts.into_iter().unzip();
    let mut file = qcow2::metadata(size, &parts);
    for (part, bytes) in parts.iter().zip(contents) {
        file.extend_from_slice(&bytes[..part.size as usize]);
    }
    let disk = qcow2::reader::read(&file);
    assert_eq!(disk.size, size);
    assert!(disk.clusters == expected, "clusters are lost or changed");
}

/// Zeros, something that can be compressed, or something that cannot, in some mixture.
fn cluster(choices: &mut Choices) -> Vec<u8> {
    let size = CLUSTER as usize;
    let (kind, seed) = (choices.byte() % 4, choices.byte());
    let dense = if kind == 0 { 0 } else { choices.below(size + 1) };
    let mut bytes = noise(u64::from(seed), dense);
    bytes.resize(size, if kind == 0 { 0 } else { seed });
    bytes
}

/// The segment of these clusters, and its bytes.
fn written(clusters: &[Vec<u8>]) -> (Vec<u8>, Segment) {
    let mut bytes = Vec::new();
    segment::write(&clusters.concat(), &"note", Compression::STANDARD, 1, &mut bytes).unwrap();
    let scratch = Scratch::new(&bytes);
    let segment = Segment::open(&scratch.path()).expect("what is written is read");
    assert_eq!(segment.note::<String>().as_deref(), Some("note"));
    assert_eq!(segment.table.len(), clusters.len());
    (bytes, segment)
}

pub fn qcow2_seeds() -> Vec<Vec<u8>> {
    (0..6).map(|seed| noise(seed, 20 << (seed % 3))).collect()
}

/// A partition table that the bytes describe, read by the library's reader from its first and from its second
/// copy.
pub fn gpt(bytes: &[u8]) {
    let mut choices = Choices(bytes);
    let mut next = 34 + choices.below(4096) as u64;
    let mut slots = Vec::new();
    while !choices.is_over() && slots.len() < PARTITION_LIMIT {
        let purpose = [Purpose::Bios, Purpose::Esp, Purpose::Data][choices.below(3)];
        let label: String =
            (0..choices.below(30)).map(|_| char::from(b'!' + choices.byte() % 90)).collect();
        let uuid = Uuid(std::array::from_fn(|_| choices.byte()));
        let sectors = 1 + choices.number() % (1 << (choices.byte() % 40));
        slots.push(Slot { label, purpose, uuid, first_sector: next, sectors });
        next += sectors + choices.below(64) as u64;
    }
    // The library wants room for data between the two copies.
    let size = (next + BACKUP_SECTORS).max(4096);
    let disk = table::write(size, Uuid([7; 16]), &slots, [1; BOOT_CODE]).expect("it has room");
    for damage in [None, Some(SECTOR), Some((size - 1) * SECTOR)] {
        let mut disk = disk.clone();
        if let Some(offset) = damage {
            use std::io::{Seek as _, Write as _};
            disk.seek(std::io::SeekFrom::Start(offset)).unwrap();
            disk.write_all(&[1; 512]).unwrap();
        }
        let table = GptConfig::new().open_from_device(disk).expect("one copy is whole");
        let found: Vec<_> = table
            .partitions()
            .values()
            .map(|it| {
                (
                    it.name.clone(),
                    it.first_lba,
                    it.last_lba,
                    it.part_guid.to_string().to_lowercase(),
                )
            })
            .collect();
        let expected: Vec<_> = slots
            .iter()
            .map(|it| {
                let last = it.first_sector + it.sectors - 1;
                (it.label.clone(), it.first_sector, last, it.uuid.to_string().to_lowercase())
            })
            .collect();
        assert_eq!(found, expected);
    }
}

pub fn gpt_seeds() -> Vec<Vec<u8>> {
    (0..6).map(|seed| noise(seed, 50 << (seed % 3))).collect()
}

/// A segment in the store: as it is, or, if the first byte is odd, with the right digest in its trailer.
pub fn segment(bytes: &[u8]) {
    let Some((&form, rest)) = bytes.split_first() else { return };
    let mut bytes = rest.to_vec();
    if form % 2 == 1 && bytes.len() > 96 {
        let trailer = bytes.len() - 96;
        let size = u64::from_le_bytes(bytes[trailer + 8..trailer + 16].try_into().unwrap());
        if let Some(covered) = usize::try_from(size).ok().and_then(|size| bytes.get(size..trailer))
        {
            let digest = crate::digest::Digest::of(covered).to_string();
            bytes[trailer + 32..].copy_from_slice(digest.as_bytes());
        }
    }
    let scratch = Scratch::new(&bytes);
    if let Ok(segment) = Segment::open(&scratch.path()) {
        let _ = segment.note::<serde_json::Value>();
        let mut start = vec![0; segment.size.min(10) as usize];
        segment.file.read_exact_at(&mut start, 0).expect("its clusters are there");
    }
}

pub fn segment_seeds() -> Vec<Vec<u8>> {
    let zeros = vec![vec![0; CLUSTER as usize]; 3];
    let (bytes, _) = written(&zeros);
    [0, 1].map(|form| [&[form], &bytes[..]].concat()).into()
}
