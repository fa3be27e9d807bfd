//! A partition in compressed form, wherever on a disk it may come to be.
//!
//! # Format, version 1
//!
//! 1. **Host clusters**, 64 KiB each: first the compressed clusters of the partition, one directly
//!    after the other and padded with zeros at their end; then those that are kept as they are.
//! 2. **The table**: for each cluster of the partition the entry that a qcow2 image's L2 table has
//!    for it, in the same byte order, as if the host clusters began at byte 0 of the file. Zero is
//!    a cluster of zeros.
//! 3. **A note**: JSON with what the disk has to know about the partition, so that it need not be
//!    read for it.
//! 4. **The trailer** of 96 bytes: `imgbuild`, then three little-endian numbers of 64 bits, the
//!    bytes of host clusters, the number of entries in the table and the bytes of the note; then
//!    the SHA-256 of table and note.
//!
//! As host clusters only ever move by whole clusters, an entry for another place is the sum of this
//! one and the place.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cluster::{CLUSTER, Packed, pack_all};
use super::source::Source;
use super::uuid::Uuid;
use super::verity::{self, Sealed};
use super::{Compression, Error, qcow2};
use crate::digest::{Digest, HashingWriter};

/// Raised when the same key could come to mean other bytes.
pub(super) const FORMAT_VERSION: u64 = 1;

const TRAILER: u64 = 96;
const MAGIC: &[u8; 8] = b"imgbuild";

/// Larger tables do not occur: their partition would exceed every limit.
const TABLE_LIMIT: u64 = 1 << 32;

/// A segment in the store.
#[derive(Debug)]
pub(super) struct Segment {
    /// Begins with the host clusters.
    pub file: File,
    /// Bytes of host clusters.
    pub size: u64,
    /// One entry for each cluster of the partition.
    pub table: Vec<u64>,
    note: Vec<u8>,
}

impl Segment {
    /// Opens the segment at `path`. An error if it is none, or damaged in what is read here.
    pub fn open(path: &Path) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidData, "not a segment of a disk");
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let trailer_start = length.checked_sub(TRAILER).ok_or_else(invalid)?;
        let mut trailer = [0; TRAILER as usize];
        file.read_exact_at(&mut trailer, trailer_start)?;
        let number = |index: usize| {
            u64::from_le_bytes(std::array::from_fn(|byte| trailer[8 * index + byte]))
        };
        let (size, entries, note_size) = (number(1), number(2), number(3));
        let table_size = entries.checked_mul(8).filter(|size| *size <= TABLE_LIMIT);
        let table_size = table_size.ok_or_else(invalid)?;
        let sound = trailer[..8] == *MAGIC
            && size.is_multiple_of(CLUSTER)
            && size.checked_add(table_size).and_then(|sum| sum.checked_add(note_size))
                == Some(trailer_start);
        if !sound {
            return Err(invalid());
        }
        let mut bytes = vec![0; (trailer_start - size) as usize];
        file.read_exact_at(&mut bytes, size)?;
        if Digest::of(&bytes).to_string().as_bytes() != &trailer[32..] {
            return Err(invalid());
        }
        let note = bytes.split_off(table_size as usize);
        let table = bytes
            .chunks_exact(8)
            .map(|entry| u64::from_be_bytes(std::array::from_fn(|index| entry[index])));
        Ok(Self { file, size, table: table.collect(), note })
    }

    /// The note, if it is a `T`.
    pub fn note<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.note).ok()
    }
}

/// Writes the segment of a partition that holds `source` and nothing else.
pub(super) fn write<N: Serialize>(
    source: &dyn Source,
    note: &N,
    compression: Compression,
    threads: usize,
    output: &mut dyn Write,
) -> Result<(), Error> {
    let mut writer = Writer::new(output);
    pack_all(source, false, compression, threads, |batch| writer.append(batch.packed))?;
    writer.finish(|number, cluster| source.read_at(number * CLUSTER, cluster), note)
}

