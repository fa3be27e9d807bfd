//! Sources that somebody gives by hand: `--source NAME=PATH`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::{LockedRole, PinnedPackage};
use crate::definition::{CommitId, Pin, Project, Upstream, UpstreamKind, did_you_mean};
use crate::digest::{Digest, Hasher};
use crate::layer::source::oci::{self, Layout};
use crate::layer::source::{self, git};
use crate::store::{self, KeyKind, KeyLock, Store};

/// Something given, which is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supplied {
    /// The SHA-256 of the file, or of the archive that the directory was packed to.
    pub digest: Digest,
    /// Whether it was a directory.
    pub is_directory: bool,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it is the tree of the very commit, or a part of the very OCI image, that the definition
    /// pins.
    pub is_pinned: bool,
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
    /// A repository without the commit.
    #[error("{} has no commit {commit}, which the source `{name}` is", path.display())]
    #[diagnostic(help(
        "fetch it there first (`git fetch ORIGIN COMMIT`); imgbuild runs `git`, so check that it is \
         installed as well"
    ))]
    Commit {
        /// The name.
        name: String,
        /// The commit.
        commit: String,
        /// What was given.
        path: PathBuf,
    },
    /// An OCI layout without the image.
    #[error("{} has no image {digest}, which the source `{name}` is a part of", path.display())]
    #[diagnostic(help(
        "bring the whole image there, for example with `skopeo copy --all docker://IMAGE@DIGEST \
         oci:DIRECTORY`"
    ))]
    Image {
        /// The name.
        name: String,
        /// The digest.
        digest: String,
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
        for image in role.images_mut() {
            for source in image.sources.iter_mut().chain(&mut image.files) {
                source.supplied = self.get(source.upstream.name.as_str()).cloned();
            }
            for PinnedPackage { package, .. } in &mut image.packages {
                let given = package.source.as_ref().and_then(|name| self.get(name));
                if let Some(Supplied { digest, size, .. }) = given {
                    (package.sha256, package.size) = (*digest, *size);
                }
            }
        }
    }

    /// What was given for the source `name`.
    pub fn get(&self, name: &str) -> Option<&Supplied> {
        self.0.get(name)
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
    let pack = |source| Error::Pack { name: name(), path: path.to_owned(), source };
    if let Pin::Commit(commit) = &upstream.pin {
        if git::has_commit(path, commit) {
            let digest = put_commit(store, path, commit)?.map_err(pack)?;
            return Ok(Supplied { digest, size: 0, is_directory: false, is_pinned: true });
        }
        if path.join(".git").exists() || path.join("objects").exists() {
            let (name, commit) = (name(), commit.to_string());
            return Err(Error::Commit { name, commit, path: path.to_owned() });
        }
    }
    if let (Pin::Image(digest), UpstreamKind::Oci { path: inside, .. }) =
        (&upstream.pin, &upstream.kind)
        && let Some(layout) = Layout::open(path).map_err(pack)?
    {
        let part = ImagePart { digest, path: inside.relative() };
        let absent = || Error::Image {
            name: name(),
            digest: upstream.pin.to_string(),
            path: path.to_owned(),
        };
        let digest = part.take(&layout, store)?.ok_or_else(absent)?.map_err(pack)?;
        return Ok(Supplied { digest, size: 0, is_directory: false, is_pinned: true });
    }
    let mut writer = store.writer()?;
    if metadata.is_dir() {
        if matches!(upstream.kind, UpstreamKind::File { .. } | UpstreamKind::Package) {
            return Err(Error::Directory { name: name(), path: path.to_owned() });
        }
        source::pack(path, &mut writer).map_err(pack)?;
    } else {
        // A device or a pipe is read to its end like a file; nothing is believed of it.
        let mut file = File::open(path).map_err(failed)?;
        io::copy(&mut file, &mut writer).map_err(failed)?;
    }
    let blob = writer.commit()?;
    let (digest, size, is_directory) = (blob.digest(), blob.size(), metadata.is_dir());
    Ok(Supplied { digest, size, is_directory, is_pinned: false })
}

