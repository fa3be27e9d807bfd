//! What can go wrong with the store, and what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use crate::digest::Digest;

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Nothing says where the store is.
    #[error("no place for the store: neither XDG_CACHE_HOME nor HOME is an absolute path")]
    #[diagnostic(help("name a directory with `--store DIR`"))]
    NoPlace,

    /// The directory can be neither made nor written.
    #[error("cannot use `{}` as the store", path.display())]
    #[diagnostic(help(
        "make it writable for this user, or name another directory with `--store DIR`"
    ))]
    Unusable {
        /// What was tried: the store or a path inside it.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// The directory belongs to something else; gc deletes files, so it must not be touched.
    #[error("`{}` is not a store: it holds `{found}`", path.display())]
    #[diagnostic(help("name an empty or a new directory with `--store DIR`"))]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// An entry that no store has.
        found: String,
    },

    /// A later imgbuild has made the store.
    #[error("the store `{}` has format `{found}`, this imgbuild knows format {known}", path.display())]
    #[diagnostic(help(
        "use the imgbuild that made it, or name another directory with `--store DIR`"
    ))]
    UnknownFormat {
        /// The store.
        path: PathBuf,
        /// What its `format` file says.
        found: String,
        /// What this program can read.
        known: u32,
    },

    /// The file system, or the user's quota on it, is full.
    #[error("no space left to write `{}`: {} are free", path.display(), mebibytes(*free))]
    #[diagnostic(help(
        "free some space, run `imgbuild gc`, or name a directory on another file system with `--store DIR`"
    ))]
    Full {
        /// The file that was being written.
        path: PathBuf,
        /// Bytes that an unprivileged process can still allocate there.
        free: u64,
        /// The system's reason.
        #[source]
        source: io::Error,
    },

    /// A file does not have the content that its name or the caller promises.
    #[error("`{}` is damaged: its sha256 is {got}, expected {expected}", path.display())]
    #[diagnostic(help(
        "it is made or fetched again by the next build; if this happens more than once, check the disk and the memory of this machine"
    ))]
    WrongDigest {
        /// The file.
        path: PathBuf,
        /// What was promised.
        expected: Digest,
        /// What it is.
        got: Digest,
    },

    /// A blob is not in the store.
    #[error("sha256 {digest} is not in the store")]
    #[diagnostic(help("`imgbuild build` makes or fetches it again"))]
    Missing {
        /// Which one.
        digest: Digest,
    },

    /// A record could not be written as JSON.
    #[error("cannot record the `{kind}` of {digest}")]
    Record {
        /// The kind of record.
        kind: &'static str,
        /// Its key.
        digest: Digest,
        /// The reason.
        #[source]
        source: serde_json::Error,
    },

    /// Any other failure of the file system.
    #[error("cannot {action} `{}`", path.display())]
    #[diagnostic(help(
        "check the disk and the permissions of the store; it may be deleted at any time, everything in it can be made or fetched again"
    ))]
    Io {
        /// What was tried, as a verb: `rename`.
        action: &'static str,
        /// On which path.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// Describes `source`, which `action` on `path` met. A full disk and an exhausted quota
    /// become [`Error::Full`]; a store error that passed through [`io::Write`] comes out as it was.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let source = match source.downcast::<Self>() {
            Ok(error) => return error,
            Err(source) => source,
        };
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { free: free_space(&path), path, source }
            }
            _ => Self::Io { action, path, source },
        }
    }

    /// [`Error::io`] in the shape that `map_err` wants.
    pub(crate) fn while_doing<'a>(
        action: &'static str,
        path: &'a Path,
    ) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::io(action, path, source)
    }

    /// Passes this error through an interface that only knows [`io::Error`], for example
    /// [`io::Write`]. Its kind stays, so `StorageFull` can still be told from the rest.
    pub fn into_io(self) -> io::Error {
        let kind = match &self {
            Self::Full { source, .. } | Self::Io { source, .. } | Self::Unusable { source, .. } => {
                source.kind()
            }
            Self::WrongDigest { .. } => io::ErrorKind::InvalidData,
            Self::Missing { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        };
        io::Error::new(kind, self)
    }
}

/// Bytes that an unprivileged process may still allocate where `path` is (statvfs(3),
/// `f_bavail`), 0 if that cannot be told.
fn free_space(path: &Path) -> u64 {
    path.ancestors()
        .find_map(|path| rustix::fs::statvfs(path).ok())
        .map_or(0, |space| space.f_bavail.saturating_mul(space.f_frsize))
}

/// `bytes` in MiB, rounded down: the number a person compares with `df -m`.
fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}
