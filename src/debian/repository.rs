//! Reading a repository: its signed Release file, then the indexes that this vouches for.
//!
//! Nothing is believed before it is verified: the Release file by its signature, each index by
//! its size and SHA-256, before and after it is unpacked. What a mirror gets wrong is asked of
//! the next one.

use std::io::Read;

use rayon::prelude::*;

use super::date::Moment;
use super::openpgp::{self, Keyring};
use super::release::{self, Compression, Expectation, File, Index, Release};
use crate::digest::Digest;

#[cfg(test)]
mod tests;

/// The most bytes of an InRelease file. Debian's largest has 200 kB.
const MOST_RELEASE_BYTES: u64 = 16 << 20;

/// The most bytes of a file of certificates. All of Debian's together have 60 kB.
const MOST_KEYRING_BYTES: u64 = 1 << 20;

/// The most bytes of an unpacked index. Debian's largest has 60 MB.
const MOST_INDEX_BYTES: u64 = 1 << 30;

/// Gets files from the network.
pub trait Transport: Sync {
    /// The content of `url`.
    ///
    /// # Errors
    ///
    /// The file is not there or longer than `limit_bytes`, or the server cannot be reached.
    fn get(&self, url: &str, limit_bytes: u64) -> Result<Vec<u8>, TransportError>;
}

/// Why a file could not be had. What is wrong with it says the source.
#[derive(Debug, thiserror::Error)]
#[error("cannot get {url}")]
pub struct TransportError {
    /// The file.
    pub url: String,
    /// What happened.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// One suite of one archive, as a definition names it.
#[derive(Clone, Debug)]
pub struct Repository {
    /// What the lock file calls it.
    pub name: String,
    /// The URL that the paths of packages are relative to: above `dists/` and `pool/`.
    pub url: String,
    /// Further URLs with the same content.
    pub mirrors: Vec<String>,
    /// The URL of an archive of all its past states, in the layout of snapshot.debian.org.
    pub snapshot: Option<String>,
    /// The suite or code name: `trixie`. One that ends in `/` is the directory of a flat repository,
    /// whose Release file and index lie in it side by side.
    pub suite: String,
    /// The components: `main`. A flat repository has none.
    pub components: Vec<String>,
    /// The only packages to take from it, `*` standing for any text. None: all that it offers.
    pub packages: Vec<String>,
    /// OpenPGP certificates.
    pub keyring: Certificates,
    /// The primary fingerprints of those that may sign it.
    pub signed_by: Vec<String>,
}

/// Where certificates are. They are believed for their fingerprints, wherever they come from.
#[derive(Clone, Debug)]
pub enum Certificates {
    /// At hand, armoured or binary.
    Here(Vec<u8>),
    /// At a URL.
    Url(String),
}

/// The content of a repository at one moment.
#[derive(Debug)]
pub struct Contents {
    /// When its Release file was made.
    pub date: Moment,
    /// The digest of the InRelease file.
    pub release: Digest,
    /// The digest of the certificates, if they came from a URL.
    pub keyring: Option<Digest>,
    /// The text of its `Packages` files.
    pub indexes: Vec<String>,
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The certificates in the definition are of no use.
    #[error("the keyring of the repository `{repository}`")]
    Keyring {
        /// Its name.
        repository: String,
        /// What is wrong.
        #[source]
        #[diagnostic_source]
        source: openpgp::Error,
    },
    /// The certificates cannot be had.
    #[error("no usable keyring of the repository `{repository}`")]
    #[diagnostic(help(
        "bring the file here from a machine that reaches it, put it beside the definition, and name \
         it there: `keyring = \"keys/{repository}.asc\"`; `signed_by` decides whether it is the right one"
    ))]
    KeyringUrl {
        /// The repository's name.
        repository: String,
        /// What is wrong with the URL.
        #[related]
        attempts: Vec<Attempt>,
    },
    /// No mirror has a good Release file.
    #[error("no usable Release file of the repository `{repository}`")]
    Release {
        /// Its name.
        repository: String,
        /// What is wrong with each mirror.
        #[related]
        attempts: Vec<Attempt>,
    },
    /// The Release file does not offer what was asked for.
    #[error("the repository `{repository}`")]
    Content {
        /// Its name.
        repository: String,
        /// What is wrong.
        #[source]
        #[diagnostic_source]
        source: release::Error,
    },
    /// No mirror has the index that the Release file vouches for.
    #[error("no usable index of packages of the repository `{repository}`")]
    #[diagnostic(help("the mirrors may be in the middle of an update: try again in some minutes"))]
    Index {
        /// Its name.
        repository: String,
        /// What is wrong with each mirror.
        #[related]
        attempts: Vec<Attempt>,
    },
}

