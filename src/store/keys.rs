//! Records: what was made from which inputs. And locks, so that it is made once.

use std::cmp::Reverse;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Error, Store, gc, layout};
use crate::digest::Digest;

/// What a record is about: `layer`, `artifact`. Part of the path, so lower-case letters, digits and `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyKind(&'static str);

impl KeyKind {
    /// A kind of record. Meant for constants: a wrong name then fails to compile.
    ///
    /// # Panics
    /// If `name` is empty or has other characters than `a-z`, `0-9` and `-`.
    pub const fn new(name: &'static str) -> Self {
        let bytes = name.as_bytes();
        assert!(!bytes.is_empty(), "a kind of key needs a name");
        let mut index = 0;
        while index < bytes.len() {
            let sound = matches!(bytes[index], b'a'..=b'z' | b'0'..=b'9' | b'-');
            assert!(sound, "a kind of key is lower-case letters, digits and `-`");
            index += 1;
        }
        Self(name)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        self.0
    }
}

/// Held while the work that a key stands for is being done; see [`Store::lock_key`]. The lock
/// ends with this value, or with the process.
#[must_use = "the lock ends when this is dropped"]
pub struct KeyLock {
    _file: File,
}

impl Store {
    /// The record of `key`, if there is one. A record that is damaged, or is not a `T`, counts
    /// as absent: the work is then done again and its record replaced.
    pub fn get_key<T: DeserializeOwned>(&self, kind: KeyKind, key: &Digest) -> Option<T> {
        let path = self.key_path(kind, key);
        let record = serde_json::from_str(&read_record(&path)?).ok()?;
        gc::note_use(&path);
        Some(record)
    }

    /// The keys of this kind that have a record, in order.
    pub fn keys(&self, kind: KeyKind) -> Vec<Digest> {
        let directory = fs::read_dir(self.root.join("keys").join(kind.0));
        let names = directory.into_iter().flatten().flatten().map(|entry| entry.file_name());
        let mut keys: Vec<Digest> = names.filter_map(|name| name.to_str()?.parse().ok()).collect();
        keys.sort();
        keys
    }

    /// All records of this kind that are whole and a `T`, with their keys, the one that was written last first.
    /// Unlike [`Store::get_key`] this does not count as a use: whoever only looks keeps nothing.
    pub fn latest<T: DeserializeOwned>(&self, kind: KeyKind) -> Vec<(Digest, T)> {
        let read = |key: Digest| {
            let path = self.key_path(kind, &key);
            let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
            let record = serde_json::from_str(&read_record(&path)?).ok()?;
            Some((written, key, record))
        };
        let mut records: Vec<_> = self.keys(kind).into_iter().filter_map(read).collect();
        records.sort_by_key(|(written, key, _)| Reverse((*written, *key)));
        records.into_iter().map(|(_, key, record)| (key, record)).collect()
    }

    /// Records `record` for `key`, in place of an earlier record. Call it when every blob that
    /// the record mentions is in the store. A digest in a record (as a JSON string of
    /// 64 hexadecimal digits) keeps its blob from garbage collection as long as the record stays.
    pub fn put_key<T: Serialize>(
        &self,
        kind: KeyKind,
        key: &Digest,
        record: &T,
    ) -> Result<(), Error> {
        let json = serde_json::to_string(record).map_err(|source| Error::Record {
            kind: kind.0,
            digest: *key,
            source,
        })?;
        let path = self.key_path(kind, key);
        let scratch = self.scratch()?;
        let write = || -> std::io::Result<()> {
            let directory = path.parent().unwrap_or(&self.root);
            layout::create_private(directory)?;
            let mut file = tempfile::Builder::new().tempfile_in(scratch)?;
            layout::make_private(file.as_file())?;
            file.write_all(format!("{}\n{json}\n", Digest::of(&json)).as_bytes())?;
            if self.sync {
                file.as_file().sync_data()?;
            }
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(Error::while_doing("write", &path))
    }

    /// Waits until nobody else holds the lock of `key`, in this process or another, and takes
    /// it. Look again whether the work is done once you have it. Threads that take two locks
    /// must agree on an order.
    pub fn lock_key(&self, kind: KeyKind, key: &Digest) -> Result<KeyLock, Error> {
        let (path, file) = self.open_key_lock(kind, key)?;
        file.lock().map_err(Error::while_doing("lock", &path))?;
        Ok(KeyLock { _file: file })
    }

    /// Like [`Store::lock_key`], but gives up if somebody holds the lock: for telling the user
    /// before waiting.
    pub fn try_lock_key(&self, kind: KeyKind, key: &Digest) -> Result<Option<KeyLock>, Error> {
        let (path, file) = self.open_key_lock(kind, key)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(KeyLock { _file: file })),
            Err(fs::TryLockError::WouldBlock) => Ok(None),
            Err(fs::TryLockError::Error(source)) => Err(Error::io("lock", &path, source)),
        }
    }

    fn open_key_lock(&self, kind: KeyKind, key: &Digest) -> Result<(PathBuf, File), Error> {
        let directory = self.root.join("locks").join(kind.0);
        layout::create_private(&directory).map_err(Error::while_doing("create", &directory))?;
        let path = directory.join(key.to_string());
        let file = layout::open_lock(&path).map_err(Error::while_doing("open", &path))?;
        Ok((path, file))
    }

    fn key_path(&self, kind: KeyKind, key: &Digest) -> PathBuf {
        self.root.join("keys").join(kind.0).join(key.to_string())
    }
}

