//! The files of an artifact, which lie beside each other.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{SIGNATURE, SUMS};
use crate::artifact::name::Format;

/// What the names of manifests end with.
pub const MANIFEST: &str = ".manifest.json";

/// The documents, by what their names end with: the bills of materials, and the provenance.
pub const DOCUMENTS: [&str; 3] = [SPDX, CYCLONEDX, PROVENANCE];
/// What the name of a bill of materials ends with in SPDX.
pub const SPDX: &str = ".spdx.json";
/// The same in CycloneDX.
pub const CYCLONEDX: &str = ".cyclonedx.json";
/// What the name of provenance ends with.
pub const PROVENANCE: &str = ".provenance.json";

/// An artifact and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    directory: PathBuf,
    stem: String,
    format: Option<Format>,
}

impl Files {
    /// Those of the artifact at `path`, or of the manifest at `path`; none if it is neither, by its name.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let directory = path.parent().unwrap_or(Path::new("")).to_owned();
        let formats = [Format::LxcTemplate, Format::Qcow2];
        let artifact = formats
            .into_iter()
            .find_map(|format| Some((name.strip_suffix(format.extension())?, Some(format))));
        let (stem, format) = artifact.or_else(|| Some((name.strip_suffix(MANIFEST)?, None)))?;
        Some(Self { directory, stem: stem.to_owned(), format })
    }

    /// The file whose name is the stem and `ending`.
    pub fn path(&self, ending: &str) -> PathBuf {
        self.directory.join(self.name(ending))
    }

    /// The name of the file whose name is the stem and `ending`.
    pub fn name(&self, ending: &str) -> String {
        format!("{}{ending}", self.stem)
    }

    /// The manifest.
    pub fn manifest(&self) -> PathBuf {
        self.path(MANIFEST)
    }

    /// The name of the artifact, in the format that was asked for; else in the one whose file is there.
    pub fn artifact_name(&self) -> String {
        let is_disk = self.format.is_none() && self.path(Format::Qcow2.extension()).is_file();
        let other = if is_disk { Format::Qcow2 } else { Format::LxcTemplate };
        self.name(self.format.unwrap_or(other).extension())
    }

    /// The artifact.
    pub fn artifact(&self) -> PathBuf {
        self.directory.join(self.artifact_name())
    }

    /// The names of all files that are signed, in their order.
    pub fn signed_names(&self) -> Vec<String> {
        let mut names = vec![self.artifact_name(), self.name(MANIFEST)];
        names.extend(DOCUMENTS.map(|ending| self.name(ending)));
        names
    }

    /// The list of files that is signed.
    pub fn sums(&self) -> PathBuf {
        self.path(SUMS)
    }

    /// Its signature.
    pub fn signature(&self) -> PathBuf {
        self.path(SIGNATURE)
    }
}

/// Reads a file of at most `limit` bytes; none if there is none.
///
/// # Errors
/// It is larger, no regular file, or cannot be read.
pub fn read(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        metadata => metadata?,
    };
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::other(format!("it is larger than {limit} bytes")));
    }
    Ok(Some(bytes))
}

/// Writes a file whole or not at all.
///
/// # Errors
/// If that does not go.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let directory = path.parent().filter(|it| !it.as_os_str().is_empty());
    fs::metadata(directory.unwrap_or(Path::new(".")))?;
    // As anybody would make it: umask(2) decides who may read it.
    let mut builder = tempfile::Builder::new();
    let builder = builder.permissions(fs::Permissions::from_mode(0o666));
    // Nobody has asked for the name that is in the error.
    let file = builder.tempfile_in(directory.unwrap_or(Path::new("."))).map_err(|it| it.kind());
    let mut file = file?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
