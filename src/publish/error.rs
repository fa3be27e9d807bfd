//! What can go wrong between a directory of artifacts and a registry.

use std::io;
use std::path::PathBuf;

use crate::digest::Digest;
use crate::{definition, registry, store};

/// Why an image could not be pushed or pulled.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is no such artifact.
    #[error("no {what} in `{}` is what a build of `{role}` would make now", directory.display())]
    #[diagnostic(help(
        "build it first: `imgbuild build {role}{site}`, or name where it is with `--out DIR`"
    ))]
    NotBuilt {
        /// `template` or `disk`.
        what: &'static str,
        /// The role.
        role: String,
        /// ` --site SITE`, or nothing.
        site: String,
        /// Where it was looked for.
        directory: PathBuf,
    },

    /// A file that is no manifest, or that cannot be read.
    #[error("cannot read `{}`: {why}", path.display())]
    #[diagnostic(help(
        "push an artifact that a build of this version of imgbuild has made; its manifest has to lie beside it"
    ))]
    Read {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },

    /// A file about an artifact that nobody would pull.
    #[error("`{}` is longer than the {most} bytes that are pulled", path.display())]
    #[diagnostic(help(
        "none that imgbuild writes is so long: `imgbuild sign` writes what lies beside an artifact anew"
    ))]
    TooLong {
        /// The file.
        path: PathBuf,
        /// Bytes.
        most: u64,
    },

    /// An artifact is not what its manifest says.
    #[error("`{}` is not what its manifest says: its sha256 is {got}, expected {expected}", path.display())]
    #[diagnostic(help("it has changed since it was built: delete it and build it again"))]
    Changed {
        /// The artifact.
        path: PathBuf,
        /// What its manifest says.
        expected: Digest,
        /// What it is.
        got: Digest,
    },

    /// A name that is none in a registry.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Name(#[from] registry::reference::ParseError),

    /// There is nothing.
    #[error("there is no `{reference}`")]
    #[diagnostic(help(
        "check the name and the tag: `imgbuild push` prints both, and the tag is VERSION-DIGEST as in the name of the \
         artifact's file"
    ))]
    Absent {
        /// What was asked for.
        reference: String,
    },

    /// There is something, but no image.
    #[error("`{reference}` is no image of imgbuild: {why}")]
    #[diagnostic(help(
        "check the reference; images get there by `imgbuild push` of the same version of imgbuild"
    ))]
    NotAnImage {
        /// What was asked for.
        reference: String,
        /// What is wrong with it.
        why: String,
    },

    /// What is there does not fit together.
    #[error("`{reference}` is not what it says: {why}")]
    #[diagnostic(help(
        "nothing was written. Somebody has put together what does not belong together, or moved a tag: pull by a digest \
         that you know, or build the image and push it again"
    ))]
    Unfit {
        /// What was asked for.
        reference: String,
        /// What does not fit.
        why: String,
    },

    /// Other files are where those of the image go.
    #[error("cannot pull `{reference}`: `{}` has other bytes in {}", directory.display(), list(names))]
    #[diagnostic(help(
        "nothing was written. One of the two is damaged, signed anew or exchanged: `imgbuild verify --integrity` looks at \
         what is there. Take what the registry has with `--replace`, or pull to another directory with `--out DIR`"
    ))]
    Others {
        /// What was asked for.
        reference: String,
        /// Where they are.
        directory: PathBuf,
        /// Their names. Not empty.
        names: Vec<String>,
    },

    /// A file cannot be written.
    #[error("cannot write `{}`", path.display())]
    #[diagnostic(help("make room there, or name another directory with `--out DIR`"))]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        source: io::Error,
    },

    /// What policies say of signatures cannot be read.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Policy(#[from] definition::Error),

    /// The registry.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Registry(#[from] registry::Error),

    /// The store.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::Error),
}

fn list(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(", ")
}
