//! Addresses that a registry names.

use ureq::http::Uri;

/// `url` without what may let others do something.
pub(super) fn without_query(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// The URL that `location`, from an answer to a request for `base`, stands for (RFC 3986, section 5.2).
///
/// # Errors
/// Says why nothing may be sent there.
pub(super) fn resolve(base: &str, location: &str) -> Result<String, &'static str> {
    let (scheme, rest) = base.split_once("://").ok_or("which is no URL")?;
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let path = without_query(rest);
    let location = location.split('#').next().unwrap_or_default();
    let url = if location.contains("://") && !location.starts_with(['/', '?']) {
        location.to_owned()
    } else if let Some(rest) = location.strip_prefix("//") {
        format!("{scheme}://{rest}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else if location.starts_with('?') {
        format!("{scheme}://{path}{location}")
    } else {
        let folder = path.rfind('/').map_or(path, |slash| &path[..slash]);
        format!("{scheme}://{folder}/{location}")
    };
    let uri = url.parse::<Uri>().map_err(|_| "which is no URL")?;
    if uri.authority().is_none_or(|authority| authority.as_str().contains('@')) {
        return Err("which names a user");
    }
    match (scheme, uri.scheme_str()) {
        (_, Some("https")) | ("http", Some("http")) => Ok(url),
        ("https", Some("http")) => Err("which has no TLS"),
        _ => Err("which is neither http nor https"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_uploads_are_resolved() {
        let base = "https://r.example:5000/v2/a/blobs/uploads/?x=1";
        let cases = [
            ("/v2/u/1?s=a/b", Ok("https://r.example:5000/v2/u/1?s=a/b")),
            ("https://s.example/u", Ok("https://s.example/u")),
            ("//s.example/u", Ok("https://s.example/u")),
            ("7?s=1", Ok("https://r.example:5000/v2/a/blobs/uploads/7?s=1")),
            ("?s=1", Ok("https://r.example:5000/v2/a/blobs/uploads/?s=1")),
            ("/u?next=http://x", Ok("https://r.example:5000/u?next=http://x")),
            ("http://r.example:5000/u", Err("which has no TLS")),
            ("ftp://r.example/u", Err("which is neither http nor https")),
            ("https://jane@r.example/u", Err("which names a user")),
            ("/a b", Err("which is no URL")),
        ];
        for (location, expected) in cases {
            assert_eq!(resolve(base, location), expected.map(str::to_owned), "{location}");
        }
        assert!(resolve("http://localhost/v2/", "http://s.example/u").is_ok());
    }
}
