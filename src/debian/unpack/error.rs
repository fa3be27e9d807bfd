//! What can go wrong while packages are unpacked.

use std::io;
use std::path::PathBuf;

use crate::debian::{database, deb, relation};

/// A set of packages that cannot be unpacked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A package file cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Deb(#[from] deb::Error),
    /// dpkg's database cannot be read or written.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Database(#[from] database::Error),
    /// The root directory cannot be used.
    #[error("cannot open the root directory {}", path.display())]
    Root {
        /// The root directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The package file holds another package than expected.
    #[error(
        "{} holds {found}, but {expected} is expected", path.display()
    )]
    #[diagnostic(help("the lock does not match the package file: run `imgbuild lock` again"))]
    WrongPackage {
        /// The package file.
        path: PathBuf,
        /// Name, version and architecture that the file gives.
        found: String,
        /// Name, version and architecture that were asked for.
        expected: String,
    },
    /// A package is installed already, in this set or in the layers below.
    #[error("package {package} is installed already, in version {installed}")]
    #[diagnostic(help(
        "layers only add packages: remove it from this definition, or change its version where it \
         is installed first"
    ))]
    AlreadyInstalled {
        /// Name and architecture.
        package: String,
        /// The version that is there.
        installed: String,
    },
    /// A relation of a package cannot be understood.
    #[error("package {package} has a malformed {field}")]
    #[diagnostic(help("dpkg would refuse this package; do not use it"))]
    Relation {
        /// The package.
        package: String,
        /// The field of its control file.
        field: &'static str,
        /// What is wrong.
        #[source]
        source: relation::ParseRelationError,
    },
    /// Packages pre-depend on each other in a circle.
    #[error("these packages can only be unpacked after one another: {}", packages.join(", "))]
    #[diagnostic(help(
        "their pre-dependencies form a circle, or need packages that are not in the set; the set \
         cannot be installed by dpkg either"
    ))]
    Circle {
        /// The packages that are left.
        packages: Vec<String>,
    },
    /// Two packages ship the same path, and neither may replace the other's.
    #[error("packages {first} and {second} both ship {path}")]
    #[diagnostic(help(
        "the packages do not fit together: leave one of them out, or report a bug against them \
         (Debian policy 7.6.1)"
    ))]
    Conflict {
        /// The path.
        path: String,
        /// The package that ships it already.
        first: String,
        /// The package that ships it, too.
        second: String,
    },
    /// A package ships a path to which another package's file is diverted.
    #[error("package {package} ships {path}, where another package's {diverted} is diverted to")]
    DivertedTo {
        /// The path.
        path: String,
        /// The package.
        package: String,
        /// The path that is diverted.
        diverted: String,
    },
    /// Something that is no directory is where a directory must be, or the other way round.
    #[error("package {package} cannot put {path} into place: {problem}")]
    #[diagnostic(help(
        "a package or a run step has put something else there before; see the owner with \
         `dpkg-query --search`"
    ))]
    Obstructed {
        /// The path.
        path: String,
        /// The package.
        package: String,
        /// What is in the way.
        problem: String,
    },
    /// A hard link to something that the package does not ship.
    #[error(
        "package {package}: {path} is a hard link to {target}, which the package does not ship"
    )]
    #[diagnostic(help("the package is damaged; do not use it"))]
    Hardlink {
        /// The path.
        path: String,
        /// The package.
        package: String,
        /// Its target.
        target: String,
    },
    /// The system refused to create something.
    #[error("cannot create {} for {package}", path.display())]
    Create {
        /// The path as seen from outside the root directory.
        path: PathBuf,
        /// The package.
        package: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}
