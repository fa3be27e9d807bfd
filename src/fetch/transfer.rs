//! One file from its URLs into the store.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};

use super::error::{Attempt, FailedDownload, Failure};
use super::source::{self, Wanted};
use super::{Fetcher, Request, retry, token};
use crate::progress::Step;
use crate::store::{self, Blob, Partial, Store};

/// A transfer that moves this many bytes before it breaks has made headway, and does not use up a try.
const HEADWAY: u64 = 1024 * 1024;

/// Most bytes of a file whose size is not known beforehand.
const MOST: u64 = 16 << 30;

/// Why a transfer ended.
pub(super) enum End {
    /// No URL gave the file.
    Failed(FailedDownload),
    /// The store cannot take it; no other file will fare better.
    Store(store::Error),
}

impl From<store::Error> for End {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// Why one request to one URL ended.
enum Broken {
    /// For a reason of the URL.
    Source(Failure),
    /// For a reason of the store.
    Store(store::Error),
}

impl From<Failure> for Broken {
    fn from(failure: Failure) -> Self {
        Self::Source(failure)
    }
}

impl From<store::Error> for Broken {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// Reports bytes to the step of the file and to that of all files. Bytes that come twice because a
/// transfer started over are counted once.
pub(super) struct Meter<'a> {
    pub(super) file: Step<'a>,
    pub(super) total: &'a Step<'a>,
    reported: u64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(file: Step<'a>, total: &'a Step<'a>) -> Self {
        Self { file, total, reported: 0 }
    }

    fn reach(&mut self, length: u64) {
        if let Some(more) = length.checked_sub(self.reported).filter(|more| *more > 0) {
            self.file.advance(more);
            self.total.advance(more);
            self.reported = length;
        }
    }
}

/// A download in progress.
pub(super) struct Transfer<'a> {
    pub(super) fetcher: &'a Fetcher,
    pub(super) request: &'a Request,
    pub(super) meter: Meter<'a>,
    /// Set when another transfer has met an error that ends them all.
    pub(super) stop: &'a AtomicBool,
}

