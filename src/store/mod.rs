//! The store: everything that was fetched or built once, named by its content.
//!
//! # Format 1
//!
//! A store is a directory, private to one user. Everything in it can be made again, so it may be
//! deleted at any time when no imgbuild runs.
//!
//! | path | what |
//! | --- | --- |
//! | `CACHEDIR.TAG` | tells backup programs to leave the directory out (<https://bford.info/cachedir/>) |
//! | `format` | `imgbuild store 1` and a newline |
//! | `lock` | empty; see *Collecting garbage* |
//! | `blobs/sha256/ab/ab…` | a blob, mode 0444: 64 lower-case hexadecimal digits of its sha256, in a directory named by the first two |
//! | `keys/KIND/…` | a record: the key's digest as file name; two lines: the sha256 of the second line's bytes (without newline), and the record as JSON on one line |
//! | `verified/BOOT` | the blobs known to be right since the machine was booted; see *Durability* |
//! | `downloads/….part` | the beginning of the blob of that digest; `….from` says where it came from |
//! | `locks/KIND/…` | empty files that are locked while the work they stand for is being done |
//! | `logs/IMAGE-KIND-KEY.log` | what the scripts of a layer wrote that could not be built |
//! | `work/NAME`, `work/NAME.lock` | a scratch directory of one process and the file that is locked as long as it lives |
//!
//! Directories have mode 0700, other files than blobs 0600, whatever the umask. The top directory
//! never holds other names (but `.new-*` while one of its files is written); a directory
//! that has other names and no `format` is refused.
//!
//! # Many processes, and death at any instant
//!
//! Blobs and records are written in the scratch directory of their process and come into being
//! by rename(2), which replaces atomically. Whoever finds a name finds its whole content. What a killed
//! process leaves is a scratch directory whose lock is free: the next [`Store::open`] deletes
//! it. Locks are flock(2) locks and vanish with their process.
//!
//! A record is only written after the blobs that it mentions. It is a hint all the same: a blob
//! that it mentions may be gone, and users of a record ask for the blob.
//!
//! # Durability
//!
//! After a power failure, a file that was renamed but not synced can be found empty or cut short
//! under its final name. Syncing each file before its rename would prevent that, and make every
//! cold build wait for the disk to protect what can be made again: writing 300 blobs of 300 kB
//! takes 0.2 to 0.4 s, an fdatasync(2) for each another 1.0 s (ext4 on a virtual NVMe disk).
//!
//! Instead, no blob is *trusted* that was not hashed since the machine was booted.
//! [`Store::blob`] hashes a blob at its first use after a boot (1 GB/s with SHA instructions, so
//! 0.25 s for a large layer) and notes digest, size, inode and modification time in
//! `verified/BOOT`, where BOOT is the kernel's `boot_id` (random(4)); from then on it compares
//! these. A writer hashes what it writes and notes it likewise. A blob that is not what its name
//! says is deleted and counts as absent. The same rule finds bit rot, and a store that was
//! restored from a CI cache, before they reach an image. Records carry their own digest.
//!
//! Network file systems report a full disk only when data are synced: where the store is not on
//! one of the usual local file systems, blobs are synced before the rename.
//!
//! # Collecting garbage
//!
//! Every open store holds `lock` shared; [`Store::gc`] takes it exclusively, so nothing is
//! deleted under a running build. The time of last use is the access time of a blob or record, set
//! explicitly at use (and therefore also right on `noatime` mounts).

mod blob;
mod error;
mod gc;
mod keys;
mod layout;
mod partial;
mod trust;
mod work;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

pub use blob::{Blob, BlobWriter};
pub use error::Error;
pub use gc::{GcReport, Item};
pub use keys::{KeyKind, KeyLock};
pub use partial::Partial;
pub use work::WorkDir;

use crate::digest::Digest;
use trust::Trust;

/// The store. Open it once per process and share it by reference between threads.
pub struct Store {
    root: PathBuf,
    /// Locked shared for as long as the store is open.
    lock: File,
    /// Where blobs and records are written before they get their names. Made when it is first
    /// needed, so that a store on a disk that is full to the last byte can be opened for gc.
    scratch: OnceLock<WorkDir>,
    trust: Trust,
    /// Whether data must be synced to learn that they could be written.
    sync: bool,
    damaged: Mutex<Vec<PathBuf>>,
}

impl Store {
    /// Opens the store at `path`, or at `$XDG_CACHE_HOME/imgbuild`, or at `~/.cache/imgbuild`
    /// (XDG Base Directory Specification), and makes it if need be. Deletes the scratch
    /// directories of dead processes. Waits while another process collects garbage.
    ///
    /// # Errors
    /// [`Error::NoPlace`], [`Error::Unusable`], [`Error::Foreign`], [`Error::UnknownFormat`].
    pub fn open(path: Option<&Path>) -> Result<Self, Error> {
        let root = match path {
            Some(path) => path.to_owned(),
            None => layout::default_root(|name| std::env::var_os(name)).ok_or(Error::NoPlace)?,
        };
        let root = layout::prepare(&root)?;
        let lock = layout::lock_shared(&root)?;
        work::sweep(&root.join("work"), &work::remove_tree);
        let trust = Trust::open(&root.join("verified"));
        let sync = layout::reports_full_disk_late(&root);
        Ok(Self { root, lock, scratch: OnceLock::new(), trust, sync, damaged: Mutex::default() })
    }

    /// The store's directory, an absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A new scratch directory on the file system of the blobs. It is deleted when dropped, or,
    /// should this process be killed, by the next process that opens the store.
    pub fn work_dir(&self) -> Result<WorkDir, Error> {
        let parent = self.root.join("work");
        WorkDir::create(&parent).map_err(Error::while_doing("create a directory in", &parent))
    }

    /// Deletes the scratch directories of dead processes with `remove`. [`Store::open`] has
    /// tried that already; this is for trees that need more rights to delete, such as those
    /// owned by sub-ids.
    pub fn sweep_work(&self, remove: &dyn Fn(&Path) -> std::io::Result<()>) {
        work::sweep(&self.root.join("work"), remove);
    }

    /// The blobs that were found damaged, and deleted, since the last call. Worth a warning.
    pub fn take_damaged(&self) -> Vec<PathBuf> {
        std::mem::take(&mut *self.damaged.lock().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }

    /// This process's scratch directory for single files.
    fn scratch(&self) -> Result<&Path, Error> {
        if self.scratch.get().is_none() {
            // Of two threads that come here at once, one deletes its directory again.
            let _ = self.scratch.set(self.work_dir()?);
        }
        Ok(self.scratch.get().map_or(&self.root, |scratch| scratch.path()))
    }

    /// Where the blob of `digest` is or would be.
    fn blob_path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join("blobs/sha256").join(&name[..2]).join(name)
    }
}
