//! The hash tree with which the kernel checks every block of a layer as it is read.
//!
//! # Format
//!
//! dm-verity (Linux `Documentation/admin-guide/device-mapper/verity.rst`) of version 1, SHA-256,
//! data and hash blocks of 4 KiB, without salt. After the data come
//! 1. a block that begins with cryptsetup's superblock (`lib/verity/verity.c`, `struct verity_sb`);
//! 2. the hash tree, root first and the level above the data last (`drivers/md/dm-verity-target.c`,
//!    `hash_level_block`): 128 hashes a block, the last block of a level padded with zeros. A hash
//!    in one level is that of a block of the next.
//!
//! The root hash is that of the one block of the first level, or of the data if that is one block.

use sha2::{Digest as _, Sha256};

use super::uuid::Uuid;
use crate::digest::Digest;

/// Bytes of a data or hash block.
pub(super) const BLOCK: usize = 4096;

/// Bytes of a hash.
pub(super) const HASH: usize = 32;

/// A tree and its superblock.
#[derive(Debug)]
pub(super) struct Sealed {
    /// What the kernel has to be told.
    pub root: Digest,
    /// Number of data blocks.
    pub data_blocks: u64,
    /// What follows the data: the superblock's block and the tree.
    pub bytes: Vec<u8>,
}

/// Appends the hashes of the blocks of `data` to `hashes`.
pub(super) fn hash_blocks(data: &[u8], hashes: &mut Vec<u8>) {
    for block in data.chunks(BLOCK) {
        hashes.extend_from_slice(&Sha256::digest(block));
    }
}

/// The tree over the data blocks that have `hashes`, one after the other.
///
/// # Panics
/// If there is none.
pub(super) fn seal(hashes: Vec<u8>, uuid: Uuid) -> Sealed {
    let data_blocks = (hashes.len() / HASH) as u64;
    let mut levels = Vec::new();
    let mut level = hashes;
    while level.len() > HASH {
        level.resize(level.len().next_multiple_of(BLOCK), 0);
        let mut above = Vec::with_capacity(level.len() / BLOCK * HASH);
        hash_blocks(&level, &mut above);
        levels.push(std::mem::replace(&mut level, above));
    }
    let root: String = level.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut bytes = superblock(data_blocks, uuid);
    for level in levels.iter().rev() {
        bytes.extend_from_slice(level);
    }
    Sealed { root: root.parse().expect("a hash is a digest"), data_blocks, bytes }
}

/// The block that the superblock is in.
fn superblock(data_blocks: u64, uuid: Uuid) -> Vec<u8> {
    let mut block = Vec::with_capacity(BLOCK);
    block.extend_from_slice(b"verity\0\0");
    block.extend_from_slice(&1_u32.to_le_bytes()); // version
    block.extend_from_slice(&1_u32.to_le_bytes()); // hash type: the normal one, not that of Chrome OS
    block.extend_from_slice(&uuid.0);
    let mut algorithm = [0; 32];
    algorithm[..6].copy_from_slice(b"sha256");
    block.extend_from_slice(&algorithm);
    block.extend_from_slice(&(BLOCK as u32).to_le_bytes()); // data block
    block.extend_from_slice(&(BLOCK as u32).to_le_bytes()); // hash block
    block.extend_from_slice(&data_blocks.to_le_bytes());
    // The size of the salt and the salt are zero, and so is the rest.
    block.resize(BLOCK, 0);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::artifact::disk::testing::{noise, oracle};

    /// What a layer's partition holds.
    fn sealed(blocks: usize) -> (Vec<u8>, Sealed) {
        let data = noise(blocks as u64, blocks * BLOCK);
        let mut hashes = Vec::new();
        hash_blocks(&data, &mut hashes);
        let sealed = seal(hashes, Uuid([7; 16]));
        ([data.as_slice(), &sealed.bytes].concat(), sealed)
    }

    #[test]
    fn levels_are_there_from_the_root_down() {
        for (blocks, tree) in [(1, 0), (2, 1), (128, 1), (129, 1 + 2), (128 * 128 + 1, 1 + 2 + 129)]
        {
            let sealed = seal(vec![1; blocks * HASH], Uuid([0; 16]));
            assert_eq!(sealed.bytes.len(), (1 + tree) * BLOCK, "{blocks}");
            assert_eq!(sealed.data_blocks, blocks as u64);
        }
        let (_, sealed) = sealed(129);
        assert_eq!(sealed.root, Digest::of(&sealed.bytes[BLOCK..2 * BLOCK]));
        assert_eq!(
            sealed.bytes[BLOCK..][..HASH],
            Sha256::digest(&sealed.bytes[2 * BLOCK..][..BLOCK])[..]
        );
    }

    #[test]
    fn bytes_do_not_change_unnoticed() {
        let (image, sealed) = sealed(300);
        assert_eq!(
            (sealed.root.short(), Digest::of(image).short()),
            ("02518a84e50a".to_owned(), "e80cc4027874".to_owned()),
        );
    }

    #[test]
    fn veritysetup_accepts_it_and_notices_a_flipped_bit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("layer");
        for blocks in [1, 2, 128, 129, 300] {
            let (mut image, sealed) = sealed(blocks);
            std::fs::write(&path, &image).unwrap();
            let file = path.to_str().unwrap();
            let offset = format!("--hash-offset={}", blocks * BLOCK);
            let root = sealed.root.to_string();
            let verify = ["verify", file, file, &root, &offset];
            let Some(output) = oracle("veritysetup", &["dump", file, &offset]) else { return };
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success(), "{text}");
            for line in ["07070707-0707", "sha256", &format!("Data blocks:     \t{blocks}")] {
                assert!(text.contains(line), "{line} in {text}");
            }
            assert!(oracle("veritysetup", &verify).unwrap().status.success(), "{blocks}");
            image[BLOCK / 2] ^= 1;
            std::fs::write(&path, &image).unwrap();
            assert!(!oracle("veritysetup", &verify).unwrap().status.success(), "{blocks}");
        }
    }
}
