//! Who may sign: OpenSSH's file `allowed_signers`.
//!
//! The format is that of ssh-keygen(1), ALLOWED SIGNERS, read as `sshsig.c` does. What that passes over is refused here:
//! options that are not known, names in quotes, and times without `Z`, which mean another moment on each machine.

mod line;
mod pattern;

use ssh_key::public::KeyData;

use super::identity::{Identity, objection};
use crate::debian::date::Moment;
use crate::definition::{self, Place, Source};
use pattern::matches;

/// Who may sign.
#[derive(Clone, Debug)]
pub struct AllowedSigners {
    lines: Vec<Line>,
}

/// One line: a key, or the authority of certificates.
#[derive(Clone, Debug)]
struct Line {
    place: Place,
    /// Patterns of names.
    principals: String,
    is_authority: bool,
    /// Patterns of what may be signed.
    namespaces: Option<String>,
    valid_after: Option<Moment>,
    valid_before: Option<Moment>,
    key: KeyData,
}

/// Why nobody who may sign has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAllowed {
    /// What each line says that has the key, with its place. None if no line has it.
    pub reasons: Vec<String>,
}

impl AllowedSigners {
    /// Reads the file.
    ///
    /// # Errors
    /// A line that is neither empty, nor a comment, nor a signer.
    pub fn parse(source: &Source) -> definition::Result<Self> {
        let mut lines = Vec::new();
        let mut start = 0;
        for text in source.inner().split_inclusive('\n') {
            let place = Place::new(source.clone(), start..start + text.trim_end().len());
            start += text.len();
            let is_empty = text.trim().is_empty() || text.trim_start().starts_with('#');
            if !is_empty {
                lines.push(line::parse(&place, text.trim_end())?);
            }
        }
        Ok(Self { lines })
    }

    /// Under which name `identity` may have signed something for `namespace` at `at`: `name` if one is asked for, else
    /// any.
    ///
    /// # Errors
    /// If it may not.
    pub fn allow(
        &self,
        identity: &Identity,
        namespace: &str,
        name: Option<&str>,
        at: Moment,
    ) -> Result<String, NotAllowed> {
        let mut reasons = Vec::new();
        for line in self.lines.iter().filter(|line| line.has(identity)) {
            match line.allow(identity, namespace, name, at) {
                Ok(name) => return Ok(name),
                Err(reason) => reasons.push(format!("{}: {reason}", line.place)),
            }
        }
        Err(NotAllowed { reasons })
    }
}

impl Line {
    /// Whether the line is about the key, or the authority of the certificate.
    fn has(&self, identity: &Identity) -> bool {
        match (self.is_authority, identity.certificate()) {
            (true, Some(certificate)) => *certificate.signature_key() == self.key,
            (true, None) => false,
            // As `sshkey_equal`: a certificate is no key.
            (false, certificate) => certificate.is_none() && *identity.key() == self.key,
        }
    }

    fn allow(
        &self,
        identity: &Identity,
        namespace: &str,
        name: Option<&str>,
        at: Moment,
    ) -> Result<String, String> {
        let name = self.name(identity, name, at)?;
        if let Some(namespaces) = &self.namespaces
            && !matches(namespace, namespaces)
        {
            return Err(format!("the key is for `{namespaces}`, and not for `{namespace}`"));
        }
        if let Some(after) = self.valid_after.filter(|after| at < *after) {
            return Err(format!("the key is valid from {after} on, and it signed at {at}"));
        }
        if let Some(before) = self.valid_before.filter(|before| at > *before) {
            return Err(format!("the key is valid until {before}, and it signed at {at}"));
        }
        Ok(name)
    }

    fn name(&self, identity: &Identity, name: Option<&str>, at: Moment) -> Result<String, String> {
        if let Some(name) = name.filter(|name| !matches(name, &self.principals)) {
            return Err(format!("the key is that of {}, and not of {name}", self.principals));
        }
        let Some(certificate) = identity.certificate() else {
            return Ok(name.unwrap_or(&self.principals).to_owned());
        };
        if let Some(objection) = objection(certificate, at) {
            return Err(objection);
        }
        let mut names = certificate.valid_principals().iter().map(String::as_str);
        let found = match name {
            Some(wanted) => names.find(|own| *own == wanted),
            None => names.find(|own| matches(own, &self.principals)),
        };
        let names = certificate.valid_principals().join(", ");
        let wanted = name.unwrap_or(&self.principals);
        let found = found.map(str::to_owned);
        found.ok_or_else(|| format!("the certificate is for {names}, and not for {wanted}"))
    }
}

#[cfg(test)]
mod tests;
