//! What can go wrong on the way from a mirror to the store.

use std::fmt;
use std::io;
use std::time::Duration;

use super::source::without_password;
use crate::digest::Digest;
use crate::store;

/// How many failed files an error names; the rest is only counted.
const NAMED: usize = 5;

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Files that no URL gave as they should be.
    #[error("cannot download {}", list(failed))]
    Download {
        /// The files, in the order of the requests. Not empty.
        failed: Vec<FailedDownload>,
        /// The remedy.
        #[help]
        advice: String,
    },

    /// The network is needed, and the user has forbidden it.
    #[error("offline, but not in the store: {}", list(missing))]
    #[diagnostic(help(
        "run the same command once without `--offline`, or name a mirror by a `file://` URL"
    ))]
    Offline {
        /// What would have been fetched, with the first URL of each. Not empty.
        missing: Vec<Missing>,
    },

    /// No URL has the file: each said so clearly (404 or 410, or no such local file).
    #[error("not found: {}", urls.iter().map(|url| without_password(url)).collect::<Vec<_>>().join(", "))]
    #[diagnostic(help("check the URL, the suite and the component in the definition"))]
    NotFound {
        /// All URLs, in the order they were tried.
        urls: Vec<String>,
    },

    /// No URL gave the file.
    #[error("cannot fetch{}", Attempts(attempts))]
    #[diagnostic(help("check that this machine reaches the mirror (`http_proxy` is honoured)"))]
    Get {
        /// What each URL said.
        attempts: Vec<Attempt>,
    },

    /// Files could not be kept.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::Error),
}

/// A file that could not be downloaded.
#[derive(Debug)]
pub struct FailedDownload {
    /// What it is, as the request says.
    pub label: String,
    /// What it should be.
    pub digest: Digest,
    /// What each URL said. Empty only if the request has no URL.
    pub attempts: Vec<Attempt>,
}

