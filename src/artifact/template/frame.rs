//! Compressing one frame.

use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use zstd::stream::write::Encoder;
use zstd::zstd_safe::CParameter;

use super::plan::{Frame, Piece};
use super::{Compression, Error};
use crate::layer::archive::Archive;

/// Bytes read at a time.
const CHUNK: u64 = 256 * 1024;

/// Compresses the content of `frame`, reading from its layer.
pub(super) fn compress(
    frame: &Frame,
    layer: &Archive,
    compression: Compression,
) -> Result<Vec<u8>, Error> {
    let mut encoder = encoder(frame.size(), compression).map_err(Error::Compress)?;
    let mut chunk = vec![0; CHUNK as usize];
    for piece in &frame.pieces {
        match piece {
            Piece::Written(bytes) => encoder.write_all(bytes).map_err(Error::Compress)?,
            Piece::Copied { offset, length } => {
                let end = offset + length;
                let mut position = *offset;
                while position < end {
                    let count = CHUNK.min(end - position);
                    let bytes = &mut chunk[..count as usize];
                    layer.file.read_exact_at(bytes, position).map_err(|source| Error::Layer {
                        layer: layer.digest,
                        offset: position,
                        source,
                    })?;
                    encoder.write_all(bytes).map_err(Error::Compress)?;
                    position += count;
                }
            }
        }
    }
    encoder.finish().map_err(Error::Compress)
}

/// Compresses `bytes` as a frame of their own.
pub(super) fn compress_bytes(bytes: &[u8], compression: Compression) -> Result<Vec<u8>, Error> {
    let mut encoder = encoder(bytes.len() as u64, compression).map_err(Error::Compress)?;
    encoder.write_all(bytes).map_err(Error::Compress)?;
    encoder.finish().map_err(Error::Compress)
}

/// An encoder for a frame of `size` bytes. The size is written into the frame, so that a decoder
/// knows it beforehand, and a checksum, so that damage is noticed on extraction.
fn encoder(size: u64, compression: Compression) -> io::Result<Encoder<'static, Vec<u8>>> {
    let mut encoder = Encoder::new(Vec::new(), compression.level)?;
    encoder.window_log(compression.window_log)?;
    encoder.set_parameter(CParameter::HashLog(compression.hash_log))?;
    encoder.include_checksum(true)?;
    encoder.include_contentsize(true)?;
    encoder.set_pledged_src_size(Some(size))?;
    Ok(encoder)
}
