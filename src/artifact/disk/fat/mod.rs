//! A FAT file system that is written once.
//!
//! # Format
//!
//! Microsoft's "FAT: General Overview of On-Disk Format" (version 1.03), in sectors of 512 bytes:
//! boot sector (for FAT32 with the information sector behind it and copies of both at sector 6),
//! two equal tables, for FAT12 a root directory of fixed size, then clusters. Directories and files
//! follow one another in path order, each in one run of clusters. The time of everything is when
//! FAT's calendar begins. A name that is not in capitals of 8.3 characters has long entries; its
//! short name then is what begins it, `~` and a number that nothing else in the directory has.

mod directory;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::source::Source;

const SECTOR: u64 = 512;

/// Bytes of a directory entry.
const ENTRY: u64 = 32;

/// The first cluster that holds anything.
const FIRST_CLUSTER: u64 = 2;

/// How a file system is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    /// Bytes in all, a multiple of the cluster's.
    pub size: u64,
    /// Bytes of a cluster.
    pub cluster: u64,
    pub width: Width,
    /// The volume label, padded with spaces.
    pub label: [u8; 11],
    /// The volume's serial number.
    pub serial: u32,
}

/// The kind of its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    Fat12,
    Fat32,
}

/// A file system that can be read at any offset.
#[derive(Debug)]
pub(super) struct Fat<'a> {
    size: u64,
    /// Offsets and what is there, ascending; the rest is zero.
    pieces: Vec<(u64, Cow<'a, [u8]>)>,
}

/// There is less room than the files take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Full {
    /// Bytes that they take.
    pub size: u64,
    /// Bytes that there are.
    pub limit: u64,
}

/// A directory or file.
struct Node<'a> {
    path: &'a Path,
    /// Nothing for a directory.
    content: Option<&'a [u8]>,
    /// Those in it, for a directory.
    children: Vec<usize>,
    parent: usize,
    first_cluster: u64,
    clusters: u64,
}

impl<'a> Fat<'a> {
    /// The file system that holds `files`, which are in path order, with names of 1 to 255
    /// characters of ASCII, none twice.
    pub fn new(format: &Format, files: &[(&'a Path, &'a [u8])]) -> Result<Self, Full> {
        let geometry = Geometry::new(format);
        let mut nodes = nodes(files);
        let mut next = FIRST_CLUSTER;
        for number in 0..nodes.len() {
            let size = match nodes[number].content {
                Some(content) => content.len() as u64,
                None if number == 0 && format.width == Width::Fat12 => 0,
                None => directory::entries(&nodes, number) * ENTRY,
            };
            let node = &mut nodes[number];
            node.clusters = size.div_ceil(format.cluster);
            node.first_cluster = if node.clusters > 0 { next } else { 0 };
            next += node.clusters;
        }
        let (taken, limit) = (next - FIRST_CLUSTER, geometry.clusters);
        let root_is_full =
            format.width == Width::Fat12 && directory::entries(&nodes, 0) > ROOT_ENTRIES;
        if taken > limit || root_is_full {
            return Err(Full { size: taken * format.cluster, limit: limit * format.cluster });
        }
        let mut fat = Self { size: format.size, pieces: Vec::new() };
        fat.write_boot_sectors(format, &geometry, limit - taken, next);
        let table = table(format.width, &nodes);
        for number in 0..2 {
            let sector = geometry.reserved + number * geometry.table_sectors;
            fat.pieces.push((sector * SECTOR, table.clone().into()));
        }
        for (number, node) in nodes.iter().enumerate() {
            let content = match node.content {
                Some(content) => Cow::Borrowed(content),
                None => directory::content(format, &nodes, number).into(),
            };
            let offset = match node.first_cluster.checked_sub(FIRST_CLUSTER) {
                Some(cluster) => geometry.data_sector * SECTOR + cluster * format.cluster,
                None => (geometry.reserved + 2 * geometry.table_sectors) * SECTOR,
            };
            if !content.is_empty() {
                fat.pieces.push((offset, content));
            }
        }
        Ok(fat)
    }

    fn write_boot_sectors(&mut self, format: &Format, geometry: &Geometry, free: u64, next: u64) {
        let boot = boot_sector(format, geometry);
        if format.width == Width::Fat12 {
            self.pieces.push((0, boot.into()));
            return;
        }
        let mut information = vec![0; SECTOR as usize];
        put(&mut information, 0, b"RRaA");
        put(&mut information, 484, b"rrAa");
        put(&mut information, 488, &(free as u32).to_le_bytes());
        put(&mut information, 492, &(next as u32).to_le_bytes());
        put(&mut information, 510, &[0x55, 0xaa]);
        for sector in [0, BACKUP_SECTOR] {
            self.pieces.push((sector * SECTOR, boot.clone().into()));
            self.pieces.push(((sector + 1) * SECTOR, information.clone().into()));
        }
    }
}

impl Source for Fat<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        let begun =
            self.pieces.partition_point(|(start, bytes)| start + bytes.len() as u64 <= offset);
        for (start, bytes) in self.pieces[begun..].iter().take_while(|(start, _)| *start < end) {
            let (from, to) = ((*start).max(offset), (start + bytes.len() as u64).min(end));
            let wanted = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            wanted.copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }
}

