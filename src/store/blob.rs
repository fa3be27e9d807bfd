//! Blobs: immutable files named by the sha256 of their content.

use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

use super::trust::Stamp;
use super::{Error, KeyKind, Store, gc, layout};
use crate::digest::{Digest, HashingWriter};

/// Held while a file under a blob's name is replaced or deleted because it may be damaged.
const REPAIR: KeyKind = KeyKind::new("repair");

/// Large enough that hashing and writing go at full speed, small enough for the second-level cache.
const BUFFER: usize = 256 * 1024;

/// A blob that is in the store and was verified. Only the store makes these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    digest: Digest,
    path: PathBuf,
    size: u64,
}

impl Blob {
    /// The sha256 of its content.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The file: absolute, mode 0444. It stays as long as the store is open.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of content.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Store {
    /// The blob of `digest`, if it is in the store. Hashes it if that was not done since the
    /// machine was booted; a blob that is damaged is deleted and counts as absent (see
    /// [`Store::take_damaged`]).
    pub fn blob(&self, digest: &Digest) -> Option<Blob> {
        let path = self.blob_path(digest);
        let stamp = Stamp::at(&path)?;
        if self.trust.holds(digest, &stamp) {
            gc::note_use(&path);
            return Some(Blob { digest: *digest, path, size: stamp.size });
        }
        self.verify(digest).ok()
    }

    /// Hashes the blob of `digest`, whatever is known about it.
    ///
    /// # Errors
    /// [`Error::Missing`]; [`Error::WrongDigest`], and then the blob is deleted; [`Error::Io`].
    pub fn verify(&self, digest: &Digest) -> Result<Blob, Error> {
        let path = self.blob_path(digest);
        // A symbolic link or a directory under this name is none of ours, and no blob.
        Stamp::at(&path).ok_or(Error::Missing { digest: *digest })?;
        let file = File::open(&path).map_err(Error::while_doing("open", &path))?;
        let metadata = file.metadata().map_err(Error::while_doing("stat", &path))?;
        let stamp = Stamp::of(&metadata);
        let got = Digest::of_reader(file).map_err(Error::while_doing("read", &path))?;
        if got != *digest {
            self.discard(digest, &stamp)?;
            return Err(Error::WrongDigest { path, expected: *digest, got });
        }
        self.trust.add(digest, stamp);
        gc::note_use(&path);
        Ok(Blob { digest: *digest, path, size: stamp.size })
    }

    /// A writer for a new blob. Nothing is in the store before [`BlobWriter::commit`]; a writer that
    /// is dropped leaves nothing.
    pub fn writer(&self) -> Result<BlobWriter<'_>, Error> {
        let directory = self.scratch()?;
        let file = tempfile::Builder::new()
            .tempfile_in(directory)
            .map_err(Error::while_doing("create a file in", directory))?;
        let path = file.path().to_owned();
        let writer = BufWriter::with_capacity(BUFFER, HashingWriter::new(file));
        Ok(BlobWriter { store: self, path, writer, failed: false })
    }

    /// Stores `bytes`.
    pub fn insert_bytes(&self, bytes: &[u8]) -> Result<Blob, Error> {
        let mut writer = self.writer()?;
        writer.write_all(bytes).map_err(Error::while_doing("write", &writer.path.clone()))?;
        writer.commit()
    }

    /// Moves the file at `path` into the store if its content is `expected`. The file should
    /// lie in a [`super::WorkDir`]: then it is renamed, and copied otherwise. The caller must no
    /// longer write to it.
    ///
    /// # Errors
    /// [`Error::WrongDigest`], and then the file stays where it is.
    pub fn insert_file(&self, path: &Path, expected: &Digest) -> Result<Blob, Error> {
        let file = File::open(path).map_err(Error::while_doing("open", path))?;
        let got = Digest::of_reader(&file).map_err(Error::while_doing("read", path))?;
        if got != *expected {
            return Err(Error::WrongDigest { path: path.to_owned(), expected: *expected, got });
        }
        match self.adopt(path, &file, &got) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::CrossesDevices => {
                self.copy_in(path, expected)
            }
            result => result,
        }
    }

    /// Deletes `blob`, which was only needed on the way to something else. Others that want it have to find out
    /// that it is gone, so it should be one that nobody else looks for.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, blob: Blob) -> Result<(), Error> {
        let _repair = self.lock_key(REPAIR, &blob.digest)?;
        match fs::remove_file(&blob.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(Error::while_doing("delete", &blob.path)),
        }
    }

    /// Copies the file at `path` into the store and deletes it.
    fn copy_in(&self, path: &Path, expected: &Digest) -> Result<Blob, Error> {
        let mut from = File::open(path).map_err(Error::while_doing("open", path))?;
        let mut writer = self.writer()?;
        io::copy(&mut from, &mut writer).map_err(Error::while_doing("copy", path))?;
        let blob = writer.commit()?;
        if blob.digest != *expected {
            let (path, got) = (path.to_owned(), blob.digest);
            return Err(Error::WrongDigest { path, expected: *expected, got });
        }
        fs::remove_file(path).map_err(Error::while_doing("delete", path))?;
        Ok(blob)
    }

    /// Gives the file at `path`, open as `file`, its final name. The caller has hashed every
    /// byte of it and found `digest`. If the blob is there already, `path` stays.
    pub(super) fn adopt(&self, path: &Path, file: &File, digest: &Digest) -> Result<Blob, Error> {
        file.set_permissions(Permissions::from_mode(0o444))
            .map_err(Error::while_doing("change the mode of", path))?;
        if self.sync {
            file.sync_data().map_err(Error::while_doing("write", path))?;
        }
        let stamp = Stamp::of(&file.metadata().map_err(Error::while_doing("stat", path))?);
        let name = self.blob_path(digest);
        let blob = Blob { digest: *digest, path: name.clone(), size: stamp.size };

        // A file that is there but not known to be right is replaced: that is cheaper than
        // hashing it. Its lock keeps a process that just found it wrong from deleting this one.
        let _repair = match Stamp::at(&name) {
            Some(there) if self.trust.holds(digest, &there) => {
                gc::note_use(&name);
                return Ok(blob);
            }
            Some(_) => Some(self.lock_key(REPAIR, digest)?),
            None => None,
        };
        if let Some(shard) = name.parent() {
            layout::create_private(shard).map_err(Error::while_doing("create", shard))?;
        }
        fs::rename(path, &name).map_err(Error::while_doing("rename", path))?;
        self.trust.add(digest, stamp);
        Ok(blob)
    }

    /// Deletes the damaged file with this stamp from its place under the name of `digest`, unless
    /// another process has replaced it by now.
    fn discard(&self, digest: &Digest, stamp: &Stamp) -> Result<(), Error> {
        let path = self.blob_path(digest);
        let _repair = self.lock_key(REPAIR, digest)?;
        if Stamp::at(&path).as_ref() == Some(stamp) {
            fs::remove_file(&path).map_err(Error::while_doing("delete", &path))?;
            self.damaged.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(path);
        }
        Ok(())
    }
}

