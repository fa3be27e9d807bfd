//! Why nothing was written.

use std::io;
use std::path::PathBuf;

use crate::definition::{self, Project};
use crate::render;

/// Why nothing was written.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// What would be written is there already.
    #[error("cannot write to {}: {} there already", directory.display(), are(paths))]
    #[diagnostic(help("{help}"))]
    InTheWay {
        /// The directory of the project.
        directory: PathBuf,
        /// What is there, relative to it.
        paths: Vec<PathBuf>,
        /// What to do.
        help: &'static str,
    },
    /// A role cannot be called like that.
    #[error("a role cannot be called `{name}`")]
    Name {
        /// The name.
        name: String,
        /// What is allowed, and what would be.
        #[help]
        help: String,
    },
    /// The name means something else.
    #[error("a role cannot be called `{name}`: {what}")]
    Reserved {
        /// The name.
        name: String,
        /// What it means.
        what: &'static str,
        /// What to do.
        #[help]
        help: String,
    },
    /// There is an image of this name.
    #[error("there is an image `{name}` already")]
    #[diagnostic(help("choose another name, or change images/{name}/image.toml"))]
    Exists {
        /// The name.
        name: String,
    },
    /// Nothing says what the role stands on.
    #[error("this project has no image `node`, so what the role stands on must be said")]
    NoBase {
        /// What there is.
        #[help]
        help: String,
    },
    /// The image is a part of disks.
    #[error("no role can stand on `{name}`: it is only a part of disks")]
    #[diagnostic(help("images that a role can stand on: {}", candidates.join(", ")))]
    NotABase {
        /// The image.
        name: String,
        /// What a role can stand on.
        candidates: Vec<String>,
    },
    /// There is no such image, or the project is at fault.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Definition(#[from] Box<definition::Error>),
    /// The role does not fit what it stands on.
    #[error("what a new role has does not fit `{base}`; nothing was written")]
    #[diagnostic(help(
        "name another image with --extends, or write the definition by hand: docs/definition.md"
    ))]
    DoesNotFit {
        /// What it would stand on.
        base: String,
        /// What is wrong with it.
        #[related]
        causes: Vec<Obstacle>,
    },
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    #[diagnostic(help(
        "check that you may write there, and that there is room; nothing was written"
    ))]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What does not fit.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Obstacle {
    /// In a definition.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Definition(#[from] definition::Error),
    /// In a file or template.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Render(#[from] render::Error),
}

impl Error {
    pub(super) fn no_base(project: &Project) -> Self {
        let candidates = candidates(project);
        let help = match candidates.first() {
            Some(first) => {
                format!("name one with `--extends {first}`; there are: {}", candidates.join(", "))
            }
            None => "start from a whole project: `imgbuild init DIR`".to_owned(),
        };
        Self::NoBase { help }
    }
}

/// The images that a role can stand on; first those that are made for that.
pub(super) fn candidates(project: &Project) -> Vec<String> {
    let fit = || project.images().filter(|image| image.boot.is_none() && image.machine.is_none());
    let layers = fit().filter(|image| !image.role);
    layers.chain(fit().filter(|image| image.role)).map(|image| image.name.to_string()).collect()
}

fn are(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    match names.as_slice() {
        [name] => format!("{name} is"),
        names => format!("{} are", names.join(", ")),
    }
}
