//! The image file: qcow2 (QEMU's `docs/interop/qcow2.rst`), put together from segments.
//!
//! # Format
//!
//! Version 3, clusters of 64 KiB, no backing file, no snapshots, reference counts of 16 bits.
//! Numbers are big-endian. Compressed clusters are zstd frames (incompatible feature bit 3,
//! compression type 1), which QEMU reads since 5.1; clusters of zeros are not allocated. In this
//! order, everything in whole clusters: header, L1 table, L2 tables for the parts of the disk that
//! have any content, reference count table, reference count blocks, then the host clusters of all
//! segments.
//!
//! - A **standard entry** of an L2 table is the offset of the host cluster, with bit 63 because
//!   nothing else refers to it.
//! - A **compressed entry** has bit 62, in bits 54 to 61 the number of sectors of 512 bytes that
//!   the data touch beyond the one they begin in, and below the offset in bytes. Its data may begin
//!   and end anywhere in a cluster.
//! - The **reference count** of a cluster is the number of tables and entries that touch it: for
//!   compressed ones all the sectors that the entry names, as `check_refcounts_l2` in QEMU counts
//!   them.

#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "targets of a fuzzer need but a part"))]
pub(super) mod reader;
#[cfg(test)]
mod tests;

use super::cluster::CLUSTER;

/// What an L1 or a standard L2 entry has if its cluster has no other reference.
const COPIED: u64 = 1 << 63;

const COMPRESSED: u64 = 1 << 62;

/// Where the number of further sectors is in a compressed entry: 62 - (cluster bits - 8).
const SECTORS_SHIFT: u32 = 62 - (CLUSTER.trailing_zeros() - 8);

const SECTOR: u64 = 512;

/// Entries of an L2 table, and clusters that a block of reference counts covers.
const L2_ENTRIES: u64 = CLUSTER / 8;
const BLOCK_COUNTS: u64 = CLUSTER / 2;

/// Bytes of the header: up to and with the compression type, padded to eight.
const HEADER_LENGTH: u32 = 112;

/// The entry for a cluster that is kept as it is at `offset`.
pub(super) fn standard_entry(offset: u64) -> u64 {
    COPIED | offset
}

/// The entry for a cluster that was compressed to `size` bytes at `offset`.
pub(super) fn compressed_entry(offset: u64, size: u64) -> u64 {
    let further = (offset + size - 1) / SECTOR - offset / SECTOR;
    COMPRESSED | (further << SECTORS_SHIFT) | offset
}

/// Host clusters, and what of the guest's disk is in them.
#[derive(Debug)]
pub(super) struct Part<'a> {
    /// Bytes of host clusters.
    pub size: u64,
    /// Entries for guest clusters, as if the host clusters began at byte 0.
    pub runs: Vec<Run<'a>>,
}

/// Entries of guest clusters that follow one another.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// The number of the first guest cluster.
    pub first: u64,
    pub table: &'a [u64],
}

/// Everything of the file that comes before the host clusters of the first part, for a disk of
/// `virtual_size` bytes. The parts then follow in order.
pub(super) fn metadata(virtual_size: u64, parts: &[Part<'_>]) -> Vec<u8> {
    let clusters = virtual_size.div_ceil(CLUSTER);
    let l1_entries = clusters.div_ceil(L2_ENTRIES);
    let used = used_l2_tables(l1_entries, parts);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER);
    let l2_clusters = used.iter().filter(|used| **used).count() as u64;
    let data_clusters: u64 = parts.iter().map(|part| part.size / CLUSTER).sum();
    let places = Places::new(l1_clusters, l2_clusters, data_clusters);

    let mut file = Metadata { bytes: vec![0; (places.data * CLUSTER) as usize] };
    file.header(virtual_size, l1_entries, &places);
    let mut l2_of = vec![0; used.len()];
    let numbers = (0..used.len()).filter(|number| used[*number]);
    for (number, table) in numbers.zip(places.l2..) {
        file.number(places.l1 * CLUSTER + 8 * number as u64, standard_entry(table * CLUSTER));
        l2_of[number] = table;
    }
    let mut counts = vec![0_u16; places.total as usize];
    counts[..places.data as usize].fill(1);
    let mut base = places.data * CLUSTER;
    for part in parts {
        for run in &part.runs {
            for (guest, entry) in (run.first..).zip(run.table).filter(|(_, entry)| **entry != 0) {
                let table = l2_of[(guest / L2_ENTRIES) as usize];
                file.number(table * CLUSTER + 8 * (guest % L2_ENTRIES), entry + base);
                for cluster in touched(entry + base) {
                    counts[cluster as usize] += 1;
                }
            }
        }
        base += part.size;
    }
    for block in 0..places.count_blocks {
        file.number(places.count_table * CLUSTER + 8 * block, (places.counts + block) * CLUSTER);
    }
    for (number, count) in counts.iter().enumerate() {
        let place = (places.counts * CLUSTER) as usize + 2 * number;
        file.bytes[place..place + 2].copy_from_slice(&count.to_be_bytes());
    }
    file.bytes
}

