//! Registries of OCI images: what their servers ask for before they give or take a manifest or a blob.
//!
//! A registry may answer 401 with the address of a server that gives tokens, also to those who say nothing of
//! who they are; the request is then made once more with the token (Docker's "Token Authentication
//! Specification"; RFC 6750, section 3). Or it wants a name and a password itself (RFC 7617).
//!
//! Names and passwords come from [`Credentials`], are told only after they were asked for, and only to a server
//! on https or on this machine. A [`super::Fetcher`] of mirrors has none, and tells nobody who it is. Neither a
//! password nor a token is passed on where a registry redirects to: ureq does not do so unless it is asked to, and
//! whoever gives tokens may not redirect at all. Nor is what is said there taken for what the registry says: only the
//! registry itself names who gives tokens for it. That others could was CVE-2020-15157 in containerd.

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::sync::{Mutex, MutexGuard};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ureq::http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use ureq::{Body, ResponseExt};

use super::Policy;
use super::challenge::{Challenge, address, is_basic, parse, query};
use super::error::Failure;
use super::origin::{is_confidential, is_same_origin, server};
use super::source::{Paced, retry_after};

/// Most bytes of an answer with a token. Docker's has about 5 kB.
const MOST: u64 = 256 * 1024;

/// Most bytes of a manifest or index. Registries need not take larger ones (OCI distribution
/// specification, "Pushing Manifests").
pub const MOST_MANIFEST: u64 = 4 << 20;

/// What a manifest may be; without saying so, registries give an older form (OCI distribution
/// specification, "Pulling manifests").
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// What somebody is known by. Shown nowhere: its `Debug` has no secret.
pub enum Credential {
    /// A name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// A token that is exchanged for others (RFC 6749, section 6).
    Identity(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Credential")
    }
}

/// Where it stands who we are.
pub trait Credentials: Send + Sync {
    /// What to tell of the repository `host/name`, if anything is known.
    ///
    /// # Errors
    /// A text that says what cannot be read, and why, without any secret.
    fn find(&self, host: &str, name: &str) -> Result<Option<Credential>, String>;
}

/// What a client may ask for besides what anybody gets.
pub(super) struct Identity {
    /// Who we are.
    pub(super) credentials: Box<dyn Credentials>,
    /// What is to be done: `pull` or [`PUSH`].
    pub(super) actions: &'static str,
}

/// What to say in the header `Authorization`, by the URL of the repository that it is for.
#[derive(Default)]
pub(crate) struct Tokens {
    known: Mutex<HashMap<String, String>>,
    identity: Option<Identity>,
}

/// What asks for tokens.
#[derive(Clone, Copy)]
pub(super) struct Client<'a> {
    /// The connections.
    pub(super) agent: &'a ureq::Agent,
    /// How patient to be.
    pub(super) policy: &'a Policy,
}

impl Tokens {
    /// Tokens for somebody.
    pub(super) fn of(identity: Identity) -> Self {
        Self { known: Mutex::default(), identity: Some(identity) }
    }

    /// What was given for the repository, if anything was.
    pub(crate) fn known_for(&self, repository: &str) -> Option<String> {
        self.known().get(repository).cloned()
    }

    /// Makes a request to `repository` by `send`, which gets what to say of who we are, and makes it once more if the
    /// registry wants to be told something else.
    ///
    /// # Errors
    /// Those of `send`; [`Failure::Token`]; [`Failure::Elsewhere`] if it is not the registry that wants to be told.
    pub(super) fn introduce<E: From<Failure>>(
        &self,
        client: Client,
        repository: &str,
        send: impl Fn(Option<&str>) -> Result<Response<Body>, E>,
    ) -> Result<Response<Body>, E> {
        let said = self.known_for(repository);
        let response = send(said.as_deref())?;
        if !is_refused(repository, &response)? {
            return Ok(response);
        }
        let Some(other) = self.ask(client, repository, response.headers(), said.as_deref()) else {
            return Ok(response);
        };
        let response = send(Some(&other?))?;
        is_refused(repository, &response)?;
        Ok(response)
    }

    /// Gets something to say to `repository`, whose registry has refused with these `headers` when `used` was said. None:
    /// that is not the answer of a registry that lets in who we are.
    fn ask(
        &self,
        client: Client,
        repository: &str,
        headers: &HeaderMap,
        used: Option<&str>,
    ) -> Option<Result<String, Failure>> {
        // Held during the request, so that threads that start together ask once.
        let mut known = self.known();
        if let Some(other) = known.get(repository).filter(|it| Some(it.as_str()) != used) {
            return Some(Ok(other.clone()));
        }
        let said = self.authorization(client, repository, headers, used.is_some()).transpose()?;
        if let Ok(said) = &said {
            known.insert(repository.to_owned(), said.clone());
        }
        Some(said)
    }

    fn authorization(
        &self,
        client: Client,
        repository: &str,
        headers: &HeaderMap,
        again: bool,
    ) -> Result<Option<String>, Failure> {
        let values = headers.get_all(header::WWW_AUTHENTICATE).iter();
        let texts: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
        if let Some(challenge) = texts.iter().find_map(|text| parse(text)) {
            let credential = self.credential(repository)?;
            let actions = self.identity.as_ref().map(|identity| identity.actions);
            let token = request(client, &challenge, repository, actions, credential)?;
            return Ok(Some(format!("Bearer {token}")));
        }
        let wants_password = texts.iter().any(|text| is_basic(text));
        // The same name and password would be refused again.
        if !wants_password || again {
            return Ok(None);
        }
        match self.credential(repository)? {
            Some(Credential::Password { user, password }) if is_confidential(repository) => {
                Ok(Some(basic(&user, &password)))
            }
            Some(Credential::Password { .. }) => Err(Failure::Token(
                "it wants a password, which is not sent without TLS, but to this machine"
                    .to_owned(),
            )),
            _ => Ok(None),
        }
    }

