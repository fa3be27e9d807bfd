//! Deleting what nobody needs any more.

use std::collections::BTreeSet;
use std::fs::{self, FileTimes, Metadata, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Error, Store, keys, work};
use crate::digest::Digest;
use crate::progress::{Event, Progress};

/// How exactly the time of last use is kept: noting each use would cost a write each time.
const EXACT_TO: Duration = Duration::from_secs(3600);

/// Something that can be kept or collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item<'a> {
    /// A blob.
    Blob(Digest),
    /// The record of `key`.
    Key {
        /// The kind of record.
        kind: &'a str,
        /// Its key.
        key: Digest,
    },
}

/// What [`Store::gc`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blobs, records and unfinished downloads that were deleted.
    pub removed: u64,
    /// Bytes of content that were in them.
    pub freed_bytes: u64,
    /// Blobs and records that stay.
    pub kept: u64,
}

impl Store {
    /// Deletes what `keep` does not want, was not used since `unused_since` (exact to an hour) and
    /// is not mentioned in a record that stays. Unfinished downloads go by age alone.
    ///
    /// Waits, after a warning to `progress`, until no other process uses the store; processes
    /// that want to use it wait meanwhile. Killed half-way, it leaves a sound store. Must not
    /// be called while this process has the same store open a second time: it would wait for itself.
    ///
    /// # Errors
    /// [`Error::Io`] if something cannot be deleted.
    pub fn gc(
        &mut self,
        keep: &dyn Fn(Item) -> bool,
        unused_since: SystemTime,
        progress: &dyn Progress,
    ) -> Result<GcReport, Error> {
        self.lock_exclusive(progress)?;
        let result = self.collect(keep, unused_since);
        // flock(2): from exclusive to shared, no other process comes between that matters.
        let path = self.root.join("lock");
        self.lock.lock_shared().map_err(Error::while_doing("lock", &path))?;
        result
    }

    fn lock_exclusive(&self, progress: &dyn Progress) -> Result<(), Error> {
        let path = self.root.join("lock");
        match self.lock.try_lock() {
            Ok(()) => Ok(()),
            Err(TryLockError::WouldBlock) => {
                let text = "waiting for the builds that use the store to finish";
                progress.event(Event::Warning(text.to_owned()));
                self.lock.lock().map_err(Error::while_doing("lock", &path))
            }
            Err(TryLockError::Error(source)) => Err(Error::io("lock", &path, source)),
        }
    }

    fn collect(
        &self,
        keep: &dyn Fn(Item) -> bool,
        unused_since: SystemTime,
    ) -> Result<GcReport, Error> {
        let mut report = GcReport::default();
        // Records first: without its record a blob is only unused, without its blob a record is void.
        let mentioned = self.collect_keys(keep, unused_since, &mut report)?;
        let keep_blob = |digest| mentioned.contains(&digest) || keep(Item::Blob(digest));
        self.collect_blobs(&keep_blob, unused_since, &mut report)?;
        for name in ["downloads", "logs"] {
            for (path, metadata) in entries(&self.root.join(name))? {
                if metadata.modified().is_ok_and(|time| time < unused_since) {
                    remove(&path, &metadata, &mut report)?;
                }
            }
        }
        // Nobody else has the store open, so nobody holds one of these.
        for directory in directories(&self.root.join("locks"))? {
            for (path, metadata) in entries(&directory)? {
                remove(&path, &metadata, &mut GcReport::default())?;
            }
        }
        for (path, metadata) in entries(&self.root.join("verified"))? {
            if Some(path.as_path()) != self.trust.path() {
                remove(&path, &metadata, &mut GcReport::default())?;
            }
        }
        work::sweep(&self.root.join("work"), &work::remove_tree);
        Ok(report)
    }

