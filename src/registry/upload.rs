//! Pushing one blob: in pieces, going on where it stopped.
//!
//! A registry that has the blob is sent nothing. A blob of one piece is sent whole. Larger ones go piece by piece, and
//! after a connection broke the registry is asked how far it came. Not every registry can say: Debian's (2.8) drops an
//! upload that broke within a piece, and some take no pieces at all. Then it starts over, or is sent in one piece.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use ureq::Body;
use ureq::http::{Method, Response, StatusCode, header};

use super::http::{Call, Content, Part, Source, Trouble, location};
use super::{Error, Repository};
use crate::digest::Digest;
use crate::fetch::source::text;
use crate::fetch::{Failure, retry};

/// An upload that came this many bytes further before it broke has made headway, and does not use up a try.
const HEADWAY: u64 = 1 << 20;

/// Most bytes of a piece, whatever the registry asks for.
const LARGEST_PIECE: u64 = 1 << 30;

/// What a registry calls the least length of pieces (OCI distribution specification, "Pushing a blob in chunks").
const LEAST: &str = "oci-chunk-min-length";

/// What became of a blob that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Bytes that were sent, again and again if need be. None if the registry had the blob.
    pub sent: u64,
    /// Whether the registry had the blob.
    pub was_there: bool,
}

/// How often a piece that is too large is halved.
const HALVED: u32 = 6;

/// Why an upload came to an end before it was complete.
enum Broken {
    /// Another upload may fare better.
    Start(Error),
    /// It may be at work still, or done: whether the blob will be there is not known.
    Closing(Error),
    /// It takes no pieces.
    Whole,
    /// It takes none that are so large.
    Smaller(Error),
    /// No other will, either.
    End(Error),
}

/// How a blob is sent.
#[derive(Clone, Copy)]
enum Way {
    /// In one request.
    Whole,
    /// In pieces of so many bytes.
    Pieces(u64),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::End(error)
    }
}

/// An upload of one blob.
pub(super) struct Upload<'a> {
    pub repository: &'a Repository,
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    pub source: Source<'a>,
    /// Told how far it is, in bytes.
    pub reached: &'a dyn Fn(u64),
    sent: AtomicU64,
    what: String,
}

impl<'a> Upload<'a> {
    pub fn new(
        repository: &'a Repository,
        digest: Digest,
        size: u64,
        source: Source<'a>,
        reached: &'a dyn Fn(u64),
    ) -> Self {
        let what = format!("push blob sha256:{} to {}", digest.short(), repository.location());
        Self { repository, digest, size, source, reached, sent: AtomicU64::new(0), what }
    }

    /// Sends it, unless it is there.
    pub fn run(self) -> Result<Pushed, Error> {
        if let Some(there) = self.repository.blob_size(&self.digest)? {
            if let Some(there) = there.filter(|there| *there != self.size) {
                return Err(self.lie(format!("it has {there} bytes there, and not {}", self.size)));
            }
            (self.reached)(self.size);
            return Ok(Pushed { sent: 0, was_there: true });
        }
        let piece = self.repository.piece();
        let mut way = if self.size <= piece { Way::Whole } else { Way::Pieces(piece) };
        let (mut tried, mut halved, mut knows_pieces) = (1, 0, true);
        while let Err(broken) = self.attempt(way) {
            match (broken, way) {
                (Broken::End(error), _) => return Err(error),
                (Broken::Whole, _) => (way, knows_pieces) = (Way::Whole, false),
                (Broken::Smaller(error), _) if halved >= HALVED || !knows_pieces => {
                    return Err(error);
                }
                (Broken::Smaller(_), Way::Pieces(piece)) => {
                    (way, halved) = (Way::Pieces((piece / 2).max(1)), halved + 1);
                }
                (Broken::Smaller(_), Way::Whole) => {
                    (way, halved) = (Way::Pieces((self.size / 2).max(1)), halved + 1);
                }
                (Broken::Closing(error), _) => {
                    if self.comes_to_be_there(&error)? {
                        break;
                    }
                    self.again(error, &mut tried)?;
                }
                (Broken::Start(error), _) => self.again(error, &mut tried)?,
            }
        }
        (self.reached)(self.size);
        Ok(Pushed { sent: self.sent.load(Ordering::Relaxed), was_there: false })
    }