    fn credential(&self, repository: &str) -> Result<Option<Credential>, Failure> {
        let Some(identity) = &self.identity else { return Ok(None) };
        let rest = repository.split_once("://").map_or(repository, |(_, rest)| rest);
        let (host, name) = rest.split_once("/v2/").unwrap_or((rest, ""));
        identity.credentials.find(host, name).map_err(Failure::Token)
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// Whether the registry of `repository` has answered that it wants to be told something else.
///
/// # Errors
/// [`Failure::Elsewhere`] if that is the answer of a server that the registry has redirected to.
fn is_refused(repository: &str, response: &Response<Body>) -> Result<bool, Failure> {
    if response.status() != StatusCode::UNAUTHORIZED {
        return Ok(false);
    }
    let asked = response.get_uri();
    match is_same_origin(repository, &asked.to_string()) {
        true => Ok(true),
        false => Err(Failure::Elsewhere(server(asked))),
    }
}

/// The header that says a name and a password (RFC 7617, section 2).
fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The value of a header that is not shown where headers are.
pub(crate) fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The URL of the repository that `url` is a manifest or blob of.
pub(super) fn repository(url: &str) -> Option<&str> {
    let start = url.find("/v2/")?;
    let kinds = ["/manifests/sha256:", "/blobs/sha256:"];
    let end = kinds.iter().find_map(|kind| url[start..].rfind(kind))?;
    Some(&url[..start + end])
}

/// Whether `url` is that of a manifest.
pub(super) fn is_manifest(url: &str) -> bool {
    repository(url).is_some_and(|repository| url[repository.len()..].starts_with("/manifests/"))
}

/// The part of an answer with a token that counts. Both names are in use.
#[derive(serde::Deserialize)]
struct Answer {
    token: Option<String>,
    access_token: Option<String>,
}

/// Asks for a token, as somebody if there is a `credential`.
fn request(
    client: Client,
    challenge: &Challenge,
    repository: &str,
    actions: Option<&str>,
    credential: Option<Credential>,
) -> Result<String, Failure> {
    let realm = challenge.realm(repository).map_err(|why| Failure::Token(why.to_owned()))?;
    if credential.is_some() && !may_be_told(realm, repository) {
        let why = format!("a password is not sent to {realm}, which has no TLS");
        return Err(Failure::Token(why));
    }
    let mut fields = challenge.fields(repository, actions);
    let address = address(realm, &fields);
    let Client { agent, policy } = client;
    let response = match credential {
        None => agent.get(&address).call()?,
        Some(Credential::Password { user, password }) => {
            let said = secret_value(&basic(&user, &password));
            let said = said.ok_or_else(|| Failure::Token("a password is no text".to_owned()))?;
            let request = agent.get(&address).config().max_redirects(0).build();
            request.header(header::AUTHORIZATION, said).call()?
        }
        // Docker's "Registry authentication: OAuth2", "Refresh token".
        Some(Credential::Identity(token)) => {
            fields.push(("grant_type", "refresh_token".to_owned()));
            fields.push(("client_id", "imgbuild".to_owned()));
            fields.push(("refresh_token", token));
            let request = agent.post(realm).config().max_redirects(0).build();
            let form = "application/x-www-form-urlencoded";
            request.header(header::CONTENT_TYPE, form).send(query(&fields))?
        }
    };
    read(response, realm, policy)
}

/// Whether a password may be told to `realm`, which `repository` names. A registry on another machine has no realm on this
/// one: whoever sits on the way to it may say so, to have the password sent to a proxy.
fn may_be_told(realm: &str, repository: &str) -> bool {
    realm.starts_with("https://") || (is_confidential(realm) && is_confidential(repository))
}

fn read(response: Response<Body>, realm: &str, policy: &Policy) -> Result<String, Failure> {
    let (head, body) = response.into_parts();
    if head.status != StatusCode::OK {
        let code = head.status.as_u16();
        let passing = matches!(code, 408 | 429 | 500..=599);
        let refused = || Failure::Token(format!("{realm} answers with status {code}"));
        let retry_after = retry_after(&head.headers);
        return Err(if passing { Failure::Status { code, retry_after } } else { refused() });
    }
    let mut bytes = Vec::new();
    // Others wait for it meanwhile.
    let mut reader = Paced::new(body.into_reader(), policy).take(MOST);
    reader.read_to_end(&mut bytes).map_err(ureq::Error::from)?;
    token_in(&bytes).ok_or_else(|| Failure::Token(format!("the answer of {realm} has none")))
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
    fn a_password_is_told_to_no_realm_on_this_machine_for_a_registry_elsewhere() {
        let cases = [
            ("https://auth.example/t", "https://r.example/v2/a", true),
            ("https://auth.example/t", "http://r.example/v2/a", true),
            ("http://127.0.0.1/t", "http://localhost:5000/v2/a", true),
            ("http://127.0.0.1/t", "http://r.example/v2/a", false),
            ("http://auth.example/t", "http://127.0.0.1/v2/a", false),
        ];
        for (realm, repository, expected) in cases {
            assert_eq!(may_be_told(realm, repository), expected, "{realm} {repository}");
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
