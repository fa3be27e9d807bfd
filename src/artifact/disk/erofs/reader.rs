//! A small reader of EROFS that shares nothing with the writer.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use crate::layer::entry::{Entry, Kind};

/// A path as it was read, with the content if it is the first name of a file.
pub type Read = (Entry, Option<Vec<u8>>);

/// Everything in an image, in path order.
///
/// # Panics
/// If anything about the image is not as it must be.
pub fn read(image: &[u8]) -> Vec<Read> {
    let superblock = &image[1024..1152];
    assert_eq!(u32_at(superblock, 0), 0xe0f5_e1e2, "magic");
    assert_eq!(superblock[12], 12, "block size");
    assert_eq!(superblock[13], 0, "size of the superblock");
    assert_eq!(u32_at(superblock, 36) as usize * 4096, image.len(), "blocks");
    assert_eq!(u32_at(superblock, 40), 0, "start of metadata");
    assert_eq!(u32_at(superblock, 80), 0, "incompatible features");
    let mut checked = image[1024..4096].to_vec();
    checked[4..8].fill(0);
    assert_eq!(u32_at(superblock, 4), !crc32c(&checked), "checksum");
    let mut reader =
        Reader { image, found: BTreeMap::new(), first: HashMap::new(), names: HashMap::new() };
    let root = u64::from(u16_at(superblock, 14));
    reader.directory(root, root, PathBuf::new());
    assert_eq!(u64_at(superblock, 16), reader.first.len() as u64, "number of inodes");
    let newest = reader.found.values().map(|(entry, _)| entry.mtime).max();
    assert_eq!(Some(u64_at(superblock, 24)), newest, "build time");
    for (nid, names) in &reader.names {
        assert_eq!(reader.inode(*nid).links, *names, "links of {:?}", reader.first[nid]);
    }
    reader.found.into_values().collect()
}

struct Reader<'a> {
    image: &'a [u8],
    found: BTreeMap<PathBuf, Read>,
    /// The first name of each inode.
    first: HashMap<u64, PathBuf>,
    /// How many names or entries refer to each inode.
    names: HashMap<u64, u32>,
}

struct Inode {
    mode: u16,
    size: u64,
    start: u32,
    uid: u32,
    gid: u32,
    mtime: u64,
    links: u32,
    inline: bool,
    body: usize,
    xattrs: BTreeMap<String, Vec<u8>>,
}

