//! What can be wrong with dpkg's database.

use std::io;
use std::path::PathBuf;

/// dpkg's database cannot be read or written, or a package does not fit into it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `remove`.
        action: &'static str,
        /// The file, as seen from outside the root directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file of the database is not as dpkg writes it.
    #[error("{}, line {line}: {problem}", path.display())]
    #[diagnostic(help(
        "a maintainer script or a run step has damaged dpkg's database; `dpkg --audit` in a shell \
         at this point of the build may tell more"
    ))]
    Syntax {
        /// The file, as seen from outside the root directory.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// The control information of a package cannot go into the database.
    #[error("package {package}: {problem}")]
    #[diagnostic(help("dpkg would refuse this package; do not use it"))]
    Control {
        /// The package, by its file name where its name is not known yet.
        package: String,
        /// What is wrong.
        problem: String,
    },
}
