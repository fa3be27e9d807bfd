//! The outer archive of a `.deb`: a Unix `ar` archive (deb(5), ar(5)).
//!
//! Written by hand because a header is sixty fixed bytes, while a general reader also accepts
//! the extended names of other systems, whose lengths it believes.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;
use crate::compression::{self, Compression};

const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Where a member lies in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub name: String,
    pub compression: Compression,
    offset: u64,
    size: u64,
}

impl Part {
    /// The most bytes that the member may expand to, and never more than `limit`.
    pub fn bound(&self, limit: u64) -> u64 {
        compression::bound(self.size, limit)
    }

    /// The member's bytes, decompressed.
    pub fn reader(&self, file: File) -> io::Result<Box<dyn Read>> {
        let window = Window { file, offset: self.offset, left: self.size };
        let packed = BufReader::with_capacity(128 * 1024, window);
        self.compression.decoder(packed)
    }
}

/// The compression that the rest of a member name after `control.tar` or `data.tar` says.
fn compression_of(extension: &str) -> Option<Compression> {
    match extension {
        "" => Some(Compression::None),
        ".gz" => Some(Compression::Gzip),
        ".xz" => Some(Compression::Xz),
        ".zst" => Some(Compression::Zstd),
        _ => None,
    }
}

/// A stretch of a file. A file that ends within the stretch is an error.
struct Window {
    file: File,
    offset: u64,
    left: u64,
}

impl Read for Window {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..most], self.offset)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// A member header: name and size.
#[derive(Debug, PartialEq, Eq)]
struct Header {
    name: String,
    size: u64,
}

/// Reads the sixty bytes of a header.
fn parse_header(bytes: &[u8; 60]) -> Result<Header, String> {
    if &bytes[58..] != b"`\n" {
        return Err("bad archive header magic".to_owned());
    }
    let name = std::str::from_utf8(&bytes[..16]).map_err(|_| "member name is not text")?;
    let name = name.trim_end_matches(' ');
    // System V archives end a name with a slash, and so may a `.deb`.
    let name = name.strip_suffix('/').unwrap_or(name);
    let size = std::str::from_utf8(&bytes[48..58]).map_err(|_| "member size is not a number")?;
    let size = size.trim_end_matches(' ');
    if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("the size of member `{name}` is not a number"));
    }
    let size = size.parse().map_err(|_| "member size is not a number")?;
    Ok(Header { name: name.to_owned(), size })
}

/// Walks over the members of an outer archive.
struct Walk<'a> {
    path: &'a Path,
    file: &'a File,
    length: u64,
    offset: u64,
}

impl<'a> Walk<'a> {
    fn start(path: &'a Path, file: &'a File) -> Result<Self, Error> {
        let metadata = file.metadata();
        let length =
            metadata.map_err(|source| Error::Read { path: path.to_owned(), source })?.len();
        let walk = Self { path, file, length, offset: MAGIC.len() as u64 };
        let mut magic = [0; MAGIC.len()];
        walk.read_at(&mut magic, 0)?;
        if &magic != MAGIC {
            return Err(walk.format("it is not an ar archive".to_owned()));
        }
        Ok(walk)
    }

    /// The next member's header and where its content starts.
    fn next(&mut self) -> Result<(Header, u64), Error> {
        let mut bytes = [0; 60];
        self.read_at(&mut bytes, self.offset)?;
        let header = parse_header(&bytes).map_err(|problem| self.format(problem))?;
        let start = self.offset + bytes.len() as u64;
        if header.size > self.length.saturating_sub(start) {
            return Err(self.format(format!("it ends within its member `{}`", header.name)));
        }
        // Members start at even offsets.
        self.offset = start + header.size + header.size % 2;
        Ok((header, start))
    }

    /// Checks that the first member says that the format is known.
    fn check_version(&mut self) -> Result<(), Error> {
        let (Header { name, size }, start) = self.next()?;
        if name != "debian-binary" || size > 64 {
            return Err(self.format("its first member is not `debian-binary`".to_owned()));
        }
        let mut text = vec![0; size as usize];
        self.read_at(&mut text, start)?;
        check_version(&text).map_err(|problem| self.format(problem))
    }

    /// The next member that is not optional, which must be the archive `wanted` (`data.tar`).
    fn part(&mut self, wanted: &str) -> Result<Part, Error> {
        loop {
            let (Header { name, size }, offset) = self.next()?;
            // deb(5): members whose names start so are not critical and are skipped.
            if name.starts_with('_') {
                continue;
            }
            let Some(extension) = name.strip_prefix(wanted) else {
                return Err(self.format(format!("`{name}` comes before `{wanted}`")));
            };
            let Some(compression) = compression_of(extension) else {
                return Err(Error::Compression { path: self.path.to_owned(), member: name });
            };
            return Ok(Part { name, compression, offset, size });
        }
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<(), Error> {
        self.file.read_exact_at(buffer, offset).map_err(|source| match source.kind() {
            io::ErrorKind::UnexpectedEof => self.format("it ends too early".to_owned()),
            _ => Error::Read { path: self.path.to_owned(), source },
        })
    }

    fn format(&self, problem: String) -> Error {
        Error::Format { path: self.path.to_owned(), problem }
    }
}

/// Finds the control and the data archive, in the order and with the strictness of deb(5).
pub(super) fn parts(path: &Path, file: &File) -> Result<(Part, Part), Error> {
    let mut walk = Walk::start(path, file)?;
    walk.check_version()?;
    Ok((walk.part("control.tar")?, walk.part("data.tar")?))
}

/// Checks the content of `debian-binary`, which is `2.0` or a later minor version and a line end.
fn check_version(text: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(text);
    let Some((version, _)) = text.split_once('\n') else {
        return Err("its format version has no line end".to_owned());
    };
    match version.split_once('.') {
        Some(("2", minor)) if minor.parse::<u32>().is_ok() => Ok(()),
        _ => Err(format!("it has format version `{version}`, only 2.x is known")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_header_is_read_as_ar_lays_it_out() {
        let text =
            format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "data.tar.xz/", 0, 0, 0, 100644, 123);
        let header = parse_header(text.as_bytes().try_into().unwrap()).unwrap();
        assert_eq!(header, Header { name: "data.tar.xz".to_owned(), size: 123 });
    }

    proptest! {
        #[test]
        fn no_header_makes_the_parser_panic(bytes in proptest::array::uniform32(any::<u8>()),
                                            more in proptest::array::uniform28(any::<u8>())) {
            let mut header = [0; 60];
            header[..32].copy_from_slice(&bytes);
            header[32..].copy_from_slice(&more);
            header[58..].copy_from_slice(b"`\n");
            let _ = parse_header(&header);
        }
    }
}
