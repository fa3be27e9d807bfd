//! What looks for what the [registry](crate::lint) objects to in layers and images.
//!
//! There are two sorts. A **layer lint** looks at one layer by itself, so its findings can be kept
//! with the layer ([`layer_key`]): things that must not even be in a layer that a higher one hides,
//! because every layer is shipped whole in a disk image. An **image lint** looks at what the layers
//! make together: what Proxmox and systemd need to find.
//!
//! Findings are raw: what definitions say of levels is applied to them afterwards ([`judge`]), so that
//! what was found in a layer can be kept whatever anybody says of it later.
//!
//! Devices, FIFOs, sockets and ids that an unprivileged container does not have need no lint: the
//! archive of a layer cannot hold them ([`crate::layer::archive`]).

mod identity;
mod judge;
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

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};
use crate::layer::archive::Archive;
use crate::layer::entry::{Entry, Kind};
use crate::lint::{self as registry, Lint, Stance};

pub use judge::{Judgement, Tolerated, judge};
pub use tree::Tree;

/// Raised with every change of a layer lint, so that findings kept with layers are made anew.
const VERSION: u64 = 5;

/// A lint, and what looks for it.
#[derive(Debug)]
struct Rule {
    lint: &'static Lint,
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
    Image(fn(&Tree<'_>, &[PathBuf], &mut Objections) -> Result<(), Error>),
}

/// Paths and what is wrong with them.
#[derive(Debug, Default)]
struct Objections(Vec<(PathBuf, String)>);

impl Objections {
    fn add(&mut self, path: impl Into<PathBuf>, message: impl Into<String>) {
        self.0.push((path.into(), message.into()));
    }
}

/// Everything that looks at layers and images.
fn rules() -> impl Iterator<Item = &'static Rule> {
    [
        identity::RULES,
        private_key::RULES,
        passwords::RULES,
        settings::RULES,
        residue::RULES,
        proxmox::RULES,
    ]
    .into_iter()
    .flatten()
}

/// Something a lint objects to. Shown as an error whose help is the lint's reason and remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        let lint = registry::find(&self.lint)?;
        let otherwise = match lint.stance {
            Stance::Forbid(_) => "",
            Stance::Warn | Stance::Deny => {
                "; if it is meant, allow the path in [lints], with the reason"
            }
        };
        Some(Box::new(format!("{}; {}{otherwise}", lint.reason, lint.remedy)))
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

/// The key under which the findings of [`lint_layer`] for a layer can be kept.
pub fn layer_key(layer: &Digest) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild layer lints");
    hasher.field(VERSION.to_le_bytes());
    for rule in rules() {
        hasher.field(rule.lint.name);
    }
    hasher.field(layer.to_string());
    hasher.finish()
}

/// The key under which the findings for an image of `layers` with `states` as its volumes can be kept.
pub fn image_key(layers: &[Digest], states: &[PathBuf]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild image lints");
    for layer in layers {
        hasher.field(layer_key(layer).to_string());
    }
    for state in states {
        hasher.field(state.as_os_str().as_encoded_bytes());
    }
    hasher.finish()
}

/// Applies every layer lint to `layer`. The result depends on nothing but the layer's content.
///
/// # Errors
/// [`Error::Layer`] if the archive cannot be read.
pub fn lint_layer(layer: &Archive) -> Result<Vec<Finding>, Error> {
    let unreadable = |source| Error::Layer { layer: layer.digest, source };
    let mut findings = Vec::new();
    for rule in rules() {
        let mut objections = Objections::default();
        match rule.check {
            Check::Entry(check) => {
                let present = layer.index.entries().iter().map(|member| &member.entry);
                for entry in present.filter(|entry| entry.kind != Kind::Whiteout) {
                    if let Some(message) = check(entry) {
                        objections.add(&entry.path, message);
                    }
                }
            }
            Check::Layer(check) => check(layer, &mut objections).map_err(unreadable)?,
            Check::Image(_) => {}
        }
        findings.extend(rule.findings(objections, |_| Some(layer.digest)));
    }
    Ok(findings)
}

/// Applies every image lint to `tree`, which has `states` as the paths of its state volumes.
///
/// # Errors
/// [`Error::Layer`] if a layer's archive cannot be read.
pub fn lint_tree(tree: &Tree<'_>, states: &[PathBuf]) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for rule in rules() {
        if let Check::Image(check) = rule.check {
            let mut objections = Objections::default();
            check(tree, states, &mut objections)?;
            findings.extend(rule.findings(objections, |path| tree.layer_of(path)));
        }
    }
    Ok(findings)
}

impl Rule {
    fn findings(
        &self,
        objections: Objections,
        layer: impl Fn(&Path) -> Option<Digest>,
    ) -> impl Iterator<Item = Finding> {
        objections.0.into_iter().map(move |(path, message)| Finding {
            lint: self.lint.name.to_owned(),
            layer: layer(&path),
            path,
            message,
        })
    }
}
