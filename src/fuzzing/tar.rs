//! Tar archives whose checksums are right, whatever else is wrong with them: a fuzzer does not find those.

use tar::{EntryType, Header};

const BLOCK: usize = 512;

/// `bytes` as whole blocks, with right checksums where the headers of members are.
pub fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let mut start = 0;
    while let Some(block) = bytes.get_mut(start..).and_then(|rest| rest.get_mut(..BLOCK)) {
        start += BLOCK;
        if block.iter().all(|byte| *byte == 0) {
            continue;
        }
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let header = Header::from_byte_slice(block);
        let size = header.entry_size().unwrap_or(0);
        let content = usize::try_from(size).unwrap_or(usize::MAX);
        start = start.saturating_add(content.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX));
    }
    bytes
}

/// A small archive with members of many kinds.
pub fn sample() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: EntryType, mode: u32, content: &[u8], link: &str| {
        let mut header = Header::new_ustar();
        let fields = header.as_old_mut();
        fields.name[..name.len()].copy_from_slice(name.as_bytes());
        fields.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    };
    let pax = b"16 path=./a/pax\n";
    add("./", EntryType::Directory, 0o755, b"", "");
    add("./a/", EntryType::Directory, 0o755, b"", "");
    add("./a/file", EntryType::Regular, 0o755, b"content", "");
    add("./a/again", EntryType::Link, 0o755, b"", "./a/file");
    add("./a/link", EntryType::Symlink, 0o777, b"", "file");
    add("././@LongLink", EntryType::GNULongName, 0, b"./a/long\0", "");
    add("short", EntryType::Regular, 0o644, b"", "");
    add("pax", EntryType::XHeader, 0o644, pax, "");
    add("short", EntryType::Regular, 0o644, b"x", "");
    builder.into_inner().unwrap()
}
