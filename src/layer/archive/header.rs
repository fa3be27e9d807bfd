//! The blocks before a member's content: encoding an entry, and reading it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::rules::{OCTAL_LIMIT, WHITEOUT_PREFIX};
use super::{BLOCK, Defect, padded, pax};
use crate::layer::entry::{Entry, Kind};

/// One header block.
pub(super) type Block = [u8; BLOCK as usize];

/// The name of every extended header; Python's tarfile uses the same.
const PAX_NAME: &[u8] = b"././@PaxHeader";

const XATTR: &str = "SCHILY.xattr.";

/// Length of the header's `name` and `linkname` fields.
const NAME: usize = 100;

/// Field positions within a ustar header block (POSIX.1-2017, pax, "ustar Header Block").
mod field {
    use std::ops::Range;
    pub const NAME: Range<usize> = 0..100;
    pub const MODE: Range<usize> = 100..108;
    pub const UID: Range<usize> = 108..116;
    pub const GID: Range<usize> = 116..124;
    pub const SIZE: Range<usize> = 124..136;
    pub const MTIME: Range<usize> = 136..148;
    pub const CHKSUM: Range<usize> = 148..156;
    pub const TYPE: usize = 156;
    pub const LINKNAME: Range<usize> = 157..257;
    pub const MAGIC_AND_VERSION: Range<usize> = 257..265;
    pub const DEVMAJOR: Range<usize> = 329..337;
    pub const DEVMINOR: Range<usize> = 337..345;
}

/// Appends the blocks that precede the content of `entry`, which must have passed the rules.
pub(crate) fn encode(entry: &Entry, output: &mut Vec<u8>) {
    let name = member_name(entry);
    let (kind, size, link) = match &entry.kind {
        Kind::Directory => (b'5', 0, String::new()),
        Kind::File { size } => (b'0', *size, String::new()),
        Kind::Symlink { target } => (b'2', 0, text(target).to_owned()),
        Kind::Hardlink { target } => (b'1', 0, format!("./{}", text(target))),
        Kind::Whiteout => (b'0', 0, String::new()),
    };
    let records = extended_records(entry, &name, &link, size);
    if !records.is_empty() {
        let mut header = Header::new(PAX_NAME, b'x', records.len() as u64);
        header.octal(field::MODE, 0o644);
        output.extend_from_slice(&header.finish());
        output.extend_from_slice(&records);
        output.resize(output.len().next_multiple_of(BLOCK as usize), 0);
    }
    let mut header = Header::new(name.as_bytes(), kind, if size < OCTAL_LIMIT { size } else { 0 });
    header.text(field::LINKNAME, link.as_bytes());
    // What a whiteout's or a symbolic link's entry says here has no meaning and must not matter.
    if entry.kind != Kind::Whiteout {
        let symlink = matches!(entry.kind, Kind::Symlink { .. });
        header.octal(field::MODE, if symlink { 0o777 } else { entry.mode.into() });
        header.octal(field::UID, entry.uid.into());
        header.octal(field::GID, entry.gid.into());
        header.octal(field::MTIME, entry.mtime);
    }
    output.extend_from_slice(&header.finish());
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the rules admit only UTF-8")
}

/// The member's name: `./`, `./DIRECTORY/`, `./FILE` or `./PARENT/.wh.NAME`.
fn member_name(entry: &Entry) -> String {
    let path = text(&entry.path);
    match entry.kind {
        Kind::Directory if path.is_empty() => "./".to_owned(),
        Kind::Directory => format!("./{path}/"),
        Kind::Whiteout => match path.rsplit_once('/') {
            Some((parent, name)) => format!("./{parent}/{WHITEOUT_PREFIX}{name}"),
            None => format!("./{WHITEOUT_PREFIX}{path}"),
        },
        _ => format!("./{path}"),
    }
}

fn extended_records(entry: &Entry, name: &str, link: &str, size: u64) -> Vec<u8> {
    let mut records = Vec::new();
    if !matches!(entry.kind, Kind::Hardlink { .. }) {
        for (attribute, value) in &entry.xattrs {
            pax::push(&mut records, &format!("{XATTR}{attribute}"), value);
        }
    }
    for (keyword, value) in [("linkpath", link), ("path", name)] {
        if value.len() > NAME || !value.is_ascii() {
            pax::push(&mut records, keyword, value.as_bytes());
        }
    }
    if size >= OCTAL_LIMIT {
        pax::push(&mut records, "size", size.to_string().as_bytes());
    }
    records
}

/// A header block being filled in.
struct Header(Block);

impl Header {
    fn new(name: &[u8], kind: u8, size: u64) -> Self {
        let mut header = Self([0; BLOCK as usize]);
        header.text(field::NAME, name);
        header.0[field::TYPE] = kind;
        header.0[field::MAGIC_AND_VERSION].copy_from_slice(b"ustar\x0000");
        for zero in [field::MODE, field::UID, field::GID, field::MTIME] {
            header.octal(zero, 0);
        }
        header.octal(field::SIZE, size);
        header.octal(field::DEVMAJOR, 0);
        header.octal(field::DEVMINOR, 0);
        header
    }

