//! Superblock, inodes and extended attributes as they are on disk.

use std::collections::BTreeMap;

use super::{BLOCK, Error};
use crate::artifact::disk::uuid::Uuid;
use crate::layer::entry::{Entry, Kind};

/// Where the superblock begins (`EROFS_SUPER_OFFSET`).
pub(super) const SUPERBLOCK_OFFSET: usize = 1024;

/// `EROFS_SUPER_MAGIC_V1`.
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;

/// `EROFS_FEATURE_COMPAT_SB_CHKSUM` and `EROFS_FEATURE_COMPAT_MTIME`: the checksum is there, and
/// times are modification times.
const COMPATIBLE_FEATURES: u32 = 1 | 2;

/// Bytes of an extended inode (`struct erofs_inode_extended`).
pub(super) const INODE_SIZE: u64 = 64;

/// What a nid counts in (`EROFS_ISLOTBITS` is 5).
pub(super) const SLOT: u64 = 32;

/// `startblk` of an inode that has no blocks, as mkfs.erofs writes it.
const NO_BLOCK: u32 = u32::MAX;

/// Bytes of `struct erofs_xattr_ibody_header`.
const ATTRIBUTE_HEADER: usize = 12;

/// What the superblock says beyond constants.
pub(super) struct Superblock {
    pub root_nid: u16,
    pub inodes: u64,
    pub build_time: u64,
    pub blocks: u32,
    pub uuid: Uuid,
}

impl Superblock {
    /// The whole block 0.
    pub fn encode(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK as usize];
        let sector = &mut block[SUPERBLOCK_OFFSET..];
        put(sector, 0, &MAGIC.to_le_bytes());
        put(sector, 8, &COMPATIBLE_FEATURES.to_le_bytes());
        sector[12] = BLOCK.trailing_zeros() as u8;
        put(sector, 14, &self.root_nid.to_le_bytes());
        put(sector, 16, &self.inodes.to_le_bytes());
        put(sector, 24, &self.build_time.to_le_bytes());
        put(sector, 36, &self.blocks.to_le_bytes());
        put(sector, 48, &self.uuid.0);
        let checksum = crc32c(sector);
        put(sector, 4, &checksum.to_le_bytes());
        block
    }
}

/// CRC-32C (Castagnoli, reflected) as the kernel's `crc32c(~0, …)`: without the final inversion.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & 0_u32.wrapping_sub(crc & 1))
        })
    })
}

/// What an inode says.
pub(super) struct Inode<'a> {
    pub entry: &'a Entry,
    /// Bytes of its extended attributes, as from [`attributes`].
    pub attributes: &'a [u8],
    pub size: u64,
    /// The first of its whole blocks, if it has any.
    pub start_block: Option<u32>,
    /// Whether the rest follows the inode.
    pub inline: bool,
    pub links: u32,
    /// Counts inodes from 1, for those who have only 32 bits for them.
    pub number: u32,
}

impl Inode<'_> {
    /// The inode and its attributes.
    pub fn encode(&self) -> Vec<u8> {
        // `i_format`: bit 0 is the extended version, bits 1 to 3 the layout: EROFS_INODE_FLAT_PLAIN
        // is 0, EROFS_INODE_FLAT_INLINE 2.
        let format: u16 = if self.inline { 1 | 2 << 1 } else { 1 };
        let attribute_count = match self.attributes.len() {
            0 => 0,
            length => ((length - ATTRIBUTE_HEADER) / 4 + 1) as u16,
        };
        // For a device this field is its number: 0:0, a whiteout.
        let start = match self.entry.kind {
            Kind::Whiteout => 0,
            _ => self.start_block.unwrap_or(NO_BLOCK),
        };
        let mut bytes = vec![0; INODE_SIZE as usize];
        put(&mut bytes, 0, &format.to_le_bytes());
        put(&mut bytes, 2, &attribute_count.to_le_bytes());
        put(&mut bytes, 4, &mode(self.entry).to_le_bytes());
        put(&mut bytes, 8, &self.size.to_le_bytes());
        put(&mut bytes, 16, &start.to_le_bytes());
        put(&mut bytes, 20, &self.number.to_le_bytes());
        put(&mut bytes, 24, &self.entry.uid.to_le_bytes());
        put(&mut bytes, 28, &self.entry.gid.to_le_bytes());
        put(&mut bytes, 32, &self.entry.mtime.to_le_bytes());
        put(&mut bytes, 44, &self.links.to_le_bytes());
        bytes.extend_from_slice(self.attributes);
        bytes
    }
}

/// The type of a path as `i_mode` has it (inode(7)) and as a directory entry has it (`EROFS_FT_*`).
/// A hard link is not asked: it is what its file is.
pub(super) fn types(kind: &Kind) -> (u16, u8) {
    match kind {
        Kind::File { .. } | Kind::Hardlink { .. } => (0o100_000, 1),
        Kind::Directory => (0o040_000, 2),
        Kind::Whiteout => (0o020_000, 3),
        Kind::Symlink { .. } => (0o120_000, 7),
    }
}

fn mode(entry: &Entry) -> u16 {
    types(&entry.kind).0 | (entry.mode & 0o7777) as u16
}

/// The extended attributes of an inode, or nothing if it has none.
pub(super) fn attributes(entry: &Entry) -> Result<Vec<u8>, Error> {
    let xattrs: &BTreeMap<String, Vec<u8>> = &entry.xattrs;
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let too_long = |part| Error::TooLong { path: entry.path.clone(), part };
    let mut bytes = vec![0; ATTRIBUTE_HEADER];
    for (name, value) in xattrs {
        // `EROFS_XATTR_INDEX_USER` and `EROFS_XATTR_INDEX_SECURITY`.
        let known = [("user.", 1), ("security.", 6)];
        let (index, rest) = known
            .iter()
            .find_map(|(prefix, index)| Some((*index, name.strip_prefix(prefix)?)))
            .ok_or_else(|| Error::Attribute { path: entry.path.clone(), name: name.clone() })?;
        bytes.push(rest.len().try_into().map_err(|_| too_long("the name of an attribute"))?);
        bytes.push(index);
        let size: u16 = value.len().try_into().map_err(|_| too_long("an attribute"))?;
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(rest.as_bytes());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let count = (bytes.len() - ATTRIBUTE_HEADER) / 4 + 1;
    u16::try_from(count).map_err(|_| too_long("the set of attributes"))?;
    Ok(bytes)
}

fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}
