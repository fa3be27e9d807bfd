//! LXC templates: one `.tar.zst` out of a stack of layers.
//!
//! # The archive
//!
//! The members are those of the layers, lowest layer first and in each in path order, without what
//! higher layers remove or replace: every path exactly once, parents before children, links after
//! their files. Proxmox extracts with `--skip-old-files`, so of two members with one name the first
//! would win. A directory stands where its lowest layer has it, with the metadata of the highest,
//! except that a difference in modification time alone is left out: files that come later in the
//! archive set that time anew anyway.
//!
//! Members are called `./…`; Proxmox's `--anchored --exclude './dev/*'` depends on it. Nothing below
//! `./dev/` is included.
//!
//! # Frames
//!
//! The archive is compressed as a sequence of independent zstd frames (RFC 8878, section 3.1: "The
//! decompressed content of multiple concatenated frames is the concatenation of each frame's
//! decompressed content"), which every zstd decoder reads as one. Each layer is cut into frames by its
//! own list of members, whatever the other layers are, and every frame is kept under a key made of
//! all that determines its bytes. So a frame that was compressed once is afterwards only copied, and
//! a changed configuration file costs the compression of one small frame.
//!
//! The result does not depend on the number of threads nor on what the cache holds.

mod assemble;
mod frame;
mod plan;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::layer::index;

pub use assemble::{Assembled, assemble, precompress};

/// Where compressed frames are kept between builds.
pub trait FrameStore: Sync {
    /// The file that holds exactly the frame stored under `key`, if there is one.
    fn find(&self, key: &Digest) -> Option<PathBuf>;

    /// Keeps `frame` under `key` and returns the file that now holds it. Nothing half-written may
    /// ever be found under a key, not even after a crash. Several threads or processes may keep the
    /// same frame at once.
    fn keep(&self, key: &Digest, frame: &[u8]) -> io::Result<PathBuf>;
}

/// How templates are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// zstd's compression level.
    pub level: i32,
    /// The base-2 logarithm of the window in bytes. Decoders accept up to 27 without being asked.
    pub window_log: u32,
    /// The base-2 logarithm of the number of entries in the match finder's hash table.
    pub hash_log: u32,
    /// A frame ends with the member that makes it at least this many bytes long, uncompressed. A
    /// file of more than twice as many is itself cut into pieces of this size.
    pub frame_size: u64,
}

impl Compression {
    /// What artifacts are made with: no larger than `zstd -9` over the whole archive, in three quarters
    /// of its time. Measured on a Debian 13 tree of 217 MiB (minbase, systemd, haproxy, keepalived,
    /// nftables, ifupdown), where `zstd -9` takes 4.9 CPU seconds to 65.60 MB:
    ///
    /// | level | hash table | 8 MiB frames | 16 MiB frames | 32 MiB frames | CPU s (16 MiB) |
    /// |---|---|---|---|---|---|
    /// | 7 | standard (2²⁰) | 67.01 MB | 65.76 MB | 65.37 MB | 2.4 |
    /// | 7 | 2²¹ | 66.72 MB | 65.21 MB | 64.41 MB | 3.1 |
    /// | 8 | standard (2²⁰) | 66.46 MB | 65.19 MB | 64.85 MB | 3.2 |
    /// | **9** | **standard (2²¹)** | 66.14 MB | **64.60 MB** | 64.36 MB | **3.5** |
    /// | 10 | standard | 65.80 MB | 64.31 MB | 63.93 MB | 6.3 |
    /// | 11 | standard | 65.67 MB | 64.18 MB | 63.79 MB | 10 |
    /// | 13 | standard | 65.45 MB | 63.96 MB | — | 25 |
    ///
    /// Level 7 came out 0.1 % larger than `zstd -9` on the tree of the haproxy image, and so is out.
    ///
    /// Long-distance matching saves 0.7 to 1.7 % for 16 to 38 % more time. Larger frames compress
    /// better, but there are fewer to share among threads and more has to be compressed again when
    /// one file in them changes.
    pub const STANDARD: Self =
        Self { level: 9, window_log: 24, hash_log: 21, frame_size: 16 << 20 };
}

/// Why a template could not be made.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The layers do not make a tree.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Merge(#[from] index::Error),
    /// A layer's archive could not be read.
    #[error("cannot read layer {layer} at byte {offset}")]
    #[diagnostic(help("is the store's disk in order? the layer is built again if it is deleted"))]
    Layer {
        /// The layer.
        layer: Digest,
        /// Where in its archive.
        offset: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// zstd failed.
    #[error("cannot compress a part of the template")]
    Compress(#[source] io::Error),
    /// A compressed frame could not be kept or found again.
    #[error("cannot keep a compressed part of the template in the store")]
    #[diagnostic(help("is the disk of the store full? `imgbuild gc` makes room"))]
    Store(#[source] io::Error),
    /// The template could not be written.
    #[error("cannot write the template")]
    #[diagnostic(help("is the disk full?"))]
    Write(#[source] io::Error),
}
