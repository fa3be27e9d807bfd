//! Names of registries, repositories and what is in them.

use std::fmt;
use std::str::FromStr;

use crate::definition::container::{is_component, is_host};
use crate::digest::Digest;
use crate::fetch::origin::is_loopback;

/// Most characters of a host, `/` and a name together: "Many clients impose a limit of 255 characters" (OCI
/// distribution specification, "Pulling manifests").
const LONGEST: usize = 255;

/// Most characters of a tag (there, too).
const LONGEST_TAG: usize = 128;

/// A registry: a host, perhaps a port, and how to talk to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    host: String,
    plain: bool,
}

/// A repository of a registry: `registry.example:5000/site/haproxy`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Location {
    origin: Origin,
    name: String,
}

/// A registry and what the names of repositories begin with: `registry.example:5000/site`, or the registry alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    origin: Origin,
    prefix: String,
}

/// A name for a manifest that may be moved to another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(String);

/// Which manifest of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one with this tag.
    Tag(Tag),
    /// The one with this digest.
    Digest(Digest),
}

/// A manifest of a repository: `registry.example/site/haproxy:1.0.0`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The repository.
    pub location: Location,
    /// The manifest.
    pub which: Which,
}

/// Text that names nothing in a registry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("`{text}` is no {what}: {why}")]
#[diagnostic(help("{help}"))]
pub struct ParseError {
    text: String,
    what: &'static str,
    why: String,
    help: &'static str,
}

const REFERENCE: &str = "write REGISTRY/NAME:TAG or REGISTRY/NAME@sha256:DIGEST, such as \
    `registry.example:5000/campus/haproxy:1.0.0-0123456789ab`";
const REPOSITORY: &str = "write REGISTRY/NAME, such as `registry.example:5000/campus/haproxy`";
const PLACE: &str = "write REGISTRY or REGISTRY/PREFIX, such as `registry.example:5000/campus`; the role is added \
    to it";
const TAG: &str = "a tag has up to 128 letters, digits, `_`, `.` and `-`, and begins with a letter, a digit or `_`";

impl ParseError {
    fn new(text: &str, what: &'static str, help: &'static str, why: impl Into<String>) -> Self {
        // A mistake must not show the password that somebody has put where none belongs.
        let text = user_end(text).map_or_else(|| text.to_owned(), |at| format!("…{}", &text[at..]));
        Self { text, what, why: why.into(), help }
    }
}

/// Where in `text` a user ends who does not belong there: at the last `@` that is not followed by a digest.
fn user_end(text: &str) -> Option<usize> {
    let marks = text.rmatch_indices('@').map(|(at, _)| at);
    marks.into_iter().find(|at| !text[at + 1..].starts_with("sha"))
}

const USER: &str = "a user or a password does not belong there";

impl Origin {
    /// Host and port, as they were written.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The URL of the registry, without `/` at its end.
    pub fn url(&self) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        // The name of Docker's registry is not where it is (distribution/reference, normalize.go).
        let host = match self.host.as_str() {
            "docker.io" | "index.docker.io" => "registry-1.docker.io",
            host => host,
        };
        format!("{scheme}://{host}")
    }

    /// Whether the registry is on this machine.
    pub fn is_local(&self) -> bool {
        is_loopback(without_port(&self.host))
    }
}

/// `host` without the port.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

/// Splits `[SCHEME://]HOST[/REST]`. TLS is left out for this machine, and where that is asked for.
fn split(text: &str) -> Result<(Origin, &str), String> {
    if user_end(text).is_some() {
        return Err(USER.to_owned());
    }
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        Some((scheme, _)) => {
            return Err(format!("`{scheme}://` is not how registries are reached"));
        }
        None => (None, text),
    };
    let (host, rest) = rest.split_once('/').unwrap_or((rest, ""));
    if !is_host(host) && !is_address(host) {
        return Err(format!(
            "it does not begin with a registry: `{host}` has no dot and no port, and is not `localhost`"
        ));
    }
    let local = is_loopback(without_port(host));
    let plain = scheme.map_or(local, |scheme| scheme == "http");
    Ok((Origin { host: host.to_owned(), plain }, rest))
}

/// `[ADDRESS]` or `[ADDRESS]:PORT` of IPv6.
fn is_address(host: &str) -> bool {
    let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
        return false;
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    address.parse::<std::net::Ipv6Addr>().is_ok()
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

/// Why `name` is no name of a repository of `origin`.
fn check_name(origin: &Origin, name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("no name of a repository follows the registry".to_owned());
    }
    if let Some(part) = name.split('/').find(|part| !is_component(part)) {
        return Err(format!(
            "`{part}` is no part of a name: those are lower-case letters and digits, with single `.`, `_`, `__` or \
             any number of `-` between them"
        ));
    }
    if origin.host.len() + 1 + name.len() > LONGEST {
        return Err(format!("registry and name have more than {LONGEST} characters"));
    }
    Ok(())
}

