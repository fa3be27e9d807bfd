//! Paths of an image, with wildcards.

use std::fmt;
use std::str::FromStr;

use crate::debian::packages::matches;
use crate::definition::name::{AbsolutePath, InvalidText};

/// What stands for any number of components, also for none.
const DEEP: &str = "**";

/// An absolute path in which `*` stands for any text within a component, and the component `**` for any
/// number of components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(AbsolutePath);

impl FromStr for PathPattern {
    type Err = InvalidText;

    fn from_str(text: &str) -> Result<Self, InvalidText> {
        const EXPECTED: InvalidText = InvalidText(
            "an absolute path without `.`, `..`, `//` or a slash at the end, \
             in which `*` may stand for text after the first directory",
        );
        let path: AbsolutePath = text.parse().map_err(|_| EXPECTED)?;
        let first = path.as_str().split('/').nth(1).unwrap_or_default();
        if first.contains('*') { Err(EXPECTED) } else { Ok(Self(path)) }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl PathPattern {
    /// Whether it stands for more than one path.
    pub fn has_wildcards(&self) -> bool {
        self.0.as_str().contains('*')
    }

    /// Whether it stands for `path`, which begins with a slash.
    pub fn matches(&self, path: &str) -> bool {
        let pattern: Vec<&str> = self.0.as_str().split('/').collect();
        let path: Vec<&str> = path.split('/').collect();
        components_match(&pattern, &path)
    }
}

fn components_match(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        ([DEEP, rest @ ..], _) => {
            (0..=path.len()).any(|skipped| components_match(rest, &path[skipped..]))
        }
        ([first, rest @ ..], [name, names @ ..]) => {
            matches(first, name) && components_match(rest, names)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_component() {
        for (pattern, path, expected) in [
            ("/var/log/a.log", "/var/log/a.log", true),
            ("/var/log/a.log", "/var/log/a.log.1", false),
            ("/var/log/*.log", "/var/log/a.log", true),
            ("/var/log/*.log", "/var/log/a/b.log", false),
            ("/var/log/**", "/var/log/a/b.log", true),
            ("/var/log/**", "/var/log", true),
            ("/var/log/**", "/var/logs", false),
            ("/var/**/x", "/var/x", true),
            ("/var/**/x", "/var/a/b/x", true),
            ("/var/**/x", "/var/a/b/y", false),
            ("/usr/*/doc/a*c", "/usr/share/doc/abc", true),
            ("/usr/*/doc/a*c", "/usr/share/doc/abd", false),
        ] {
            let parsed: PathPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_names_at_least_a_directory() {
        for text in ["", "var/log", "/**", "/*/x", "/var//log", "/var/", "/var/../etc"] {
            assert!(text.parse::<PathPattern>().is_err(), "{text:?}");
        }
    }
}