/// Entries of FAT12's root directory.
const ROOT_ENTRIES: u64 = 512;

/// Where FAT32 has the copies of its boot and information sectors.
const BACKUP_SECTOR: u64 = 6;

/// Where parts of the file system are, in sectors.
struct Geometry {
    reserved: u64,
    table_sectors: u64,
    data_sector: u64,
    /// Number of clusters.
    clusters: u64,
}

impl Geometry {
    fn new(format: &Format) -> Self {
        let (reserved, root_sectors, bits) = match format.width {
            Width::Fat12 => (1, ROOT_ENTRIES * ENTRY / SECTOR, 12),
            Width::Fat32 => (32, 0, 32),
        };
        let sectors = format.size / SECTOR;
        let mut table_sectors = 1;
        loop {
            let data_sector = reserved + 2 * table_sectors + root_sectors;
            let clusters = (sectors - data_sector) * SECTOR / format.cluster;
            let needed = ((clusters + FIRST_CLUSTER) * bits).div_ceil(8 * SECTOR);
            if needed <= table_sectors {
                return Self { reserved, table_sectors, data_sector, clusters };
            }
            table_sectors += 1;
        }
    }
}

fn boot_sector(format: &Format, geometry: &Geometry) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    let sectors = format.size / SECTOR;
    put(&mut sector, 3, b"IMGBUILD");
    put(&mut sector, 11, &(SECTOR as u16).to_le_bytes());
    sector[13] = (format.cluster / SECTOR) as u8;
    put(&mut sector, 14, &(geometry.reserved as u16).to_le_bytes());
    sector[16] = 2; // tables
    sector[21] = 0xf8; // medium: a hard disk
    put(&mut sector, 24, &32_u16.to_le_bytes()); // sectors per track
    put(&mut sector, 26, &64_u16.to_le_bytes()); // heads
    // The extended part, which FAT32 has further behind.
    let extended = match format.width {
        Width::Fat12 => {
            put(&mut sector, 0, &[0xeb, 0x3c, 0x90]);
            put(&mut sector, 17, &(ROOT_ENTRIES as u16).to_le_bytes());
            put(&mut sector, 19, &(sectors as u16).to_le_bytes());
            put(&mut sector, 22, &(geometry.table_sectors as u16).to_le_bytes());
            put(&mut sector, 54, b"FAT12   ");
            36
        }
        Width::Fat32 => {
            put(&mut sector, 0, &[0xeb, 0x58, 0x90]);
            put(&mut sector, 32, &(sectors as u32).to_le_bytes());
            put(&mut sector, 36, &(geometry.table_sectors as u32).to_le_bytes());
            put(&mut sector, 44, &(FIRST_CLUSTER as u32).to_le_bytes()); // root directory
            put(&mut sector, 48, &1_u16.to_le_bytes()); // information sector
            put(&mut sector, 50, &(BACKUP_SECTOR as u16).to_le_bytes());
            put(&mut sector, 82, b"FAT32   ");
            64
        }
    };
    sector[extended] = 0x80; // BIOS drive
    sector[extended + 2] = 0x29; // serial number and label follow
    put(&mut sector, extended + 3, &format.serial.to_le_bytes());
    put(&mut sector, extended + 7, &format.label);
    put(&mut sector, 510, &[0x55, 0xaa]);
    sector
}

/// The root, and then everything in path order.
fn nodes<'a>(files: &[(&'a Path, &'a [u8])]) -> Vec<Node<'a>> {
    let root = Path::new("");
    let node = |path, content, parent| Node {
        path,
        content,
        children: Vec::new(),
        parent,
        first_cluster: 0,
        clusters: 0,
    };
    let mut nodes = vec![node(root, None, 0)];
    let mut directories: BTreeMap<&Path, usize> = BTreeMap::from([(root, 0)]);
    for (path, content) in files {
        let ancestors: Vec<&Path> = path.ancestors().collect();
        let mut parent = 0;
        for part in ancestors.into_iter().rev().skip(1) {
            if let Some(known) = directories.get(part) {
                parent = *known;
                continue;
            }
            let number = nodes.len();
            nodes[parent].children.push(number);
            let content = (part == *path).then_some(*content);
            nodes.push(node(part, content, parent));
            if content.is_none() {
                directories.insert(part, number);
                parent = number;
            }
        }
    }
    nodes
}

/// One of the two equal tables.
fn table(width: Width, nodes: &[Node<'_>]) -> Vec<u8> {
    // The first two entries repeat the medium and say that the volume was unmounted cleanly.
    let (medium, end) = match width {
        Width::Fat12 => (0xff8, 0xfff),
        Width::Fat32 => (0x0fff_fff8, 0x0fff_ffff),
    };
    let mut entries: Vec<u32> = vec![medium, end];
    for node in nodes {
        for number in 1..=node.clusters {
            let next = (node.first_cluster + number) as u32;
            entries.push(if number < node.clusters { next } else { end });
        }
    }
    match width {
        Width::Fat32 => entries.iter().flat_map(|entry| entry.to_le_bytes()).collect(),
        Width::Fat12 => {
            let pairs = entries.chunks(2).flat_map(|pair| {
                let both = pair[0] | (pair.get(1).unwrap_or(&0) << 12);
                both.to_le_bytes().into_iter().take(3)
            });
            pairs.collect()
        }
    }
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}
