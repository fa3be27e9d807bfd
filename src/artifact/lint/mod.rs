//! Rules that every artifact obeys. Each is named, says why it is there and what to do, and fails
//! the build.
//!
//! There are two sorts. A **layer lint** looks at one layer by itself, so its findings can be kept
//! with the layer ([`layer_key`]): things that must not even be in a layer that a higher one hides,
//! because every layer is shipped whole in a disk image. A **tree lint** looks at what the layers
//! make together: what Proxmox and systemd need to find.
//!
//! Devices, FIFOs, sockets and ids that an unprivileged container does not have need no lint: the
//! archive of a layer cannot hold them ([`crate::layer::archive`]).

mod identity;
mod passwords;
mod private_key;
mod proxmox;
mod residue;
mod settings;
mod tree;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::layer::archive::Archive;
use crate::layer::entry::{Entry, Kind};

pub use tree::Tree;

/// Raised with every change of a layer lint, so that findings kept with layers are made anew.
const VERSION: u64 = 5;

/// A rule.
#[derive(Debug)]
pub struct Lint {
    /// Its name in messages: lower case, words joined by dashes.
    pub name: &'static str,
    /// Why an artifact must not be like that.
    pub reason: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    check: Check,
}

/// How a lint looks for what it objects to.
#[derive(Debug)]
enum Check {
    /// At each path of a layer by itself: what is wrong with it, if anything.
    Entry(fn(&Entry) -> Option<String>),
    /// At a layer with its contents.
    Layer(fn(&Archive, &mut Objections) -> io::Result<()>),
    /// At the merged tree; the paths are the state volumes.
    Tree(fn(&Tree<'_>, &[PathBuf], &mut Objections) -> Result<(), Error>),
}

/// Paths and what is wrong with them.
#[derive(Debug, Default)]
struct Objections(Vec<(PathBuf, String)>);

impl Objections {
    fn add(&mut self, path: impl Into<PathBuf>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }
}

/// Every lint there is.
pub fn all() -> impl Iterator<Item = &'static Lint> {
    [
        identity::LINTS,
        private_key::LINTS,
        passwords::LINTS,
        settings::LINTS,
        residue::LINTS,
        proxmox::LINTS,
    ]
    .into_iter()
    .flatten()
}

/// The lint called `name`.
pub fn find(name: &str) -> Option<&'static Lint> {
    all().find(|lint| lint.name == name)
}

/// Something a lint objects to. Shown as an error whose help is the lint's reason and remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finding {
    /// The name of the lint.
    pub lint: String,
    /// The path, relative to the root of the image.
    pub path: PathBuf,
    /// The layer whose path it is; none if the path is missing.
    pub layer: Option<Digest>,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "/{} {} [{}]", self.path.display(), self.message, self.lint)
    }
}

impl std::error::Error for Finding {}

impl miette::Diagnostic for Finding {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        let lint = find(&self.lint)?;
        Some(Box::new(format!("{}; {}", lint.reason, lint.remedy)))
    }
}

/// Why an image is not turned into an artifact.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The lints found something.
    #[error("{} thing(s) in this image must not be shipped", findings.len())]
    Findings {
        /// What they found.
        #[related]
        findings: Vec<Finding>,
    },
    /// A layer could not be read.
    #[error("cannot read layer {layer}")]
    #[diagnostic(help("is the store's disk in order? the layer is built again if it is deleted"))]
    Layer {
        /// The layer.
        layer: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An error if there are findings.
///
/// # Errors
/// [`Error::Findings`].
pub fn require_none(findings: Vec<Finding>) -> Result<(), Error> {
    if findings.is_empty() { Ok(()) } else { Err(Error::Findings { findings }) }
}

/// The key under which the findings of [`lint_layer`] for a layer can be kept.
pub fn layer_key(layer: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild layer lints");
    hasher.field(VERSION.to_le_bytes());
    for lint in all() {
        hasher.field(lint.name);
    }
    hasher.field(layer.to_string());
    hasher.finish()
}

/// The key under which it can be kept that the image of this digest has no findings.
pub fn image_key(image: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild image lints");
    hasher.field(layer_key(image).to_string());
    hasher.finish()
}

/// Applies every layer lint to `layer`. The result depends on nothing but the layer's content.
///
/// # Errors
/// [`Error::Layer`] if the archive cannot be read.
pub fn lint_layer(layer: &Archive) -> Result<Vec<Finding>, Error> {
    let unreadable = |source| Error::Layer { layer: layer.digest, source };
    let mut findings = Vec::new();
    for lint in all() {
        let mut objections = Objections::default();
        match lint.check {
            Check::Entry(check) => {
                let present = layer.index.entries().iter().map(|member| &member.entry);
                for entry in present.filter(|entry| entry.kind != Kind::Whiteout) {
                    if let Some(message) = check(entry) {
                        objections.add(&entry.path, message);
                    }
                }
            }
            Check::Layer(check) => check(layer, &mut objections).map_err(unreadable)?,
            Check::Tree(_) => {}
        }
        findings.extend(lint.findings(objections, |_| Some(layer.digest)));
    }
    Ok(findings)
}

/// Applies every tree lint to `tree`, which has `states` as the paths of its state volumes.
///
/// # Errors
/// [`Error::Layer`] if a layer's archive cannot be read.
pub fn lint_tree(tree: &Tree<'_>, states: &[PathBuf]) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for lint in all() {
        if let Check::Tree(check) = lint.check {
            let mut objections = Objections::default();
            check(tree, states, &mut objections)?;
            findings.extend(lint.findings(objections, |path| tree.layer_of(path)));
        }
    }
    Ok(findings)
}

impl Lint {
    fn findings(
        &self,
        objections: Objections,
        layer: impl Fn(&Path) -> Option<Digest>,
    ) -> impl Iterator<Item = Finding> {
        objections.0.into_iter().map(move |(path, message)| Finding {
            lint: self.name.to_owned(),
            layer: layer(&path),
            path,
            message,
        })
    }
}
