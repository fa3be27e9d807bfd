//! What can go wrong with a lock.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use miette::{LabeledSpan, NamedSource, SourceSpan};

use super::{Wanted, WantedFile};
use crate::debian::resolve::Failure;
use crate::debian::{packages, repository};
use crate::definition::Source;

/// Why there is no lock.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// There is no lock file.
    #[error("there is no lock file {}", path.display())]
    #[diagnostic(help("run `imgbuild lock` and commit the file"))]
    Absent {
        /// Where it should be.
        path: PathBuf,
    },
    /// The lock file cannot be read.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help(
        "make it a file that this user may read, or restore it from version control"
    ))]
    Read {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The lock file cannot be written.
    #[error("cannot write {}", path.display())]
    #[diagnostic(help(
        "make the project's directory writable for this user, with room on its disk"
    ))]
    Write {
        /// The lock file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// The lock file is damaged.
    #[error("the lock file is malformed: {message}")]
    #[diagnostic(help(
        "restore the file from version control, or resolve the conflict in it by taking one side \
         whole; then run `imgbuild lock`"
    ))]
    Malformed {
        /// What is wrong.
        message: String,
        /// The lock file.
        #[source_code]
        text: Arc<NamedSource<String>>,
        /// Where, if that is known.
        #[label("here")]
        span: Option<SourceSpan>,
    },
    /// The lock file is of another format.
    #[error("{} is a lock file of version {version}, this imgbuild knows version 1", path.display())]
    #[diagnostic(help("use the imgbuild that wrote it, or a later one"))]
    Version {
        /// The lock file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// An entry of a list of packages is no relation.
    #[error("`{text}` is not a package relation: {message}")]
    #[diagnostic(help(
        "write the name of a package, optionally with a version and alternatives: \
         `haproxy (>= 3.0)` or `chrony | systemd-timesyncd`"
    ))]
    Relation {
        /// The entry.
        text: String,
        /// What is wrong.
        message: String,
        /// The definition.
        #[source_code]
        source_code: Source,
        /// Where.
        #[label("here")]
        span: SourceSpan,
    },
    /// No repository has a package.
    #[error("image `{image}` wants `{package}`, which no repository of it has")]
    NotFound {
        /// The image.
        image: String,
        /// The package.
        package: String,
        /// The definition.
        #[source_code]
        source_code: Source,
        /// Where it is wanted.
        #[label("no such package")]
        span: SourceSpan,
        /// What to do.
        #[help]
        help: String,
    },
    /// No repository has a version that fits.
    #[error("image `{image}` wants `{text}`, but no version of it fits")]
    NoVersion {
        /// The image.
        image: String,
        /// The entry.
        text: String,
        /// The definition.
        #[source_code]
        source_code: Source,
        /// Where it is wanted.
        #[label("no such version")]
        span: SourceSpan,
        /// The versions that there are.
        #[help]
        help: String,
    },
    /// The wishes contradict each other.
    #[error("image `{image}` cannot have all packages that it wants\n{explanation}")]
    #[diagnostic(help("leave out one of the wishes, or ask for versions that go together"))]
    Unsatisfiable {
        /// The image.
        image: String,
        /// Who needs what and conflicts with whom.
        explanation: String,
        /// The definition with the last of the wishes.
        #[source_code]
        source_code: Option<Source>,
        /// The wishes in that file that take part.
        #[label(collection)]
        labels: Vec<LabeledSpan>,
    },
    /// A package to update is nowhere.
    #[error("`{package}` is in no image of the lock")]
    NotLocked {
        /// The package.
        package: String,
        /// What to do.
        #[help]
        help: String,
    },
    /// A package that is a source cannot be had, or cannot be used.
    #[error("{message}")]
    File {
        /// What is wrong.
        message: String,
        /// The definition.
        #[source_code]
        source_code: Source,
        /// The name of the source there.
        #[label("this source")]
        span: SourceSpan,
        /// What to do.
        #[help]
        help: String,
    },
    /// A repository cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Repository(#[from] repository::Error),
    /// A locked image no longer fits what it stands on, and nothing can be found that does.
    #[error(
        "{} would leave the lock: what it stands on changes, and a repository of it cannot be used",
        list(images)
    )]
    #[diagnostic(help(
        "run the command on a machine that reaches the repository; or name the roles to lock \
         (`imgbuild lock ROLE…`): roles that are not named leave the lock then, and the others change"
    ))]
    Lost {
        /// The images.
        images: Vec<String>,
        /// What is wrong with the repository.
        #[related]
        causes: Vec<Error>,
    },
    /// An index of packages has no sense.
    #[error("the repository `{repository}`")]
    Packages {
        /// The repository.
        repository: String,
        /// What is wrong.
        #[source]
        #[diagnostic_source]
        source: packages::Error,
    },
}

/// Names in quotes.
fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

impl Error {
    /// The error that `wanted` is of no use.
    pub(super) fn file(wanted: &WantedFile, message: String, help: String) -> Self {
        let (source_code, span) = (Arc::clone(wanted.place.source()), wanted.place.span());
        Self::File { message, source_code, span, help }
    }

    /// The error for `wishes` of `image` and its ancestors that cannot be fulfilled together.
    pub(super) fn unresolved(image: &str, wishes: &[&Wanted], failure: Failure) -> Self {
        let image = image.to_owned();
        match failure {
            Failure::NotFound { wanted, name, suggestion } => Self::NotFound {
                image,
                package: name,
                source_code: Arc::clone(&wishes[wanted].source),
                span: wishes[wanted].span,
                help: match suggestion {
                    Some(suggestion) => format!("did you mean `{suggestion}`?"),
                    None => "check the spelling, and that a repository of the root image offers \
                             it (`components`, `suite`)"
                        .to_owned(),
                },
            },
            Failure::NoVersion { wanted, available } => Self::NoVersion {
                image,
                text: wishes[wanted].text.clone(),
                source_code: Arc::clone(&wishes[wanted].source),
                span: wishes[wanted].span,
                help: match available.as_slice() {
                    [] => "other packages provide it, but not in such a version".to_owned(),
                    available => format!("the repositories have {}", available.join(", ")),
                },
            },
            Failure::Unsatisfiable { wanted, explanation } => {
                let involved: Vec<&Wanted> = wanted.iter().map(|&index| wishes[index]).collect();
                // Only one file can be shown: that of the image itself rather than a parent's.
                let source_code = involved.last().map(|last| Arc::clone(&last.source));
                let file = source_code.as_ref().map(|source| source.name().to_owned());
                let labels = involved
                    .iter()
                    .filter(|wish| file.as_deref() == Some(wish.source.name()))
                    .map(|wish| {
                        LabeledSpan::new_with_span(Some("wanted here".to_owned()), wish.span)
                    })
                    .collect();
                Self::Unsatisfiable { image, explanation, source_code, labels }
            }
        }
    }
}