    /// Waits before the next upload, unless there were enough.
    fn again(&self, error: Error, tried: &mut u32) -> Result<(), Error> {
        let policy = self.repository.fetcher().policy();
        if *tried >= policy.tries {
            return Err(error);
        }
        *tried += 1;
        let failure = match &error {
            Error::Unreachable { failure, .. } => failure,
            _ => &Failure::Timeout,
        };
        std::thread::sleep(retry::pause(policy, *tried, failure));
        Ok(())
    }

    /// Whether the blob is there, or will be soon, after the answer to the end of its upload was an `error`. What stands
    /// before a registry may give up waiting long before the registry has put a large blob together. Where a connection
    /// only broke, most likely the end did not arrive: then it is looked for once.
    fn comes_to_be_there(&self, error: &Error) -> Result<bool, Error> {
        let policy = self.repository.fetcher().policy();
        let broke = matches!(error, Error::Unreachable { failure: Failure::Io(_), .. });
        let looks = if broke { 0 } else { policy.tries.saturating_mul(2) };
        for tried in 2..=looks {
            if self.repository.has_blob(&self.digest)? {
                return Ok(true);
            }
            std::thread::sleep(retry::pause(policy, tried, &Failure::Timeout));
        }
        self.repository.has_blob(&self.digest)
    }

    fn lie(&self, why: String) -> Error {
        Error::Lie { what: self.what.clone(), why }
    }

    fn refused(&self, response: Response<Body>) -> Error {
        self.repository.refused(&self.what, response)
    }

    fn unreachable(&self, trouble: Trouble) -> Error {
        trouble.into_error(&self.what)
    }

    /// Makes one upload and fills it.
    fn attempt(&self, way: Way) -> Result<(), Broken> {
        let (address, least) = self.begin()?;
        let mut address = address;
        let result = match way {
            Way::Whole => self.put(&address, 0).map_err(|error| match error {
                // It is sent again from its beginning.
                Broken::End(error @ Error::Unreachable { .. }) => Broken::Start(error),
                other => other,
            }),
            Way::Pieces(piece) => {
                let piece = piece.max(least.min(LARGEST_PIECE));
                self.fill(&mut address, piece).and_then(|()| self.put(&address, self.size))
            }
        };
        // What may be at work still is left alone.
        if !matches!(result, Ok(()) | Err(Broken::Closing(_))) {
            // So that the registry need not keep what came. It does not matter whether it hears of it.
            let _ = self.repository.once(&Call::new(Method::DELETE, address));
        }
        result
    }