/// Writes a blob whose digest is not known beforehand; see [`Store::writer`].
///
/// As [`Write`] it fails with an [`io::Error`] that carries an [`Error`], so a full disk is
/// reported with path and free space however deep the writer is buried. After a failure nothing
/// can be committed, even if somebody on the way has swallowed the error.
pub struct BlobWriter<'store> {
    store: &'store Store,
    path: PathBuf,
    writer: BufWriter<HashingWriter<NamedTempFile>>,
    failed: bool,
}

impl BlobWriter<'_> {
    /// Puts what was written into the store. If it is there already, the store does not change.
    pub fn commit(mut self) -> Result<Blob, Error> {
        if self.failed {
            let source = io::Error::other("an earlier write to it has failed");
            return Err(Error::io("store", &self.path, source));
        }
        self.flush().map_err(Error::while_doing("write", &self.path))?;
        // The buffer is empty now, so taking it apart loses nothing.
        let (writer, _) = self.writer.into_parts();
        let (temporary, digest, _) = writer.finish();
        let (file, path): (File, TempPath) = temporary.into_parts();
        // `path` deletes the file where it still has its temporary name.
        self.store.adopt(&path, &file, &digest)
    }

    /// Notes and explains a failure.
    fn failure(&mut self, source: io::Error) -> io::Error {
        // These ask to be tried again.
        if source.kind() != io::ErrorKind::Interrupted {
            self.failed = true;
        }
        Error::io("write", &self.path, source).into_io()
    }
}