    /// Collects records and returns the digests that the remaining ones mention.
    fn collect_keys(
        &self,
        keep: &dyn Fn(Item) -> bool,
        unused_since: SystemTime,
        report: &mut GcReport,
    ) -> Result<BTreeSet<Digest>, Error> {
        let mut mentioned = BTreeSet::new();
        for directory in directories(&self.root.join("keys"))? {
            let kind = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for (path, metadata) in entries(&directory)? {
                let record = keys::read_record(&path)
                    .and_then(|json| serde_json::from_str::<serde_json::Value>(&json).ok());
                match (digest_in_name(&path), record) {
                    (Some(key), Some(record))
                        if used_since(&metadata, unused_since)
                            || keep(Item::Key { kind: &kind, key }) =>
                    {
                        collect_digests(&record, &mut mentioned);
                        report.kept += 1;
                    }
                    _ => remove(&path, &metadata, report)?,
                }
            }
        }
        Ok(mentioned)
    }

    fn collect_blobs(
        &self,
        keep: &dyn Fn(Digest) -> bool,
        unused_since: SystemTime,
        report: &mut GcReport,
    ) -> Result<(), Error> {
        for shard in directories(&self.root.join("blobs/sha256"))? {
            for (path, metadata) in entries(&shard)? {
                match digest_in_name(&path) {
                    Some(digest) if used_since(&metadata, unused_since) || keep(digest) => {
                        report.kept += 1;
                    }
                    _ => remove(&path, &metadata, report)?,
                }
            }
        }
        Ok(())
    }
}

/// The entries of `directory` in the order of their names, without following symbolic links.
fn entries(directory: &Path) -> Result<Vec<(PathBuf, Metadata)>, Error> {
    let list = || -> std::io::Result<Vec<_>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            entries.push((entry.path(), entry.metadata()?));
        }
        entries.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(entries)
    };
    list().map_err(Error::while_doing("list", directory))
}

/// The directories in `directory`, in the order of their names.
fn directories(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = entries(directory)?.into_iter();
    Ok(entries.filter(|(_, metadata)| metadata.is_dir()).map(|(path, _)| path).collect())
}

fn remove(path: &Path, metadata: &Metadata, report: &mut GcReport) -> Result<(), Error> {
    fs::remove_file(path).map_err(Error::while_doing("delete", path))?;
    report.removed += 1;
    report.freed_bytes += metadata.len();
    Ok(())
}

fn digest_in_name(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str()?.parse().ok()
}

/// Every digest in `value`: whatever a record looks like, this finds the blobs it needs.
fn collect_digests(value: &serde_json::Value, found: &mut BTreeSet<Digest>) {
    match value {
        serde_json::Value::String(text) => found.extend(text.parse::<Digest>().ok()),
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| collect_digests(value, found));
        }
        serde_json::Value::Object(fields) => {
            fields.values().for_each(|value| collect_digests(value, found));
        }
        _ => {}
    }
}

fn used_since(metadata: &Metadata, time: SystemTime) -> bool {
    metadata.accessed().is_ok_and(|accessed| accessed >= time)
}