/// The JSON of the record at `path`, if it is whole.
pub(super) fn read_record(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let (check, json) = text.strip_suffix('\n')?.split_once('\n')?;
    (check.parse::<Digest>().ok()? == Digest::of(json)).then(|| json.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYER: KeyKind = KeyKind::new("layer");

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Some(directory.path())).unwrap();
        (directory, store)
    }

    #[test]
    fn records_are_replaced_and_told_apart_by_kind() {
        let (_directory, store) = store();
        let key = Digest::of("inputs");
        assert_eq!(store.get_key::<u64>(LAYER, &key), None);
        store.put_key(LAYER, &key, &1).unwrap();
        store.put_key(LAYER, &key, &2).unwrap();
        store.put_key(KeyKind::new("artifact"), &key, &3).unwrap();
        assert_eq!(store.get_key(LAYER, &key), Some(2));
        assert_eq!(store.get_key::<String>(LAYER, &key), None, "of another type");
        assert_eq!(store.keys(LAYER), [key]);
        assert_eq!(store.keys(KeyKind::new("none")), []);
    }

    #[test]
    fn the_record_that_was_written_last_is_the_first() {
        let (_directory, store) = store();
        for (seconds, text) in [(20, "b"), (30, "c"), (10, "a")] {
            let key = Digest::of(text);
            store.put_key(LAYER, &key, &text).unwrap();
            let file = File::options().write(true).open(store.key_path(LAYER, &key)).unwrap();
            let written = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(written).unwrap();
        }
        let latest: Vec<(Digest, String)> = store.latest(LAYER);
        let texts: Vec<&str> = latest.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["c", "b", "a"]);
        assert!(store.latest::<u64>(LAYER).is_empty(), "of another type");
    }

    #[test]
    fn a_record_that_was_cut_anywhere_is_absent() {
        let (_directory, store) = store();
        let key = Digest::of("inputs");
        // The beginning of a number is a number too.
        store.put_key(LAYER, &key, &123_456).unwrap();
        let path = store.key_path(LAYER, &key);
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(store.get_key::<u64>(LAYER, &key), None, "{length}");
        }
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert_eq!(store.get_key::<u64>(LAYER, &key), None, "{index}");
        }
        fs::write(&path, &whole).unwrap();
        assert_eq!(store.get_key(LAYER, &key), Some(123_456));
    }

    #[test]
    fn a_lock_is_held_by_one_even_within_a_process() {
        let (directory, store) = store();
        let other = Store::open(Some(directory.path())).unwrap();
        let key = Digest::of("inputs");
        let lock = store.lock_key(LAYER, &key).unwrap();
        assert!(other.try_lock_key(LAYER, &key).unwrap().is_none());
        assert!(store.try_lock_key(LAYER, &key).unwrap().is_none());
        assert!(other.try_lock_key(LAYER, &Digest::of("others")).unwrap().is_some());
        drop(lock);
        assert!(other.try_lock_key(LAYER, &key).unwrap().is_some());
    }
}
