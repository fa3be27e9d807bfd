//! The archive of a layer: one tree difference as one canonical tar file.
//!
//! A layer is named by the SHA-256 of this file, so the same tree must always give the same bytes.
//! Everything that tar leaves open is therefore fixed here, and [`Index::read`] refuses an archive
//! that [`Writer`] would have written differently.
//!
//! # Format, version 1
//!
//! The base is the *ustar* and *pax* interchange formats of POSIX.1-2017 (`pax`, "EXTENDED
//! DESCRIPTION"). An archive is a sequence of members in 512-byte blocks, then **exactly two blocks
//! of zeros**; it is not padded to a record of 10,240 bytes.
//!
//! **Order.** One member per path, ascending by path compared component by component as bytes. A
//! directory thus comes directly before what it holds. A member's parent need not be in the same
//! archive (then a lower layer has it), but where it is, it is a directory.
//!
//! **Names.** The root is `./`, a directory `./PATH/`, anything else `./PATH`. Paths and link
//! targets are UTF-8 (Debian policy 10.10 asks the same of packages), without NUL, empty, `.` or
//! `..` components, at most 255 bytes a component and 4,095 in all. A component may not begin with
//! `.wh.`: that prefix marks whiteouts.
//!
//! **Kinds.** Regular files (`0`), hard links (`1`), symbolic links (`2`) and directories (`5`).
//! Devices, FIFOs and sockets have no place in an image.
//! - A *hard link* names a regular file that stands earlier in the same archive, as `./TARGET`; mode,
//!   owner and time are those of the file. The file is thus the first name in path order.
//! - A *whiteout* says that a path of a lower layer is gone (OCI image specification, `layer.md`,
//!   "Whiteouts"): an empty regular file called `.wh.NAME` beside it, with mode, owner and time 0.
//!   It is sorted as the path that it removes. The opaque whiteout `.wh..wh..opq` is not used.
//!   A file in place of a lower directory, or the reverse, needs no whiteout.
//!
//! **Header.** `magic` is `ustar\0`, `version` `00`; numbers are octal digits padded with zeros and
//! ended by one NUL (`chksum`: six digits, NUL, space); `uname`, `gname`, `prefix` and the padding
//! are zero bytes; `devmajor` and `devminor` are 0. `mode` holds the twelve permission bits, and
//! 0777 for symbolic links. `uid` and `gid` are below 65,536: no more ids exist in an unprivileged
//! container. `mtime` is whole seconds below 2³³. There is no access or change time.
//!
//! **Extended headers** (type `x`, member name `././@PaxHeader`, mode 0644, all else 0) exist only
//! where the header cannot say it, with these records in this order:
//! - `SCHILY.xattr.NAME`: an extended attribute, by ascending name. `user.*` on files and
//!   directories, and `security.capability` on files, always in revision 2 (see
//!   [`normalise_capability`]). A hard link repeats none of its file's.
//! - `linkpath`: the link's target, if longer than 100 bytes or not ASCII.
//! - `path`: the member's name, if longer than 100 bytes or not ASCII.
//! - `size`: if 8 GiB or more.
//!
//! Where a record is used, the header's own field holds the first 100 bytes with every byte outside
//! ASCII replaced by `?`, or size 0.

mod capability;
mod header;
mod pax;
mod read;
mod rules;
mod writer;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

pub use capability::{CapabilityError, normalise_capability};
pub use read::{Archive, Index, IndexedEntry};
pub use rules::{Rule, WHITEOUT_PREFIX};
pub use writer::Writer;

pub(crate) use header::encode as encode_member;

/// Bytes of a tar block.
pub const BLOCK: u64 = 512;

/// The end of every archive: two blocks of zeros.
pub const END_OF_ARCHIVE: [u8; 2 * BLOCK as usize] = [0; 2 * BLOCK as usize];

/// `size` rounded up to whole blocks: what a file's content occupies in the archive.
pub const fn padded(size: u64) -> u64 {
    size.next_multiple_of(BLOCK)
}

/// Why an archive could not be written or read.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A file that should hold a layer cannot be used.
    #[error("cannot use the layer in {}", path.display())]
    #[diagnostic(help("delete the file if it is damaged: the layer is then built again"))]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The archive could not be read.
    #[error("cannot read the layer archive at byte {offset}")]
    Read {
        /// Where.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The archive could not be written.
    #[error("cannot write the layer archive")]
    #[diagnostic(help("is the disk of the store full?"))]
    Write(#[source] io::Error),
    /// A file's content could not be read while the archive was written.
    #[error("cannot read the content of `{}`", path.display())]
    Content {
        /// The file's path in the tree.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file was longer or shorter than its entry says.
    #[error("the content of `{}` is not {size} bytes long, as its entry says", path.display())]
    #[diagnostic(help("the file was changed while the layer was being packed; build again"))]
    ContentSize {
        /// The file's path in the tree.
        path: PathBuf,
        /// The size in its entry.
        size: u64,
    },
    /// An entry breaks a rule of the format.
    #[error("`{}` cannot be in a layer: {rule}", path.display())]
    Entry {
        /// The entry's path.
        path: PathBuf,
        /// The rule.
        rule: Rule,
    },
    /// An archive that is read is not a layer archive.
    #[error("not a layer archive: {defect} at byte {offset}")]
    #[diagnostic(help("the file is damaged, or another program wrote it"))]
    Malformed {
        /// Start of the member that is wrong.
        offset: u64,
        /// What is wrong.
        defect: Defect,
    },
}

/// How a file differs from a layer archive.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// Ends before its two blocks of zeros.
    #[error("it is cut off")]
    Truncated,
    /// Something else than a second block of zeros after the first, or bytes after the second.
    #[error("something follows its end")]
    TrailingData,
    /// A field of a header does not parse.
    #[error("a header's {0} is invalid")]
    Header(&'static str),
    /// A member of a type that layers do not have.
    #[error("a member has type {0:?}")]
    Type(char),
    /// An extended header does not parse, or has an unknown record.
    #[error("an extended header is invalid")]
    ExtendedHeader,
    /// The padding after a file's content is not zero.
    #[error("the padding after a file is not zero")]
    Padding,
    /// The member is understood, but the canonical form of the same entry is another.
    #[error("the header of `{}` is not in canonical form", .0.display())]
    NotCanonical(PathBuf),
    /// The member breaks a rule.
    #[error("the member `{}` breaks a rule: {}", .0.display(), .1)]
    Rule(PathBuf, Rule),
}
