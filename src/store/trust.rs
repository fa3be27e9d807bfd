//! Which blobs were hashed since the machine was booted; see *Durability* in [`super`].

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use super::layout::make_private;
use crate::digest::Digest;

/// What tells a file that was hashed from one that came to its place later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Bytes of content.
    pub(super) size: u64,
    inode: u64,
    modified: (i64, i64),
}

impl Stamp {
    /// Of an open file.
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Of the regular file at `path`, if there is one.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let metadata = std::fs::symlink_metadata(path).ok()?;
        metadata.is_file().then(|| Self::of(&metadata))
    }
}

/// The blobs known to be right, shared by all processes through `verified/BOOT`.
///
/// The file has a line for each: digest, size, inode, seconds and nanoseconds of the
/// modification time, separated by blanks. Lines are appended by one write(2) each, and a line that is
/// torn all the same says nothing: the blob is then hashed once more.
pub(super) struct Trust {
    /// Absent where the kernel names no boot or the file cannot be opened: then each process
    /// hashes for itself.
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    log: Option<File>,
    /// Bytes of the log that were read.
    seen: u64,
    stamps: HashMap<Digest, Stamp>,
}

impl Trust {
    /// Opens the log of this boot in `directory`.
    pub(super) fn open(directory: &Path) -> Self {
        let path = boot_id().map(|boot| directory.join(boot));
        let open = |path: &PathBuf| {
            let file = File::options().create(true).read(true).append(true).open(path)?;
            make_private(&file)?;
            Ok::<_, std::io::Error>(file)
        };
        let log = path.as_ref().and_then(|path| open(path).ok());
        Self { path, state: Mutex::new(State { log, ..State::default() }) }
    }

    /// The log of this boot.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Whether the file with this stamp was hashed and found to be `digest`.
    pub(super) fn holds(&self, digest: &Digest, stamp: &Stamp) -> bool {
        let mut state = self.state();
        if state.stamps.get(digest) == Some(stamp) {
            return true;
        }
        // Another process may have done it meanwhile.
        state.read_on();
        state.stamps.get(digest) == Some(stamp)
    }

    /// Notes that the file with this stamp is `digest`.
    pub(super) fn add(&self, digest: &Digest, stamp: Stamp) {
        let mut state = self.state();
        if state.stamps.insert(*digest, stamp) == Some(stamp) {
            return;
        }
        let Stamp { size, inode, modified: (seconds, nanoseconds) } = stamp;
        if let Some(log) = &mut state.log {
            // If this fails, on a full disk say, the blob is hashed once more: no harm.
            let line = format!("{digest} {size} {inode} {seconds} {nanoseconds}\n");
            let _ = log.write_all(line.as_bytes());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change to the state is whole at once, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl State {
    /// Takes in the complete lines that were appended since the last call.
    fn read_on(&mut self) {
        let Some(log) = &mut self.log else { return };
        let mut text = Vec::new();
        if log.seek(SeekFrom::Start(self.seen)).is_err() || log.read_to_end(&mut text).is_err() {
            return;
        }
        let Some(end) = memchr::memrchr(b'\n', &text) else { return };
        self.seen += end as u64 + 1;
        for line in String::from_utf8_lossy(&text[..end]).lines() {
            if let Some((digest, stamp)) = parse(line) {
                self.stamps.insert(digest, stamp);
            }
        }
    }
}

fn parse(line: &str) -> Option<(Digest, Stamp)> {
    let mut fields = line.split(' ');
    let digest = fields.next()?.parse().ok()?;
    let size = fields.next()?.parse().ok()?;
    let inode = fields.next()?.parse().ok()?;
    let modified = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    fields.next().is_none().then_some((digest, Stamp { size, inode, modified }))
}

/// The kernel's name for this boot (random(4)): 36 characters, new at each boot.
fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let text = text.trim_end();
    let sound =
        text.len() == 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    sound.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(size: u64) -> Stamp {
        Stamp { size, inode: 7, modified: (1_700_000_000, 5) }
    }

    #[test]
    fn what_one_process_notes_another_reads() {
        let directory = tempfile::tempdir().unwrap();
        let (one, two) = (Trust::open(directory.path()), Trust::open(directory.path()));
        let digest = Digest::of("x");
        assert!(!two.holds(&digest, &stamp(1)));
        one.add(&digest, stamp(1));
        assert!(two.holds(&digest, &stamp(1)));
        assert!(!two.holds(&digest, &stamp(2)), "another file came to its place");
    }

    #[test]
    fn torn_and_foreign_lines_are_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let trust = Trust::open(directory.path());
        let digest = Digest::of("x");
        let line = format!("{digest} 1 7 1700000000 5");
        for torn in [&line[..80], "", "\u{fffd}", &format!("{line} 6"), &format!("{line}{line}")] {
            assert_eq!(parse(torn), None, "{torn}");
        }
        std::fs::write(trust.path().unwrap(), format!("{}\n{line}\n{}", &line[..30], &line[..9]))
            .unwrap();
        assert!(trust.holds(&digest, &stamp(1)));
    }
}
