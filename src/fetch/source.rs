//! Opening a URL at an offset: `http`, `https` and `file`.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response, StatusCode, header};
use ureq::{Body, RequestBuilder};

use super::error::Failure;
use super::origin::is_confidential;
use super::{Fetcher, Policy, token};

/// The part of a file that is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    /// Bytes to leave out at the beginning.
    pub(super) offset: u64,
    /// Leave them out only if the file is still the one with this validator.
    pub(super) if_range: Option<&'a str>,
}

/// An open URL.
pub(super) struct Opened {
    /// Offset of the first byte that `reader` yields: as wanted, or 0.
    pub(super) offset: u64,
    /// Length of the whole file in bytes, if the source says so.
    pub(super) total: Option<u64>,
    /// What tells this file from a later one at the same URL, for [`Wanted::if_range`].
    pub(super) validator: Option<String>,
    /// The bytes.
    pub(super) reader: Box<dyn Read>,
}

/// Opens `url`.
pub(super) fn open(fetcher: &Fetcher, url: &str, wanted: Wanted) -> Result<Opened, Failure> {
    if let Some(path) = local_path(url) {
        return open_file(&path?, wanted.offset);
    }
    if !is_remote(url) {
        return Err(Failure::Scheme);
    }
    if !fetcher.online() {
        return Err(Failure::Offline);
    }
    let send = |said: Option<&str>| ask(fetcher, url, wanted, said);
    let response = match token::repository(url) {
        Some(repository) => fetcher.introduce(repository, send)?,
        None => send(None)?,
    };
    let mut opened = read_answer(response, wanted.offset)?;
    opened.reader = Box::new(Paced::new(opened.reader, &fetcher.policy));
    Ok(opened)
}

/// Makes one request.
fn ask(
    fetcher: &Fetcher,
    url: &str,
    wanted: Wanted,
    authorization: Option<&str>,
) -> Result<Response<Body>, Failure> {
    let mut request = direct_if_local(url, fetcher.agent.get(url));
    if wanted.offset > 0 {
        request = request.header(header::RANGE, format!("bytes={}-", wanted.offset));
        if let Some(validator) = wanted.if_range {
            request = request.header(header::IF_RANGE, validator);
        }
    }
    if token::is_manifest(url) {
        request = request.header(header::ACCEPT, token::ACCEPT);
    }
    if let Some(value) = authorization.and_then(token::secret_value) {
        request = request.header(header::AUTHORIZATION, value);
    }
    let start = Instant::now();
    let answer = request.call();
    let (url, seconds) = (without_password(url), start.elapsed().as_secs_f64());
    match &answer {
        Ok(answer) => log::debug!("GET {url}: {} after {seconds:.1} s", answer.status()),
        Err(error) => log::debug!("GET {url}: {error} after {seconds:.1} s"),
    }
    Ok(answer?)
}

/// `request` to `url` without a proxy, if it does not leave this machine: a proxy would be asked for what is on its own.
pub(super) fn direct_if_local<Any>(url: &str, request: RequestBuilder<Any>) -> RequestBuilder<Any> {
    match url.starts_with("http://") && is_confidential(url) {
        true => request.config().proxy(None).build(),
        false => request,
    }
}

/// `url` without the user and password that may stand in it, as it may be shown.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[host..])
}

/// Gives up a sender that is not silent, but hopelessly slow: one that dribbles would otherwise
/// hold up a build for ever.
pub(crate) struct Paced<R> {
    inner: R,
    /// Time spent waiting since the pace was last checked.
    waited: Duration,
    /// Bytes that came in this time.
    moved: u64,
    patience: Duration,
    /// Bytes that must come in `patience`.
    least: u64,
}

impl<R> Paced<R> {
    pub(crate) fn new(inner: R, policy: &Policy) -> Self {
        let patience = policy.patience;
        let least = (patience.as_secs_f64() * policy.slowest as f64) as u64;
        Self { inner, waited: Duration::ZERO, moved: 0, patience, least }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Only the time in here counts: what the reader does in between is not the sender's fault.
        let begin = Instant::now();
        let count = self.inner.read(buffer)?;
        self.waited += begin.elapsed();
        self.moved += count as u64;
        if self.waited >= self.patience {
            if count > 0 && self.moved < self.least {
                return Err(io::ErrorKind::TimedOut.into());
            }
            (self.waited, self.moved) = (Duration::ZERO, 0);
        }
        Ok(count)
    }
}

/// Whether `url` needs the network.
pub(super) fn is_remote(url: &str) -> bool {
    url.starts_with("http://") || url.starts_with("https://")
}

/// The path of a `file://` URL (RFC 8089) or a plain absolute path; nothing for other URLs.
fn local_path(url: &str) -> Option<Result<PathBuf, Failure>> {
    if url.starts_with('/') {
        return Some(Ok(PathBuf::from(url)));
    }
    let rest = url.strip_prefix("file://")?;
    let path = rest.strip_prefix("localhost").unwrap_or(rest);
    let decoded = path.starts_with('/').then(|| percent_decode(path)).flatten();
    Some(decoded.map(|bytes| PathBuf::from(OsString::from_vec(bytes))).ok_or(Failure::Scheme))
}