/// What the trees of commits became in the store, by the commit.
const GIT: KeyKind = KeyKind::new("git");

/// Part of the key: raise it when the tree of a commit becomes other bytes.
const GIT_VERSION: &str = "imgbuild git 1";

fn commit_key(commit: &CommitId) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field(GIT_VERSION);
    hasher.field(commit.as_str());
    hasher.finish()
}

/// The archive of the tree of `commit`, if it is in `store`.
pub(super) fn known_commit(store: &Store, commit: &CommitId) -> Option<Digest> {
    let digest = store.get_key(GIT, &commit_key(commit))?;
    store.blob(&digest).map(|blob| blob.digest())
}

/// Keeps others from getting `commit` at the same time.
pub(super) fn lock_commit(store: &Store, commit: &CommitId) -> Result<KeyLock, store::Error> {
    store.lock_key(GIT, &commit_key(commit))
}

/// Puts the tree of `commit` of the repository at `path` into `store`, as an archive. The inner error is
/// one of the repository.
pub(super) fn put_commit(
    store: &Store,
    path: &Path,
    commit: &CommitId,
) -> Result<Result<Digest, source::Error>, store::Error> {
    let mut writer = store.writer()?;
    if let Err(error) = git::pack_commit(path, commit, &mut writer) {
        return Ok(Err(error));
    }
    let digest = writer.commit()?.digest();
    store.put_key(GIT, &commit_key(commit), &digest)?;
    Ok(Ok(digest))
}

/// What parts of OCI images became in the store.
const OCI: KeyKind = KeyKind::new("oci");

/// Part of the key: raise it when a part of an image becomes other bytes.
const OCI_VERSION: &str = "imgbuild oci 1";

/// A file or directory of an OCI image.
pub(super) struct ImagePart<'a> {
    /// The digest of its manifest or index.
    pub digest: &'a Digest,
    /// The path in it, without `/` at the beginning.
    pub path: &'a Path,
}

impl ImagePart<'_> {
    fn key(&self) -> Digest {
        let mut hasher = Hasher::new();
        hasher.field(OCI_VERSION);
        hasher.field(self.digest.to_string());
        hasher.field(self.path.as_os_str().as_bytes());
        hasher.finish()
    }

    /// The archive of it, if it is in `store`.
    pub fn known(&self, store: &Store) -> Option<Digest> {
        let digest = store.get_key(OCI, &self.key())?;
        store.blob(&digest).map(|blob| blob.digest())
    }

    /// Keeps others from getting it at the same time.
    pub fn lock(&self, store: &Store) -> Result<KeyLock, store::Error> {
        store.lock_key(OCI, &self.key())
    }

    /// Puts it into `store`, as an archive. `layers` are the verified layers of the image, the lowest first.
    /// The inner error is one of the image.
    pub fn put(
        &self,
        store: &Store,
        layers: &[PathBuf],
    ) -> Result<Result<Digest, source::Error>, store::Error> {
        let (mut writer, scratch) = (store.writer()?, store.work_dir()?);
        if let Err(error) = oci::pack(layers, self.path, scratch.path(), &mut writer) {
            return Ok(Err(error));
        }
        let digest = writer.commit()?.digest();
        store.put_key(OCI, &self.key(), &digest)?;
        Ok(Ok(digest))
    }

    /// Puts it into `store`, from an OCI layout. None: the layout has not the image.
    fn take(
        &self,
        layout: &Layout,
        store: &Store,
    ) -> Result<Option<Result<Digest, source::Error>>, store::Error> {
        if !layout.has(self.digest) {
            return Ok(None);
        }
        let scratch = store.work_dir()?;
        let get = |wanted: &[oci::Wanted]| {
            wanted.iter().map(|blob| layout.copy(blob, scratch.path())).collect()
        };
        match oci::layers(self.digest, get) {
            Ok(layers) => self.put(store, &layers).map(Some),
            Err(oci::LayersError::Blob(error) | oci::LayersError::Image(error)) => {
                Ok(Some(Err(error)))
            }
        }
    }
}
