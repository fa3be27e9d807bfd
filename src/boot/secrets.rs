//! Secrets of guests that are only tried out.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use super::Identity;
use crate::definition::Plan;

/// The file among the secrets that tells a guest which is in no node table who it is.
const NODE_TABLE: &str = "imgbuild.nodes";

/// One file of the secrets directory. Its content is never shown.
#[derive(Clone)]
pub struct SecretFile {
    /// The file's name.
    pub name: String,
    /// What is in it.
    pub content: String,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SecretFile").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The files of the secrets directory.
#[derive(Clone, Debug, Default)]
pub struct Secrets(pub Vec<SecretFile>);

impl Secrets {
    /// What the guest `identity` of `plan` gets: each secret under the last component of its path. One
    /// that is required has its `trial` value, or else a random one; one that is not is left out
    /// unless it has one.
    ///
    /// # Errors
    ///
    /// When the kernel gives no random numbers.
    pub fn for_trial(plan: &Plan, identity: &Identity) -> io::Result<Self> {
        let mut files = Vec::new();
        for secret in plan.secrets.values() {
            let template = match (&secret.trial, secret.required) {
                (Some(template), _) => template.as_str(),
                (None, true) => "{random}",
                (None, false) => continue,
            };
            let path = Path::new(secret.path.as_str());
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let value = trial_value(template, identity.short_name(), &random_digits()?);
            files.push(SecretFile { name: name.to_owned(), content: format!("{value}\n") });
        }
        if identity.stranger {
            let content = identity.node_table();
            files.push(SecretFile { name: NODE_TABLE.to_owned(), content });
        }
        Ok(Self(files))
    }
}

/// `template` with `{node}` replaced by the guest's host name and `{random}` by `random`. Nothing
/// that was put in is looked at again.
pub fn trial_value(template: &str, node: &str, random: &str) -> String {
    let mut value = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        value.push_str(before);
        let known = [("{node}", node), ("{random}", random)];
        match known.into_iter().find(|(name, _)| from.starts_with(name)) {
            Some((name, replacement)) => {
                value.push_str(replacement);
                rest = from.get(name.len()..).unwrap_or_default();
            }
            None => {
                value.push('{');
                rest = from.get(1..).unwrap_or_default();
            }
        }
    }
    value.push_str(rest);
    value
}

/// 32 hexadecimal digits from the kernel's random numbers.
///
/// # Errors
///
/// When `/dev/urandom` cannot be read.
pub fn random_digits() -> io::Result<String> {
    let mut bytes = [0; 16];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_and_random_are_put_in_and_nothing_else() {
        let cases = [
            ("{node} {random}", "galera1 0f"),
            ("{random}{random}", "0f0f"),
            ("plain", "plain"),
            ("{Node} {nod {} { }", "{Node} {nod {} { }"),
            ("{{node}}", "{galera1}"),
            ("ä{node}ß", "ägalera1ß"),
            ("", ""),
        ];
        for (template, expected) in cases {
            assert_eq!(trial_value(template, "galera1", "0f"), expected);
        }
        assert_eq!(trial_value("{node}", "{random}", "x"), "{random}");
    }

    #[test]
    fn random_digits_are_not_the_same_twice() {
        let (one, two) = (random_digits().unwrap(), random_digits().unwrap());
        assert!(one.len() == 32 && one != two);
        assert!(one.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }

    #[test]
    fn values_are_not_shown() {
        let file = SecretFile { name: "a".to_owned(), content: "hidden".to_owned() };
        assert!(!format!("{:?}", Secrets(vec![file])).contains("hidden"));
    }
}
