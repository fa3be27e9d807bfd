//! An error on its way out of the sandbox, where it becomes text.

use std::error::Error as StdError;
use std::io;

use miette::Diagnostic;
use serde::{Deserialize, Serialize};

use super::request::PackageFile;
use crate::debian::{database, deb, unpack};
use crate::store;

/// An error that has crossed the border of the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub struct Failure {
    /// What failed, then why, outermost first.
    pub chain: Vec<String>,
    /// What to do about it.
    pub help: Option<String>,
    /// The command of the image that failed, when it was one.
    pub command: Option<String>,
    /// The last lines that it wrote.
    pub output: String,
}

impl Failure {
    /// Something that is not in order, and what to do about it.
    pub(super) fn because(reason: impl Into<String>, help: impl Into<String>) -> Self {
        let help = Some(help.into());
        Self { chain: vec![reason.into()], help, command: None, output: String::new() }
    }

    fn new(error: &(dyn StdError + 'static)) -> Self {
        let causes = std::iter::successors(Some(error), |&error| error.source());
        let mut chain: Vec<String> = causes.clone().map(ToString::to_string).collect();
        // A transparent error and its cause say the same.
        chain.dedup();
        Self {
            chain,
            help: causes.into_iter().find_map(help),
            command: None,
            output: String::new(),
        }
    }

    /// The same with package files called by what is in them: in the store they have digests for
    /// names.
    pub(super) fn naming(mut self, packages: &[PackageFile]) -> Self {
        for PackageFile { path, name, version, .. } in packages {
            let path = path.display().to_string();
            for text in &mut self.chain {
                *text = text.replace(&path, &format!("the package {name} {version}"));
            }
        }
        self
    }
}

impl<E: StdError + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(&error)
    }
}

/// What an error advises, if it is one of those that do.
fn help(error: &(dyn StdError + 'static)) -> Option<String> {
    let diagnostic: &dyn Diagnostic = if let Some(error) = error.downcast_ref::<unpack::Error>() {
        error
    } else if let Some(error) = error.downcast_ref::<database::Error>() {
        error
    } else if let Some(error) = error.downcast_ref::<deb::Error>() {
        error
    } else if let Some(error) = error.downcast_ref::<store::Error>() {
        error
    } else {
        // An error of the store may travel as one of input and output; `source` steps over it.
        let inner = error.downcast_ref::<io::Error>()?.get_ref()?;
        inner.downcast_ref::<store::Error>()?
    };
    diagnostic.help().map(|help| help.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn advice_crosses_the_border_and_files_get_the_names_of_packages() {
        let path = PathBuf::from("/store/blobs/sha256/ab/abcd");
        let problem = "it is too short".to_owned();
        let error = unpack::Error::from(deb::Error::Format { path: path.clone(), problem });
        let (name, version) = ("web".to_owned(), "1.0".to_owned());
        let package = PackageFile { path, name, version, architecture: "all".to_owned() };
        let failure = Failure::from(error).naming(&[package]);
        assert_eq!(failure.chain, ["the package web 1.0 is not a Debian package: it is too short"]);
        assert!(failure.help.unwrap().contains("another version"));
    }

    #[test]
    fn advice_of_the_store_survives_as_an_error_of_input_and_output() {
        let error = store::Error::NoPlace.into_io();
        assert!(Failure::from(error).help.unwrap().contains("--store"));
    }
}
