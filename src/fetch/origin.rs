//! Which server a URL leads to, and who could read what is sent there.

use std::net::IpAddr;

use ureq::http::Uri;

/// Whether nobody on the way can read what is sent to `url`.
pub(crate) fn is_confidential(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    match uri.scheme_str() {
        Some("https") => true,
        Some("http") => uri.host().is_some_and(is_loopback),
        _ => false,
    }
}

/// Whether `host`, without a port, is this machine: `localhost`, 127.0.0.0/8 or `[::1]` (RFC 6761, section 6.3).
pub(crate) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}

/// Whether what is sent to both URLs goes to the same server.
pub(crate) fn is_same_origin(one: &str, other: &str) -> bool {
    let origin = |url: &str| url.parse::<Uri>().ok().as_ref().and_then(origin);
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

/// Scheme, host and port of `uri`.
fn origin(uri: &Uri) -> Option<(String, String, u16)> {
    let scheme = uri.scheme_str()?.to_owned();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// The server of `uri`, as it is shown: without a path or a user, which may be secret.
pub(super) fn server(uri: &Uri) -> String {
    origin(uri).map_or_else(String::new, |(scheme, host, port)| match (scheme.as_str(), port) {
        ("https", 443) | ("http", 80) => format!("{scheme}://{host}"),
        _ => format!("{scheme}://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let base = "https://r.example/v2/a";
        for (url, same) in [
            ("https://r.example:443/x", true),
            ("https://R.example/x", true),
            ("http://r.example/x", false),
            ("https://r.example:5000/x", false),
            ("https://s.example/x", false),
            ("https://r.example.evil/x", false),
            ("nothing", false),
        ] {
            assert_eq!(is_same_origin(base, url), same, "{url}");
        }
    }

    #[test]
    fn a_server_is_shown_without_what_may_be_secret() {
        for (url, shown) in [
            ("https://jane:secret@s.example/a?key=secret", "https://s.example"),
            ("http://s.example:5000/", "http://s.example:5000"),
            ("https://[::1]:443/", "https://[::1]"),
        ] {
            assert_eq!(server(&url.parse().unwrap()), shown);
        }
    }
}