/// One URL that was tried in vain.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
#[error("{url}")]
pub struct Attempt {
    /// The file.
    pub url: String,
    /// What is wrong with it.
    #[source]
    #[diagnostic_source]
    pub source: AttemptError,
}

/// What is wrong with a file of a repository.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum AttemptError {
    /// It cannot be had.
    #[error("{}", chain(.0.source.as_ref()))]
    #[diagnostic(help(
        "check the repository in the definition, and that this machine reaches it (`http_proxy` is \
         honoured); otherwise name a copy that it reaches in `mirrors`: a server, or a directory as \
         `file:///…`"
    ))]
    Transport(TransportError),
    /// The certificates cannot be had; the error that this is a part of says what to do.
    #[error("{}", chain(.0.source.as_ref()))]
    Certificates(TransportError),
    /// Its signature does not count.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Signature(#[from] openpgp::Error),
    /// It is not what was asked for.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Release(#[from] release::Error),
    /// It is not the file that the Release file lists.
    #[error("{found}, but the Release file says {expected}")]
    Mismatch {
        /// What came.
        found: String,
        /// What should have come.
        expected: String,
    },
    /// It cannot be unpacked.
    #[error("it cannot be unpacked")]
    Unpack(#[source] std::io::Error),
    /// It is no text.
    #[error("it is not UTF-8")]
    Text,
}

/// An error with its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl Repository {
    /// The URLs that offer the repository, in the order of preference, without `/` at the end.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.url).chain(&self.mirrors).map(|url| url.trim_end_matches('/'))
    }

    /// Whether it is flat: one directory with a Release file, an index, and no suites.
    pub fn is_flat(&self) -> bool {
        self.suite.ends_with('/')
    }

    /// The directory of the Release file, below `base`, without `/` at the end.
    fn directory(&self, base: &str) -> String {
        match self.suite.strip_suffix('/') {
            None => format!("{base}/dists/{}", self.suite),
            Some(".") => base.to_owned(),
            Some(directory) => format!("{base}/{directory}"),
        }
    }

    /// Reads the newest state of the repository for `architecture`. `not_before` is the date of
    /// the state seen last: an older one is refused.
    ///
    /// # Errors
    ///
    /// Any [`Error`]; nothing unverified is ever returned.
    pub fn read(
        &self,
        transport: &dyn Transport,
        architecture: &str,
        not_before: Option<Moment>,
        now: Moment,
    ) -> Result<Contents, Error> {
        let (keyring, keyring_digest) = self.keyring(transport)?;
        let (release, digest) = self.release(transport, &keyring, not_before, now)?;
        let indexes = self
            .listed_indexes(&release, architecture)
            .map_err(|source| Error::Content { repository: self.name.clone(), source })?
            .par_iter()
            .map(|index| self.index(transport, &release, index))
            .collect::<Result<_, _>>()?;
        Ok(Contents { date: release.date, release: digest, keyring: keyring_digest, indexes })
    }

    fn listed_indexes(
        &self,
        release: &Release,
        architecture: &str,
    ) -> Result<Vec<Index>, release::Error> {
        if self.is_flat() {
            return Ok(vec![release.flat_index(&self.suite, architecture)?]);
        }
        let mut indexes = Vec::new();
        for component in &self.components {
            indexes.extend(release.indexes(&self.suite, component, architecture)?);
        }
        Ok(indexes)
    }

    /// The certificates, and their digest if they come from a URL. They need no signature of their
    /// own: a certificate counts only if `signed_by` has the fingerprint of its primary key.
    fn keyring(&self, transport: &dyn Transport) -> Result<(Keyring, Option<Digest>), Error> {
        match &self.keyring {
            Certificates::Here(bytes) => {
                let keyring = Keyring::parse(bytes)
                    .map_err(|source| Error::Keyring { repository: self.name.clone(), source })?;
                Ok((keyring, None))
            }
            Certificates::Url(url) => first_good([url.clone()].into_iter(), |url| {
                let bytes =
                    transport.get(url, MOST_KEYRING_BYTES).map_err(AttemptError::Certificates)?;
                let keyring = Keyring::parse(&bytes)?;
                keyring.require(&self.signed_by)?;
                Ok((keyring, Some(Digest::of(&bytes))))
            })
            .map_err(|attempts| Error::KeyringUrl { repository: self.name.clone(), attempts }),
        }
    }

    /// The Release file of the first URL that has a good one, and the digest of the file.
    fn release(
        &self,
        transport: &dyn Transport,
        keyring: &Keyring,
        not_before: Option<Moment>,
        now: Moment,
    ) -> Result<(Release, Digest), Error> {
        let suite = (!self.is_flat()).then_some(self.suite.as_str());
        let expectation = Expectation { suite, not_before, now };
        let try_url = |url: &str| {
            let bytes = transport.get(url, MOST_RELEASE_BYTES).map_err(AttemptError::Transport)?;
            let verified = keyring.verify(&bytes, &self.signed_by, now)?;
            let release = Release::parse(&verified.text, &expectation)?;
            Ok((release, Digest::of(&bytes)))
        };
        let urls = self.urls().map(|base| format!("{}/InRelease", self.directory(base)));
        first_good(urls, try_url)
            .map_err(|attempts| Error::Release { repository: self.name.clone(), attempts })
    }

    /// The text of an index, from the first URL that has the very file.
    fn index(
        &self,
        transport: &dyn Transport,
        release: &Release,
        index: &Index,
    ) -> Result<String, Error> {
        // The name made of the hash stays right while a mirror is being updated.
        let directory = index.path.rfind('/').map_or("", |slash| &index.path[..=slash]);
        let by_hash = format!("{directory}by-hash/SHA256/{}", index.packed.sha256);
        let paths = release.acquire_by_hash.then_some(by_hash).into_iter();
        let urls = paths.chain([index.path.clone()]).flat_map(|path| {
            self.urls().map(move |base| format!("{}/{path}", self.directory(base)))
        });
        first_good(urls, |url| {
            let limit = index.packed.size.min(MOST_INDEX_BYTES);
            let packed = transport.get(url, limit).map_err(AttemptError::Transport)?;
            check(&packed, &index.packed)?;
            let plain = unpack(packed, index)?;
            if let Some(expected) = &index.plain {
                check(&plain, expected)?;
            }
            String::from_utf8(plain).map_err(|_| AttemptError::Text)
        })
        .map_err(|attempts| Error::Index { repository: self.name.clone(), attempts })
    }
}

