//! A disk in memory that takes only the space of what was written to it.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Seek, SeekFrom, Write};

use super::cluster::CLUSTER;
use super::source::Source;

/// What is allocated at a time: a cluster.
const CHUNK: usize = CLUSTER as usize;

/// A disk of fixed size, all zeros at first.
#[cfg_attr(any(test, fuzzing), derive(Clone))]
pub(super) struct Sparse {
    size: u64,
    position: u64,
    chunks: BTreeMap<u64, Box<[u8]>>,
}

impl Sparse {
    /// A disk of `size` bytes.
    pub fn new(size: u64) -> Self {
        Self { size, position: 0, chunks: BTreeMap::new() }
    }

    /// What was written to, with the number of each chunk of [`CHUNK`] bytes.
    pub fn chunks(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.chunks.iter().map(|(number, bytes)| (*number, &**bytes))
    }

    /// How many bytes can be read or written at once here, up to `wanted`: within the disk and a
    /// chunk.
    fn step(&self, wanted: usize) -> (u64, usize, usize) {
        let (chunk, offset) = (self.position / CHUNK as u64, self.position as usize % CHUNK);
        let left = self.size.saturating_sub(self.position);
        let count = wanted.min(CHUNK - offset).min(left.try_into().unwrap_or(usize::MAX));
        (chunk, offset, count)
    }
}

// The partition table's crate asks for this.
impl fmt::Debug for Sparse {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "a disk of {} bytes", self.size)
    }
}

impl Read for Sparse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (chunk, offset, count) = self.step(buffer.len());
        match self.chunks.get(&chunk) {
            Some(bytes) => buffer[..count].copy_from_slice(&bytes[offset..offset + count]),
            None => buffer[..count].fill(0),
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (chunk, offset, count) = self.step(bytes.len());
        let bytes = &bytes[..count];
        // Formatting a volume writes long runs of zeros.
        if bytes.iter().any(|byte| *byte != 0) || self.chunks.contains_key(&chunk) {
            let chunk = self.chunks.entry(chunk).or_insert_with(|| vec![0; CHUNK].into());
            chunk[offset..offset + count].copy_from_slice(bytes);
        }
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Sparse {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

impl Source for Sparse {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        let first = offset / CHUNK as u64;
        for (number, bytes) in self.chunks.range(first..end.div_ceil(CHUNK as u64)) {
            let start = number * CHUNK as u64;
            let (from, to) = (start.max(offset), (start + CHUNK as u64).min(end));
            let wanted = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            wanted.copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_the_rest_is_zero() {
        let mut disk = Sparse::new(5 * CHUNK as u64);
        let place = CHUNK as u64 - 2;
        disk.seek(SeekFrom::Start(place)).unwrap();
        disk.write_all(b"word").unwrap();
        disk.write_all(&[0; 2 * CHUNK]).unwrap();
        assert_eq!(disk.chunks.len(), 2);
        let mut buffer = vec![1; 3 * CHUNK];
        disk.read_at(place - 1, &mut buffer).unwrap();
        assert_eq!(buffer[..6], *b"\0word\0");
        assert!(buffer[6..].iter().all(|byte| *byte == 0));
        disk.seek(SeekFrom::Start(place + 1)).unwrap();
        let mut three = [0; 3];
        disk.read_exact(&mut three).unwrap();
        assert_eq!(three, *b"ord");
        assert_eq!(disk.seek(SeekFrom::End(-1)).unwrap(), 5 * CHUNK as u64 - 1);
        assert_eq!(disk.write(b"ab").unwrap(), 1);
        assert_eq!(disk.read(&mut three).unwrap(), 0);
        assert!(disk.seek(SeekFrom::Current(i64::MIN)).is_err());
    }
}
