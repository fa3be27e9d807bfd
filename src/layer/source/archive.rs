//! Unpacking a tar archive.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use super::member::{Assembler, Member, MemberKind, stripped};
use super::{Collector, Contents, Error, Node, NodeKind, SIZE_LIMIT};
use crate::compression::{Bounded, Compression, bound};

/// Reads the whole archive at `path`, whose bytes go to a file in the directory `scratch` that has no
/// name. The paths of its members lose their first `strip` components.
///
/// # Errors
/// Anything in the archive that no image may have: then nothing of it is used.
pub fn unpack(path: &Path, strip: usize, scratch: &Path) -> Result<Contents, Error> {
    let failed = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    let file = File::open(path).map_err(failed("read"))?;
    let length = file.metadata().map_err(failed("read"))?.len();
    let mut start = Vec::new();
    (&file).take(512).read_to_end(&mut start).map_err(failed("read"))?;
    let packed = BufReader::with_capacity(128 * 1024, io::Cursor::new(start.clone()).chain(file));
    let compression = Compression::of_content(&start);
    if compression == Compression::None {
        refuse_others(&start)?;
    }
    let unpacked = compression.decoder(packed).map_err(failed("unpack"))?;
    let bytes = tempfile::tempfile_in(scratch).map_err(|source| Error::Io {
        action: "write in",
        path: scratch.to_owned(),
        source,
    })?;
    let spool = BufWriter::with_capacity(1 << 20, bytes);
    let mut unpacking = Unpacking {
        collector: Collector::new(),
        spool,
        written: 0,
        strip,
        scratch: scratch.to_owned(),
    };
    let limited = Bounded::new(unpacked, bound(length, SIZE_LIMIT));
    let mut archive = tar::Archive::new(BufReader::with_capacity(64 * 1024, limited));
    let mut assembler = Assembler::default();
    for (number, entry) in archive.entries().map_err(damaged)?.raw(true).enumerate() {
        let mut entry = entry.map_err(|source| match source.kind() {
            io::ErrorKind::Other if number == 0 => Error::Format { problem: source.to_string() },
            _ => damaged(source),
        })?;
        let header = entry.header().clone();
        if let Some(member) = assembler.take(&header, &mut entry)? {
            unpacking.take(member.acceptable()?, &mut entry)?;
        }
    }
    // Decoders check their checksums at the end.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(damaged)?;
    let Unpacking { collector, spool, .. } = unpacking;
    let bytes = spool.into_inner().map_err(|error| Error::Io {
        action: "write in",
        path: scratch.to_owned(),
        source: error.into_error(),
    })?;
    collector.finish(bytes)
}

/// Says of what is often taken for a tar archive that it is none.
fn refuse_others(start: &[u8]) -> Result<(), Error> {
    let what = match start {
        [b'P', b'K', 3, 4, ..] => "it is a zip file",
        [b'B', b'Z', b'h', ..] => "it is compressed with bzip2",
        [b'!', b'<', b'a', b'r', b'c', b'h', b'>', ..] => "it is an ar archive, perhaps a .deb",
        [b'<', ..] => "it is a page of the web",
        _ if start.len() < 512 => "it is too short",
        _ => return Ok(()),
    };
    Err(Error::Format { problem: what.to_owned() })
}

pub(super) fn damaged(source: io::Error) -> Error {
    match source.kind() {
        io::ErrorKind::FileTooLarge => {
            let limit = "can be packed to its size: 256 MiB and 256 times that, or 32 GiB";
            Error::TooLarge { limit: limit.to_owned() }
        }
        _ => Error::Damaged(source),
    }
}

struct Unpacking {
    collector: Collector,
    spool: BufWriter<File>,
    written: u64,
    strip: usize,
    scratch: PathBuf,
}

impl Unpacking {
    fn take(&mut self, member: Member, content: &mut dyn Read) -> Result<(), Error> {
        let shown = String::from_utf8_lossy(&member.name).into_owned();
        let refuse = |problem: &str| Error::member(&shown, problem);
        let path = match stripped(&member.name, self.strip).map_err(refuse)? {
            Some(path) => path,
            None if member.kind == MemberKind::Directory => return Ok(()),
            None => {
                let problem = format!("`strip = {}` leaves nothing of its name", self.strip);
                return Err(refuse(&problem));
            }
        };
        let kind = match member.kind {
            MemberKind::Directory => NodeKind::Directory,
            MemberKind::Symlink { target } => NodeKind::Symlink { target },
            MemberKind::File { size } => {
                let offset = self.store(size, content)?;
                NodeKind::File { offset, size, executable: member.mode & 0o100 != 0 }
            }
            MemberKind::Other => return Err(refuse("it is neither file, directory nor link")),
            MemberKind::Hardlink { target } => {
                let target = stripped(&target, self.strip).ok().flatten();
                match target.and_then(|target| self.collector.nodes.get(&target)) {
                    Some(Node { kind: kind @ NodeKind::File { .. }, .. }) => kind.clone(),
                    _ => return Err(refuse("it is a hard link to no file before it")),
                }
            }
        };
        self.collector.insert(path, Node { kind, mtime: member.mtime })
    }

    /// Keeps the content of a file, and says where.
    fn store(&mut self, size: u64, content: &mut dyn Read) -> Result<u64, Error> {
        let offset = self.written;
        let mut left = size;
        let mut buffer = vec![0; 128 * 1024];
        while left > 0 {
            let most = left.min(buffer.len() as u64) as usize;
            let count = content.read(&mut buffer[..most]).map_err(damaged)?;
            if count == 0 {
                return Err(Error::Damaged(io::ErrorKind::UnexpectedEof.into()));
            }
            self.spool.write_all(&buffer[..count]).map_err(|source| Error::Io {
                action: "write in",
                path: self.scratch.clone(),
                source,
            })?;
            left -= count as u64;
        }
        self.written += size;
        Ok(offset)
    }
}
