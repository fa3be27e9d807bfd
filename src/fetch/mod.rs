//! Downloads: parallel, resumable, and verified before anything can read them.
//!
//! This is the only stage with network. What it fetches is named by its sha256, so it does not
//! matter where the bytes come from: mirrors are tried in turn, unfinished downloads are resumed
//! even from another mirror, and plain http is as good as https. [`Verified`] can only be made by
//! comparing the hash, so a stage that takes a [`Verified`] cannot be given anything else.
//!
//! A file that is in the store is not fetched. It is not always hashed again either: the store
//! does so once after each boot of the machine ([`crate::store`], *Durability*).

mod agent;
pub(crate) mod challenge;
mod error;
mod newer;
pub(crate) mod origin;
pub(crate) mod retry;
pub(crate) mod source;
pub(crate) mod token;
mod transfer;
mod transport;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rayon::prelude::*;

pub use newer::{Newer, Validators};

pub use error::{Attempt, Error, FailedDownload, Failure, Missing};
pub use token::{Credential, Credentials, MOST_MANIFEST};

use crate::digest::Digest;
use crate::progress::{Progress, Step};
use crate::store::{Blob, Store};
use retry::Hosts;
use source::Wanted;
use transfer::{End, Meter, Transfer};

/// Bytes that are read at once.
const BUFFER: usize = 64 * 1024;

/// The label of every single download begins like this, so that a watcher can show them only in the
/// sum: the step over all of them is labelled [`TOTAL_LABEL`].
pub const FILE_LABEL: &str = "download ";

/// The label of the step over all downloads begins like this.
pub const TOTAL_LABEL: &str = "downloads: ";

/// A file to fetch.
#[derive(Clone, Debug)]
pub struct Request {
    /// What it is, as shown to the user: `haproxy 3.0.11-1+deb13u3`.
    pub label: String,
    /// Where it may be had, best first: `http://`, `https://`, `file://` or an absolute path.
    pub urls: Vec<String>,
    /// What it is.
    pub digest: Digest,
    /// Its length in bytes, if it is known beforehand.
    pub size: Option<u64>,
}

impl Request {
    fn fits(&self, blob: &Blob) -> bool {
        self.size.is_none_or(|size| size == blob.size())
    }
}

/// A file in the store whose sha256 and size, if that was known, are those of the request.
#[derive(Clone, Debug)]
pub struct Verified {
    blob: Blob,
}

impl Verified {
    /// The file: absolute, read-only. It stays as long as the store is open.
    pub fn path(&self) -> &Path {
        self.blob.path()
    }

    /// Its sha256.
    pub fn digest(&self) -> Digest {
        self.blob.digest()
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.blob.size()
    }
}

/// Whether the network may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// It may.
    Online,
    /// It may not (`--offline`); local files may be read.
    Offline,
}

/// How patient to be.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How often each URL is tried when the trouble may pass.
    pub tries: u32,
    /// The pause before the second try; doubled before each further one.
    pub base_delay: Duration,
    /// The longest pause, also when the server asks for a longer one.
    pub max_delay: Duration,
    /// How long to wait for an answer, or for the next bytes of one.
    pub patience: Duration,
    /// Bytes per second, on average over [`Policy::patience`], below which a server is given up.
    pub slowest: u64,
    /// Whether `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` are honoured.
    pub proxy_from_environment: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tries: 4,
            base_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(30),
            patience: Duration::from_secs(30),
            slowest: 1024,
            proxy_from_environment: true,
        }
    }
}

/// Fetches files. Holds the connections, so make one and share it.
pub struct Fetcher {
    agent: ureq::Agent,
    network: Network,
    policy: Policy,
    hosts: Hosts,
    tokens: token::Tokens,
}

/// What a fetcher of one registry knows, besides what one of mirrors does.
pub(crate) struct Known {
    /// Who we are.
    pub(crate) credentials: Box<dyn Credentials>,
    /// What is to be done there: `pull` or [`challenge::PUSH`].
    pub(crate) actions: &'static str,
    /// Who may vouch for the server, in the place of the authorities that browsers know.
    pub(crate) authorities: Option<ureq::tls::RootCerts>,
}

