//! Keys that sign nothing any more: a file of public keys, one a line, as `ssh-keygen -Y verify -r` takes it.
//!
//! A key that stands there counts for nothing wherever it is met, as in `sshkey_check_revoked` of OpenSSH's `authfile.c`: as
//! the key that has signed, with or without a certificate, and as the authority of one. Lists in OpenSSH's binary form
//! (KRL) are not read.

use ssh_key::public::KeyData;

use super::identity::{Identity, name};
use crate::definition::{self, Place, Problem, Source};

const FORM: &str = "a line is a public key as it stands in a file `.pub`, for example `ssh-ed25519 AAAAC3Nz… a comment`; lists \
                    that `ssh-keygen -k` makes are not read";

/// Keys that sign nothing any more.
#[derive(Clone, Debug)]
pub struct RevokedKeys {
    keys: Vec<(Place, KeyData)>,
}

impl RevokedKeys {
    /// Reads the file.
    ///
    /// # Errors
    /// A line that is neither empty, nor a comment, nor a key.
    pub fn parse(source: &Source) -> definition::Result<Self> {
        let mut keys = Vec::new();
        let mut start = 0;
        for text in source.inner().split_inclusive('\n') {
            let line = text.trim();
            let indent = text.len() - text.trim_start().len();
            let place = Place::new(source.clone(), start + indent..start + indent + line.len());
            start += text.len();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = Identity::from_line(line).map_err(|problem| {
                let problem = Problem::Syntax(format!("the key cannot be read: {problem}"));
                place.error_with_help(problem, Some(FORM.to_owned()))
            })?;
            // Of a certificate the key that it is for: its next one would be for the same.
            keys.push((place, identity.key().clone()));
        }
        Ok(Self { keys })
    }

    /// Why `identity` counts for nothing, if so.
    pub fn objection(&self, identity: &Identity) -> Option<String> {
        let authority = identity.certificate().map(|certificate| certificate.signature_key());
        let roles = [("the key", Some(identity.key())), ("the authority", authority)];
        self.keys.iter().find_map(|(place, key)| {
            let (role, _) = roles.iter().find(|(_, own)| *own == Some(key))?;
            Some(format!("{place}: {role} {} is revoked", name(key)))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use miette::NamedSource;

    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKTwBmaZ2UgH9EQK4Cy2vJ9xVyv0R9p+jhZG7NVM5Mr1";
    const OTHER: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUr7LNScQFDhoghZ0OqHHMHvqvdIYiqRpKnj0B7+vrJ";

    fn revoked(text: &str) -> definition::Result<RevokedKeys> {
        let source = NamedSource::new("revoked_keys", Arc::new(text.to_owned()));
        RevokedKeys::parse(&Arc::new(source))
    }

    #[test]
    fn a_key_that_stands_there_is_revoked_and_no_other() {
        let list = revoked(&format!("# found on a runner\n\n  {KEY} job 4711\n")).unwrap();
        let objection = list.objection(&Identity::from_line(KEY).unwrap()).unwrap();
        assert!(objection.starts_with("revoked_keys:3: the key ED25519 SHA256:"), "{objection}");
        assert_eq!(list.objection(&Identity::from_line(OTHER).unwrap()), None);
        assert_eq!(revoked("").unwrap().objection(&Identity::from_line(KEY).unwrap()), None);
    }

    #[test]
    fn what_is_no_key_is_refused_where_it_stands() {
        for line in [
            "ssh-ed25519",
            "ssh-ed25519 AAAA",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIHUr7LNScQFDhoghZ0OqHHMHvqvdIYiqRpKnj0B7+vrJ",
            &format!("ci@a.example {KEY}"),
            "SSHKRL",
        ] {
            let error = revoked(&format!("{OTHER}\n\t{line} \n")).unwrap_err();
            let definition::Error::Located(located) = error else { panic!("{line}: {error:?}") };
            let place = &located.file.inner()[located.span.offset()..][..located.span.len()];
            assert_eq!(place, line);
            assert!(located.help.is_some(), "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[ -~\n\té]{0,80}") {
            let _ = revoked(&text);
            let _ = revoked(&format!("{KEY} {text}\n"));
        }
    }
}
