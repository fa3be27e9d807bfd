//! From the layers of a stack to a published artifact: the checks of the role's daemons, the lint, the
//! template and its manifest.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Builder, Error, Layer, LockedPlan};
use crate::artifact::template::{self, Compression, FrameStore};
use crate::digest::{Digest, Hasher};
use crate::layer::archive::Archive;
use crate::progress::Step;
use crate::store::{KeyKind, Store};

/// Compressed frames by what they are made of.
const FRAME: KeyKind = KeyKind::new("frame");

/// Artifacts that were written, by where.
const PUBLISHED: KeyKind = KeyKind::new("published");

/// A finished artifact.
#[derive(Clone, Debug, Serialize)]
pub struct Artifact {
    /// The role.
    pub role: String,
    /// The digest of the image, which is the same in every format.
    pub image: Digest,
    /// The LXC template.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: PathBuf,
    /// The SHA-256 of the template.
    pub sha256: Digest,
    /// Bytes of the template.
    pub size: u64,
    /// Whether it was there already.
    pub reused: bool,
}

/// What was written where, so that an artifact that is still there need not be read again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Published {
    sha256: Digest,
    manifest: Digest,
    stamps: [Stamp; 2],
}

/// A file that the kernel says was not touched since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let changed = (metadata.ctime(), metadata.ctime_nsec());
        Some(Self { inode: metadata.ino(), size: metadata.len(), changed })
    }
}

impl Builder<'_> {
    /// Compresses a layer ahead of time, while the next one is built.
    ///
    /// # Errors
    /// When the layer cannot be read or the store not be written.
    pub fn precompress(&self, layers: &[Layer], threads: usize) -> Result<(), Error> {
        let archives = open(layers)?;
        let stack: Vec<&Archive> = archives.iter().collect();
        let frames = Frames { store: self.store };
        template::precompress(&stack, &frames, Compression::STANDARD, threads)?;
        Ok(())
    }
}

fn open(layers: &[Layer]) -> Result<Vec<Archive>, Error> {
    let open = |layer: &Layer| Ok(Archive::open(&layer.archive, layer.record.digest)?);
    layers.iter().map(open).collect()
}

struct Frames<'a> {
    store: &'a Store,
}

impl FrameStore for Frames<'_> {
    fn find(&self, key: &Digest) -> Option<PathBuf> {
        let digest: Digest = self.store.get_key(FRAME, key)?;
        Some(self.store.blob(&digest)?.path().to_owned())
    }

    fn keep(&self, key: &Digest, frame: &[u8]) -> io::Result<PathBuf> {
        let blob = self.store.insert_bytes(frame).map_err(io::Error::other)?;
        self.store.put_key(FRAME, key, &blob.digest()).map_err(io::Error::other)?;
        Ok(blob.path().to_owned())
    }
}