impl Fetcher {
    /// A fetcher that keeps to `policy`.
    pub fn new(network: Network, policy: Policy) -> Self {
        let (hosts, tokens) = (Hosts::default(), token::Tokens::default());
        Self { agent: agent::agent(&policy, None), network, policy, hosts, tokens }
    }

    /// A fetcher that keeps to `policy` and talks to one registry.
    pub(crate) fn for_registry(policy: Policy, known: Known) -> Self {
        let Known { credentials, actions, authorities } = known;
        let tokens = token::Tokens::of(token::Identity { credentials, actions });
        let (agent, network) = (agent::agent(&policy, authorities), Network::Online);
        Self { agent, network, policy, hosts: Hosts::default(), tokens }
    }

    pub(crate) fn agent(&self) -> &ureq::Agent {
        &self.agent
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(crate) fn tokens(&self) -> &token::Tokens {
        &self.tokens
    }

    /// Makes a request to the repository of a registry at the URL `repository` by `send`, as [`token::Tokens::introduce`].
    pub(crate) fn introduce<E: From<Failure>>(
        &self,
        repository: &str,
        send: impl Fn(Option<&str>) -> Result<ureq::http::Response<ureq::Body>, E>,
    ) -> Result<ureq::http::Response<ureq::Body>, E> {
        let client = token::Client { agent: &self.agent, policy: &self.policy };
        self.tokens.introduce(client, repository, send)
    }

    pub(crate) fn online(&self) -> bool {
        self.network == Network::Online
    }

    /// Brings every file of `requests` into `store`, `jobs` at a time, and returns them in the
    /// order of the requests.
    ///
    /// Files that fail for reasons of their own (not found, wrong hash) do not keep the others
    /// from being fetched. A store that cannot take more, or hosts that do not answer, do.
    ///
    /// # Errors
    /// [`Error::Download`], [`Error::Offline`], [`Error::Store`].
    pub fn download(
        &self,
        requests: &[Request],
        store: &Store,
        jobs: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Verified>, Error> {
        // In parallel because after a boot each blob is hashed here.
        let mut blobs: Vec<Option<Blob>> = requests
            .par_iter()
            .map(|request| store.blob(&request.digest).filter(|blob| request.fits(blob)))
            .collect();
        let mut absent: Vec<usize> =
            (0..requests.len()).filter(|index| blobs[*index].is_none()).collect();
        if !absent.is_empty() {
            self.refuse_if_offline(requests, &absent)?;
            // The largest first: the last ones to finish are then short.
            absent.sort_by_key(|index| std::cmp::Reverse(requests[*index].size));
            let results = self.fetch_all(requests, &absent, store, jobs, progress);
            settle(results, &mut blobs)?;
        }
        Ok(blobs.into_iter().flatten().map(|blob| Verified { blob }).collect())
    }

    /// Fetches a small file of unknown content, such as an index that is verified by a signature:
    /// from the first URL that has it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if every URL says that there is no such file; [`Error::Get`] in
    /// all other cases, and if it is longer than `limit` bytes.
    pub fn get(&self, urls: &[String], limit: u64) -> Result<Vec<u8>, Error> {
        let mut attempts = Vec::new();
        for url in self.hosts.in_order(urls) {
            match self.patiently(url, || self.get_once(url, limit)) {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => attempts.push(Attempt { url: url.to_owned(), failure }),
            }
        }
        if !attempts.is_empty() && attempts.iter().all(|attempt| attempt.failure.is_not_found()) {
            return Err(Error::NotFound { urls: urls.to_vec() });
        }
        let offline = |attempt: &Attempt| matches!(attempt.failure, Failure::Offline);
        match attempts.iter().find(|attempt| offline(attempt)) {
            Some(Attempt { url, .. }) => {
                Err(Error::Offline { missing: vec![Missing::of_url(url)] })
            }
            None => Err(Error::Get { attempts }),
        }
    }

    /// Asks `url` by `once`, and again while the trouble may pass.
    fn patiently<T>(&self, url: &str, once: impl Fn() -> Result<T, Failure>) -> Result<T, Failure> {
        let tries = self.hosts.tries(&self.policy, url);
        let mut tried = 1;
        loop {
            let failure = match once() {
                Ok(answer) => {
                    self.hosts.answers(url);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            if !failure.is_transient() || tried >= tries {
                if failure.blames_host() {
                    self.hosts.is_silent(url);
                }
                return Err(failure);
            }
            tried += 1;
            std::thread::sleep(retry::pause(&self.policy, tried, &failure));
        }
    }

    fn get_once(&self, url: &str, limit: u64) -> Result<Vec<u8>, Failure> {
        use std::io::Read;
        let opened = source::open(self, url, Wanted::default())?;
        let mut bytes = Vec::new();
        let read = opened.reader.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        let got = bytes.len() as u64;
        match (read, opened.total) {
            _ if got > limit => Err(Failure::TooLong { limit }),
            (Ok(_), None) => Ok(bytes),
            (Ok(_), Some(total)) if total == got => Ok(bytes),
            (Ok(_), Some(expected)) => Err(Failure::Truncated { expected, got }),
            (Err(error), Some(expected)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(Failure::Truncated { expected, got })
            }
            (Err(error), _) => Err(ureq::Error::from(error).into()),
        }
    }

    /// Says all at once what would have to be fetched.
    fn refuse_if_offline(&self, requests: &[Request], absent: &[usize]) -> Result<(), Error> {
        if self.online() {
            return Ok(());
        }
        let remote = |request: &&Request| request.urls.iter().all(|url| source::is_remote(url));
        let missing: Vec<_> = absent
            .iter()
            .map(|index| &requests[*index])
            .filter(remote)
            .map(|request| Missing {
                label: request.label.clone(),
                url: request.urls.first().cloned().unwrap_or_default(),
            })
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(Error::Offline { missing }) }
    }

    /// Runs the transfers of `absent` on `jobs` threads. Indexes without a result were not begun.
    fn fetch_all(
        &self,
        requests: &[Request],
        absent: &[usize],
        store: &Store,
        jobs: usize,
        progress: &dyn Progress,
    ) -> Vec<(usize, Result<Blob, End>)> {
        let bytes = absent.iter().map(|index| requests[*index].size).sum::<Option<u64>>();
        let files = if absent.len() == 1 { "file" } else { "files" };
        let label = format!("{TOTAL_LABEL}{} {files}", absent.len());
        let total = Step::start(progress, label, bytes);
        let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
        let results = Mutex::new(Vec::with_capacity(absent.len()));
        let work = || {
            while !stop.load(Ordering::Relaxed)
                && let Some(&index) = absent.get(next.fetch_add(1, Ordering::Relaxed))
            {
                let request = &requests[index];
                let label = format!("{FILE_LABEL}{}", request.label);
                let step = Step::start(progress, label, request.size);
                let meter = Meter::new(step, &total);
                let transfer = Transfer { fetcher: self, request, meter, stop: &stop };
                let result = transfer.run(store);
                if result.as_ref().is_err_and(ends_all) {
                    stop.store(true, Ordering::Relaxed);
                }
                results
                    .lock()
                    .unwrap_or_else(|poisoned| poisoned.into_inner())
                    .push((index, result));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..jobs.clamp(1, absent.len()) {
                scope.spawn(work);
            }
        });
        let results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
        if results.iter().all(|(_, result)| result.is_ok()) {
            total.finish("");
        }
        results
    }
}

/// Whether, after this, other files are not worth trying.
fn ends_all(end: &End) -> bool {
    match end {
        End::Store(_) => true,
        End::Failed(failed) => {
            let no_answer = |attempt: &Attempt| attempt.failure.blames_host();
            !failed.attempts.is_empty() && failed.attempts.iter().all(no_answer)
        }
    }
}

/// Enters the files that arrived into `blobs`, or says what went wrong.
fn settle(
    mut results: Vec<(usize, Result<Blob, End>)>,
    blobs: &mut [Option<Blob>],
) -> Result<(), Error> {
    results.sort_by_key(|(index, _)| *index);
    let mut failed = Vec::new();
    for (index, result) in results {
        match result {
            Ok(blob) => blobs[index] = Some(blob),
            Err(End::Store(error)) => return Err(error.into()),
            Err(End::Failed(failure)) => failed.push(failure),
        }
    }
    if failed.is_empty() {
        return Ok(());
    }
    let advice = error::advice(&failed);
    Err(Error::Download { failed, advice })
}
