//! What can be wrong with a project.

use std::io;
use std::path::PathBuf;

use miette::{Diagnostic, SourceSpan};

use super::place::{Place, Source};

/// The result of reading or planning.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A project that cannot be used, and why.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Error {
    /// No directory from the given one upward holds `images/`.
    #[error("no imgbuild project at or above {}", start.display())]
    #[diagnostic(help(
        "a project is a directory that holds `images/`; change into one, name it with --project, or \
         make one with `imgbuild init`"
    ))]
    NoProject {
        /// Where the search began.
        start: PathBuf,
    },
    /// A file or directory cannot be read.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help("check that it exists and that you may read it"))]
    Read {
        /// What was read.
        path: PathBuf,
        /// Why it failed.
        #[source]
        cause: io::Error,
    },
    /// A symbolic link on the way to a file of the project.
    #[error("{} is a symbolic link", path.display())]
    #[diagnostic(help(
        "definitions do not follow links, since they may lead out of the project; \
         put the file itself here"
    ))]
    Link {
        /// The link.
        path: PathBuf,
    },
    /// A directory or device stands where a file belongs.
    #[error("{} is not a regular file", path.display())]
    #[diagnostic(help("put a file there, or remove it"))]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A file is larger than anything a person writes.
    #[error("{} is larger than {limit} bytes", path.display())]
    #[diagnostic(help(
        "definitions, overlays, templates and keyrings are small; is this the right file?"
    ))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit: u64,
    },
    /// A text file is not UTF-8.
    #[error("{} is not UTF-8 text", path.display())]
    #[diagnostic(help("convert it, for example with `iconv -t UTF-8`"))]
    NotText {
        /// The file.
        path: PathBuf,
    },
    /// A directory below `images/` or `overlays/` has a name that cannot be used.
    #[error("{} cannot be the name of an image or site: {reason}", path.display())]
    #[diagnostic(help("rename the directory"))]
    DirectoryName {
        /// The directory.
        path: PathBuf,
        /// What is wrong with its name.
        reason: String,
    },
    /// No image has the name that was asked for.
    #[error("there is no image `{name}`")]
    UnknownImage {
        /// The name.
        name: String,
        /// What there is.
        #[help]
        help: String,
    },
    /// Files of an overlay for an image that does not exist.
    #[error("{} is named like no image", path.display())]
    FilesOfNoImage {
        /// The file or directory, relative to the project.
        path: PathBuf,
        /// What there is.
        #[help]
        help: String,
    },
    /// The image is only a part of others.
    #[error("`{name}` is not a role: it is only a layer of other images")]
    NotARole {
        /// The image.
        name: String,
        /// What there is.
        #[help]
        help: String,
    },
    /// No overlay has the name that was asked for.
    #[error("there is no site `{name}`")]
    UnknownSite {
        /// The name.
        name: String,
        /// What there is.
        #[help]
        help: String,
    },
    /// Something is wrong at one place of one file.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Located(Box<Located<Problem>>),
    /// Several things are wrong.
    #[error("{} errors in the definitions", errors.len())]
    Several {
        /// All of them, in the order of the files.
        #[related]
        errors: Vec<Error>,
    },
}

impl Error {
    /// One error for all of `errors`, or the value if there is none.
    pub(crate) fn collect<T>(value: T, mut errors: Vec<Error>) -> Result<T> {
        match errors.len() {
            0 => Ok(value),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several { errors }),
        }
    }
}

impl Error {
    /// The same error, with a remedy if it has none.
    pub(crate) fn or_help(mut self, help: impl FnOnce() -> String) -> Self {
        if let Self::Located(located) = &mut self {
            located.help.get_or_insert_with(help);
        }
        self
    }
}

impl From<Located<Problem>> for Error {
    fn from(located: Located<Problem>) -> Self {
        Self::Located(Box::new(located))
    }
}

/// A problem with the file and the very text it is about.
#[derive(Debug, thiserror::Error, Diagnostic)]
#[error("{problem}")]
pub struct Located<P: std::error::Error + 'static> {
    /// What is wrong.
    pub problem: P,
    /// The file.
    #[source_code]
    pub file: Source,
    /// The text that is underlined.
    #[label("here")]
    pub span: SourceSpan,
    /// The remedy.
    #[help]
    pub help: Option<String>,
}

impl<P: std::error::Error + 'static> Located<P> {
    /// `problem` at `place`.
    pub fn new(problem: P, place: &Place, help: Option<String>) -> Self {
        Self { problem, file: place.source().clone(), span: place.span(), help }
    }
}

/// What is wrong at one place of a definition or overlay.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that means nothing here.
    #[error("unknown key `{key}` in {table}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The table it stands in.
        table: String,
    },
    /// A key that must be given.
    #[error("missing key `{key}` in {table}")]
    MissingKey {
        /// The key.
        key: String,
        /// The table it belongs in.
        table: String,
    },
    /// A value that does not fit: of another type, out of range, or malformed.
    #[error("{path}: expected {expected}, got {found}")]
    Value {
        /// The key, with the way to it: `backends[1].port`.
        path: String,
        /// What may stand there.
        expected: String,
        /// What stands there.
        found: String,
    },
    /// Keys that contradict each other.
    #[error("{0}")]
    Contradiction(String),
    /// A reference to an image that does not exist.
    #[error("there is no image `{0}`")]
    UnknownImage(String),
    /// A reference to an overlay that does not exist.
    #[error("there is no site `{0}`")]
    UnknownSite(String),
    /// Definitions or overlays that extend each other in a circle.
    #[error("`extends` goes round in a circle: {}", chain.join(" -> "))]
    Cycle {
        /// The names along the way; the first and the last are the same.
        chain: Vec<String>,
    },
    /// A name or number that has to be unique and is not.
    #[error("{what} is already {taken}")]
    Duplicate {
        /// What is given twice: `parameter `domain``.
        what: String,
        /// By whom: `declared by images/node/image.toml:12`.
        taken: String,
    },
    /// A value for a parameter that no image of the stack declares.
    #[error("no image of the stack {stack} declares a parameter `{name}`")]
    UndeclaredParameter {
        /// The parameter.
        name: String,
        /// The stack: `base <- node <- haproxy`.
        stack: String,
    },
    /// A parameter that a site must set and does not.
    #[error("parameter `{name}` of role `{role}` has no value")]
    Unset {
        /// The parameter.
        name: String,
        /// The role being planned.
        role: String,
    },
}
