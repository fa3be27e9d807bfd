//! One path of a file tree, as layers and artifacts describe it.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file of `size` bytes.
    File {
        /// Bytes of content.
        size: u64,
    },
    /// A symbolic link with its target, byte for byte.
    Symlink {
        /// Where it points.
        target: PathBuf,
    },
    /// Another name of the file at `target`, a path of the same tree, without leading slash.
    Hardlink {
        /// The first name of the file, in path order.
        target: PathBuf,
    },
    /// The path of a lower layer is gone. In a layer's archive this is the OCI whiteout
    /// `.wh.NAME` (image-spec, layer.md); a merged tree never holds one.
    Whiteout,
}

/// A path with its metadata. Paths are relative to the root of the image, without `./` or a
/// leading slash; the root itself is the empty path. They are compared component by component
/// (the order of [`PathBuf`]), so a directory comes directly before what it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, `0o7777` at most.
    pub mode: u32,
    /// Numeric owner, 0 to 65535.
    pub uid: u32,
    /// Numeric group, 0 to 65535.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: u64,
    /// Extended attributes by full name; only `user.*` and `security.capability` (revision 2).
    pub xattrs: BTreeMap<String, Vec<u8>>,
}
