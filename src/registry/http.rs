//! Single requests to a registry: who we are, patience, and what its answers mean.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use serde::Deserialize;
use ureq::http::request::Builder;
use ureq::http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use ureq::{AsSendBody, Body, SendBody};

use super::address::{resolve, without_query};
use super::{Error, Repository};
use crate::fetch::origin::is_same_origin;
use crate::fetch::source::{Paced, retry_after, text};
use crate::fetch::{Failure, MOST_MANIFEST, Policy, retry, token};

/// Most bytes of an answer that says what is wrong.
const MOST_REASONS: u64 = 64 * 1024;

/// How many times the usual patience to wait for an answer to the last request of an upload: the registry may
/// hash the whole blob, or copy it, before it answers.
const LONG_ANSWER: u32 = 20;

/// What is sent with a request.
#[derive(Clone, Copy)]
pub(super) enum Content<'a> {
    /// Nothing, as with GET.
    Absent,
    /// These bytes, perhaps none.
    Bytes(&'a [u8]),
    /// A part of a file.
    Part(&'a Part<'a>),
}

/// Where what is sent comes from.
#[derive(Clone, Copy)]
pub(super) enum Source<'a> {
    /// A file, wherever it stands.
    File(&'a File),
    /// Memory, for what is small.
    Bytes(&'a [u8]),
}

impl Source<'_> {
    fn read_at(self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read_at(buffer, offset),
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                (&bytes[start..]).read(buffer)
            }
        }
    }
}

/// A part of what is sent, which is read when it goes, and again when it has to go again.
pub(super) struct Part<'a> {
    pub source: Source<'a>,
    /// Offset of its first byte.
    pub start: u64,
    /// Bytes.
    pub length: u64,
    /// Counts bytes that went out.
    pub sent: &'a AtomicU64,
    /// Why the file could not be read, which is not the registry's fault.
    pub broken: Cell<Option<io::Error>>,
}

/// Reads a [`Part`].
struct PartReader<'a> {
    part: &'a Part<'a>,
    at: u64,
}

impl Read for PartReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.part.length - self.at;
        let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if most == 0 {
            return Ok(0);
        }
        let fail = |error: io::Error| {
            self.part.broken.set(Some(error));
            io::Error::from(io::ErrorKind::InvalidData)
        };
        match self.part.source.read_at(&mut buffer[..most], self.part.start + self.at) {
            Ok(0) => {
                Err(fail(io::Error::new(io::ErrorKind::UnexpectedEof, "it has become shorter")))
            }
            Ok(count) => {
                self.at += count as u64;
                self.part.sent.fetch_add(count as u64, Ordering::Relaxed);
                Ok(count)
            }
            Err(error) => Err(fail(error)),
        }
    }
}

/// A request.
pub(super) struct Call<'a> {
    pub method: Method,
    pub url: String,
    pub headers: Vec<(HeaderName, String)>,
    pub content: Content<'a>,
    /// Whether the answer may take long.
    pub long: bool,
    /// Whether what comes is believed because of who sends it, so that nobody on the way may have changed it.
    pub believed: bool,
}

impl<'a> Call<'a> {
    pub fn new(method: Method, url: impl Into<String>) -> Self {
        let (url, headers) = (url.into(), Vec::new());
        Self { method, url, headers, content: Content::Absent, long: false, believed: false }
    }