impl Transfer<'_> {
    /// Fetches the file: from the first URL that has it, going on where an earlier run stopped.
    pub(super) fn run(mut self, store: &Store) -> Result<Blob, End> {
        let Request { digest, urls, label, .. } = self.request;
        let mut partial = store.partial(digest)?;
        // Another process may have fetched it while this one waited for its lock.
        if let Some(blob) = store.blob(digest).filter(|blob| self.request.fits(blob)) {
            partial.forget();
            self.meter.reach(blob.size());
            self.meter.file.finish("fetched by another process");
            return Ok(blob);
        }
        let mut attempts = Vec::new();
        for url in self.fetcher.hosts.in_order(urls) {
            match self.complete_from(url, &mut partial) {
                Ok(()) => {
                    let blob = partial.commit()?;
                    self.meter.file.finish("");
                    return Ok(blob);
                }
                Err(Broken::Store(error)) => return Err(End::Store(error)),
                Err(Broken::Source(failure)) => {
                    attempts.push(Attempt { url: url.to_owned(), failure });
                }
            }
        }
        Err(End::Failed(FailedDownload { label: label.clone(), digest: *digest, attempts }))
    }

    /// Completes `partial` from `url`, trying several times if the trouble may pass.
    fn complete_from(&mut self, url: &str, partial: &mut Partial) -> Result<(), Broken> {
        let policy = &self.fetcher.policy;
        let tries = self.fetcher.hosts.tries(policy, url);
        let (mut tried, mut farthest) = (0, partial.length());
        loop {
            let before = partial.length();
            let failure = match self.once(url, partial) {
                Ok(()) => {
                    self.fetcher.hosts.answers(url);
                    return Ok(());
                }
                Err(Broken::Source(failure)) => failure,
                Err(broken) => return Err(broken),
            };
            match failure {
                // The beginning came from an earlier request; it may be what is wrong. Or the
                // server does not know how to go on. Without a beginning, neither can be.
                Failure::WrongHash { .. } | Failure::RangeRefused | Failure::WrongRange
                    if before > 0 =>
                {
                    partial.restart()?;
                    continue;
                }
                Failure::WrongHash { .. } | Failure::TooLong { .. } => partial.restart()?,
                _ => {}
            }
            // Against the farthest point ever, not the last one: otherwise a server that breaks off
            // and cannot resume would be asked for ever.
            if partial.length() >= farthest.saturating_add(HEADWAY) {
                tried = 0;
            }
            farthest = farthest.max(partial.length());
            tried += 1;
            if !failure.is_transient() || tried >= tries || self.stop.load(Ordering::Relaxed) {
                if failure.blames_host() {
                    self.fetcher.hosts.is_silent(url);
                }
                return Err(failure.into());
            }
            std::thread::sleep(retry::pause(policy, tried + 1, &failure));
        }
    }

    /// Makes one request and appends what comes to `partial`.
    fn once(&mut self, url: &str, partial: &mut Partial) -> Result<(), Broken> {
        let Request { digest, size, .. } = self.request;
        let (digest, size) = (*digest, *size);
        // The size of a manifest is not known beforehand, and none is large.
        let most = if token::is_manifest(url) { token::MOST_MANIFEST } else { MOST };
        if partial.length() > size.unwrap_or(most) {
            partial.restart()?;
        }
        // Without a size only the digest tells that nothing is missing.
        if size.is_some_and(|size| partial.length() < size) || partial.digest_so_far() != digest {
            let note = partial.note();
            let if_range = note.as_deref().and_then(|note| validator_of(note, url));
            let wanted = Wanted { offset: partial.length(), if_range };
            let opened = source::open(self.fetcher, url, wanted)?;
            if let Some((got, expected)) = opened.total.zip(size).filter(|(got, size)| got != size)
            {
                return Err(Failure::WrongSize { expected, got }.into());
            }
            if opened.offset != partial.length() {
                partial.restart()?;
            }
            if let Some(validator) = &opened.validator {
                partial.set_note(&format!("{url}\n{validator}"));
            }
            self.meter.reach(partial.length());
            let limit = size.or(opened.total.map(|total| total.min(most))).unwrap_or(most);
            self.copy(opened.reader, size.or(opened.total), limit, partial)?;
        }
        match partial.digest_so_far() {
            got if got == digest => Ok(()),
            got => Err(Failure::WrongHash { expected: digest, got }.into()),
        }
    }

    /// Appends everything that `reader` yields to `partial`, which never has more bytes than `limit`. Fewer
    /// than `expected`, the size that is known or that the server tells, are too few.
    fn copy(
        &mut self,
        mut reader: Box<dyn Read>,
        expected: Option<u64>,
        limit: u64,
        partial: &mut Partial,
    ) -> Result<(), Broken> {
        let mut buffer = vec![0; 128 * 1024];
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Without a length nothing else tells that it is not the end.
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof && expected.is_some() =>
                {
                    break;
                }
                Err(error) => return Err(Failure::from(ureq::Error::from(error)).into()),
            };
            if count as u64 > limit.saturating_sub(partial.length()) {
                return Err(Failure::TooLong { limit }.into());
            }
            partial.append(&buffer[..count])?;
            self.meter.reach(partial.length());
        }
        match (partial.length(), expected) {
            (got, Some(expected)) if got < expected => {
                Err(Failure::Truncated { expected, got }.into())
            }
            _ => Ok(()),
        }
    }
}

/// The validator in the note of a part, if the part came from `url`. Parts that came from elsewhere
/// are resumed without one: mirrors have the same bytes, and the hash decides.
fn validator_of<'a>(note: &'a str, url: &str) -> Option<&'a str> {
    let (from, validator) = note.split_once('\n')?;
    (from == url && !validator.contains(['\n', '\r'])).then_some(validator)
}
