//! Files that nothing pins: fetched if the server has another one than last time (RFC 9110 §13.1).

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use ureq::http::{HeaderMap, StatusCode, header};

use super::error::{Attempt, Error, Failure, Missing};
use super::source::{Paced, direct_if_local, is_remote, read_answer, without_password};
use super::{BUFFER, Fetcher};
use crate::store::{self, Blob, Store};

/// What a server says of the state of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// Its entity tag.
    pub etag: Option<String>,
    /// When it was changed, in the words of the server.
    pub last_modified: Option<String>,
}

/// What came of asking for a file.
#[derive(Debug)]
pub enum Newer {
    /// It is the one that is known.
    Same,
    /// It is another one.
    Other {
        /// The file.
        blob: Blob,
        /// How to ask for it next time.
        validators: Validators,
    },
}

/// What came of one request, or why the store cannot take it.
type Answer = Result<Newer, store::Error>;

impl Fetcher {
    /// Fetches `url`, whose content nobody knows beforehand, into `store`, unless it is still the file that had the
    /// validators `known`. Only over `https`, redirects included, if `secure`.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Offline`], [`Error::Store`]; [`Error::Get`] in all other cases, and if it is
    /// longer than `limit` bytes.
    pub fn get_newer(
        &self,
        url: &str,
        known: Option<&Validators>,
        (limit, secure): (u64, bool),
        store: &Store,
    ) -> Result<Newer, Error> {
        let once = || self.get_newer_once(url, known, (limit, secure), store);
        match self.patiently(url, once) {
            Ok(answer) => Ok(answer?),
            Err(Failure::NotFound) => Err(Error::NotFound { urls: vec![url.to_owned()] }),
            Err(Failure::Offline) => Err(Error::Offline { missing: vec![Missing::of_url(url)] }),
            Err(failure) => {
                Err(Error::Get { attempts: vec![Attempt { url: url.to_owned(), failure }] })
            }
        }
    }

    fn get_newer_once(
        &self,
        url: &str,
        known: Option<&Validators>,
        (limit, secure): (u64, bool),
        store: &Store,
    ) -> Result<Answer, Failure> {
        if !is_remote(url) {
            return Err(Failure::Scheme);
        }
        if !self.online() {
            return Err(Failure::Offline);
        }
        let request = self.agent.get(url).config().https_only(secure).build();
        let mut request = direct_if_local(url, request);
        let known = known.cloned().unwrap_or_default();
        if let Some(etag) = known.etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(moment) = known.last_modified {
            request = request.header(header::IF_MODIFIED_SINCE, moment);
        }
        let response = request.call()?;
        log::debug!("GET {}: {}", without_password(url), response.status());
        if response.status() == StatusCode::NOT_MODIFIED {
            return Ok(Ok(Newer::Same));
        }
        let validators = validators(response.headers());
        let opened = read_answer(response, 0)?;
        let mut reader = Paced::new(opened.reader, &self.policy);
        let mut writer = match store.writer() {
            Ok(writer) => writer,
            Err(error) => return Ok(Err(error)),
        };
        let (mut buffer, mut got) = (vec![0; BUFFER], 0);
        loop {
            let count = match (reader.read(&mut buffer), opened.total) {
                (Ok(0), _) => break,
                (Ok(count), _) => count,
                (Err(error), _) if error.kind() == io::ErrorKind::Interrupted => continue,
                (Err(error), Some(expected)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    return Err(Failure::Truncated { expected, got });
                }
                (Err(error), _) => return Err(ureq::Error::from(error).into()),
            };
            got += count as u64;
            if got > limit {
                return Err(Failure::TooLong { limit });
            }
            if let Err(error) = writer.write_all(&buffer[..count]) {
                let failed = store::Error::while_doing("write to", store.root());
                return Ok(Err(failed(error)));
            }
        }
        match opened.total.filter(|total| *total != got) {
            Some(expected) => Err(Failure::Truncated { expected, got }),
            None => Ok(writer.commit().map(|blob| Newer::Other { blob, validators })),
        }
    }
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name| headers.get(name).and_then(|it| it.to_str().ok()).map(str::to_owned);
    Validators { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) }
}