impl Reader<'_> {
    fn directory(&mut self, nid: u64, parent: u64, path: PathBuf) {
        self.add(nid, &path);
        let content = self.content(&self.inode(nid));
        let mut previous: Vec<u8> = Vec::new();
        let mut children = Vec::new();
        let (mut dot, mut dot_dot) = (false, false);
        for block in content.chunks(4096) {
            let count = usize::from(u16_at(block, 8)) / 12;
            assert!(count > 0 && usize::from(u16_at(block, 8)) % 12 == 0);
            for number in 0..count {
                let record = &block[12 * number..12 * number + 12];
                let begin = usize::from(u16_at(record, 8));
                let end = match number + 1 < count {
                    true => usize::from(u16_at(block, 12 * number + 20)),
                    false => block[begin..]
                        .iter()
                        .position(|b| *b == 0)
                        .map_or(block.len(), |n| begin + n),
                };
                let name = block[begin..end].to_vec();
                assert!(!name.is_empty() && previous < name, "order of names in {path:?}");
                let child = u64_at(record, 0);
                *self.names.entry(child).or_default() += 1;
                match name.as_slice() {
                    b"." => {
                        assert_eq!(child, nid);
                        dot = true;
                    }
                    b".." => {
                        assert_eq!(child, parent);
                        dot_dot = true;
                    }
                    name => children.push((
                        child,
                        String::from_utf8(name.to_vec()).unwrap(),
                        record[10],
                    )),
                }
                previous = name;
            }
        }
        assert!(dot && dot_dot);
        for (child, name, file_type) in children {
            let path = path.join(name);
            let kind = self.inode(child).mode >> 12;
            let expected = match file_type {
                1 => 8,
                2 => 4,
                3 => 2,
                7 => 10,
                other => panic!("file type {other}"),
            };
            assert_eq!(kind, expected, "type of {path:?}");
            match kind {
                4 => self.directory(child, nid, path),
                _ => self.add(child, &path),
            }
        }
    }

    fn add(&mut self, nid: u64, path: &Path) {
        let inode = self.inode(nid);
        let mut content = None;
        let kind = match (inode.mode >> 12, self.first.get(&nid)) {
            (8, Some(first)) => Kind::Hardlink { target: first.clone() },
            (8, None) => {
                content = Some(self.content(&inode));
                Kind::File { size: inode.size }
            }
            (4, None) => Kind::Directory,
            (10, None) => {
                let target = String::from_utf8(self.content(&inode)).unwrap();
                Kind::Symlink { target: target.into() }
            }
            (2, None) => {
                assert_eq!((inode.start, inode.size), (0, 0), "a whiteout is a device 0:0");
                Kind::Whiteout
            }
            other => panic!("{path:?} is {other:?}"),
        };
        self.first.entry(nid).or_insert_with(|| path.to_owned());
        let mode = u32::from(inode.mode & 0o7777);
        let Inode { uid, gid, mtime, xattrs, .. } = inode;
        let entry = Entry { path: path.to_owned(), kind, mode, uid, gid, mtime, xattrs };
        self.found.insert(path.to_owned(), (entry, content));
    }

    fn inode(&self, nid: u64) -> Inode {
        let offset = nid as usize * 32;
        let bytes = &self.image[offset..offset + 64];
        assert!(offset % 4096 <= 4096 - 64, "an inode is cut in two");
        let format = u16_at(bytes, 0);
        assert_eq!(format & 1, 1, "extended");
        let inline = match format >> 1 {
            0 => false,
            2 => true,
            other => panic!("layout {other}"),
        };
        let count = usize::from(u16_at(bytes, 2));
        let attributes_size = if count == 0 { 0 } else { 12 + 4 * (count - 1) };
        let body = offset + 64 + attributes_size;
        Inode {
            mode: u16_at(bytes, 4),
            size: u64_at(bytes, 8),
            start: u32_at(bytes, 16),
            uid: u32_at(bytes, 24),
            gid: u32_at(bytes, 28),
            mtime: u64_at(bytes, 32),
            links: u32_at(bytes, 44),
            inline,
            body,
            xattrs: attributes(&self.image[offset + 64..body]),
        }
    }

    fn content(&self, inode: &Inode) -> Vec<u8> {
        let size = inode.size as usize;
        let outside = if inode.inline { size / 4096 * 4096 } else { size };
        let mut content = Vec::new();
        if outside > 0 {
            let start = inode.start as usize * 4096;
            content.extend_from_slice(&self.image[start..start + outside]);
            let padding = start + outside..(start + outside).next_multiple_of(4096);
            assert!(self.image[padding].iter().all(|byte| *byte == 0), "padding");
        }
        let rest = size - outside;
        if rest > 0 {
            assert_eq!((inode.body - 1) / 4096, (inode.body + rest - 1) / 4096, "inline and cut");
            content.extend_from_slice(&self.image[inode.body..inode.body + rest]);
        }
        content
    }
}

fn attributes(mut bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    if bytes.is_empty() {
        return found;
    }
    assert_eq!(bytes[4], 0, "no shared attributes");
    bytes = &bytes[12..];
    while !bytes.is_empty() {
        let (name, size) = (usize::from(bytes[0]), usize::from(u16_at(bytes, 2)));
        let prefix = match bytes[1] {
            1 => "user.",
            6 => "security.",
            other => panic!("attribute index {other}"),
        };
        let text = String::from_utf8(bytes[4..4 + name].to_vec()).unwrap();
        found.insert(format!("{prefix}{text}"), bytes[4 + name..4 + name + size].to_vec());
        bytes = &bytes[(4 + name + size).next_multiple_of(4)..];
    }
    found
}

/// CRC-32C by the polynomial, most significant bit first on reversed bits: the standard form.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut register = u32::MAX;
    for byte in bytes {
        for bit in 0..8 {
            let input = u32::from(byte >> bit & 1);
            let carry = register >> 31;
            register <<= 1;
            if carry != input {
                register ^= 0x1edc_6f41;
            }
        }
    }
    !register.reverse_bits()
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(bytes[offset..offset + 2].try_into().unwrap())
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().unwrap())
}