    pub fn header(mut self, name: HeaderName, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn content(mut self, content: Content<'a>) -> Self {
        self.content = content;
        self
    }

    pub fn believed(mut self) -> Self {
        self.believed = true;
        self
    }

    pub fn long(mut self) -> Self {
        self.long = true;
        self
    }
}

/// What comes of asking for a document.
pub(super) enum Answer {
    /// It, and what is said with it.
    Document(HeaderMap, Vec<u8>),
    /// The answer is not 200.
    Other(Response<Body>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The registry, or the way to it.
    Failure(Failure),
    /// The file that is pushed.
    File(io::Error),
}

impl Trouble {
    pub fn into_error(self, what: &str) -> Error {
        let what = what.to_owned();
        match self {
            Self::Failure(Failure::Token(why)) => Error::Login { what, why },
            Self::Failure(Failure::Elsewhere(server)) => Error::Elsewhere { what, server },
            Self::Failure(Failure::Protocol(ureq::Error::RequireHttpsOnly(_))) => {
                let why = "it redirects to a server without TLS".to_owned();
                Error::Lie { what, why }
            }
            Self::Failure(failure) => Error::Unreachable { what, failure },
            Self::File(error) => Error::Read(error),
        }
    }

    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Failure(failure) if failure.is_transient())
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl Repository {
    /// Makes a request, with as much patience as the policy has. An answer that is not one of passing
    /// trouble is returned, whatever it says.
    pub(super) fn patiently(&self, call: &Call) -> Result<Response<Body>, Trouble> {
        let policy = self.fetcher().policy();
        let mut tried = 1;
        loop {
            let trouble = match self.once(call) {
                Ok(response) => return Ok(response),
                Err(trouble) => trouble,
            };
            match trouble {
                Trouble::Failure(failure) if failure.is_transient() && tried < policy.tries => {
                    tried += 1;
                    std::thread::sleep(retry::pause(policy, tried, &failure));
                }
                trouble => return Err(trouble),
            }
        }
    }

    /// Gets a document, with as much patience as the policy has; [`Answer::Other`] if the registry has another answer to `call`
    /// than that.
    pub(super) fn document(&self, call: &Call, what: &dyn Fn() -> String) -> Result<Answer, Error> {
        let policy = self.fetcher().policy();
        let mut tried = 0;
        loop {
            let response = self.patiently(call).map_err(|trouble| trouble.into_error(&what()))?;
            if response.status() != StatusCode::OK {
                return Ok(Answer::Other(response));
            }
            let headers = response.headers().clone();
            tried += 1;
            match read_all(response, MOST_MANIFEST, policy) {
                Ok(bytes) => return Ok(Answer::Document(headers, bytes)),
                Err(failure) if failure.is_transient() && tried < policy.tries => {
                    std::thread::sleep(retry::pause(policy, tried + 1, &failure));
                }
                Err(failure) if failure.is_transient() => {
                    return Err(Error::Unreachable { what: what(), failure });
                }
                Err(failure) => {
                    return Err(Error::Document { what: what(), why: failure.to_string() });
                }
            }
        }
    }

    /// Makes a request, and once more with what the registry wants to be told. Passing trouble, such as status
    /// 503, is an error.
    pub(super) fn once(&self, call: &Call) -> Result<Response<Body>, Trouble> {
        let repository = self.location().url();
        // An upload may go to another server, which must not learn who we are.
        let ours = is_same_origin(&repository, &call.url);
        let send = |said: Option<&str>| self.send(call, said);
        let response = match ours {
            true => self.fetcher().introduce(&repository, send)?,
            false => send(None)?,
        };
        let code = response.status().as_u16();
        // 501 will not pass: the registry does not know how.
        if matches!(code, 408 | 429 | 500 | 502..=599) {
            let retry_after = retry_after(response.headers());
            return Err(Failure::Status { code, retry_after }.into());
        }
        Ok(response)
    }

    fn send(&self, call: &Call, said: Option<&str>) -> Result<Response<Body>, Trouble> {
        let mut request = Request::builder().method(call.method.clone()).uri(&call.url);
        for (name, value) in &call.headers {
            request = request.header(name, value);
        }
        if let Some(value) = said.and_then(token::secret_value) {
            request = request.header(header::AUTHORIZATION, value);
        }
        let start = Instant::now();
        let answer = match call.content {
            Content::Absent => self.run(request, SendBody::none(), call),
            Content::Bytes(bytes) => self.run(request, bytes, call),
            Content::Part(part) => {
                let request = request.header(header::CONTENT_LENGTH, part.length);
                let mut reader = PartReader { part, at: 0 };
                let answer = self.run(request, SendBody::from_reader(&mut reader), call);
                if let Some(error) = part.broken.take() {
                    return Err(Trouble::File(error));
                }
                answer
            }
        };
        let (method, url) = (&call.method, without_query(&call.url));
        let seconds = start.elapsed().as_secs_f64();
        match &answer {
            Ok(answer) => log::debug!("{method} {url}: {} after {seconds:.1} s", answer.status()),
            Err(error) => log::debug!("{method} {url}: {error} after {seconds:.1} s"),
        }
        Ok(answer.map_err(Failure::from)?)
    }

    fn run(
        &self,
        request: Builder,
        body: impl AsSendBody,
        call: &Call,
    ) -> Result<Response<Body>, ureq::Error> {
        let agent = self.fetcher().agent();
        let request = request.body(body).map_err(ureq::Error::Http)?;
        let mut config = agent.configure_request(request);
        // What is sent goes where it was meant to go, or nowhere.
        if !matches!(call.content, Content::Absent) {
            config = config.max_redirects(0);
        }
        if call.long {
            let patience = self.fetcher().policy().patience.saturating_mul(LONG_ANSWER);
            // The wait for an answer is one for its first bytes, too.
            config = config.timeout_recv_response(Some(patience)).timeout_per_read(Some(patience));
        }
        if call.believed && call.url.starts_with("https://") {
            // Also where it is redirected to, at each step.
            config = config.https_only(true);
        }
        agent.run(config.build())
    }

    /// The error that an answer which is none of those expected stands for.
    pub(super) fn refused(&self, what: impl Into<String>, response: Response<Body>) -> Error {
        let (what, code) = (what.into(), response.status().as_u16());
        let reasons = reasons(response, self.fetcher().policy());
        match code {
            401 if self.fetcher().tokens().known_for(&self.location().url()).is_none() => {
                let why = "none is known for it".to_owned();
                Error::Login { what, why }
            }
            401 => Error::Login { what, why: "the one that is known was refused".to_owned() },
            _ => Error::Refused { what, code, reasons },
        }
    }
}

/// What a registry says of an error (OCI distribution specification, "Error Codes"), fit to be shown.
pub(super) fn reasons(response: Response<Body>, policy: &Policy) -> String {
    #[derive(Deserialize)]
    struct Answer {
        errors: Vec<Reason>,
    }
    #[derive(Deserialize)]
    struct Reason {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let mut bytes = Vec::new();
    let body = Paced::new(response.into_body().into_reader(), policy).take(MOST_REASONS);
    if { body }.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let Ok(answer) = serde_json::from_slice::<Answer>(&bytes) else { return String::new() };
    let one = |reason: &Reason| match reason.message.as_str() {
        "" => reason.code.clone(),
        message => format!("{}, {message}", reason.code),
    };
    let all: Vec<_> = answer.errors.iter().take(3).map(one).collect();
    let shown = |letter: char| if letter.is_control() { ' ' } else { letter };
    all.join("; ").chars().map(shown).take(300).collect()
}

/// The address that an answer names, for what comes next.
pub(super) fn location(
    what: &str,
    base: &str,
    response: &Response<Body>,
) -> Result<Option<String>, Error> {
    let Some(location) = text(response.headers(), header::LOCATION) else { return Ok(None) };
    resolve(base, location).map(Some).map_err(|why| {
        let url = without_query(location).chars().filter(|letter| !letter.is_control()).collect();
        Error::Address { what: what.to_owned(), url, why }
    })
}

/// Reads all of an answer, which may have `most` bytes.
fn read_all(response: Response<Body>, most: u64, policy: &Policy) -> Result<Vec<u8>, Failure> {
    let (head, body) = response.into_parts();
    let expected = text(&head.headers, header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let mut bytes = Vec::new();
    let reader = Paced::new(body.into_with_config().limit(u64::MAX).reader(), policy);
    let read = { reader }.take(most.saturating_add(1)).read_to_end(&mut bytes);
    let got = bytes.len() as u64;
    match (read, expected) {
        _ if got > most => Err(Failure::TooLong { limit: most }),
        (Ok(_), Some(expected)) if expected != got => Err(Failure::Truncated { expected, got }),
        (Ok(_), _) => Ok(bytes),
        (Err(error), Some(expected)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Failure::Truncated { expected, got })
        }
        (Err(error), _) => Err(ureq::Error::from(error).into()),
    }
}
