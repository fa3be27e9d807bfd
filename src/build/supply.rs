//! Sources that somebody gives by hand: `--source NAME=PATH`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::LockedRole;
use crate::definition::{Project, Upstream, UpstreamKind, did_you_mean};
use crate::digest::Digest;
use crate::layer::source;
use crate::store::{self, Store};

/// Something given, which is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supplied {
    /// The SHA-256 of the file, or of the archive that the directory was packed to.
    pub digest: Digest,
    /// Whether it was a directory.
    pub is_directory: bool,
}

/// Why something given cannot be taken.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// No definition has a source of this name.
    #[error("no definition has a source `{name}`")]
    Unknown {
        /// The name.
        name: String,
        /// What there is.
        #[help]
        help: String,
    },
    /// The same name twice.
    #[error("the source `{name}` is given twice")]
    #[diagnostic(help("leave one of the two `--source` out"))]
    Twice {
        /// The name.
        name: String,
    },
    /// A directory for what is one file.
    #[error("{} is a directory, and the source `{name}` is one file", path.display())]
    #[diagnostic(help("name the file"))]
    Directory {
        /// The name.
        name: String,
        /// What was given.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {} for the source `{name}`", path.display())]
    #[diagnostic(help("check that it is there, and that this user may read it"))]
    Read {
        /// The name.
        name: String,
        /// What was given.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The directory holds what no image may hold.
    #[error("the source `{name}` cannot be {}", path.display())]
    Pack {
        /// The name.
        name: String,
        /// What was given.
        path: PathBuf,
        /// What is wrong.
        #[source]
        #[diagnostic_source]
        source: source::Error,
    },
    /// The store.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::Error),
}

/// Everything that was given, by the names of sources.
#[derive(Debug, Default)]
pub struct Supplies(BTreeMap<String, Supplied>);

impl Supplies {
    /// Copies what `given` names into `store`.
    ///
    /// # Errors
    /// A name that no source of `project` has, or something that cannot be read.
    pub fn read(
        project: &Project,
        store: &Store,
        given: &[(String, PathBuf)],
    ) -> Result<Self, Error> {
        let mut supplies = BTreeMap::new();
        for (name, path) in given {
            let upstream = declared(project, name)?;
            let supplied = take(upstream, path, store)?;
            if supplies.insert(name.clone(), supplied).is_some() {
                return Err(Error::Twice { name: name.clone() });
            }
        }
        Ok(Self(supplies))
    }

    /// Has `role` built with what was given. What has the bytes that the definition pins
    /// simply counts as fetched.
    pub fn give(&self, role: &mut LockedRole) {
        for source in role.images_mut().flat_map(|image| &mut image.sources) {
            source.supplied = self.0.get(source.upstream.name.as_str()).cloned();
        }
    }
}

fn declared<'a>(project: &'a Project, name: &str) -> Result<&'a Upstream, Error> {
    let all = || project.images().flat_map(|image| image.sources.values());
    all().find(|source| source.name.as_str() == name).ok_or_else(|| {
        let names: Vec<&str> = all().map(|source| source.name.as_str()).collect();
        let known = match names.as_slice() {
            [] => "no definition of this project has [sources]".to_owned(),
            names => format!("sources: {}", names.join(", ")),
        };
        let help = did_you_mean(name, names.iter().copied()).unwrap_or(known);
        Error::Unknown { name: name.to_owned(), help }
    })
}

fn take(upstream: &Upstream, path: &Path, store: &Store) -> Result<Supplied, Error> {
    let name = || upstream.name.to_string();
    let failed = |source| Error::Read { name: name(), path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    let mut writer = store.writer()?;
    if metadata.is_dir() {
        if matches!(upstream.kind, UpstreamKind::File { .. }) {
            return Err(Error::Directory { name: name(), path: path.to_owned() });
        }
        source::pack(path, &mut writer).map_err(|source| Error::Pack {
            name: name(),
            path: path.to_owned(),
            source,
        })?;
    } else {
        // A device or a pipe is read to its end like a file; nothing is believed of it.
        let mut file = File::open(path).map_err(failed)?;
        io::copy(&mut file, &mut writer).map_err(failed)?;
    }
    Ok(Supplied { digest: writer.commit()?.digest(), is_directory: metadata.is_dir() })
}
