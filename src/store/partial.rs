//! Blobs that arrive piece by piece, over several runs if need be.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Blob, Error, KeyKind, KeyLock, Store, layout};
use crate::digest::{Digest, Hasher};

/// Held while a blob is being fetched.
const DOWNLOAD: KeyKind = KeyKind::new("download");

/// The beginning of a blob whose digest is known, kept on disk until the rest is there. Its owner
/// holds a lock, so that two processes do not fetch the same. Dropping it keeps what has arrived.
pub struct Partial<'store> {
    store: &'store Store,
    digest: Digest,
    path: PathBuf,
    note_path: PathBuf,
    file: File,
    hasher: Hasher,
    length: u64,
    _lock: KeyLock,
}

impl Store {
    /// Takes up the blob of `digest` where it was left, after waiting for another process that is at
    /// it. Ask [`Store::blob`] afterwards: the other process may have completed it.
    pub fn partial(&self, digest: &Digest) -> Result<Partial<'_>, Error> {
        let lock = self.lock_key(DOWNLOAD, digest)?;
        let directory = self.root.join("downloads");
        let path = directory.join(format!("{digest}.part"));
        let open = || -> io::Result<(File, Hasher, u64)> {
            let mut file = open_part(&path)?;
            let mut hasher = Hasher::new();
            let length = hash_all(&mut file, &mut hasher)?;
            Ok((file, hasher, length))
        };
        let (file, hasher, length) = open().map_err(Error::while_doing("open", &path))?;
        Ok(Partial {
            store: self,
            digest: *digest,
            note_path: directory.join(format!("{digest}.from")),
            path,
            file,
            hasher,
            length,
            _lock: lock,
        })
    }
}

/// Opens the file at `path` for reading and appending, and makes it if need be.
fn open_part(path: &Path) -> io::Result<File> {
    let open = || File::options().create(true).read(true).append(true).open(path);
    let file = open().or_else(|error| match error.kind() {
        // A process that was killed between making it read-only and giving it its final name.
        io::ErrorKind::PermissionDenied => {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            open()
        }
        _ => Err(error),
    })?;
    layout::make_private(&file)?;
    Ok(file)
}

/// Hashes `file` from its beginning and returns its length in bytes.
fn hash_all(file: &mut File, hasher: &mut Hasher) -> io::Result<u64> {
    file.seek(SeekFrom::Start(0))?;
    let (mut buffer, mut length) = (vec![0; 256 * 1024], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(length),
            count => {
                hasher.update(&buffer[..count]);
                length += count as u64;
            }
        }
    }
}

impl Partial<'_> {
    /// Bytes that have arrived.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// The digest of what has arrived: the blob's own once it is complete.
    pub fn digest_so_far(&self) -> Digest {
        self.hasher.clone().finish()
    }

    /// What [`Partial::set_note`] has stored, in this run or an earlier one.
    pub fn note(&self) -> Option<String> {
        fs::read_to_string(&self.note_path).ok()
    }

    /// Remembers where the bytes come from, together with them. Best effort: a note that is lost
    /// or torn must not matter.
    pub fn set_note(&self, note: &str) {
        let write = || -> io::Result<()> {
            let mut file = File::create(&self.note_path)?;
            layout::make_private(&file)?;
            file.write_all(note.as_bytes())
        };
        let _ = write();
    }

    /// Appends `bytes`.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if let Err(source) = self.file.write_all(bytes) {
            // Some of the bytes may have been written. They are not hashed, so they must go.
            let _ = self.file.set_len(self.length);
            return Err(Error::io("write", &self.path, source));
        }
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Forgets what has arrived.
    pub fn restart(&mut self) -> Result<(), Error> {
        self.file.set_len(0).map_err(Error::while_doing("truncate", &self.path))?;
        self.hasher = Hasher::new();
        self.length = 0;
        let _ = fs::remove_file(&self.note_path);
        Ok(())
    }

    /// Puts the complete blob into the store.
    ///
    /// # Errors
    /// [`Error::WrongDigest`] if it is not what it should be; it is then forgotten.
    pub fn commit(self) -> Result<Blob, Error> {
        let got = self.digest_so_far();
        if got == self.digest {
            let blob = self.store.adopt(&self.path, &self.file, &got)?;
            self.forget();
            return Ok(blob);
        }
        let (path, expected) = (self.path.clone(), self.digest);
        self.forget();
        Err(Error::WrongDigest { path, expected, got })
    }

    /// Deletes what has arrived.
    pub fn forget(self) {
        let _ = fs::remove_file(&self.path);
        let _ = fs::remove_file(&self.note_path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Some(directory.path())).unwrap();
        (directory, store)
    }

    #[test]
    fn a_blob_arrives_over_several_runs() {
        let (directory, store) = store();
        let digest = Digest::of("abc");
        let mut partial = store.partial(&digest).unwrap();
        partial.append(b"ab").unwrap();
        partial.set_note("from a mirror");
        drop(partial);
        drop(store);

        let store = Store::open(Some(directory.path())).unwrap();
        let mut partial = store.partial(&digest).unwrap();
        assert_eq!((partial.length(), partial.digest_so_far()), (2, Digest::of("ab")));
        assert_eq!(partial.note().as_deref(), Some("from a mirror"));
        partial.append(b"c").unwrap();
        let blob = partial.commit().unwrap();
        assert_eq!(store.blob(&digest), Some(blob));
        assert_eq!(fs::read_dir(directory.path().join("downloads")).unwrap().count(), 0);
    }

    #[test]
    fn wrong_bytes_are_forgotten() {
        let (directory, store) = store();
        let mut partial = store.partial(&Digest::of("abc")).unwrap();
        partial.append(b"xyz").unwrap();
        partial.restart().unwrap();
        assert_eq!((partial.length(), partial.digest_so_far()), (0, Digest::of("")));
        partial.append(b"abd").unwrap();
        let error = partial.commit().unwrap_err();
        assert!(matches!(error, Error::WrongDigest { got, .. } if got == Digest::of("abd")));
        assert_eq!(fs::read_dir(directory.path().join("downloads")).unwrap().count(), 0);
        assert_eq!(store.blob(&Digest::of("abd")), None);
    }

    #[test]
    fn a_part_that_was_already_made_read_only_can_be_taken_up() {
        let (directory, store) = store();
        let digest = Digest::of("abc");
        store.partial(&digest).unwrap().append(b"abc").unwrap();
        let path = directory.path().join(format!("downloads/{digest}.part"));
        fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
        // The owner may write to any file if he is root; others notice here.
        assert_eq!(store.partial(&digest).unwrap().length(), 3);
    }
}
