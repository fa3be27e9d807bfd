//! A small reader of qcow2 that shares nothing with the writer.

use std::collections::{BTreeMap, HashMap};

const CLUSTER: usize = 65_536;

/// A disk as it was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Disk {
    /// Bytes of the disk.
    pub size: u64,
    /// The clusters that are in the file, by number.
    pub clusters: BTreeMap<u64, Vec<u8>>,
}

impl Disk {
    /// The disk's bytes from `offset` on.
    pub fn read(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let end = offset + length as u64;
        for (number, cluster) in &self.clusters {
            let start = number * CLUSTER as u64;
            let (from, to) = (start.max(offset), (start + CLUSTER as u64).min(end));
            if from < to {
                let part = &cluster[(from - start) as usize..(to - start) as usize];
                bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
            }
        }
        bytes
    }
}

/// The disk in an image file, once its reference counts are known to be exact.
///
/// # Panics
/// If anything about the file is not as it must be.
pub fn read(file: &[u8]) -> Disk {
    assert_eq!(file[..4], *b"QFI\xfb");
    assert_eq!(word(file, 4), 3, "version");
    assert_eq!(number(file, 8), 0, "backing file");
    assert_eq!(word(file, 20), 16, "cluster bits");
    assert_eq!(word(file, 60), 0, "snapshots");
    assert_eq!(number(file, 72), 8, "incompatible features");
    assert_eq!((number(file, 80), number(file, 88)), (0, 0), "other features");
    assert_eq!((word(file, 96), word(file, 100)), (4, 112), "refcount order, header length");
    assert_eq!(file[104], 1, "compression type");
    assert_eq!(number(file, 112), 0, "end of header extensions");
    assert_eq!(file.len() % CLUSTER, 0);
    let size = number(file, 24);
    let l1_entries = word(file, 36) as usize;
    assert_eq!(l1_entries as u64, size.div_ceil(512 << 20));
    let mut counts: HashMap<usize, u16> = HashMap::new();
    let mut count = |offset: usize, length: usize| {
        for cluster in offset / CLUSTER..(offset + length).div_ceil(CLUSTER) {
            *counts.entry(cluster).or_default() += 1;
        }
    };
    count(0, 1);
    let l1 = number(file, 40) as usize;
    count(l1, l1_entries * 8);
    let mut clusters = BTreeMap::new();
    for l1_index in 0..l1_entries {
        let entry = number(file, l1 + 8 * l1_index);
        if entry == 0 {
            continue;
        }
        assert_eq!(entry >> 56, 0x80);
        let l2 = (entry << 8 >> 8) as usize;
        count(l2, CLUSTER);
        for l2_index in 0..8192 {
            let entry = number(file, l2 + 8 * l2_index);
            if entry == 0 {
                continue;
            }
            let guest = (l1_index * 8192 + l2_index) as u64;
            assert!(guest * (CLUSTER as u64) < size);
            let bytes = if entry >> 62 == 1 {
                let offset = (entry & ((1 << 54) - 1)) as usize;
                let sectors = (entry >> 54 & 0xff) as usize + 1;
                let end = offset / 512 * 512 + sectors * 512;
                count(offset, end - offset);
                let mut bytes = vec![0; CLUSTER];
                // Like QEMU: what follows the frame in the last sector does not matter.
                let mut frame = zstd::stream::read::Decoder::new(&file[offset..end]).unwrap();
                std::io::Read::read_exact(&mut frame, &mut bytes).unwrap();
                bytes
            } else {
                assert_eq!(entry >> 56, 0x80);
                let offset = (entry << 8 >> 8) as usize;
                assert_eq!(offset % CLUSTER, 0);
                count(offset, CLUSTER);
                file[offset..offset + CLUSTER].to_vec()
            };
            clusters.insert(guest, bytes);
        }
    }
    let (table, table_clusters) = (number(file, 48) as usize, word(file, 56) as usize);
    count(table, table_clusters * CLUSTER);
    let mut stored = HashMap::new();
    for index in 0..table_clusters * CLUSTER / 8 {
        let block = number(file, table + 8 * index) as usize;
        if block == 0 {
            continue;
        }
        count(block, CLUSTER);
        for entry in 0..CLUSTER / 2 {
            let place = block + 2 * entry;
            let value = u16::from_be_bytes([file[place], file[place + 1]]);
            if value > 0 {
                stored.insert(index * (CLUSTER / 2) + entry, value);
            }
        }
    }
    assert!(stored == counts, "reference counts");
    assert_eq!(counts.len(), file.len() / CLUSTER, "every cluster is used");
    Disk { size, clusters }
}

fn word(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

fn number(bytes: &[u8], offset: usize) -> u64 {
    u64::from_be_bytes(bytes[offset..offset + 8].try_into().unwrap())
}