/// Notes that the blob or record at `path` was used now. Best effort: the worst that can happen
/// is that it is made again.
pub(super) fn note_use(path: &Path) {
    let now = SystemTime::now();
    let recent = |metadata: Metadata| {
        let accessed = metadata.accessed()?;
        let distance = now.duration_since(accessed).unwrap_or_else(|error| error.duration());
        Ok::<_, std::io::Error>(distance < EXACT_TO)
    };
    if fs::metadata(path).and_then(recent).unwrap_or(false) {
        return;
    }
    // Setting times asks for ownership, not for the right to write: utimensat(2).
    if let Ok(file) = fs::File::open(path) {
        let _ = file.set_times(FileTimes::new().set_accessed(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use crate::store::KeyKind;
    use std::sync::Mutex;

    const LAYER: KeyKind = KeyKind::new("layer");

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Some(directory.path())).unwrap();
        (directory, store)
    }

    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_secs(60)
    }

    #[test]
    fn what_is_kept_mentioned_or_recently_used_stays() {
        let (_directory, mut store) = store();
        let kept = store.insert_bytes(b"kept").unwrap().digest();
        let mentioned = store.insert_bytes(b"mentioned").unwrap().digest();
        let unused = store.insert_bytes(b"unused").unwrap().digest();
        let (key, old_key) = (Digest::of("key"), Digest::of("old key"));
        let record = serde_json::json!({ "layers": [{ "blob": mentioned, "size": 9 }] });
        store.put_key(LAYER, &key, &record).unwrap();
        store.put_key(LAYER, &old_key, &unused).unwrap();

        let keep =
            |item: Item| item == Item::Blob(kept) || item == Item::Key { kind: "layer", key };
        let none = store.gc(&|_| false, SystemTime::UNIX_EPOCH, &Silent).unwrap();
        assert_eq!(none, GcReport { removed: 0, freed_bytes: 0, kept: 5 }, "all were used since");
        let report = store.gc(&keep, later(), &Silent).unwrap();
        assert_eq!((report.removed, report.kept), (2, 3));
        assert!(report.freed_bytes > 6, "{report:?}");
        assert!(store.blob(&kept).is_some() && store.blob(&mentioned).is_some());
        assert!(store.blob(&unused).is_none());
        assert!(store.get_key::<serde_json::Value>(LAYER, &key).is_some());
        assert!(store.get_key::<Digest>(LAYER, &old_key).is_none());
        assert!(store.take_damaged().is_empty());
    }

    #[test]
    fn use_makes_young() {
        let (_directory, mut store) = store();
        let [old, used] = [b"old!", b"used"].map(|bytes| store.insert_bytes(bytes).unwrap());
        let day = Duration::from_secs(86_400);
        for blob in [&old, &used] {
            let times = FileTimes::new().set_accessed(SystemTime::now() - 30 * day);
            fs::File::open(blob.path()).unwrap().set_times(times).unwrap();
        }
        store.blob(&used.digest()).unwrap();
        store.gc(&|_| false, SystemTime::now() - day, &Silent).unwrap();
        assert!(store.blob(&old.digest()).is_none());
        assert!(store.blob(&used.digest()).is_some());
    }

    #[test]
    fn what_is_not_sound_goes() {
        let (directory, mut store) = store();
        let root = directory.path();
        store.put_key(LAYER, &Digest::of("key"), &1).unwrap();
        let record = root.join("keys/layer").join(Digest::of("key").to_string());
        fs::write(&record, "{").unwrap();
        fs::create_dir(root.join("blobs/sha256/zz")).unwrap();
        fs::write(root.join("blobs/sha256/zz/odd"), "").unwrap();
        store.partial(&Digest::of("x")).unwrap().append(b"x").unwrap();
        let report = store.gc(&|_| true, later(), &Silent).unwrap();
        assert_eq!((report.removed, report.kept), (3, 0));
        assert_eq!(fs::read_dir(root.join("downloads")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(root.join("locks/download")).unwrap().count(), 0);
    }

    /// A build that finishes when gc says that it waits.
    struct Build(Mutex<Option<Store>>);

    impl Progress for Build {
        fn event(&self, event: Event) {
            assert!(matches!(event, Event::Warning(_)));
            self.0.lock().unwrap().take().expect("one warning only");
        }
    }

    #[test]
    fn a_running_build_loses_nothing() {
        let (directory, mut store) = store();
        let build = Build(Mutex::new(Some(Store::open(Some(directory.path())).unwrap())));
        store.gc(&|_| false, later(), &build).unwrap();
        assert!(build.0.lock().unwrap().is_none(), "gc has waited");
        let error = store.lock.try_lock_shared();
        assert!(error.is_ok(), "gc has gone back to the shared lock: {error:?}");
        Store::open(Some(directory.path())).unwrap();
    }
}
