//! Where the bytes of a partition come from.

use std::io;

use super::erofs::Image;

/// Bytes that can be read at any offset, by several threads at once.
pub(super) trait Source: Sync {
    /// How many there are.
    fn size(&self) -> u64;

    /// Fills `buffer` from `offset` on, with zeros beyond the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for Image<'_> {
    fn size(&self) -> u64 {
        Image::size(self)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Image::read_at(self, offset, buffer)
    }
}

impl Source for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let begin = offset.min(self.len() as u64) as usize;
        let count = buffer.len().min(self.len() - begin);
        buffer[..count].copy_from_slice(&self[begin..begin + count]);
        buffer[count..].fill(0);
        Ok(())
    }
}
