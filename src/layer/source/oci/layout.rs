//! OCI layouts: an image as files (OCI image specification, image-layout.md), in a directory or a tar
//! archive of one.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::super::Error;
use super::Wanted;
use crate::digest::{Digest, Hasher};

/// The file that makes a directory a layout.
const MARK: &str = "oci-layout";

/// An OCI layout.
pub struct Layout {
    path: PathBuf,
    /// Where blobs begin and how long they are, if it is an archive.
    members: Option<Vec<(Digest, u64, u64)>>,
}

impl Layout {
    /// The layout at `path`; none if there is something else.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        if path.is_dir() {
            let is_layout = path.join(MARK).is_file();
            return Ok(is_layout.then(|| Self { path: path.to_owned(), members: None }));
        }
        let failed = |source| Error::Io { action: "read", path: path.to_owned(), source };
        let file = BufReader::new(File::open(path).map_err(failed)?);
        let mut archive = tar::Archive::new(file);
        let (mut members, mut is_layout) = (Vec::new(), false);
        // What is no tar archive is no layout; nor is one that is compressed.
        for entry in archive.entries_with_seek().map_err(failed)? {
            let Ok(entry) = entry else { return Ok(None) };
            let name = entry.path_bytes().into_owned();
            let name = str::from_utf8(&name).unwrap_or_default().trim_start_matches("./");
            is_layout |= name == MARK;
            let digest = name.strip_prefix("blobs/sha256/").and_then(|digits| digits.parse().ok());
            if let Some(digest) = digest.filter(|_| entry.header().entry_type().is_file()) {
                members.push((digest, entry.raw_file_position(), entry.size()));
            }
        }
        Ok(is_layout.then(|| Self { path: path.to_owned(), members: Some(members) }))
    }

    /// Whether it has the blob `digest`.
    pub fn has(&self, digest: &Digest) -> bool {
        match &self.members {
            Some(members) => members.iter().any(|(known, ..)| known == digest),
            None => self.blob(digest).is_file(),
        }
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.path.join("blobs/sha256").join(digest.to_string())
    }

    /// Copies a blob to the directory `scratch`, and verifies what was copied. Whatever happens to the
    /// layout afterwards, these are the bytes.
    ///
    /// # Errors
    /// It has not the blob, or another one by its name.
    pub fn copy(&self, wanted: &Wanted, scratch: &Path) -> Result<PathBuf, Error> {
        let Wanted { digest, size, .. } = wanted;
        let failed = |source| Error::Io { action: "read", path: self.path.clone(), source };
        if !self.has(digest) {
            return Err(Error::image(format!("the layout has no blob sha256:{digest}")));
        }
        let mut reader: Box<dyn Read> = match &self.members {
            None => Box::new(File::open(self.blob(digest)).map_err(failed)?),
            Some(members) => {
                let found = members.iter().find(|(known, ..)| known == digest);
                let (_, offset, length) = found.copied().unwrap_or((*digest, 0, 0));
                let mut file = File::open(&self.path).map_err(failed)?;
                file.seek(SeekFrom::Start(offset)).map_err(failed)?;
                Box::new(file.take(length))
            }
        };
        // One byte more than it may have is enough to see that there are too many.
        let limit = size.unwrap_or(super::DOCUMENT_LIMIT).saturating_add(1);
        let path = scratch.join(digest.to_string());
        let written = |source| Error::Io { action: "write", path: path.clone(), source };
        let mut file = fs::File::create(&path).map_err(written)?;
        let (mut hasher, mut length) = (Hasher::new(), 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            length += count as u64;
            if length > limit {
                break;
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(written)?;
        }
        if size.is_some_and(|size| size != length) || hasher.finish() != *digest {
            let problem = format!("the layout has another blob in the place of sha256:{digest}");
            return Err(Error::image(problem));
        }
        Ok(path)
    }
}