impl Write for BlobWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes).map_err(|source| self.failure(source))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().map_err(|source| self.failure(source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Some(directory.path())).unwrap();
        (directory, store)
    }

    /// Changes the content behind the store's back.
    fn spoil(path: &Path, content: &[u8]) {
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
        fs::write(path, content).unwrap();
    }

    /// What a reboot leaves: nothing is known to be right.
    fn reboot(directory: &Path) {
        for entry in fs::read_dir(directory.join("verified")).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
    }

    #[test]
    fn a_committed_blob_is_found_read_only() {
        let (_directory, store) = store();
        let mut writer = store.writer().unwrap();
        writer.write_all(b"ab").unwrap();
        writer.write_all(b"c").unwrap();
        assert_eq!(store.blob(&Digest::of("abc")), None, "before commit");
        let blob = writer.commit().unwrap();
        assert_eq!((blob.digest(), blob.size()), (Digest::of("abc"), 3));
        assert_eq!(store.blob(&blob.digest()), Some(blob.clone()));
        assert_eq!(fs::read(blob.path()).unwrap(), b"abc");
        assert_eq!(fs::metadata(blob.path()).unwrap().mode() & 0o7777, 0o444);
    }

    #[test]
    fn a_dropped_writer_leaves_nothing() {
        let (directory, store) = store();
        let mut writer = store.writer().unwrap();
        writer.write_all(&[0; 1_000_000]).unwrap();
        drop(writer);
        assert_eq!(fs::read_dir(store.scratch().unwrap()).unwrap().count(), 0);
        assert_eq!(fs::read_dir(directory.path().join("blobs/sha256")).unwrap().count(), 0);
    }

    #[test]
    fn writing_a_blob_again_changes_nothing() {
        let (_directory, store) = store();
        let first = store.insert_bytes(b"abc").unwrap();
        let inode = fs::metadata(first.path()).unwrap().ino();
        assert_eq!(store.insert_bytes(b"abc").unwrap(), first);
        assert_eq!(fs::metadata(first.path()).unwrap().ino(), inode);
        assert_eq!(fs::read_dir(store.scratch().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn a_blob_that_was_cut_short_is_absent_and_deleted() {
        for content in [&b""[..], b"ab", b"abd", b"abcd"] {
            let (directory, store) = store();
            let blob = store.insert_bytes(b"abc").unwrap();
            drop(store);
            spoil(blob.path(), content);
            reboot(directory.path());

            let store = Store::open(Some(directory.path())).unwrap();
            assert_eq!(store.blob(&blob.digest()), None);
            assert_eq!(store.take_damaged(), [blob.path()]);
            assert!(!blob.path().exists());
            assert_eq!(store.insert_bytes(b"abc").unwrap(), blob);
            assert_eq!(store.blob(&blob.digest()), Some(blob.clone()));
        }
    }

    #[test]
    fn a_damaged_blob_is_replaced_when_it_is_written_again() {
        let (directory, store) = store();
        let blob = store.insert_bytes(b"abc").unwrap();
        drop(store);
        spoil(blob.path(), b"abd");
        reboot(directory.path());
        let store = Store::open(Some(directory.path())).unwrap();
        store.insert_bytes(b"abc").unwrap();
        assert_eq!(fs::read(blob.path()).unwrap(), b"abc");
    }

    #[test]
    fn another_file_under_a_blobs_name_is_noticed_without_reboot() {
        let (_directory, store) = store();
        let blob = store.insert_bytes(b"abc").unwrap();
        fs::remove_file(blob.path()).unwrap();
        fs::write(blob.path(), b"abd").unwrap();
        assert_eq!(store.blob(&blob.digest()), None);

        let blob = store.insert_bytes(b"abc").unwrap();
        fs::remove_file(blob.path()).unwrap();
        std::os::unix::fs::symlink("/dev/null", blob.path()).unwrap();
        assert_eq!(store.blob(&blob.digest()), None);
        assert_eq!(store.insert_bytes(b"abc").unwrap(), blob);
        assert_eq!(store.blob(&blob.digest()), Some(blob));
    }

    #[test]
    fn verify_does_not_believe_what_was_noted() {
        let (_directory, store) = store();
        let blob = store.insert_bytes(b"abc").unwrap();
        let modified = fs::metadata(blob.path()).unwrap().modified().unwrap();
        spoil(blob.path(), b"abd");
        File::open(blob.path()).unwrap().set_modified(modified).unwrap();
        assert!(store.blob(&blob.digest()).is_some(), "size, inode and time are the same");
        let error = store.verify(&blob.digest()).unwrap_err();
        assert!(matches!(error, Error::WrongDigest { got, .. } if got == Digest::of("abd")));
        let error = store.verify(&blob.digest()).unwrap_err();
        assert!(matches!(error, Error::Missing { .. }), "{error}");
    }

    #[test]
    fn files_are_moved_in_only_if_they_are_as_promised() {
        let (_directory, store) = store();
        let scratch = store.work_dir().unwrap();
        let path = scratch.path().join("file");
        fs::write(&path, b"abc").unwrap();
        let error = store.insert_file(&path, &Digest::of("abd")).unwrap_err();
        assert!(matches!(error, Error::WrongDigest { .. }), "{error}");
        assert!(path.exists());
        let blob = store.insert_file(&path, &Digest::of("abc")).unwrap();
        assert!(!path.exists());
        assert_eq!(store.blob(&blob.digest()), Some(blob));
    }

    #[test]
    fn many_threads_may_write_the_same_blob() {
        let (_directory, store) = store();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for index in 0..20_u8 {
                        let blob = store.insert_bytes(&[index; 1000]).unwrap();
                        assert_eq!(store.blob(&blob.digest()), Some(blob));
                    }
                });
            }
        });
        assert!(store.take_damaged().is_empty());
    }
}
