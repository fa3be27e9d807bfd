//! What can be wrong with a package file.

use std::io;
use std::path::PathBuf;

/// A `.deb` that cannot be read, or that must not be.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The file cannot be opened or read at all.
    #[error("cannot read the package file {}", path.display())]
    Read {
        /// The package file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a Debian binary package of format 2.
    #[error("{} is not a Debian package: {problem}", path.display())]
    #[diagnostic(help(
        "its bytes are those that the repository vouches for, so fetching it again does not help: leave \
         the package out or take another version, and tell whoever runs the repository"
    ))]
    Format {
        /// The package file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The archive inside is compressed in a way that this version does not know.
    #[error("{}: `{member}` is compressed in an unsupported way", path.display())]
    #[diagnostic(help("packages may be compressed with gzip, xz or zstd, or not at all"))]
    Compression {
        /// The package file.
        path: PathBuf,
        /// Name of the member of the outer archive.
        member: String,
    },
    /// The stream inside is damaged or ends too early.
    #[error("{}: `{member}` is damaged", path.display())]
    #[diagnostic(help(
        "its bytes are those that the repository vouches for, so fetching it again does not help: leave \
         the package out or take another version, and tell whoever runs the repository"
    ))]
    Corrupt {
        /// The package file.
        path: PathBuf,
        /// Name of the member of the outer archive.
        member: String,
        /// What the decoder said.
        #[source]
        source: io::Error,
    },
    /// The archive inside expands beyond all reason.
    #[error("{}: `{member}` expands to more than {limit} bytes", path.display())]
    #[diagnostic(help("no real package is that large; do not use this package file"))]
    TooLarge {
        /// The package file.
        path: PathBuf,
        /// Name of the member of the outer archive.
        member: String,
        /// The most that is accepted, in bytes.
        limit: u64,
    },
    /// A path inside the package is unacceptable.
    #[error("{}: unacceptable member `{member}`: {problem}", path.display())]
    #[diagnostic(help(
        "dpkg would refuse this package too, or it tries to write outside the image: \
         do not use this package file"
    ))]
    Member {
        /// The package file.
        path: PathBuf,
        /// The path as the archive gives it.
        member: String,
        /// Why it is refused.
        problem: String,
    },
}
