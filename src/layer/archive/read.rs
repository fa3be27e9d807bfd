//! Reading layer archives: the headers in one go, contents by position.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::header::{Block, content_blocks, decode, encode, extended_size};
use super::rules::Sequence;
use super::{BLOCK, Defect, END_OF_ARCHIVE, Error, padded};
use crate::digest::Digest;
use crate::layer::entry::{Entry, Kind};
use crate::layer::order;

/// A layer archive that lies in a file, with its index.
#[derive(Debug)]
pub struct Archive {
    /// The SHA-256 of the file: the layer's name. Taken from the caller, not computed.
    pub digest: Digest,
    /// The file.
    pub file: File,
    /// What is in it.
    pub index: Index,
}

impl Archive {
    /// Opens the archive at `path`, whose content the caller knows to have `digest`.
    ///
    /// # Errors
    /// [`Error::File`], with an error of [`Index::read`] as its source.
    pub fn open(path: &Path, digest: Digest) -> Result<Self, Error> {
        let open = || {
            let file = File::open(path).map_err(|source| Error::Read { offset: 0, source })?;
            let index = Index::read(&file)?;
            Ok(Self { digest, file, index })
        };
        open().map_err(|source| Error::File { path: path.to_owned(), source: Box::new(source) })
    }
}

/// One member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedEntry {
    /// The path and its metadata.
    pub entry: Entry,
    /// Where its first header begins, in bytes from the start of the archive.
    pub header_offset: u64,
    /// Where its content begins; for anything but a file, where the next member begins.
    pub data_offset: u64,
}

impl IndexedEntry {
    /// Where the next member begins.
    pub fn end(&self) -> u64 {
        self.data_offset + content_blocks(&self.entry)
    }

    /// Bytes that the member occupies, headers and padding included.
    pub fn occupied(&self) -> u64 {
        self.end() - self.header_offset
    }
}

/// The members of an archive, in path order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    entries: Vec<IndexedEntry>,
}

impl Index {
    /// Reads the headers of the layer archive in `file`, skipping contents. The position of `file`
    /// is neither used nor changed.
    ///
    /// Everything but the contents is verified: whoever trusts the file's digest need not, but a
    /// layer may come from elsewhere, and whatever this returns is sorted, free of path tricks, and
    /// would be written again as the same bytes. Contents are covered by the digest alone.
    ///
    /// # Errors
    /// [`Error::Read`], or [`Error::Malformed`] with the place of the first defect.
    pub fn read(file: &File) -> Result<Self, Error> {
        let length = file.metadata().map_err(|source| Error::Read { offset: 0, source })?.len();
        let window = Window { file, length, start: 0, bytes: Vec::new() };
        let scan = Scan { window, sequence: Sequence::default(), encoded: Vec::new() };
        Ok(Self { entries: scan.run()? })
    }

    /// All members.
    pub fn entries(&self) -> &[IndexedEntry] {
        &self.entries
    }

    /// The position in [`Index::entries`] of `path`.
    pub fn position(&self, path: &Path) -> Option<usize> {
        self.entries.binary_search_by(|member| order::compare(&member.entry.path, path)).ok()
    }

    /// The member called `path`.
    pub fn get(&self, path: &Path) -> Option<&IndexedEntry> {
        Some(&self.entries[self.position(path)?])
    }
}

/// Reads one header after the other.
struct Scan<'a> {
    window: Window<'a>,
    sequence: Sequence,
    encoded: Vec<u8>,
}

