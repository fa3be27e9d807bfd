//! Where the tracker's data are, and how old.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Error;
use crate::compression::{Bounded, Compression};
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::fetch::origin::is_confidential;
use crate::fetch::source::without_password;
use crate::fetch::{Fetcher, Newer, Validators};
use crate::store::{KeyKind, Store};

/// Where the tracker has them.
pub const URL: &str = "https://security-tracker.debian.org/tracker/data/json";

/// The most bytes of them, packed or not. They have less than a fifth of that.
const MOST_BYTES: u64 = 512 << 20;

/// Which copy of the data the store has.
const COPY: KeyKind = KeyKind::new("audit-data");

const BUFFER: usize = 256 * 1024;

/// The data, on this machine.
#[derive(Clone, Debug)]
pub struct Data {
    /// What they are, for whoever wants to make the same audit again.
    pub about: About,
    path: PathBuf,
}

/// What data are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct About {
    /// The file, or the URL without a password.
    pub from: String,
    /// The SHA-256 of the file as it is.
    pub sha256: Digest,
    /// When they were changed last, as far as the file or the server says so.
    pub changed: Option<Moment>,
    /// When the server was last asked for them, if they are from a URL.
    pub asked: Option<Moment>,
}

/// What is known of a copy.
#[derive(Serialize, Deserialize)]
struct Copy {
    blob: Digest,
    #[serde(flatten)]
    validators: Validators,
    asked: Moment,
}

/// The data `from` a file or a URL. What a server has is fetched if it is not what the store has already; offline it is what
/// the store has.
///
/// # Errors
/// They cannot be had.
pub fn obtain(from: &str, store: &Store, fetcher: &Fetcher, now: Moment) -> Result<Data, Error> {
    if from.contains("://") { of_url(from, store, fetcher, now) } else { of_file(Path::new(from)) }
}

fn of_file(path: &Path) -> Result<Data, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(failed)?;
    // Opening a pipe would wait for a writer.
    if !metadata.is_file() {
        return Err(failed(io::Error::other("it is not a regular file")));
    }
    let sha256 = File::open(path).and_then(Digest::of_reader).map_err(failed)?;
    let changed = metadata.modified().ok().map(Moment::from);
    let from = path.display().to_string();
    Ok(Data { about: About { from, sha256, changed, asked: None }, path: path.to_owned() })
}

fn of_url(url: &str, store: &Store, fetcher: &Fetcher, now: Moment) -> Result<Data, Error> {
    let secure = url.starts_with("https://");
    let shown = without_password(url);
    if !secure && !is_this_machine(url) {
        return Err(Error::Insecure { url: shown });
    }
    let key = Digest::of(url);
    let copy = store.get_key::<Copy>(COPY, &key);
    let known = copy.and_then(|copy| Some((store.blob(&copy.blob)?, copy)));
    let (blob, copy) = match known {
        Some(known) if !fetcher.online() => known,
        known => {
            let validators = known.as_ref().map(|(_, copy)| &copy.validators);
            let newer = fetcher.get_newer(url, validators, (MOST_BYTES, secure), store)?;
            let (blob, validators) = match (newer, known) {
                (Newer::Other { blob, validators }, _) => (blob, validators),
                (Newer::Same, Some((blob, copy))) => (blob, copy.validators),
                (Newer::Same, None) => {
                    let code = 304;
                    return Err(Error::Answer { url: shown, code });
                }
            };
            let copy = Copy { blob: blob.digest(), validators, asked: now };
            store.put_key(COPY, &key, &copy)?;
            (blob, copy)
        }
    };
    // The date of a Release file has the same form (RFC 9110 §5.6.7).
    let changed = copy.validators.last_modified.as_deref().and_then(Moment::parse_release);
    let about = About { from: shown, sha256: blob.digest(), changed, asked: Some(copy.asked) };
    Ok(Data { about, path: blob.path().to_owned() })
}

/// Whether nobody is on the way to `url`, though it is not `https`.
fn is_this_machine(url: &str) -> bool {
    url.starts_with("http://") && is_confidential(url)
}

impl Data {
    /// How many days ago they were changed; if nobody says when, how many days ago they were asked for: they are at least
    /// as old.
    pub fn age_days(&self, now: Moment) -> Option<u64> {
        let since = self.about.changed.or(self.about.asked)?;
        Some(now.unix().saturating_sub(since.unix()) / (24 * 60 * 60))
    }

    /// Hands the data, unpacked, to `read`.
    ///
    /// # Errors
    /// They cannot be read, or are not what `read` expects.
    pub fn read<T>(
        &self,
        read: impl FnOnce(&mut dyn io::BufRead) -> serde_json::Result<T>,
    ) -> Result<T, Error> {
        let failed = |source| Error::Read { path: self.path.clone(), source };
        let file = File::open(&self.path).map_err(failed)?;
        let mut packed = BufReader::with_capacity(BUFFER, file);
        let compression = Compression::of_content(packed.fill_buf().map_err(failed)?);
        let unpacked = compression.decoder(packed).map_err(failed)?;
        let mut plain = BufReader::with_capacity(BUFFER, Bounded::new(unpacked, MOST_BYTES));
        read(&mut plain).map_err(|error| {
            if error.is_io() {
                return failed(error.into());
            }
            let (line, column) = (error.line(), error.column());
            let message = error.to_string();
            let place = format!(" at line {line} column {column}");
            let message = message.strip_suffix(&place).unwrap_or(&message).to_owned();
            Error::Form { from: self.about.from.clone(), line, column, message }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_goes_to_this_machine_alone_whatever_stands_before_the_host() {
        for url in [
            "http://127.0.0.1/json",
            "http://127.0.0.1:8080/json",
            "http://u:p@localhost:8080/json",
            "http://[::1]:8080",
        ] {
            assert!(is_this_machine(url), "{url}");
        }
        for url in [
            "http://127.0.0.1:x@evil.example/",
            "http://localhost@evil.example/",
            "http://localhost:80@evil.example:80/@127.0.0.1",
            "http://127.0.0.1.evil.example/",
            "http://evil.example/127.0.0.1",
            "http://evil.example?127.0.0.1:80",
            "http://",
            "ftp://127.0.0.1/",
        ] {
            assert!(!is_this_machine(url), "{url}");
        }
    }
}
