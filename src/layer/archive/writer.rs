//! Writing layer archives.

use std::io::{self, Read, Write};

use super::rules::Sequence;
use super::{END_OF_ARCHIVE, Error, header, padded};
use crate::layer::entry::{Entry, Kind};

/// Bytes copied at a time.
const CHUNK: usize = 256 * 1024;

/// Writes a layer archive, entry by entry in path order.
///
/// Nothing is buffered but one chunk, so writes to `output` are at least a block and at most 256
/// KiB. After an error the archive is useless and must be thrown away.
pub struct Writer<W> {
    output: W,
    sequence: Sequence,
    chunk: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// An empty archive that goes to `output`.
    pub fn new(output: W) -> Self {
        Self { output, sequence: Sequence::default(), chunk: Vec::new() }
    }

    /// Appends `entry`. For a regular file `content` must yield exactly the bytes that the entry
    /// announces; for anything else it is not read.
    ///
    /// The mode of symbolic links, and everything but the path of whiteouts, has no meaning and is
    /// written with a fixed value. A hard link's extended attributes are those of its file and
    /// written once, there.
    ///
    /// # Errors
    /// [`Error::Entry`] where the entry or its place breaks a rule of the format,
    /// [`Error::Content`] and [`Error::ContentSize`] for `content`, [`Error::Write`] for the output.
    pub fn append(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<(), Error> {
        self.sequence
            .check(entry)
            .map_err(|rule| Error::Entry { path: entry.path.clone(), rule })?;
        self.chunk.clear();
        header::encode(entry, &mut self.chunk);
        self.output.write_all(&self.chunk).map_err(Error::Write)?;
        if let Kind::File { size } = entry.kind {
            self.copy(entry, size, content)?;
        }
        Ok(())
    }

    /// Ends the archive and returns the output.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn finish(mut self) -> Result<W, Error> {
        self.output.write_all(&END_OF_ARCHIVE).map_err(Error::Write)?;
        self.output.flush().map_err(Error::Write)?;
        Ok(self.output)
    }

    fn copy(&mut self, entry: &Entry, size: u64, content: &mut dyn Read) -> Result<(), Error> {
        let failed = |source| Error::Content { path: entry.path.clone(), source };
        let wrong_size = || Error::ContentSize { path: entry.path.clone(), size };
        let mut left = size;
        self.chunk.resize(CHUNK, 0);
        while left > 0 {
            let wanted = left.min(CHUNK as u64) as usize;
            match content.read(&mut self.chunk[..wanted]) {
                Ok(0) => return Err(wrong_size()),
                Ok(count) => {
                    self.output.write_all(&self.chunk[..count]).map_err(Error::Write)?;
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if io::copy(&mut content.take(1), &mut io::sink()).map_err(failed)? != 0 {
            return Err(wrong_size());
        }
        let padding = (padded(size) - size) as usize;
        self.output.write_all(&END_OF_ARCHIVE[..padding]).map_err(Error::Write)
    }
}
