//! Packages that are sources: each takes part in the resolution like a repository with nothing else.

use std::path::PathBuf;

use super::{Error, WantedFile};
use crate::debian::deb::{self, Deb};
use crate::debian::{control, packages};
use crate::digest::Digest;

/// Gets packages whose control files are needed.
pub trait PackageFiles: Sync {
    /// The file of `wanted`.
    ///
    /// # Errors
    ///
    /// It cannot be had, or nobody has verified it.
    fn get(&self, wanted: &WantedFile) -> Result<PackageFile, FileProblem>;
}

/// A package on this machine. Its bytes are those that the definition pins, or, where it pins none,
/// were given by hand.
#[derive(Clone, Debug)]
pub struct PackageFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its SHA-256.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// Why a package cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProblem {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// The entry that an index of packages would have for `wanted`, which must be for `architecture`.
pub(super) fn entry(
    wanted: &WantedFile,
    architecture: &str,
    files: Option<&dyn PackageFiles>,
) -> Result<String, Error> {
    let nobody = || FileProblem {
        message: format!("nothing gets the source `{}`", wanted.name),
        help: "open a store for it".to_owned(),
    };
    let file = files.ok_or_else(nobody).and_then(|files| files.get(wanted));
    let error = |FileProblem { message, help }| Error::file(wanted, message, help);
    let file = file.map_err(error)?;
    let unusable = |problem: String| {
        let message = format!("the source `{}` is no usable package: {problem}", wanted.name);
        let help =
            "look at it with `dpkg-deb --info`, and name the right file in `urls` and `sha256`";
        Error::file(wanted, message, help.to_owned())
    };
    let deb = Deb::open(&file.path).map_err(|error| unusable(problem(&error)))?;
    let text = deb.control_file("control").unwrap_or_default();
    let text =
        str::from_utf8(text).map_err(|_| unusable("its control file is not UTF-8".into()))?;
    let mut paragraphs = control::paragraphs(text);
    let (paragraph, more) = (paragraphs.next().unwrap_or_default(), paragraphs.next());
    if more.is_some() {
        return Err(unusable("its control file has more than one paragraph".into()));
    }
    match control::field(paragraph, "Architecture").ok().flatten() {
        Some(found) if found != architecture && found != "all" => {
            return Err(unusable(format!(
                "it is for {found}, and the image is for {architecture}"
            )));
        }
        _ => {}
    }
    let (PackageFile { digest, size, .. }, name) = (&file, &wanted.name);
    let entry = format!("{paragraph}\nFilename: {name}\nSize: {size}\nSHA256: {digest}\n");
    let mut universe = packages::Universe::new();
    universe.add_file(&entry).map_err(|error| unusable(chain(&error)))?;
    Ok(entry)
}

/// What is wrong with a package, without the path of the store.
fn problem(error: &deb::Error) -> String {
    match error {
        deb::Error::Format { problem, .. } => problem.clone(),
        other => chain(other),
    }
}

/// An error with its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
