//! How an image is named on the command line.

use std::path::Path;

use crate::inspect::is_digest;

/// What an argument means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    Artifact(&'a Path),
    Digest(&'a str),
    Role { revision: Option<&'a str>, role: &'a str },
}

impl<'a> Subject<'a> {
    pub fn of(text: &'a String) -> Self {
        let path = Path::new(text);
        match text.rsplit_once(':') {
            _ if path.is_file() => Self::Artifact(path),
            Some((revision, role)) => Self::Role { revision: Some(revision), role },
            None if text.contains(['/', '.']) => Self::Artifact(path),
            None if is_digest(text) => Self::Digest(text),
            None => Self::Role { revision: None, role: text },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_mean_what_git_and_artifacts_suggest() {
        let role = |revision, role| Subject::Role { revision, role };
        for (text, expected) in [
            ("haproxy", role(None, "haproxy")),
            ("HEAD~2:haproxy", role(Some("HEAD~2"), "haproxy")),
            ("stash@{0}:web", role(Some("stash@{0}"), "web")),
            ("56ca1d545e05", Subject::Digest("56ca1d545e05")),
            ("out/a.tar.zst", Subject::Artifact(Path::new("out/a.tar.zst"))),
            ("a.qcow2", Subject::Artifact(Path::new("a.qcow2"))),
        ] {
            assert_eq!(Subject::of(&text.to_owned()), expected);
        }
    }
}