    /// Begins an upload. Returns its address, and the least length of pieces.
    fn begin(&self) -> Result<(String, u64), Error> {
        let url = format!("{}/blobs/uploads/", self.repository.location().url());
        let call = Call::new(Method::POST, &url).content(Content::Bytes(&[]));
        let response =
            self.repository.patiently(&call).map_err(|trouble| self.unreachable(trouble))?;
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.refused(response));
        }
        let least =
            response.headers().get(LEAST).and_then(|value| value.to_str().ok()?.parse().ok());
        match location(&self.what, &url, &response)? {
            Some(address) => Ok((address, least.unwrap_or(0))),
            None => Err(self.lie("it names no address for an upload".to_owned())),
        }
    }

    /// Sends all pieces. `address` is where the next request has to go, from then on.
    fn fill(&self, address: &mut String, piece: u64) -> Result<(), Broken> {
        let policy = self.repository.fetcher().policy();
        let (mut at, mut farthest, mut tried) = (0, 0, 0);
        while at < self.size {
            let length = piece.min(self.size - at);
            let trouble = match self.patch(address, at, length)? {
                Ok(next) if next > at => {
                    at = next;
                    (self.reached)(at);
                    continue;
                }
                Ok(_) => Trouble::Failure(Failure::WrongRange),
                Err(trouble) => trouble,
            };
            if at >= farthest + HEADWAY {
                tried = 0;
            }
            farthest = farthest.max(at);
            tried += 1;
            let failure = match trouble {
                Trouble::Failure(failure) if failure.is_transient() => failure,
                other => return Err(Broken::End(self.unreachable(other))),
            };
            if tried >= policy.tries {
                return Err(Broken::End(self.unreachable(failure.into())));
            }
            std::thread::sleep(retry::pause(policy, tried + 1, &failure));
            at = self.ask(address)?;
        }
        Ok(())
    }

    /// Sends the piece of `length` bytes at `at`. Returns how far the upload is.
    fn patch(
        &self,
        address: &mut String,
        at: u64,
        length: u64,
    ) -> Result<Result<u64, Trouble>, Broken> {
        let broken = Cell::new(None);
        let part = Part { source: self.source, start: at, length, sent: &self.sent, broken };
        let call = Call::new(Method::PATCH, address.as_str())
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_RANGE, format!("{at}-{}", at + length - 1))
            .content(Content::Part(&part));
        let response = match self.repository.once(&call) {
            Ok(response) => response,
            Err(trouble) => return Ok(Err(trouble)),
        };
        match response.status().as_u16() {
            202 => {
                if let Some(next) = location(&self.what, address, &response)? {
                    *address = next;
                }
                let next = reached(&response).unwrap_or(at + length);
                if next > at + length {
                    let why = format!("it has {next} bytes, of which {} were sent", at + length);
                    return Err(Broken::Start(self.lie(why)));
                }
                Ok(Ok(next))
            }
            416 => Ok(Err(Failure::WrongRange.into())),
            // nginx, before a registry.
            413 => Err(Broken::Smaller(self.refused(response))),
            // Those that know no pieces say so in many ways.
            400 | 404 | 405 | 411 | 415 | 501 if at == 0 => Err(Broken::Whole),
            400 | 404 => Err(Broken::Start(self.refused(response))),
            _ => Err(Broken::End(self.refused(response))),
        }
    }

    /// Asks how far an upload is that broke.
    fn ask(&self, address: &mut String) -> Result<u64, Broken> {
        let call = Call::new(Method::GET, address.as_str());
        let response =
            self.repository.patiently(&call).map_err(|trouble| self.unreachable(trouble))?;
        if !matches!(response.status().as_u16(), 200 | 202 | 204) {
            return Err(Broken::Start(self.refused(response)));
        }
        let next = location(&self.what, address, &response)?;
        match reached(&response) {
            Some(at) if at <= self.size => {
                if let Some(next) = next {
                    *address = next;
                }
                log::debug!("upload of sha256:{} goes on at byte {at}", self.digest.short());
                Ok(at)
            }
            _ => Err(Broken::Start(self.lie("it does not say how far an upload is".to_owned()))),
        }
    }

    /// Closes the upload at `address`, with the bytes from `at` on.
    fn put(&self, address: &str, at: u64) -> Result<(), Broken> {
        let mark = if address.contains('?') { '&' } else { '?' };
        let url = format!("{address}{mark}digest=sha256:{}", self.digest);
        let (length, broken) = (self.size - at, Cell::new(None));
        let part = Part { source: self.source, start: at, length, sent: &self.sent, broken };
        let mut call = Call::new(Method::PUT, url).long();
        call = match length {
            0 => call.content(Content::Bytes(&[])),
            _ => call
                .header(header::CONTENT_TYPE, "application/octet-stream")
                .content(Content::Part(&part)),
        };
        let response = match self.repository.once(&call) {
            Ok(response) => response,
            Err(trouble) if trouble.is_transient() => {
                // Perhaps only the answer was lost, if it was not the registry that refused.
                let is_refusal = matches!(
                    trouble,
                    Trouble::Failure(Failure::Status { code: 429 | 500 | 503, .. })
                );
                let error = self.unreachable(trouble);
                return Err(if is_refusal { Broken::Start(error) } else { Broken::Closing(error) });
            }
            Err(trouble) => return Err(Broken::End(self.unreachable(trouble))),
        };
        match response.status().as_u16() {
            201 => Ok(()),
            413 => Err(Broken::Smaller(self.refused(response))),
            // What came is not what was sent, or the upload is gone.
            400 | 404 | 416 => Err(Broken::Start(self.refused(response))),
            _ => Err(Broken::End(self.refused(response))),
        }
    }
}

/// How many bytes a registry says that it has: `0-LAST`. It says `0-0` also of none.
fn reached(response: &Response<Body>) -> Option<u64> {
    let range = text(response.headers(), header::RANGE)?;
    let range = range.strip_prefix("bytes=").unwrap_or(range);
    let last: u64 = range.strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last.saturating_add(1) })
}
