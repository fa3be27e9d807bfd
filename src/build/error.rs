//! Why a build failed.

use std::path::PathBuf;

use super::plan::PinnedSource;
use crate::layer::failure::Failure;

/// Why a build failed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A script of a package, a command of a definition, or the sandbox's work itself failed.
    #[error("cannot {action}: {}{}", chain.join(": "), shown(output))]
    Step {
        /// What was being done: `build the packages layer of haproxy`.
        action: String,
        /// What failed, then why.
        chain: Vec<String>,
        /// The last lines of output.
        output: String,
        /// What to do.
        #[help]
        help: Option<String>,
    },
    /// A daemon refuses its configuration.
    #[error("{command} refuses the configuration of {image}{}{}", shown(output), places(templates))]
    Check {
        /// The role's definition.
        image: String,
        /// The check.
        command: String,
        /// What it wrote.
        output: String,
        /// Where the lines that it complains of come from.
        templates: Vec<String>,
        /// What to do.
        #[help]
        help: String,
    },
    /// A source cannot be had, or cannot become part of the image.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Source(Box<SourceError>),
    /// A rendered file cannot be put where it is to go.
    #[error("{}: cannot become /{}: {reason}", source_path.display(), path.display())]
    Place {
        /// The file or template in the project.
        source_path: PathBuf,
        /// Where it is to go.
        path: PathBuf,
        /// Why not.
        reason: String,
        /// What to do.
        #[help]
        help: String,
    },
    /// A disk is wanted of a role that nothing says how to make a virtual machine of.
    #[error("`{role}` cannot become a disk: no machine definition is laid on it")]
    #[diagnostic(help(
        "build the template alone (`--format lxc`), or add a definition with [machine] that extends \
         what the role stands on"
    ))]
    NoMachine {
        /// The role.
        role: String,
    },
    /// The disk.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Disk(#[from] crate::artifact::disk::Error),
    /// The finished image holds what no image may hold.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lint(#[from] crate::artifact::lint::Error),
    /// The artifact cannot be named.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Name(#[from] crate::artifact::name::NameError),
    /// The sandbox.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Sandbox(#[from] crate::sandbox::Error),
    /// The store.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] crate::store::Error),
    /// A download.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Fetch(#[from] crate::fetch::Error),
    /// Layers that machines share.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Shared(Box<super::SharedError>),
    /// The template.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Template(#[from] crate::artifact::template::Error),
    /// A layer's archive.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Archive(#[from] crate::layer::archive::Error),
    /// There is no room for the artifact.
    #[error("no space left to write the artifact to {}: {free} MiB are free", path.display())]
    #[diagnostic(help(
        "free some space there, or name a directory on another file system with `--out DIR`; what \
         was built is kept in the store"
    ))]
    Full {
        /// The directory or file.
        path: PathBuf,
        /// Mebibytes that are free there.
        free: u64,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// A file of the host.
    #[error("cannot {action} {}", path.display())]
    #[diagnostic(help(
        "check that this user may write there, and that no file is where a directory must be"
    ))]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
}

/// What is wrong with one source, and where it is declared.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{message}")]
pub struct SourceError {
    /// What is wrong.
    pub message: String,
    /// The definition.
    #[source_code]
    pub file: crate::definition::Source,
    /// Its name there.
    #[label("this source")]
    pub span: miette::SourceSpan,
    /// What to do.
    #[help]
    pub help: String,
}

fn shown(output: &str) -> String {
    let indented = output.trim_end().lines().map(|line| format!("\n  {line}"));
    indented.collect()
}

fn places(templates: &[String]) -> String {
    templates.iter().map(|place| format!("\n  from {place}")).collect()
}

impl Error {
    pub(super) fn source(source: &PinnedSource, message: String, help: String) -> Self {
        let place = &source.upstream.place;
        let (file, span) = (place.source().clone(), place.span());
        Self::Source(Box::new(SourceError { message, file, span, help }))
    }

    pub(super) fn from_failure(
        action: impl Into<String>,
        failure: Failure,
        help: Option<String>,
    ) -> Self {
        Self::Step {
            action: action.into(),
            chain: failure.chain,
            output: failure.output,
            help: help.or(failure.help),
        }
    }
}