/// The first result that is good, or what is wrong with each URL.
fn first_good<T>(
    urls: impl Iterator<Item = String>,
    try_url: impl Fn(&str) -> Result<T, AttemptError>,
) -> Result<T, Vec<Attempt>> {
    let mut attempts = Vec::new();
    for url in urls {
        match try_url(&url) {
            Ok(result) => return Ok(result),
            Err(source) => attempts.push(Attempt { url, source }),
        }
    }
    Err(attempts)
}

fn check(bytes: &[u8], expected: &File) -> Result<(), AttemptError> {
    let size = bytes.len() as u64;
    let mismatch =
        |found: String, expected: String| Err(AttemptError::Mismatch { found, expected });
    if size != expected.size {
        return mismatch(format!("it has {size} bytes"), format!("{} bytes", expected.size));
    }
    let digest = Digest::of(bytes);
    if digest != expected.sha256 {
        return mismatch(format!("its SHA-256 is {digest}"), expected.sha256.to_string());
    }
    Ok(())
}

/// Unpacks an index, but never more bytes than it should have.
fn unpack(packed: Vec<u8>, index: &Index) -> Result<Vec<u8>, AttemptError> {
    // One byte more than expected is enough to see that there are too many.
    let most = index.plain.map_or(MOST_INDEX_BYTES, |plain| plain.size.min(MOST_INDEX_BYTES));
    let limit = most + 1;
    let read = |reader: &mut dyn Read| {
        let mut plain = Vec::new();
        reader.take(limit).read_to_end(&mut plain).map_err(AttemptError::Unpack)?;
        if plain.len() as u64 > MOST_INDEX_BYTES {
            let found = format!("it unpacks to more than {MOST_INDEX_BYTES} bytes");
            return Err(AttemptError::Mismatch { found, expected: "an index".to_owned() });
        }
        Ok(plain)
    };
    match index.compression {
        Compression::Xz => read(&mut liblzma::read::XzDecoder::new_multi_decoder(&packed[..])),
        Compression::Gzip => read(&mut flate2::read::MultiGzDecoder::new(&packed[..])),
        Compression::None => Ok(packed),
    }
}
