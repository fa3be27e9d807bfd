//! What can go wrong between a plan and the files it renders to.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;

use crate::definition::{self, Located, Place};

/// The result of rendering.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Files that cannot be rendered, and why.
#[derive(Debug, thiserror::Error, Diagnostic)]
pub enum Error {
    /// The definition itself is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Definition(#[from] definition::Error),
    /// A template is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Template(Box<Located<TemplateProblem>>),
    /// A rule of a definition is at odds with the files beside it.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Rule(Box<Located<RuleProblem>>),
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
    /// Something other than a file, directory or symbolic link.
    #[error("{} is {kind}, which an image cannot hold", path.display())]
    #[diagnostic(help("remove it; what a service needs at run time it has to make at run time"))]
    Special {
        /// Where it is.
        path: PathBuf,
        /// What it is: `a socket`.
        kind: &'static str,
    },
    /// A file too large to be configuration.
    #[error("{} is larger than {limit} bytes", path.display())]
    #[diagnostic(help("`files/` is for configuration; bring larger things in a package"))]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The most bytes that are read.
        limit: u64,
    },
    /// A path that no image may ship.
    #[error("{} cannot be part of an image: {reason}", path.display())]
    Forbidden {
        /// The file of the project.
        path: PathBuf,
        /// Why not.
        reason: String,
        /// What to do instead.
        #[help]
        help: String,
    },
    /// Two sources give one path a different type.
    #[error("/{} is {first_kind} in {} and {second_kind} in {}", path.display(), first.display(), second.display())]
    #[diagnostic(help("rename one of the two; a path has the same type in all layers"))]
    TypeConflict {
        /// The path inside the image.
        path: PathBuf,
        /// What the lower one makes of it.
        first_kind: &'static str,
        /// The lower source.
        first: PathBuf,
        /// What the upper one makes of it.
        second_kind: &'static str,
        /// The upper source.
        second: PathBuf,
    },
    /// Two sources in one tree become the same path.
    #[error("{} and {} both become /{}", first.display(), second.display(), path.display())]
    #[diagnostic(help("keep either the template or the plain file"))]
    SamePath {
        /// The path inside the image.
        path: PathBuf,
        /// One source.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Several things are wrong.
    #[error("{} errors in the files of the images", errors.len())]
    Several {
        /// All of them, in the order of the files.
        #[related]
        errors: Vec<Error>,
    },
}

impl Error {
    /// `problem` of the template text at `place`.
    pub(super) fn template(problem: TemplateProblem, place: &Place, help: Option<String>) -> Self {
        Self::Template(Box::new(Located::new(problem, place, help)))
    }

    /// `problem` of the rule at `place`.
    pub(super) fn rule(problem: RuleProblem, place: &Place, help: Option<String>) -> Self {
        Self::Rule(Box::new(Located::new(problem, place, help)))
    }

    /// One error for all of `errors`, or the value if there is none.
    pub(super) fn collect<T>(value: T, errors: Vec<Self>) -> Result<T> {
        let flat = errors.into_iter().flat_map(|error| match error {
            Self::Several { errors } => errors,
            error => vec![error],
        });
        let mut errors: Vec<Self> = flat.collect();
        match errors.len() {
            0 => Ok(value),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several { errors }),
        }
    }
}

/// What is wrong with a template.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateProblem {
    /// The text is not a template.
    #[error("template syntax: {0}")]
    Syntax(String),
    /// Blocks or parentheses are nested too deep.
    #[error("more than {0} blocks or parentheses inside each other")]
    TooDeep(usize),
    /// A name that nothing declares.
    #[error("nothing declares `{0}`")]
    Undeclared(String),
    /// A field that a record does not have.
    #[error("`{record}` has no field `{field}`")]
    NoField {
        /// The path to the record.
        record: String,
        /// The field.
        field: String,
    },
    /// A path that goes on below a plain value or names a field of a list.
    #[error("`{path}` is {what}, so `{part}` means nothing there")]
    NoPart {
        /// The path to the value.
        path: String,
        /// What it is.
        what: &'static str,
        /// The part that is too much.
        part: String,
    },
    /// A value of the wrong type.
    #[error("`{helper}` takes {expected}, but `{value}` is {found}")]
    Type {
        /// The block it is given to.
        helper: String,
        /// What may stand there.
        expected: &'static str,
        /// The expression.
        value: String,
        /// What it is.
        found: &'static str,
    },
    /// A helper that does not exist.
    #[error("there is no helper `{0}`")]
    UnknownHelper(String),
    /// A list or record where text is needed.
    #[error("`{value}` is {found}, which cannot be written out as it is")]
    NotScalar {
        /// The expression.
        value: String,
        /// What it is.
        found: &'static str,
    },
    /// A comparison with a text that the parameter does not allow.
    #[error("this is never {literal}: the values allowed are {}", values.join(", "))]
    Never {
        /// The text, quoted.
        literal: String,
        /// The texts that are allowed, quoted.
        values: Vec<String>,
    },
    /// A helper used in another way than it is made for.
    #[error("`{helper}` cannot be used {how}")]
    Usage {
        /// The helper.
        helper: String,
        /// How it is used: `with a number and text`.
        how: String,
    },
    /// A feature of the template language that imgbuild leaves out.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
    /// A value was missing only when it was rendered, such as an element beyond a list's end.
    #[error("cannot render: {0}")]
    Render(String),
}

/// What is wrong with a rule about files.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleProblem {
    /// A rule for a path that the definition does not bring.
    #[error("{rule} names {path}, which {missing}")]
    NoSuchFile {
        /// The kind of rule: `[[files]]`.
        rule: &'static str,
        /// The path inside the image.
        path: String,
        /// Where it is missing: "`node` does not bring".
        missing: String,
    },
    /// Two rules for one path.
    #[error("there are two [[files]] entries for {0}")]
    Twice(String),
    /// A file where a volume will be mounted.
    #[error("{source_path} becomes {path}, which the volume mounted here hides")]
    Hidden {
        /// The file of the project.
        source_path: String,
        /// The path inside the image.
        path: String,
    },
    /// Permissions for a symbolic link.
    #[error("{0} is a symbolic link, which has no permissions of its own")]
    LinkMode(String),
}