/// Writes the segment of a partition that holds `source`, whole verity blocks, and the hash tree
/// over it, which `note` is told about. Everything is read once, and again where it is kept as it
/// is.
pub(super) fn write_sealed<N: Serialize>(
    source: &dyn Source,
    uuid: Uuid,
    note: impl FnOnce(&Sealed) -> N,
    compression: Compression,
    threads: usize,
    output: &mut dyn Write,
) -> Result<(), Error> {
    let mut writer = Writer::new(output);
    let whole = source.size() / CLUSTER * CLUSTER;
    let mut hashes = Vec::with_capacity(source.size() as usize / verity::BLOCK * verity::HASH);
    pack_all(&Beginning { source, size: whole }, true, compression, threads, |batch| {
        hashes.extend_from_slice(&batch.hashes);
        writer.append(batch.packed)
    })?;
    // The cluster in which the data end has the beginning of the tree too.
    let mut rest = vec![0; (source.size() - whole) as usize];
    source.read_at(whole, &mut rest).map_err(Error::Read)?;
    verity::hash_blocks(&rest, &mut hashes);
    let sealed = verity::seal(hashes, uuid);
    rest.extend_from_slice(&sealed.bytes);
    pack_all(&rest, false, compression, threads, |batch| writer.append(batch.packed))?;
    let read = |number: u64, cluster: &mut [u8]| match (number * CLUSTER).checked_sub(whole) {
        Some(offset) => rest.read_at(offset, cluster),
        None => source.read_at(number * CLUSTER, cluster),
    };
    writer.finish(read, &note(&sealed))
}

/// The first `size` bytes of a source.
struct Beginning<'a> {
    source: &'a dyn Source,
    size: u64,
}

impl Source for Beginning<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.source.read_at(offset, buffer)
    }
}

/// Writes a segment's parts in their order.
struct Writer<'a> {
    output: BufWriter<&'a mut dyn Write>,
    /// Bytes written.
    position: u64,
    table: Vec<u64>,
    /// The numbers of clusters that are kept as they are.
    raw: Vec<usize>,
}

impl<'a> Writer<'a> {
    fn new(output: &'a mut dyn Write) -> Self {
        let output = BufWriter::with_capacity(256 * 1024, output);
        Self { output, position: 0, table: Vec::new(), raw: Vec::new() }
    }

    fn append(&mut self, clusters: Vec<Packed>) -> Result<(), Error> {
        for cluster in clusters {
            let entry = match cluster {
                Packed::Zero => 0,
                Packed::Raw => {
                    self.raw.push(self.table.len());
                    0
                }
                Packed::Compressed(bytes) => {
                    let entry = qcow2::compressed_entry(self.position, bytes.len() as u64);
                    self.write(&bytes)?;
                    entry
                }
            };
            self.table.push(entry);
        }
        Ok(())
    }

    /// Writes what is left, reading again by `read` the clusters that are kept as they are.
    fn finish<N: Serialize>(
        mut self,
        read: impl Fn(u64, &mut [u8]) -> io::Result<()>,
        note: &N,
    ) -> Result<(), Error> {
        let padding = self.position.next_multiple_of(CLUSTER) - self.position;
        let mut cluster = vec![0; CLUSTER as usize];
        self.write(&cluster[..padding as usize])?;
        for number in std::mem::take(&mut self.raw) {
            read(number as u64, &mut cluster).map_err(Error::Read)?;
            self.table[number] = qcow2::standard_entry(self.position);
            self.write(&cluster)?;
        }
        let note = serde_json::to_vec(note).map_err(|error| Error::Store(error.into()))?;
        let mut trailer = MAGIC.to_vec();
        for number in [self.position, self.table.len() as u64, note.len() as u64] {
            trailer.extend_from_slice(&number.to_le_bytes());
        }
        let mut output = HashingWriter::new(&mut self.output);
        let mut write = || {
            for entry in &self.table {
                output.write_all(&entry.to_be_bytes())?;
            }
            output.write_all(&note)
        };
        write().map_err(Error::Store)?;
        let (_, digest, _) = output.finish();
        trailer.extend_from_slice(digest.to_string().as_bytes());
        self.write(&trailer)?;
        self.output.flush().map_err(Error::Store)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.output.write_all(bytes).map_err(Error::Store)?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}