impl Location {
    /// The registry.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The name of the repository, without the registry.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL below which its manifests and blobs are (OCI distribution specification, "Endpoints").
    pub fn url(&self) -> String {
        let is_docker = matches!(self.origin.host.as_str(), "docker.io" | "index.docker.io");
        let library = if is_docker && !self.name.contains('/') { "library/" } else { "" };
        format!("{}/v2/{library}{}", self.origin.url(), self.name)
    }

    /// A manifest of it.
    pub fn with(&self, which: Which) -> Reference {
        Reference { location: self.clone(), which }
    }
}

impl FromStr for Location {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error =
            |why: String| ParseError::new(text, "repository of a registry", REPOSITORY, why);
        let (origin, name) = split(text).map_err(error)?;
        check_name(&origin, name).map_err(error)?;
        Ok(Self { origin, name: name.to_owned() })
    }
}

impl Place {
    /// The registry.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The repository `name` below it.
    ///
    /// # Errors
    /// If the two are too long together, or `name` is none.
    pub fn repository(&self, name: &str) -> Result<Location, ParseError> {
        let name = match self.prefix.as_str() {
            "" => name.to_owned(),
            prefix => format!("{prefix}/{name}"),
        };
        check_name(&self.origin, &name)
            .map_err(|why| ParseError::new(&name, "repository of a registry", REPOSITORY, why))?;
        Ok(Location { origin: self.origin.clone(), name })
    }
}

impl FromStr for Place {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |why: String| ParseError::new(text, "place in a registry", PLACE, why);
        let (origin, prefix) = split(text).map_err(error)?;
        if !prefix.is_empty() || text.ends_with('/') {
            check_name(&origin, prefix).map_err(error)?;
        }
        Ok(Self { origin, prefix: prefix.to_owned() })
    }
}

impl Tag {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let later = |byte: u8| first(byte) || byte == b'.' || byte == b'-';
        let is_tag = text.len() <= LONGEST_TAG
            && text.bytes().next().is_some_and(first)
            && text.bytes().all(later);
        if is_tag {
            return Ok(Self(text.to_owned()));
        }
        let why = match text {
            "" => "it is empty".to_owned(),
            text if text.len() > LONGEST_TAG => {
                format!("it has more than {LONGEST_TAG} characters")
            }
            _ => "it has other characters".to_owned(),
        };
        Err(ParseError::new(text, "tag", TAG, why))
    }
}

impl FromStr for Reference {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |why: String| ParseError::new(text, "reference to an image", REFERENCE, why);
        if user_end(text).is_some() {
            return Err(error(USER.to_owned()));
        }
        let (before, digest) = match text.split_once('@') {
            Some((before, digest)) => (before, Some(digest)),
            None => (text, None),
        };
        let (origin, rest) = split(before).map_err(error)?;
        let (name, tag) = match rest.split_once(':') {
            Some((name, tag)) => (name, Some(tag)),
            None => (rest, None),
        };
        let which = match (tag, digest) {
            (Some(_), Some(_)) => {
                return Err(error("it has a tag and a digest: leave out the tag".to_owned()));
            }
            (None, None) => return Err(error("neither a tag nor a digest follows it".to_owned())),
            (Some(tag), None) => {
                Which::Tag(tag.parse().map_err(|_| error(format!("`{tag}` is no tag: {TAG}")))?)
            }
            (None, Some(digest)) => {
                let hexadecimal = digest
                    .strip_prefix("sha256:")
                    .ok_or_else(|| error("a digest begins with `sha256:`".to_owned()))?;
                Which::Digest(lower_case(hexadecimal).ok_or_else(|| {
                    error("`sha256:` is followed by 64 digits and letters a to f".to_owned())
                })?)
            }
        };
        check_name(&origin, name).map_err(error)?;
        Ok(Self { location: Location { origin, name: name.to_owned() }, which })
    }
}

/// The digest that `text` is; capitals are not its spelling (OCI image specification, "Digests").
pub(super) fn lower_case(text: &str) -> Option<Digest> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) { None } else { text.parse().ok() }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (self.plain, self.is_local()) {
            (true, false) => "http://",
            (false, true) => "https://",
            _ => "",
        };
        write!(formatter, "{scheme}{}", self.host)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.origin, self.name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slash = if self.prefix.is_empty() { "" } else { "/" };
        write!(formatter, "{}{slash}{}", self.origin, self.prefix)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Which {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => write!(formatter, "{tag}"),
            Self::Digest(digest) => write!(formatter, "sha256:{digest}"),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = match self.which {
            Which::Tag(_) => ':',
            Which::Digest(_) => '@',
        };
        write!(formatter, "{}{separator}{}", self.location, self.which)
    }
}

#[cfg(test)]
mod tests;