/// Which of the L2 tables have anything in them.
fn used_l2_tables(l1_entries: u64, parts: &[Part<'_>]) -> Vec<bool> {
    let mut used = vec![false; l1_entries as usize];
    for run in parts.iter().flat_map(|part| &part.runs) {
        for (guest, entry) in (run.first..).zip(run.table) {
            used[(guest / L2_ENTRIES) as usize] |= *entry != 0;
        }
    }
    used
}

/// The host clusters that the data of an entry touch.
fn touched(entry: u64) -> std::ops::RangeInclusive<u64> {
    if entry & COMPRESSED == 0 {
        let cluster = (entry & !COPIED) / CLUSTER;
        return cluster..=cluster;
    }
    let offset = entry & ((1 << SECTORS_SHIFT) - 1);
    let further = (entry & !COMPRESSED) >> SECTORS_SHIFT;
    let last_sector = offset / SECTOR + further;
    offset / CLUSTER..=last_sector * SECTOR / CLUSTER
}

/// The numbers of the clusters at which things begin.
struct Places {
    l1: u64,
    l2: u64,
    count_table: u64,
    counts: u64,
    data: u64,
    total: u64,
    count_table_clusters: u64,
    count_blocks: u64,
}

impl Places {
    fn new(l1_clusters: u64, l2_clusters: u64, data_clusters: u64) -> Self {
        // The clusters with counts are counted as well.
        let (mut count_blocks, mut count_table_clusters) = (1, 1);
        loop {
            let l2 = 1 + l1_clusters;
            let count_table = l2 + l2_clusters;
            let counts = count_table + count_table_clusters;
            let data = counts + count_blocks;
            let total = data + data_clusters;
            let needed = total.div_ceil(BLOCK_COUNTS);
            if needed <= count_blocks {
                return Self {
                    l1: 1,
                    l2,
                    count_table,
                    counts,
                    data,
                    total,
                    count_table_clusters,
                    count_blocks,
                };
            }
            count_blocks = needed;
            count_table_clusters = (count_blocks * 8).div_ceil(CLUSTER);
        }
    }
}

struct Metadata {
    bytes: Vec<u8>,
}

impl Metadata {
    fn header(&mut self, virtual_size: u64, l1_entries: u64, places: &Places) {
        self.bytes[..4].copy_from_slice(b"QFI\xfb");
        self.word(4, 3); // version
        self.word(20, CLUSTER.trailing_zeros());
        self.number(24, virtual_size);
        self.word(36, l1_entries as u32);
        self.number(40, places.l1 * CLUSTER);
        self.number(48, places.count_table * CLUSTER);
        self.word(56, places.count_table_clusters as u32);
        self.number(72, 1 << 3); // incompatible features: the compression type is given
        self.word(96, 4); // reference counts have 1 << 4 bits
        self.word(100, HEADER_LENGTH);
        self.bytes[104] = 1; // compression type: zstd
        // Header extensions end with one of type and length 0, which is there already.
    }

    fn word(&mut self, offset: usize, word: u32) {
        self.bytes[offset..offset + 4].copy_from_slice(&word.to_be_bytes());
    }

    fn number(&mut self, offset: u64, number: u64) {
        let offset = offset as usize;
        self.bytes[offset..offset + 8].copy_from_slice(&number.to_be_bytes());
    }
}
