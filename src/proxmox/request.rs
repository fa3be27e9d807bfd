//! Where a call goes, and with what.

use std::fmt::Display;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// What stands for itself in a URL and in a form (RFC 3986, unreserved).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A path below `/api2/json`. Its parts are encoded, so that none can become several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Path(Arc<str>);

impl Path {
    pub(super) fn new<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut path = String::new();
        for part in parts {
            path.push('/');
            path.extend(utf8_percent_encode(part, ENCODED));
        }
        Self(path.into())
    }

    /// The path of `part` below this one.
    pub(super) fn and(&self, part: &str) -> Self {
        Self(format!("{}/{}", self.0, utf8_percent_encode(part, ENCODED)).into())
    }

    /// As messages have it.
    pub(super) fn text(&self) -> String {
        percent_decode_str(&self.0).decode_utf8_lossy().into_owned()
    }

    /// As requests have it.
    pub(super) fn target(&self) -> String {
        format!("/api2/json{}", self.0)
    }
}

/// The parameters of a call, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn new() -> Self {
        Self::default()
    }

    pub(super) fn with(mut self, name: impl Into<String>, value: impl Display) -> Self {
        self.0.push((name.into(), value.to_string()));
        self
    }

    pub(super) fn with_some(self, name: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Proxmox's booleans are 0 and 1.
    pub(super) fn with_flag(self, name: &str, value: bool) -> Self {
        self.with(name, u8::from(value))
    }

    /// As a form or a query.
    pub(super) fn form(&self) -> String {
        let mut form = String::new();
        for (name, value) in &self.0 {
            if !form.is_empty() {
                form.push('&');
            }
            form.extend(utf8_percent_encode(name, ENCODED));
            form.push('=');
            form.extend(utf8_percent_encode(value, ENCODED));
        }
        form
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_leaves_its_place_in_a_request() {
        let path = Path::new(["nodes", "a/../b", "tasks", "UPID:x:qmmove:1>2:é?#"]);
        assert_eq!(
            path.target(),
            "/api2/json/nodes/a%2F..%2Fb/tasks/UPID%3Ax%3Aqmmove%3A1%3E2%3A%C3%A9%3F%23"
        );
        let form = Parameters::new().with("a&b", "c=d\r\ne f+%").form();
        assert_eq!(form, "a%26b=c%3Dd%0D%0Ae%20f%2B%25");
    }
}
