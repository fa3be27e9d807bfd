//! A client of registries: the OCI distribution specification 1.1.
//!
//! A [`Registry`] holds the connections to one server and who we are there; a [`Repository`] is what images and
//! other things are pushed to and pulled from, by any number of threads. What comes is believed only as far as its
//! digest goes: a manifest by its digest, or by whoever moves a tag; a blob by the digest in a manifest. Blobs
//! go into the [`crate::store`] by the same way as downloads ([`crate::fetch`]): resumed, hashed while they come, and
//! forgotten if they are wrong.

mod address;
mod credentials;
pub mod document;
mod error;
mod http;
mod manifest;
pub mod reference;
mod referrers;
mod upload;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ureq::http::{Method, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

pub use credentials::CredentialFiles;
pub use document::{Descriptor, EMPTY_BYTES, INDEX, Index, MANIFEST, Manifest};
pub use error::Error;
pub use manifest::{Found, Put};
pub use reference::{Location, Origin, Place, Reference, Tag, Which};
pub use upload::Pushed;

use crate::digest::Digest;
use crate::fetch::source::text;
use crate::fetch::{self, Fetcher, Known, Policy, Request, Verified};
use crate::progress::{Progress, Step};
use crate::store::Store;
use http::{Call, Source};
use upload::Upload;

/// Bytes of a piece that is pushed at once. What breaks costs at most one, where a registry can go on.
const PIECE: u64 = 32 << 20;

/// What is to be done in a registry. Tokens are for that, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reading.
    Pull,
    /// Reading and writing.
    Push,
}

/// The certificates of authorities, in the place of those that browsers know.
#[derive(Clone, Debug)]
pub struct Authorities(RootCerts);

impl Authorities {
    /// Those in a file of PEM text.
    ///
    /// # Errors
    /// [`Error::Authorities`] if there is none, or one is malformed.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let error = |why: String| Error::Authorities { path: path.to_owned(), why };
        let bytes = std::fs::read(path).map_err(|reason| error(reason.to_string()))?;
        let mut certificates: Vec<Certificate<'static>> = Vec::new();
        for item in parse_pem(&bytes) {
            if let PemItem::Certificate(certificate) =
                item.map_err(|reason| error(reason.to_string()))?
            {
                certificates.push(certificate);
            }
        }
        // A certificate that rustls cannot read would be left out without a word.
        let mut roots = rustls::RootCertStore::empty();
        for certificate in &certificates {
            let der = certificate.der().to_vec().into();
            roots.add(der).map_err(|reason| error(reason.to_string()))?;
        }
        match certificates.is_empty() {
            true => Err(error("there is no `-----BEGIN CERTIFICATE-----` in it".to_owned())),
            false => Ok(Self(RootCerts::new_with_certs(&certificates))),
        }
    }
}

/// How to talk to a registry.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What is to be done.
    pub access: Access,
    /// Who we are.
    pub credentials: CredentialFiles,
    /// Who vouches for the server.
    pub authorities: Option<Authorities>,
    /// How patient to be.
    pub policy: Policy,
    /// Bytes of a piece that is pushed at once.
    pub piece: u64,
}

impl Settings {
    /// As the environment says who we are, and with the patience of downloads.
    pub fn new(access: Access) -> Self {
        Self {
            access,
            credentials: CredentialFiles::from_environment(),
            authorities: None,
            policy: Policy::default(),
            piece: PIECE,
        }
    }
}

/// A registry.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Origin,
    fetcher: Fetcher,
    piece: u64,
    /// Held while the list of what is about a manifest is changed, where the registry keeps none itself.
    list: Mutex<()>,
}

impl Registry {
    /// The registry at `origin`. Nothing is asked of it yet.
    pub fn new(origin: &Origin, settings: Settings) -> Self {
        let Settings { access, credentials, authorities, mut policy, piece } = settings;
        // What is sent to this machine without TLS must not leave it.
        policy.proxy_from_environment &= !origin.is_local();
        let actions = match access {
            Access::Pull => "pull",
            Access::Push => fetch::challenge::PUSH,
        };
        let authorities = authorities.map(|Authorities(roots)| roots);
        let known = Known { credentials: Box::new(credentials), actions, authorities };
        let fetcher = Fetcher::for_registry(policy, known);
        let shared =
            Shared { origin: origin.clone(), fetcher, piece: piece.max(1), list: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// A repository of it.
    ///
    /// # Panics
    /// If `location` is in another registry.
    pub fn repository(&self, location: &Location) -> Repository {
        assert_eq!(*location.origin(), self.shared.origin, "a repository of this registry");
        Repository { shared: Arc::clone(&self.shared), location: location.clone() }
    }
}

/// A blob to pull.
#[derive(Clone, Debug)]
pub struct WantedBlob {
    /// What it is, as shown to whoever waits: `imgbuild-haproxy-1.0.0-….qcow2`.
    pub label: String,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

/// A blob to push.
#[derive(Clone, Copy, Debug)]
pub struct OfferedBlob<'a> {
    /// What it is, as shown to whoever waits.
    pub label: &'a str,
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Its bytes. They are read from their beginning, wherever the file stands.
    pub file: &'a File,
}

/// A repository of a registry. Cheap to clone, and to be used by many threads at once.
#[derive(Clone)]
pub struct Repository {
    shared: Arc<Shared>,
    location: Location,
}

impl Repository {
    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    fn fetcher(&self) -> &Fetcher {
        &self.shared.fetcher
    }

    fn piece(&self) -> u64 {
        self.shared.piece
    }

    fn blob_url(&self, digest: &Digest) -> String {
        format!("{}/blobs/sha256:{digest}", self.location.url())
    }

    /// Whether it has the blob.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Login`], [`Error::Refused`].
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.blob_size(digest)?.is_some())
    }

