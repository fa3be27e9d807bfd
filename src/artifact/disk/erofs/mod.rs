//! EROFS: the read-only file system that a layer is on a disk.
//!
//! # Format
//!
//! The on-disk format is that of Linux (`fs/erofs/erofs_fs.h` and
//! `Documentation/filesystems/erofs.rst`), in its plainest form: blocks of 4 KiB, nothing
//! compressed (the disk image is), no chunks, no shared attributes, no extra devices. Numbers are
//! little-endian. In this order, each part at a block boundary:
//!
//! 1. **Block 0** holds the superblock at byte 1024 and is zero otherwise. Its checksum is a
//!    CRC-32C of bytes 1024 to 4095 (`erofs_superblock_csum_verify`).
//! 2. **Inodes**, from block 1 on, in path order: one for every path but further hard links. Each
//!    begins at a multiple of 32, its *nid* being its offset divided by 32, and is of the extended
//!    kind of 64 bytes, which alone has a modification time. Extended attributes follow it, and
//!    then whatever is inline: what exceeds whole blocks of a small file, of a directory or of a
//!    link's target. Inline content never crosses a block boundary, nor do the 64 bytes of the
//!    inode.
//! 3. **Whole blocks of directories**, in path order.
//! 4. **Whole blocks of files**, in path order.
//!
//! So the image is a sequence of pieces that are known from the start, and any part of it can be
//! read without having written it.
//!
//! A directory's block begins with its entries of 12 bytes, then their names, in ascending order of
//! their bytes throughout; `.` and `..` are among them. A removal (*whiteout*) of overlayfs is a
//! character device 0:0 (`Documentation/filesystems/overlayfs.rst`, "whiteouts and opaque
//! directories").
//!
//! The UUID is made of all metadata, the build time is the newest modification time.

mod directory;
mod layout;
mod record;

#[cfg(any(test, fuzzing))]
pub(crate) mod reader;
#[cfg(any(test, fuzzing))]
pub(super) mod testing;
#[cfg(test)]
mod tests;

pub(super) use layout::FORMAT_VERSION;

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::uuid::Uuid;
use crate::layer::entry::Entry;

/// Bytes of a block.
pub const BLOCK: u64 = 4096;

/// A path of the file system.
#[derive(Debug, Clone)]
pub struct Node<'a> {
    /// The path and its metadata. Those of a hard link are not used: it shares its file's.
    pub entry: Cow<'a, Entry>,
    /// The content, for a file and for nothing else.
    pub content: Option<Extent<'a>>,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy)]
pub struct Extent<'a> {
    /// The file that holds them.
    pub file: &'a File,
    /// Where they begin.
    pub offset: u64,
    /// How many they are.
    pub size: u64,
}

/// Why paths do not make a file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The first path is not the root directory.
    #[error("the file system of a layer has no root directory")]
    NoRoot,
    /// A path does not come after the one before it.
    #[error("`{}` comes after `{}`, which is not path order", path.display(), previous.display())]
    Order {
        /// The path.
        path: PathBuf,
        /// The one before.
        previous: PathBuf,
    },
    /// A path is in no directory.
    #[error("`{}` lies in no directory", .0.display())]
    NoParent(PathBuf),
    /// A hard link names no earlier file.
    #[error("`{}` is a hard link to `{}`, which is no earlier file", path.display(), target.display())]
    LinkTarget {
        /// The link.
        path: PathBuf,
        /// What it should be the same as.
        target: PathBuf,
    },
    /// A file without content, content of another size than the entry says, or content of something
    /// that is no file.
    #[error("`{}` does not have the content that its entry says", .0.display())]
    Content(PathBuf),
    /// A name, target or attribute that the format has no room for.
    #[error("{part} of `{}` is too long for EROFS", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// What of it.
        part: &'static str,
    },
    /// An extended attribute of another kind than `user.*` and `security.*`.
    #[error("the extended attribute `{name}` of `{}` cannot be kept on a disk", path.display())]
    Attribute {
        /// The path.
        path: PathBuf,
        /// The attribute.
        name: String,
    },
    /// More than 2³² blocks.
    #[error("a layer of {0} bytes is too large for EROFS")]
    #[diagnostic(help("the limit is 16 TiB"))]
    TooLarge(u64),
}

/// A file system that can be read at any offset.
#[derive(Debug)]
pub struct Image<'a> {
    size: u64,
    uuid: Uuid,
    /// In ascending order; what none covers is zero.
    pieces: Vec<Piece<'a>>,
    /// What [`Content::Written`] refers to.
    written: Vec<u8>,
}

/// A stretch of an image.
#[derive(Debug)]
struct Piece<'a> {
    start: u64,
    length: u64,
    content: Content<'a>,
}

#[derive(Debug)]
enum Content<'a> {
    /// Bytes of [`Image::written`] from here on.
    Written(usize),
    /// Bytes of a file from here on.
    Copied(&'a File, u64),
}

impl<'a> Image<'a> {
    /// The file system that holds `nodes`, which are in path order with the root first. Contents
    /// are not read yet.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn new(nodes: Vec<Node<'a>>) -> Result<Self, Error> {
        layout::lay_out(&nodes)
    }

    /// Bytes of the image: a multiple of [`BLOCK`], and at least two blocks.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The UUID of the file system.
    pub(super) fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Fills `buffer` with the image's bytes from `offset` on; what lies beyond its end is zero.
    ///
    /// # Errors
    /// If the content of a file cannot be read, or is shorter than its extent.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        let first = self.pieces.partition_point(|piece| piece.start + piece.length <= offset);
        for piece in &self.pieces[first..] {
            if piece.start >= end {
                break;
            }
            let from = piece.start.max(offset);
            let to = (piece.start + piece.length).min(end);
            let wanted = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            let skipped = from - piece.start;
            match piece.content {
                Content::Written(begin) => {
                    let begin = begin + skipped as usize;
                    wanted.copy_from_slice(&self.written[begin..begin + wanted.len()]);
                }
                Content::Copied(file, begin) => file.read_exact_at(wanted, begin + skipped)?,
            }
        }
        Ok(())
    }

    /// Appends bytes that are made here; `start` is not before the end of the last piece.
    fn push_written(&mut self, start: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let begin = self.written.len();
        self.written.extend_from_slice(bytes);
        let length = bytes.len() as u64;
        match self.pieces.last_mut() {
            Some(Piece { start: last, length: so_far, content: Content::Written(_) })
                if *last + *so_far == start =>
            {
                *so_far += length;
            }
            _ => self.pieces.push(Piece { start, length, content: Content::Written(begin) }),
        }
    }

    /// Appends bytes of a file; `start` is not before the end of the last piece.
    fn push_copied(&mut self, start: u64, extent: Extent<'a>) {
        if extent.size > 0 {
            let content = Content::Copied(extent.file, extent.offset);
            self.pieces.push(Piece { start, length: extent.size, content });
        }
    }
}