impl fmt::Display for FailedDownload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}`{}", self.label, Attempts(&self.attempts))
    }
}

/// A file that is needed and not in the store.
#[derive(Debug)]
pub struct Missing {
    /// What it is.
    pub label: String,
    /// Where it would have been fetched.
    pub url: String,
}

impl Missing {
    /// A file that only its URL says something of.
    pub(super) fn of_url(url: &str) -> Self {
        let shown = without_password(url);
        let label = shown.rsplit('/').next().unwrap_or(&shown).to_owned();
        Self { label, url: url.to_owned() }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`{}` ({})", self.label, without_password(&self.url))
    }
}

/// What a URL said in the end.
#[derive(Debug)]
pub struct Attempt {
    /// The URL.
    pub url: String,
    /// What it said.
    pub failure: Failure,
}

struct Attempts<'a>(&'a [Attempt]);

impl fmt::Display for Attempts<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return write!(formatter, ": no URL is known for it");
        }
        self.0.iter().try_for_each(|Attempt { url, failure }| {
            write!(formatter, "\n  {}: {failure}", without_password(url))
        })
    }
}

/// The first few `items`, and how many more there are.
fn list(items: &[impl fmt::Display]) -> String {
    let mut lines: Vec<_> = items.iter().take(NAMED).map(|item| item.to_string()).collect();
    if items.len() > NAMED {
        lines.push(format!("and {} more files", items.len() - NAMED));
    }
    lines.join("\n")
}

/// What is wrong with the answer of one URL.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// 404, 410, or no such local file.
    #[error("not found")]
    NotFound,
    /// Any other status that is not an answer.
    #[error("the server answers with status {code}")]
    Status {
        /// The status code (RFC 9110 §15).
        code: u16,
        /// How long the server asks to be left alone (RFC 9110 §10.2.3).
        retry_after: Option<Duration>,
    },
    /// A registry of images wants a token or a password, and there is none that can be said.
    #[error("the registry gives nothing without a token, and no token: {0}")]
    Token(String),
    /// A registry of images redirects to a server that wants to know who we are.
    #[error("it redirects to {0}, which wants a login, and none is sent there")]
    Elsewhere(String),
    /// The whole file is not what was locked.
    #[error("wrong sha256: got {got}, expected {expected}")]
    WrongHash {
        /// What was locked.
        expected: Digest,
        /// What it is.
        got: Digest,
    },
    /// The server announces another length.
    #[error("wrong size: got {got} bytes, expected {expected}")]
    WrongSize {
        /// What was locked, in bytes.
        expected: u64,
        /// What was announced, in bytes.
        got: u64,
    },
    /// The connection ended early.
    #[error("truncated at {got} of {expected} bytes")]
    Truncated {
        /// What was locked, in bytes.
        expected: u64,
        /// What arrived, in bytes.
        got: u64,
    },
    /// More bytes came than the file may have.
    #[error("longer than {limit} bytes")]
    TooLong {
        /// What was allowed, in bytes.
        limit: u64,
    },
    /// The answer to a request for a part is not that part (RFC 9110 §14.4).
    #[error("the server answers a request for a part with another part")]
    WrongRange,
    /// The server cannot give the part that was asked for (RFC 9110 §15.5.17).
    #[error("the server refuses to send a part")]
    RangeRefused,
    /// Nothing came for too long.
    #[error("no answer in time")]
    Timeout,
    /// The host has no address.
    #[error("the host name cannot be resolved")]
    UnknownHost,
    /// Only `http`, `https` and `file` can be fetched.
    #[error("not a URL that can be fetched: expected http://, https:// or file://")]
    Scheme,
    /// The user has forbidden the network.
    #[error("not tried because of `--offline`")]
    Offline,
    /// The connection or the local file broke.
    #[error("{0}")]
    Io(io::Error),
    /// The server or the URL does not keep to the protocol.
    #[error("{0}")]
    Protocol(ureq::Error),
}

impl Failure {
    /// Whether the same request may succeed a little later.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Status { code, .. } => matches!(code, 408 | 429 | 500..=599),
            Self::Truncated { .. }
            | Self::Timeout
            | Self::UnknownHost
            | Self::WrongRange
            | Self::RangeRefused
            | Self::Io(_)
            // A proxy that answers 502 instead of a way to the server, or no connection for another reason.
            | Self::Protocol(ureq::Error::ConnectProxyFailed(_) | ureq::Error::ConnectionFailed) => true,
            _ => false,
        }
    }

    /// Whether the file is simply not there: another mirror or a snapshot may have it.
    pub(super) fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound)
    }

    /// Whether it says something about the server rather than about the file.
    pub(super) fn blames_host(&self) -> bool {
        self.is_transient() && !matches!(self, Self::Truncated { .. } | Self::WrongRange)
    }
}

impl From<ureq::Error> for Failure {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Self::Timeout,
            ureq::Error::Io(error) => Self::Io(error),
            ureq::Error::Timeout(_) => Self::Timeout,
            ureq::Error::HostNotFound => Self::UnknownHost,
            error => Self::Protocol(error),
        }
    }
}

/// What an operator can do about `failed`.
pub(super) fn advice(failed: &[FailedDownload]) -> String {
    let any = |test: fn(&Failure) -> bool| {
        failed.iter().flat_map(|file| &file.attempts).any(|attempt| test(&attempt.failure))
    };
    if any(Failure::is_not_found) {
        "the mirror no longer has what the lock names: run `imgbuild lock --update` to take the \
         versions it has now, or give the repository a `snapshot` URL in the definition, where old \
         versions stay"
            .to_owned()
    } else if any(|failure| {
        matches!(failure, Failure::WrongHash { .. } | Failure::WrongSize { .. })
    }) {
        "a mirror or a proxy on the way serves other bytes than were locked: try another mirror; if \
         the repository itself has replaced the file, run `imgbuild lock --update`, or give the \
         repository a `snapshot` URL in the definition"
            .to_owned()
    } else {
        "check that this machine reaches the mirror (`http_proxy` is honoured) and run the same \
         command again: it goes on where it stopped; further mirrors and a `snapshot` URL can be \
         named in the definition"
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_that_cannot_reach_the_server_is_passing_trouble() {
        let refused = ureq::Error::ConnectProxyFailed("CONNECT 502".to_owned());
        for error in [refused, ureq::Error::ConnectionFailed] {
            let failure = Failure::from(error);
            assert!(failure.is_transient() && failure.blames_host(), "{failure}");
        }
    }
}