    /// The length of the blob, if there is one, and it says so.
    fn blob_size(&self, digest: &Digest) -> Result<Option<Option<u64>>, Error> {
        let what = || format!("look for blob sha256:{} in {}", digest.short(), self.location);
        let call = Call::new(Method::HEAD, self.blob_url(digest));
        let response = self.patiently(&call).map_err(|trouble| trouble.into_error(&what()))?;
        match response.status() {
            StatusCode::OK => {
                let size = text(response.headers(), header::CONTENT_LENGTH);
                Ok(Some(size.and_then(|size| size.parse().ok())))
            }
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(what(), response)),
        }
    }

    /// Pushes the first `size` bytes of `file`, unless they are there. The registry checks that `digest` is theirs.
    ///
    /// # Errors
    /// Those of [`Repository::has_blob`]; [`Error::Address`], [`Error::Lie`], [`Error::Read`].
    pub fn push_blob(&self, digest: &Digest, size: u64, file: &File) -> Result<Pushed, Error> {
        Upload::new(self, *digest, size, Source::File(file), &|_| ()).run()
    }

    /// Pushes these bytes, unless they are there.
    ///
    /// # Errors
    /// Those of [`Repository::push_blob`].
    pub fn push_bytes(&self, bytes: &[u8]) -> Result<Pushed, Error> {
        let (digest, size) = (Digest::of(bytes), bytes.len() as u64);
        Upload::new(self, digest, size, Source::Bytes(bytes), &|_| ()).run()
    }

    /// Pushes `blobs`, `jobs` at a time. Returns what became of each, in their order.
    ///
    /// # Errors
    /// The first of those of [`Repository::push_blob`]; blobs that were not begun by then are left out.
    pub fn push_blobs(
        &self,
        blobs: &[OfferedBlob],
        jobs: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Pushed>, Error> {
        if blobs.is_empty() {
            return Ok(Vec::new());
        }
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let results = Mutex::new(Vec::with_capacity(blobs.len()));
        let work = || {
            while !stop.load(Ordering::Relaxed)
                && let index = next.fetch_add(1, Ordering::Relaxed)
                && let Some(blob) = blobs.get(index)
            {
                let result = self.push_watched(blob, progress);
                stop.fetch_or(result.is_err(), Ordering::Relaxed);
                results
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .push((index, result));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, blobs.len()) {
                scope.spawn(work);
            }
        });
        let mut results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn push_watched(&self, blob: &OfferedBlob, progress: &dyn Progress) -> Result<Pushed, Error> {
        let step = Step::start(progress, format!("push {}", blob.label), Some(blob.size));
        let told = std::cell::Cell::new(0);
        let reached = |bytes: u64| {
            if bytes > told.get() {
                step.advance(bytes - told.replace(bytes));
            }
        };
        let pushed =
            Upload::new(self, blob.digest, blob.size, Source::File(blob.file), &reached).run()?;
        step.finish(if pushed.was_there { "there" } else { "" });
        Ok(pushed)
    }

    /// Brings a blob into the store, unless it is there.
    ///
    /// # Errors
    /// [`Error::Blobs`], [`Error::Store`].
    pub fn pull_blob(
        &self,
        wanted: WantedBlob,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Verified, Error> {
        let mut pulled = self.pull_blobs(&[wanted], store, 1, progress)?;
        Ok(pulled.remove(0))
    }

    /// Brings blobs into the store, `jobs` at a time, those that are not there. Returns them in their order.
    ///
    /// # Errors
    /// [`Error::Blobs`], [`Error::Store`].
    pub fn pull_blobs(
        &self,
        wanted: &[WantedBlob],
        store: &Store,
        jobs: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Verified>, Error> {
        let request = |blob: &WantedBlob| Request {
            label: blob.label.clone(),
            urls: vec![self.blob_url(&blob.digest)],
            digest: blob.digest,
            size: Some(blob.size),
        };
        let requests: Vec<_> = wanted.iter().map(request).collect();
        self.fetcher().download(&requests, store, jobs, progress).map_err(|error| match error {
            fetch::Error::Store(error) => Error::Store(error),
            fetch::Error::Download { failed, .. } => Error::Blobs { failed },
            // There are no others: it is not offline, and nothing is looked for elsewhere.
            other => Error::Document { what: "pull blobs".to_owned(), why: other.to_string() },
        })
    }
}
