//! The compressions that archives come in.

use std::io::{self, BufRead, Read};

/// A decoder may ask for this much memory; `xz -9` needs 65 MiB, Zstandard at its default limit 128 MiB.
const DECODER_MEMORY: u64 = 192 << 20;

/// What any archive may unpack to, and how many times its own size beyond that. Archives of software are packed
/// to a tenth, those with large empty files to a hundredth; all formats can do a thousandth and less, for whoever
/// wants a disk filled.
const FREE: u64 = 256 << 20;
const RATIO: u64 = 256;

/// The most bytes that what is packed in `packed` bytes may unpack to, and never more than `limit`.
pub fn bound(packed: u64, limit: u64) -> u64 {
    packed.saturating_mul(RATIO).saturating_add(FREE).min(limit)
}

/// How something is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip (RFC 1952).
    Gzip,
    /// xz.
    Xz,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Compression {
    /// What the first bytes of a file say: the magic numbers of RFC 1952 (section 2.3.1), of the xz
    /// format (section 2.1.1.1) and of RFC 8878 (section 3.1.1). Anything else counts as plain.
    pub fn of_content(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Self::Xz,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// What `packed` is, decompressed; the checksums of the format are checked at its end.
    ///
    /// # Errors
    /// If there is no memory for a decoder.
    pub fn decoder<'a>(self, packed: impl BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::None => Box::new(packed),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            Self::Xz => {
                let flags = liblzma::stream::CONCATENATED;
                let stream = liblzma::stream::Stream::new_stream_decoder(DECODER_MEMORY, flags)
                    .map_err(io::Error::other)?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(packed, stream))
            }
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(packed)?),
        })
    }
}

/// Passes reads on until more than a number of bytes has come: what is small when it is packed may
/// be of any size when it is not.
pub struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R> Bounded<R> {
    /// Passes on at most `limit` bytes of `inner`; one more is an error of the kind
    /// [`io::ErrorKind::FileTooLarge`].
    pub fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit }
    }
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => return Err(io::ErrorKind::FileTooLarge.into()),
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_come_out_depends_on_what_went_in() {
        assert_eq!(bound(0, u64::MAX), 256 << 20);
        assert_eq!(bound(1 << 20, u64::MAX), 512 << 20);
        assert_eq!(bound(1 << 20, 1 << 20), 1 << 20);
        assert_eq!(bound(u64::MAX, 32 << 30), 32 << 30);
    }

    #[test]
    fn what_was_packed_is_recognised_and_unpacked() {
        let text = b"the content\n".repeat(100);
        let mut gzip = flate2::read::GzEncoder::new(&text[..], flate2::Compression::fast());
        let mut packed = Vec::new();
        gzip.read_to_end(&mut packed).unwrap();
        let cases = [
            (Compression::Gzip, packed),
            (Compression::Xz, liblzma::encode_all(&text[..], 0).unwrap()),
            (Compression::Zstd, zstd::encode_all(&text[..], 1).unwrap()),
            (Compression::None, text.clone()),
        ];
        for (compression, packed) in cases {
            assert_eq!(Compression::of_content(&packed), compression);
            let mut unpacked = Vec::new();
            compression.decoder(&packed[..]).unwrap().read_to_end(&mut unpacked).unwrap();
            assert_eq!(unpacked, text, "{compression:?}");
        }
        assert_eq!(Compression::of_content(b""), Compression::None);
    }
}