/// Undoes percent-encoding (RFC 3986 §2.1). Nothing if it is malformed or hides a NUL.
fn percent_decode(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    (!bytes.contains(&0)).then_some(bytes)
}

fn open_file(path: &std::path::Path, offset: u64) -> Result<Opened, Failure> {
    let not_found = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::NotFound,
        _ => Failure::Io(error),
    };
    // Asked before opening, because opening a FIFO would wait for a writer.
    let metadata = std::fs::metadata(path).map_err(not_found)?;
    if !metadata.is_file() {
        return Err(Failure::NotFound);
    }
    let mut file = File::open(path).map_err(not_found)?;
    let offset = if offset <= metadata.len() { offset } else { 0 };
    file.seek(SeekFrom::Start(offset)).map_err(Failure::Io)?;
    Ok(Opened { offset, total: Some(metadata.len()), validator: None, reader: Box::new(file) })
}

/// Reads status and header of an answer to a request for everything from `offset` on
/// (RFC 9110 §14, §15).
pub(super) fn read_answer(response: Response<Body>, offset: u64) -> Result<Opened, Failure> {
    let (head, body) = response.into_parts();
    let (start, total) = match head.status {
        // Also the answer of a server that does not know ranges, or whose file has changed.
        StatusCode::OK => (0, body.content_length()),
        StatusCode::PARTIAL_CONTENT => {
            let (start, total) = content_range(&head.headers).ok_or(Failure::WrongRange)?;
            if offset == 0 || start != offset {
                return Err(Failure::WrongRange);
            }
            (start, total)
        }
        StatusCode::RANGE_NOT_SATISFIABLE => return Err(Failure::RangeRefused),
        StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Failure::NotFound),
        status => {
            let retry_after = retry_after(&head.headers);
            return Err(Failure::Status { code: status.as_u16(), retry_after });
        }
    };
    let reader = body.into_with_config().limit(u64::MAX).reader();
    let validator = validator(&head.headers);
    Ok(Opened { offset: start, total, validator, reader: Box::new(reader) })
}

pub(crate) fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// `bytes FIRST-LAST/TOTAL`, where TOTAL may be `*` (RFC 9110 §14.4).
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, total) =
        text(headers, header::CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, total))
}

/// A strong entity tag; without any entity tag, the date of last modification. A weak tag must
/// not be used for ranges (RFC 9110 §13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    match text(headers, header::ETAG) {
        Some(tag) => (!tag.starts_with("W/")).then(|| tag.to_owned()),
        None => text(headers, header::LAST_MODIFIED).map(str::to_owned),
    }
}

/// In seconds. The other form, a date, is not worth trusting two clocks.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    text(headers, header::RETRY_AFTER)?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_urls_become_paths() {
        let cases: [(&str, Option<&str>); 7] = [
            ("/srv/mirror/a%20b", Some("/srv/mirror/a%20b")),
            ("file:///srv/mirror/g%2b%2b_1%3A12.deb", Some("/srv/mirror/g++_1:12.deb")),
            ("file://localhost/srv", Some("/srv")),
            ("file://elsewhere/srv", None),
            ("file:///srv/%zz", None),
            ("file:///srv/%4", None),
            ("file:///srv/%00", None),
        ];
        for (url, expected) in cases {
            let path = local_path(url).unwrap().ok();
            assert_eq!(path, expected.map(PathBuf::from), "{url}");
        }
        assert!(local_path("http://host/file:///x").is_none());
    }

    #[test]
    fn details_show_no_password() {
        for (url, shown) in [
            ("https://mirror.example/a@b", "https://mirror.example/a@b"),
            ("https://jane:secret@mirror.example/a", "https://mirror.example/a"),
            ("http://a@b:c@mirror.example", "http://mirror.example"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn content_ranges_are_read_strictly() {
        let cases = [
            ("bytes 5-9/10", Some((5, Some(10)))),
            ("bytes 5-9/*", Some((5, None))),
            ("bytes */10", None),
            ("items 5-9/10", None),
            ("bytes 5-9", None),
            ("bytes -5-9/10", None),
            ("bytes 99999999999999999999-9/10", None),
        ];
        for (value, expected) in cases {
            let headers = HeaderMap::from_iter([(header::CONTENT_RANGE, value.parse().unwrap())]);
            assert_eq!(content_range(&headers), expected, "{value}");
        }
    }

    #[test]
    fn weak_entity_tags_are_no_validators() {
        let headers = |pairs: &[(header::HeaderName, &str)]| {
            HeaderMap::from_iter(
                pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())),
            )
        };
        let date = "Tue, 01 Jan 2030 00:00:00 GMT";
        assert_eq!(validator(&headers(&[(header::ETAG, "\"a\"")])).unwrap(), "\"a\"");
        assert_eq!(validator(&headers(&[(header::LAST_MODIFIED, date)])).unwrap(), date);
        let weak = headers(&[(header::ETAG, "W/\"a\""), (header::LAST_MODIFIED, date)]);
        assert_eq!(validator(&weak), None);
    }
}
