//! `[sources.NAME]` in the lock: what a definition pins itself, so that the lock file alone says
//! everything that is fetched.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::file::quoted;
use crate::definition::{Pin, Upstream};
use crate::digest::Digest;

/// One source of one image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedSource {
    /// Its name in the definition.
    pub name: String,
    /// What it is: `archive`, `file`, `git`, `oci`, `package`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The SHA-256 of its bytes. Absent where nobody has verified them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// The commit whose tree it is, of a git repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// The digest of the OCI image that it is a part of, like `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// How to verify it, where nobody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unverified: Option<String>,
    /// Where its hash was published.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// Where it may be had, best first.
    pub urls: Vec<String>,
}

impl From<&Upstream> for LockedSource {
    fn from(upstream: &Upstream) -> Self {
        let mut locked = Self {
            name: upstream.name.to_string(),
            kind: upstream.kind.word().to_owned(),
            sha256: None,
            commit: None,
            digest: None,
            unverified: None,
            published: upstream.published.clone(),
            urls: upstream.urls.clone(),
        };
        match &upstream.pin {
            Pin::Sha256(digest) => locked.sha256 = Some(*digest),
            Pin::Commit(commit) => locked.commit = Some(commit.to_string()),
            Pin::Image(_) => locked.digest = Some(upstream.pin.to_string()),
            Pin::Unverified(how) => locked.unverified = Some(how.clone()),
        }
        locked
    }
}

impl LockedSource {
    /// What tells its bytes from others, in a word.
    pub fn pin(&self) -> String {
        match (&self.sha256, &self.commit, &self.digest) {
            (Some(digest), ..) => digest.short(),
            (None, Some(commit), _) => commit.chars().take(12).collect(),
            (None, None, Some(digest)) => digest.chars().take("sha256:".len() + 12).collect(),
            (None, None, None) => "unverified".to_owned(),
        }
    }

    /// Its line in the lock file.
    pub(super) fn write(&self, text: &mut String) -> std::fmt::Result {
        let Self { name, kind, sha256, commit, digest, unverified, published, urls } = self;
        write!(text, "  {{ name = {}, type = {}", quoted(name), quoted(kind))?;
        if let Some(sha256) = sha256 {
            write!(text, ", sha256 = \"{sha256}\"")?;
        }
        for (key, value) in [
            ("commit", commit),
            ("digest", digest),
            ("unverified", unverified),
            ("published", published),
        ] {
            if let Some(value) = value {
                write!(text, ", {key} = {}", quoted(value))?;
            }
        }
        let urls: Vec<String> = urls.iter().map(|url| quoted(url)).collect();
        writeln!(text, ", urls = [{}] }},", urls.join(", "))
    }
}
