//! What keeps an audit from being made.

use std::io;
use std::path::PathBuf;

use crate::{fetch, store};

/// Why there is no audit.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The file with the data cannot be read.
    #[error("cannot read the tracker's data in {}", path.display())]
    #[diagnostic(help(
        "`--data` takes a file that was saved from https://security-tracker.debian.org/tracker/data/json, as it is or \
         packed with gzip, xz or zstd"
    ))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It was read, and has another form.
    #[error("{from}:{line}:{column}: {message}")]
    #[diagnostic(help(
        "expected the JSON of Debian's security tracker, an object of source packages, whole and unchanged: get it \
         again from https://security-tracker.debian.org/tracker/data/json"
    ))]
    Form {
        /// The file or URL.
        from: String,
        /// The line, from 1.
        line: usize,
        /// The column, from 1; 0 is the end of the line before.
        column: usize,
        /// What was expected.
        message: String,
    },
    /// They are of the right form, and of nothing that is installed.
    #[error("{from} says nothing of {}", releases.join(", "))]
    #[diagnostic(help(
        "an audit by it would find nothing: is it the whole file, and are the suites of `[debian]` code names of Debian's \
         releases, like `trixie`?"
    ))]
    Nothing {
        /// The file or URL.
        from: String,
        /// The releases of what is installed.
        releases: Vec<String>,
    },
    /// Something that anybody on the way could exchange.
    #[error("{url} is not `https`, and nothing else vouches for the tracker's data")]
    #[diagnostic(help("use the `https` URL, or a file: nobody signs these data"))]
    Insecure {
        /// The URL.
        url: String,
    },
    /// An answer to something that was not asked.
    #[error("{url}: the server answers with status {code} to who has nothing yet")]
    #[diagnostic(help("give the data as a file: `--data FILE`"))]
    Answer {
        /// The URL.
        url: String,
        /// The status code.
        code: u16,
    },
    /// The data cannot be fetched.
    #[error("cannot get the tracker's data")]
    #[diagnostic(help(
        "where the tracker cannot be reached, bring the file here and give it with `--data FILE`; with `--offline`, a URL \
         counts only if it was fetched before"
    ))]
    Fetch(#[from] fetch::Error),
    /// What was fetched cannot be kept.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::Error),
}
