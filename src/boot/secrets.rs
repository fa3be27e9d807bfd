//! Secrets of guests that are only tried out.

use std::fmt;
use std::io::{self, Read};
use std::path::Path;

use super::Identity;
use super::certificate::TrialCertificate;
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
        let node = identity.short_name();
        let mut files = Vec::new();
        let mut certificate = None;
        for secret in plan.secrets.values() {
            let template = match (&secret.trial, secret.required) {
                (Some(template), _) => template.as_str(),
                (None, true) => "{random}",
                (None, false) => continue,
            };
            let path = Path::new(secret.path.as_str());
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let random = random_digits()?;
            let mut known = vec![("{node}", node), ("{random}", &random)];
            if is_of_one_node(template) {
                let made = match certificate.take() {
                    Some(made) => made,
                    None => {
                        TrialCertificate::new(names(plan, identity)).map_err(io::Error::other)?
                    }
                };
                let made = certificate.insert(made);
                let parts = [&*made.authority, &*made.certificate, &*made.key];
                known.extend(CERTIFICATE.into_iter().zip(parts));
            }
            let mut content = trial_value(template, &known);
            if !content.ends_with('\n') {
                content.push('\n');
            }
            files.push(SecretFile { name: name.to_owned(), content });
        }
        if identity.stranger {
            let content = identity.node_table();
            files.push(SecretFile { name: NODE_TABLE.to_owned(), content });
        }
        Ok(Self(files))
    }
}

/// Whether what `template` gives is of one node only, since there is a certificate with its name in it.
pub fn is_of_one_node(template: &str) -> bool {
    CERTIFICATE.iter().any(|part| template.contains(part))
}

/// What stands for the parts of a [`TrialCertificate`], in their order.
const CERTIFICATE: [&str; 3] = ["{authority}", "{certificate}", "{key}"];

/// What the guest may be called by: its own name and address, and the public names of the site.
fn names(plan: &Plan, identity: &Identity) -> Vec<String> {
    let site = plan.site.iter().flat_map(|site| &site.names);
    let public = site.map(|name| name.name.to_string());
    let own = [identity.name.to_string(), identity.address.address().to_string()];
    own.into_iter().chain(public).collect()
}

/// `template` with what is `known` replaced. Nothing that was put in is looked at again.
pub fn trial_value(template: &str, known: &[(&str, &str)]) -> String {
    let mut value = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        value.push_str(before);
        match known.iter().find(|(name, _)| from.starts_with(name)) {
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
            let known = [("{node}", "galera1"), ("{random}", "0f")];
            assert_eq!(trial_value(template, &known), expected);
        }
        let known = [("{node}", "{random}"), ("{random}", "x")];
        assert_eq!(trial_value("{node}", &known), "{random}");
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
