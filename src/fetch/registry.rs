//! Registries of OCI images: what their servers ask for before they give a manifest or a blob to anybody.
//!
//! A registry may answer 401 with the address of a server that gives tokens, also to those who say nothing of
//! who they are; the request is then made once more with the token (Docker's "Token Authentication
//! Specification"; RFC 6750, section 3). No name and no password is ever sent. A token is not passed on
//! where the registry redirects to: ureq does not do so unless it is asked to.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, MutexGuard};

use ureq::http::{HeaderMap, StatusCode, header};

use super::error::Failure;

/// Most bytes of an answer with a token. Docker's has about 5 kB.
const MOST: u64 = 256 * 1024;

/// Most bytes of a manifest or index. Registries need not take larger ones (OCI distribution
/// specification, "Pushing Manifests").
pub const MOST_MANIFEST: u64 = 4 << 20;

/// What a manifest may be; without saying so, registries give an older form (OCI distribution
/// specification, "Pulling manifests").
pub(super) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Tokens by the URL of the repository that they are for.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, String>>);

impl Tokens {
    /// The token for `url`, if one was given.
    pub fn get(&self, url: &str) -> Option<String> {
        self.known().get(repository(url)?).cloned()
    }

    /// Gets a token for `url`, which a registry has refused with these `headers`. None: that is not the
    /// answer of a registry that gives tokens to anybody.
    pub fn ask(
        &self,
        agent: &ureq::Agent,
        url: &str,
        headers: &HeaderMap,
    ) -> Option<Result<String, Failure>> {
        let repository = repository(url)?;
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let address = values
            .filter_map(|value| address_of_tokens(value.to_str().ok()?, repository))
            .next()?;
        let address = match address {
            Ok(address) => address,
            Err(problem) => return Some(Err(Failure::Token(problem.to_owned()))),
        };
        let token = request(agent, &address);
        if let Ok(token) = &token {
            self.known().insert(repository.to_owned(), token.clone());
        }
        Some(token)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The URL of the repository that `url` is a manifest or blob of.
fn repository(url: &str) -> Option<&str> {
    let start = url.find("/v2/")?;
    let kinds = ["/manifests/sha256:", "/blobs/sha256:"];
    let end = kinds.iter().find_map(|kind| url[start..].rfind(kind))?;
    Some(&url[..start + end])
}

/// Whether `url` is that of a manifest.
pub(super) fn is_manifest(url: &str) -> bool {
    repository(url).is_some_and(|repository| url[repository.len()..].starts_with("/manifests/"))
}

/// The URL that gives a token for `repository`, if `challenge` is the answer of a registry that gives any.
pub(crate) fn address_of_tokens(
    challenge: &str,
    repository: &str,
) -> Option<Result<String, &'static str>> {
    parse(challenge).map(|challenge| challenge.address(repository))
}

/// What a registry wants (RFC 6750, section 3).
#[derive(Debug, Default, PartialEq, Eq)]
struct Challenge {
    realm: String,
    service: Option<String>,
    scope: Option<String>,
}

/// Reads `Bearer realm="…",service="…",scope="…"`.
fn parse(text: &str) -> Option<Challenge> {
    let (scheme, mut rest) = text.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut challenge = Challenge::default();
    loop {
        rest = rest.trim_start_matches([' ', ',']);
        let Some((name, after)) = rest.split_once('=') else { break };
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        match name.trim().to_ascii_lowercase().as_str() {
            "realm" => challenge.realm = value.to_owned(),
            "service" => challenge.service = Some(value.to_owned()),
            "scope" => challenge.scope = Some(value.to_owned()),
            _ => {}
        }
        rest = after;
    }
    (!challenge.realm.is_empty()).then_some(challenge)
}

impl Challenge {
    /// The URL that gives a token for `repository`, the URL of one.
    fn address(&self, repository: &str) -> Result<String, &'static str> {
        let realm = &self.realm;
        let is_plain = realm.starts_with("http://") && repository.starts_with("http://");
        let is_url = realm.bytes().all(|byte| byte.is_ascii_graphic()) && !realm.contains('#');
        if !is_url || !(realm.starts_with("https://") || is_plain) {
            return Err("it names no https:// URL for one");
        }
        let name = repository.split_once("/v2/").map_or("", |(_, name)| name);
        let scope = self.scope.clone().unwrap_or_else(|| format!("repository:{name}:pull"));
        let mut address = realm.clone();
        let mut add = |key: &str, value: &str| {
            address.push(if address.contains('?') { '&' } else { '?' });
            address.push_str(&format!("{key}={}", escaped(value)));
        };
        if let Some(service) = &self.service {
            add("service", service);
        }
        add("scope", &scope);
        Ok(address)
    }
}

