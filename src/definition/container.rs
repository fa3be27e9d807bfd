//! Names of OCI images in registries.

use std::fmt;
use std::str::FromStr;

/// An image of a registry, without what picks one of its versions: `docker.io/library/nginx`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerImage {
    text: String,
    url: String,
}

const EXPECTED: &str = "the registry and name of an image, such as `docker.io/library/nginx` (no tag and no \
                        digest; `http://` before it for a registry without TLS)";

impl ContainerImage {
    /// The URL below which the registry has its manifests and blobs (OCI distribution specification,
    /// "Endpoints").
    pub fn url(&self) -> String {
        self.url.clone()
    }
}

impl fmt::Display for ContainerImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl FromStr for ContainerImage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = match text.strip_prefix("http://") {
            Some(rest) => ("http", rest),
            None => ("https", text.strip_prefix("https://").unwrap_or(text)),
        };
        let (host, name) = rest.split_once('/').ok_or(EXPECTED)?;
        if !is_host(host) || !name.split('/').all(is_component) || name.len() > 255 {
            return Err(EXPECTED);
        }
        // The name of Docker's registry is not where it is, and names of one component are short
        // for those of Docker itself (distribution/reference, normalize.go).
        let url = match host {
            "docker.io" | "index.docker.io" if !name.contains('/') => {
                format!("https://registry-1.docker.io/v2/library/{name}")
            }
            "docker.io" | "index.docker.io" => format!("https://registry-1.docker.io/v2/{name}"),
            _ => format!("{scheme}://{host}/v2/{name}"),
        };
        Ok(Self { text: text.to_owned(), url })
    }
}

/// A name or address of a host, which differs from the first component of a name by a dot, a port,
/// or being `localhost` (distribution/reference, normalize.go).
pub(crate) fn is_host(text: &str) -> bool {
    let (name, port) = text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port)));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let is_name = !name.is_empty()
        && !name.starts_with(['-', '.'])
        && !name.ends_with(['-', '.'])
        && name.bytes().all(plain);
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    is_name && is_port && (name.contains('.') || port.is_some() || name == "localhost")
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*` (OCI distribution specification, "Pulling manifests").
pub(crate) fn is_component(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = text.bytes().next().zip(text.bytes().last());
    let separators =
        text.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit());
    ends.is_some_and(|(first, last)| is_word(first) && is_word(last))
        && separators
            .into_iter()
            .all(|it| matches!(it, "" | "." | "_" | "__") || it.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_urls() {
        let cases = [
            ("docker.io/a/b", "https://registry-1.docker.io/v2/a/b"),
            ("docker.io/nginx", "https://registry-1.docker.io/v2/library/nginx"),
            ("ghcr.io/a/b.c_d__e--f", "https://ghcr.io/v2/a/b.c_d__e--f"),
            ("http://127.0.0.1:5000/a", "http://127.0.0.1:5000/v2/a"),
            ("localhost/a", "https://localhost/v2/a"),
        ];
        for (text, url) in cases {
            let image: ContainerImage = text.parse().unwrap();
            assert_eq!((image.url().as_str(), image.to_string().as_str()), (url, text));
        }
        let refused = [
            "",
            "nginx",
            "library/nginx",
            "docker.io/",
            "docker.io/a:1",
            "docker.io/a@sha256:0",
            "docker.io/A",
            "docker.io/a..b",
            "docker.io/../a",
            "docker.io/a/",
            "docker.io/-a",
            "a.b:0/c",
            "me:word@a.b/c",
            "ftp://a.b/c",
            "a.b/c?d",
            "a.b/c_",
            "a.b/c___d",
        ];
        for text in refused {
            assert!(text.parse::<ContainerImage>().is_err(), "{text}");
        }
    }
}
