//! The content of a directory.

use super::BLOCK;

/// Bytes of `struct erofs_dirent`.
const ENTRY_SIZE: usize = 12;

/// The names in a directory, ascending, with what they are.
#[derive(Debug, Default)]
pub(super) struct Directory<'a> {
    names: Vec<Name<'a>>,
}

#[derive(Debug)]
struct Name<'a> {
    bytes: &'a [u8],
    inode: usize,
    file_type: u8,
}

impl<'a> Directory<'a> {
    /// Adds a name. Those of one directory come in ascending order, but `.` and `..` at any time.
    pub fn add(&mut self, name: &'a [u8], inode: usize, file_type: u8) {
        let place = self.names.partition_point(|known| known.bytes < name);
        self.names.insert(place, Name { bytes: name, inode, file_type });
    }

    /// Bytes of the content: whole blocks, then what the last one uses.
    pub fn size(&self) -> u64 {
        let blocks = self.blocks();
        let last = blocks.last().map_or(0, |names| used(names));
        (blocks.len() as u64).saturating_sub(1) * BLOCK + last as u64
    }

    /// The content, once it is known where inodes are. Every block but the last is padded with
    /// zeros.
    pub fn encode(&self, nid_of: impl Fn(usize) -> u64) -> Vec<u8> {
        let mut content = Vec::new();
        let blocks = self.blocks();
        for (number, names) in blocks.iter().enumerate() {
            let mut name_offset = names.len() * ENTRY_SIZE;
            for name in *names {
                content.extend_from_slice(&nid_of(name.inode).to_le_bytes());
                content.extend_from_slice(&(name_offset as u16).to_le_bytes());
                content.extend_from_slice(&[name.file_type, 0]);
                name_offset += name.bytes.len();
            }
            for name in *names {
                content.extend_from_slice(name.bytes);
            }
            if number + 1 < blocks.len() {
                content.resize((number + 1) * BLOCK as usize, 0);
            }
        }
        content
    }

    /// The names of each block: as many as it holds.
    fn blocks(&self) -> Vec<&[Name<'a>]> {
        let mut blocks = Vec::new();
        let mut rest = self.names.as_slice();
        while !rest.is_empty() {
            let mut size = 0;
            let fits = |name: &&Name<'_>| {
                size += ENTRY_SIZE + name.bytes.len();
                size <= BLOCK as usize
            };
            let count = rest.iter().take_while(fits).count();
            let (block, after) = rest.split_at(count);
            blocks.push(block);
            rest = after;
        }
        blocks
    }
}

fn used(names: &[Name<'_>]) -> usize {
    names.iter().map(|name| ENTRY_SIZE + name.bytes.len()).sum()
}