impl Scan<'_> {
    fn run(mut self) -> Result<Vec<IndexedEntry>, Error> {
        let mut entries = Vec::new();
        let mut offset = 0;
        while let Some(member) = self.member(offset)? {
            offset = self.skip_content(&member)?;
            entries.push(member);
        }
        Ok(entries)
    }

    /// The member whose headers begin at `offset`, or nothing at a proper end of the archive.
    fn member(&mut self, offset: u64) -> Result<Option<IndexedEntry>, Error> {
        let malformed = |defect| Error::Malformed { offset, defect };
        let block = self.block(offset)?;
        if block == [0; BLOCK as usize] {
            self.end(offset)?;
            return Ok(None);
        }
        let records_size = extended_size(&block).map_err(malformed)?.unwrap_or(0);
        let (records, block, data_offset) = if records_size == 0 {
            (Vec::new(), block, offset + BLOCK)
        } else {
            let records = self.window.get(offset + BLOCK, records_size)?.to_vec();
            let second = offset + BLOCK + padded(records_size);
            (records, self.block(second)?, second + BLOCK)
        };
        let entry = decode(&records, &block).map_err(malformed)?;
        self.verify(&entry, offset, data_offset - offset)?;
        Ok(Some(IndexedEntry { entry, header_offset: offset, data_offset }))
    }

    /// Checks that the writer would have written these `length` bytes for `entry`.
    fn verify(&mut self, entry: &Entry, offset: u64, length: u64) -> Result<(), Error> {
        let malformed = |defect| Error::Malformed { offset, defect };
        self.sequence
            .check(entry)
            .map_err(|rule| malformed(Defect::Rule(entry.path.clone(), rule)))?;
        self.encoded.clear();
        encode(entry, &mut self.encoded);
        if self.window.get(offset, length)? != self.encoded {
            return Err(malformed(Defect::NotCanonical(entry.path.clone())));
        }
        Ok(())
    }

    /// Where the next member begins, once the padding is known to be there and zero.
    fn skip_content(&mut self, member: &IndexedEntry) -> Result<u64, Error> {
        let Kind::File { size } = member.entry.kind else { return Ok(member.end()) };
        let malformed = |defect| Error::Malformed { offset: member.header_offset, defect };
        if size > self.window.length.saturating_sub(member.data_offset) {
            return Err(malformed(Defect::Truncated));
        }
        let padding = self.window.get(member.data_offset + size, padded(size) - size)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(malformed(Defect::Padding));
        }
        Ok(member.end())
    }

    /// Checks that the archive ends properly with the two blocks at `offset`.
    fn end(&mut self, offset: u64) -> Result<(), Error> {
        let malformed = |defect| Error::Malformed { offset, defect };
        let size = END_OF_ARCHIVE.len() as u64;
        if self.window.get(offset, size)? != END_OF_ARCHIVE {
            return Err(malformed(Defect::TrailingData));
        }
        if offset + size != self.window.length {
            return Err(malformed(Defect::TrailingData));
        }
        Ok(())
    }

    fn block(&mut self, offset: u64) -> Result<Block, Error> {
        let bytes = self.window.get(offset, BLOCK)?;
        Ok(bytes.try_into().expect("as many bytes as asked for"))
    }
}

/// A stretch of the file in memory, so that the headers of small files need no system call each.
struct Window<'a> {
    file: &'a File,
    length: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// Bytes read at a time. Half of a Debian system's files are smaller; more would mostly read
    /// contents that nobody asked for.
    const SIZE: u64 = 4 * 1024;

    /// `count` bytes at `offset`.
    fn get(&mut self, offset: u64, count: u64) -> Result<&[u8], Error> {
        if count > self.length.saturating_sub(offset) {
            return Err(Error::Malformed { offset, defect: Defect::Truncated });
        }
        let held = self.start..self.start + self.bytes.len() as u64;
        if offset < held.start || offset + count > held.end {
            self.fill(offset, count)?;
        }
        let begin = (offset - self.start) as usize;
        Ok(&self.bytes[begin..begin + count as usize])
    }

    fn fill(&mut self, offset: u64, count: u64) -> Result<(), Error> {
        let size = count.max(Self::SIZE).min(self.length - offset);
        self.bytes.resize(size as usize, 0);
        self.start = offset;
        let read = self.file.read_exact_at(&mut self.bytes, offset);
        if read.is_err() {
            self.bytes.clear();
        }
        read.map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => Error::Malformed { offset, defect: Defect::Truncated },
            _ => Error::Read { offset, source },
        })
    }
}
