//! The packed form of layers: what goes over the network.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use crate::compression::{self, Bounded, Compression};
use crate::store::{Blob, Error, Store};

/// The level of Zstandard: as fast as a disk, and two thirds smaller.
const LEVEL: i32 = 3;

/// Bytes that are decompressed at once.
const BUFFER: usize = 256 * 1024;

/// Why `packed` bytes are not the packed form of an archive of `size` bytes, if so. Neither is known to be true yet, and
/// whoever may push says both: little that fills a disk when it is unpacked, and much that becomes nothing.
pub(super) fn objection(packed: u64, size: u64) -> Option<String> {
    // What cannot be compressed grows by 3 bytes in 128 KiB, and what frames have (RFC 8878, section 3.1.1).
    let most_packed = size.saturating_add(size / 1024).saturating_add(64 * 1024);
    let fits = packed <= most_packed && size <= compression::bound(packed, u64::MAX);
    (!fits).then(|| format!("{packed} bytes are not the packed form of an archive of {size} bytes"))
}

/// Compresses the file at `path` into the store.
pub(super) fn pack(path: &Path, store: &Store) -> io::Result<Blob> {
    let writer = store.writer().map_err(|error| error.into_io())?;
    let mut encoder = zstd::Encoder::new(writer, LEVEL)?;
    encoder.include_checksum(true)?;
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.commit().map_err(|error| error.into_io())
}

/// Decompresses the file at `path` into the store. The inner error says why it is not what it should be: it is not
/// compressed at all, or there is more than `size` bytes in it.
pub(super) fn unpack(path: &Path, size: u64, store: &Store) -> Result<Result<Blob, String>, Error> {
    let failed = |source| Error::while_doing("read", path)(source);
    let packed = BufReader::new(File::open(path).map_err(failed)?);
    let decoder = Compression::Zstd.decoder(packed).map_err(failed)?;
    let mut decoder = Bounded::new(decoder, size);
    let mut writer = store.writer()?;
    let mut buffer = vec![0; BUFFER];
    loop {
        match decoder.read(&mut buffer) {
            Ok(0) => return writer.commit().map(Ok),
            Ok(count) => {
                writer.write_all(&buffer[..count]).map_err(Error::while_doing("write", path))?;
            }
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                return Ok(Err(format!("its archive is longer than {size} bytes")));
            }
            Err(error) => return Ok(Err(format!("its archive cannot be decompressed: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_no_packed_layer_has_are_refused() {
        for (packed, size, fits) in [
            (400, 10_240, true),
            (30 << 20, 90 << 20, true),
            (1 << 20, 400 << 20, true),
            (1 << 20, 10 << 30, false),
            (1 << 20, u64::MAX, false),
            // What is random already.
            ((1 << 30) + (30 << 10), 1 << 30, true),
            (2 << 30, 1 << 30, false),
            (u64::MAX, 10_240, false),
            (u64::MAX, u64::MAX, true),
        ] {
            assert_eq!(objection(packed, size).is_none(), fits, "{packed} {size}");
        }
    }

    #[test]
    fn what_cannot_be_compressed_is_packed_within_what_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Some(&directory.path().join("store"))).unwrap();
        let mut state = 1_u64;
        for length in [0, 1, 10_240, 3_000_000] {
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            };
            let bytes: Vec<u8> = (0..length).map(|_| next()).collect();
            let path = directory.path().join("archive");
            std::fs::write(&path, &bytes).unwrap();
            let packed = pack(&path, &store).unwrap();
            assert_eq!(objection(packed.size(), length), None);
            let unpacked = unpack(packed.path(), length, &store).unwrap().unwrap();
            assert_eq!(std::fs::read(unpacked.path()).unwrap(), bytes);
        }
    }
}
