//! Artifacts under their final names, each with its manifest beside it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::output::Output;
use super::{Builder, Error};
use crate::artifact::lint::Tolerated;
use crate::artifact::manifest::{Disk, File, Manifest};
use crate::artifact::name::Format;
use crate::digest::Digest;
use crate::store::KeyKind;

/// Artifacts that were written, by where.
const PUBLISHED: KeyKind = KeyKind::new("published");

/// Manifests by the digest of their image, so that what was built can be looked at when only its digest is
/// known, wherever the artifact is.
pub const MANIFEST: KeyKind = KeyKind::new("manifest");

/// A finished artifact.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Artifact {
    /// The role.
    pub role: String,
    /// What Proxmox does with it.
    pub format: Format,
    /// What identifies it, in whatever directory: the digest that its name is made of.
    pub image: Digest,
    /// The file.
    pub path: PathBuf,
    /// What is in it.
    pub manifest: PathBuf,
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// Bytes of the file.
    pub size: u64,
    /// Whether it was there already.
    pub reused: bool,
    /// What its definitions tolerate in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tolerated: Vec<Tolerated>,
}

impl Artifact {
    pub(super) fn tolerating(self, tolerated: &[Tolerated]) -> Self {
        Self { tolerated: tolerated.to_vec(), ..self }
    }
}

/// An artifact that has no final name yet.
pub(super) struct Unpublished {
    pub file: Output,
    pub sha256: Digest,
    pub size: u64,
    /// What the manifest says of a disk.
    pub disk: Option<Disk>,
}

/// What was written where, so that an artifact that is still there need not be read again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Published {
    sha256: Digest,
    manifest: Digest,
    stamps: [Stamp; 2],
    disk: Option<Disk>,
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

/// Where an artifact goes, and what it will be there.
pub(super) struct Target<'a> {
    role: &'a str,
    image: Digest,
    format: Format,
    path: PathBuf,
    manifest: PathBuf,
    /// Its manifest, given the file and what there is to say of a disk.
    describe: &'a dyn Fn(File, Option<Disk>) -> Manifest,
}

impl<'a> Target<'a> {
    pub fn new(
        role: &'a str,
        (image, stem): (Digest, &str),
        format: Format,
        directory: &Path,
        describe: &'a dyn Fn(File, Option<Disk>) -> Manifest,
    ) -> Self {
        let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        Self {
            role,
            image,
            format,
            path: directory.join(format!("{stem}{}", format.extension())),
            manifest: directory.join(format!("{stem}.manifest.json")),
            describe,
        }
    }

    fn describe(&self, sha256: Digest, size: u64, disk: Option<Disk>) -> Manifest {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (self.describe)(File { name, format: self.format, sha256, size }, disk)
    }

    fn artifact(&self, record: &Published, reused: bool) -> Artifact {
        Artifact {
            role: self.role.to_owned(),
            format: self.format,
            image: self.image,
            path: self.path.clone(),
            manifest: self.manifest.clone(),
            sha256: record.sha256,
            size: record.stamps[0].size,
            reused,
            tolerated: Vec::new(),
        }
    }

    fn key(&self) -> Digest {
        Digest::of(self.path.as_os_str().as_encoded_bytes())
    }

    fn stamps(&self) -> Option<[Stamp; 2]> {
        Some([Stamp::of(&self.path)?, Stamp::of(&self.manifest)?])
    }
}

impl Builder<'_> {
    /// The artifact, if exactly this one is there already.
    pub(super) fn published(&self, target: &Target<'_>) -> Option<Artifact> {
        let record: Published = self.store.get_key(PUBLISHED, &target.key())?;
        let manifest = target.describe(record.sha256, record.stamps[0].size, record.disk.clone());
        let text = manifest.to_json();
        if record.stamps != target.stamps()? || record.manifest != Digest::of(text) {
            return None;
        }
        // It is only a hint for people who know nothing but the digest. Sites whose images are the same take
        // turns: it is that of the last build.
        if self.store.get_key(MANIFEST, &target.image) != Some(manifest.clone()) {
            let _ = self.store.put_key(MANIFEST, &target.image, &manifest);
        }
        Some(target.artifact(&record, true))
    }

    /// Gives the artifact its name, after its manifest: an artifact is never without one.
    pub(super) fn publish(
        &self,
        target: &Target<'_>,
        artifact: Unpublished,
    ) -> Result<Artifact, Error> {
        let Unpublished { file, sha256, size, disk } = artifact;
        let manifest = target.describe(sha256, size, disk.clone());
        self.store.put_key(MANIFEST, &target.image, &manifest)?;
        let text = manifest.to_json();
        write_whole(&target.manifest, text.as_bytes())?;
        file.publish(&target.path).map_err(|source| cannot("write", &target.path, source))?;
        let stamps = target
            .stamps()
            .ok_or_else(|| cannot("read", &target.path, io::ErrorKind::NotFound.into()))?;
        let record = Published { sha256, manifest: Digest::of(text), stamps, disk };
        self.store.put_key(PUBLISHED, &target.key(), &record)?;
        Ok(target.artifact(&record, false))
    }
}

/// An error about something where artifacts go.
pub(super) fn cannot(action: &'static str, path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::Full { free: free_mebibytes(&path), path, source }
        }
        _ => Error::Io { action, path, source },
    }
}

fn free_mebibytes(path: &Path) -> u64 {
    let space = path.ancestors().find_map(|path| rustix::fs::statvfs(path).ok());
    space.map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize) >> 20)
}

/// Makes the directory that artifacts go to.
pub(super) fn create_directory(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory).map_err(|source| cannot("create", directory, source))
}

/// Writes a small file.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        let mut file = Output::create_in(directory)?;
        file.file().write_all(bytes)?;
        file.publish(path)
    };
    write().map_err(|source| cannot("write", path, source))
}
