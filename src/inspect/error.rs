//! What stands in the way of looking into an image.

use std::io;
use std::path::PathBuf;

use crate::artifact::manifest;
use crate::build;
use crate::debian::packages;
use crate::digest::Digest;
use crate::layer::{archive, index};

/// Why an image cannot be looked into.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A template of this program and a report that do not fit.
    #[error("cannot make a page of the report")]
    #[diagnostic(help(
        "this is a mistake in imgbuild: please report it with the output of `imgbuild report … --json`, which has all that \
         would be on the page"
    ))]
    Page(#[source] Box<handlebars::RenderError>),
    /// A layer that is no archive.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Archive(#[from] archive::Error),
    /// Layers that make no tree.
    #[error("the layers of the image do not belong on one another")]
    Tree(#[source] index::Error),
    /// A layer that cannot be read.
    #[error("cannot read the layer {}", layer.short())]
    Read {
        /// Which.
        layer: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lints cannot look at an image.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lint(Box<build::Error>),
    /// A file that is not beside its artifact, or cannot be read.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("an artifact is only known with the manifest that was written beside it"))]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that is no manifest.
    #[error("{} is not a manifest", path.display())]
    NotAManifest {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        #[diagnostic_source]
        source: manifest::Error,
    },
    /// A file of the project that cannot be read.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("it is an input of the image, so its digest belongs to the provenance"))]
    Input {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something in the project that does not fit.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Definition(#[from] crate::definition::Error),
    /// A file that is neither an artifact nor a manifest.
    #[error("{} is neither an artifact nor a manifest", path.display())]
    #[diagnostic(help(
        "name a template (.tar.zst), a disk (.qcow2) or a manifest (.manifest.json)"
    ))]
    NotAnArtifact {
        /// The file.
        path: PathBuf,
    },
    /// A digest that the store has no image of.
    #[error("no image whose digest begins with `{digest}` was built here")]
    #[diagnostic(help(
        "`imgbuild plan`, `status` and the names of artifacts show such digests; one that was built \
         elsewhere is given as the path of its artifact or manifest"
    ))]
    UnknownDigest {
        /// What was given.
        digest: String,
    },
    /// A beginning of several digests.
    #[error("`{digest}` is how the digests of several images begin: {}", list.join(", "))]
    #[diagnostic(help("give more digits"))]
    Ambiguous {
        /// What was given.
        digest: String,
        /// What there is.
        list: Vec<String>,
    },
    /// A package that the image has not.
    #[error("`{role}` has no package `{name}`")]
    NoPackage {
        /// The name.
        name: String,
        /// The role.
        role: String,
        /// What there is.
        #[help]
        help: String,
    },
    /// A path that the image has not.
    #[error("`{role}` has no {path}")]
    NoPath {
        /// The path.
        path: String,
        /// The role.
        role: String,
        /// What there is.
        #[help]
        help: String,
    },
    /// Something that only a build tells.
    #[error("it is not known here {wanted}")]
    #[diagnostic(help(
        "run `imgbuild build {role}`: layers and packages in the store tell it, and the lock does not"
    ))]
    NotBuilt {
        /// The role, or the image of which something is missing.
        role: String,
        /// What nobody knows.
        wanted: String,
    },
    /// A package whose control file cannot be read.
    #[error("cannot read what the packages of the image depend on")]
    Package(#[source] packages::Error),
    /// A temporary directory that cannot be written.
    #[error("cannot write what a revision holds to {}", path.display())]
    Checkout {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// `git` is not there.
    #[error("cannot run git")]
    #[diagnostic(help("git reads what a revision holds: install it (Debian: `apt install git`)"))]
    NoGit(#[source] io::Error),
    /// `git` failed.
    #[error("cannot get `{revision}` of the project: git says: {message}")]
    #[diagnostic(help(
        "REVISION is anything that `git rev-parse` knows, of the repository that the project is in; \
         the project as it is now is ROLE without a revision"
    ))]
    Git {
        /// The revision.
        revision: String,
        /// The last line of what git said.
        message: String,
    },
}