/// `text` as a value of a query (RFC 3986, section 3.4).
fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z'
        | b'A'..=b'Z'
        | b'0'..=b'9'
        | b'-'
        | b'.'
        | b'_'
        | b'~'
        | b':'
        | b'/'
        | b',' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The part of an answer with a token that counts. Both names are in use.
#[derive(serde::Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

fn request(agent: &ureq::Agent, address: &str) -> Result<String, Failure> {
    let response = agent.get(address).call()?;
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        let code = head.status.as_u16();
        let passing = matches!(code, 408 | 429 | 500..=599);
        let refused = || Failure::Token(format!("{address} answers with status {code}"));
        return Err(if passing { Failure::Status { code, retry_after: None } } else { refused() });
    }
    let mut bytes = Vec::new();
    body.into_reader().take(MOST).read_to_end(&mut bytes).map_err(Failure::Io)?;
    token_in(&bytes).ok_or_else(|| Failure::Token(format!("the answer of {address} has none")))
}

/// The token in an answer.
pub(crate) fn token_in(answer: &[u8]) -> Option<String> {
    let answer: Answer = serde_json::from_slice(answer).ok()?;
    // It goes into a header.
    let is_sound = |it: &String| !it.is_empty() && it.bytes().all(|byte| byte.is_ascii_graphic());
    answer.token.or(answer.access_token).filter(is_sound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read() {
        let repository = "https://registry-1.docker.io/v2/a/b";
        let docker = "Bearer realm=\"https://auth.docker.io/token\",service=\"registry.docker.io\",\
                      scope=\"repository:a/b:pull\"";
        let cases = [
            (
                docker,
                Some(
                    "https://auth.docker.io/token?service=registry.docker.io&scope=repository:a/b:pull",
                ),
            ),
            ("bearer realm=\"https://x/t?a=1\"", Some("https://x/t?a=1&scope=repository:a/b:pull")),
            (
                "Bearer error=\"x, y\", realm=\"https://x/t\", scope=\"a b&c\"",
                Some("https://x/t?scope=a%20b%26c"),
            ),
            ("Bearer realm=\"http://x/t\"", None),
            ("Bearer realm=\"file:///etc/passwd\"", None),
            ("Bearer realm=\"https://x/ t\"", None),
            ("Basic realm=\"https://x/t\"", None),
            ("Bearer realm=\"https://x", None),
            ("Bearer", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let found = parse(text).and_then(|challenge| challenge.address(repository).ok());
            assert_eq!(found.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn urls_of_registries_are_told_from_others() {
        let cases = [
            ("https://r/v2/a/b/manifests/sha256:0", Some("https://r/v2/a/b"), true),
            ("https://r/v2/a/blobs/sha256:0", Some("https://r/v2/a"), false),
            ("https://r/v2/a/blobs/uploads", None, false),
            ("https://r/pool/a/blobs/sha256:0", None, false),
        ];
        for (url, expected, manifest) in cases {
            assert_eq!(repository(url), expected, "{url}");
            assert_eq!(is_manifest(url), manifest, "{url}");
        }
    }
}