    /// Writes `value`, cut to the field; where that loses something, an extended header says it.
    fn text(&mut self, field: std::ops::Range<usize>, value: &[u8]) {
        for (place, byte) in self.0[field].iter_mut().zip(value) {
            *place = if byte.is_ascii() { *byte } else { b'?' };
        }
    }

    /// Writes `value` as octal digits that fill the field but for a final NUL.
    fn octal(&mut self, field: std::ops::Range<usize>, mut value: u64) {
        let digits = &mut self.0[field.start..field.end - 1];
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (value & 7) as u8;
            value >>= 3;
        }
        debug_assert_eq!(value, 0, "the rules keep numbers within their fields");
    }

    fn finish(mut self) -> Block {
        // The sum is taken with the field itself full of spaces; it ends in NUL and space.
        self.0[field::CHKSUM].fill(b' ');
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.octal(field::CHKSUM.start..field::CHKSUM.end - 1, sum);
        self.0[field::CHKSUM.end - 2] = 0;
        self.0
    }
}

/// The size of the extended header's records if `block` announces one.
pub(super) fn extended_size(block: &Block) -> Result<Option<u64>, Defect> {
    if block[field::TYPE] != b'x' {
        return Ok(None);
    }
    let size = octal(block, field::SIZE, "size")?;
    if size == 0 || size > pax::LIMIT {
        return Err(Defect::ExtendedHeader);
    }
    Ok(Some(size))
}

/// Reads an entry back from the blocks that [`encode`] wrote: `records` is the content of the
/// extended header, empty if there is none, and `block` the member's own header.
///
/// Only what is needed to understand the member is looked at. The caller encodes the result again
/// and compares, which finds everything that is not canonical.
pub(super) fn decode(records: &[u8], block: &Block) -> Result<Entry, Defect> {
    let extended = Extended::parse(records)?;
    let name = extended.path.map_or_else(|| field_text(block, field::NAME, "name"), Ok)?;
    let link = extended.link.map_or_else(|| field_text(block, field::LINKNAME, "linkname"), Ok)?;
    let size = extended.size.map_or_else(|| octal(block, field::SIZE, "size"), Ok)?;
    let path = name.strip_prefix("./").ok_or(Defect::Header("name"))?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let (kind, path) = match block[field::TYPE] {
        b'0' => match whiteout(path) {
            Some(removed) => (Kind::Whiteout, removed),
            None => (Kind::File { size }, PathBuf::from(path)),
        },
        b'1' => {
            let target = link.strip_prefix("./").ok_or(Defect::Header("linkname"))?;
            (Kind::Hardlink { target: target.into() }, path.into())
        }
        b'2' => (Kind::Symlink { target: link.into() }, path.into()),
        b'5' => (Kind::Directory, path.into()),
        other => return Err(Defect::Type(other.into())),
    };
    Ok(Entry {
        path,
        kind,
        mode: octal(block, field::MODE, "mode")? as u32,
        uid: octal(block, field::UID, "uid")? as u32,
        gid: octal(block, field::GID, "gid")? as u32,
        mtime: octal(block, field::MTIME, "mtime")?,
        xattrs: extended.attributes,
    })
}

/// The path that the member called `path` removes, if it is a whiteout.
fn whiteout(path: &str) -> Option<PathBuf> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    Some(Path::new(parent).join(name.strip_prefix(WHITEOUT_PREFIX)?))
}

#[derive(Default)]
struct Extended<'a> {
    path: Option<&'a str>,
    link: Option<&'a str>,
    size: Option<u64>,
    attributes: BTreeMap<String, Vec<u8>>,
}

impl<'a> Extended<'a> {
    fn parse(records: &'a [u8]) -> Result<Self, Defect> {
        let text = |value| std::str::from_utf8(value).map_err(|_| Defect::ExtendedHeader);
        let mut extended = Self::default();
        for (keyword, value) in pax::parse(records)? {
            match keyword {
                "path" => extended.path = Some(text(value)?),
                "linkpath" => extended.link = Some(text(value)?),
                "size" => {
                    let size = text(value)?.parse().map_err(|_| Defect::ExtendedHeader)?;
                    extended.size = Some(size);
                }
                _ => {
                    let name = keyword.strip_prefix(XATTR).ok_or(Defect::ExtendedHeader)?;
                    extended.attributes.insert(name.to_owned(), value.to_owned());
                }
            }
        }
        Ok(extended)
    }
}

fn field_text<'a>(
    block: &'a Block,
    field: std::ops::Range<usize>,
    name: &'static str,
) -> Result<&'a str, Defect> {
    let bytes = &block[field];
    let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
    std::str::from_utf8(&bytes[..end]).map_err(|_| Defect::Header(name))
}

fn octal(block: &Block, field: std::ops::Range<usize>, name: &'static str) -> Result<u64, Defect> {
    let (last, digits) = block[field].split_last().ok_or(Defect::Header(name))?;
    if *last != 0 || !digits.iter().all(|digit| (b'0'..=b'7').contains(digit)) {
        return Err(Defect::Header(name));
    }
    Ok(digits.iter().fold(0, |value, digit| value << 3 | u64::from(digit - b'0')))
}

/// Bytes that `entry`'s content occupies in the archive, with its padding.
pub(super) fn content_blocks(entry: &Entry) -> u64 {
    match entry.kind {
        Kind::File { size } => padded(size),
        _ => 0,
    }
}
