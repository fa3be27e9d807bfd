//! Manifests: getting, putting and deleting them.

use ureq::http::{Method, StatusCode, header};

use super::document::{Descriptor, Heading, MANIFEST};
use super::http::{Answer, Call, Content};
use super::reference::lower_case;
use super::{Error, Repository, Which};
use crate::digest::Digest;
use crate::fetch::source::text;
use crate::fetch::token::ACCEPT;

/// What a registry says the digest of a document is.
const DIGEST: &str = "docker-content-digest";

/// What a registry says that knows what a manifest is about.
const SUBJECT: &str = "oci-subject";

/// A manifest that a registry has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The SHA-256 of its bytes: computed, not believed.
    pub digest: Digest,
    /// What kind of document.
    pub media_type: String,
    /// The document.
    pub bytes: Vec<u8>,
}

impl Found {
    /// What points to it.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(&self.media_type, self.digest, self.bytes.len() as u64)
    }
}

/// What became of a manifest that was put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Put {
    /// The SHA-256 of its bytes.
    pub digest: Digest,
    /// Whether the list of what is about its subject had to be put by us, since the registry keeps none.
    pub listed: bool,
}

impl Repository {
    pub(super) fn manifest_url(&self, which: &Which) -> String {
        format!("{}/manifests/{which}", self.location().url())
    }

    /// Gets a manifest, if there is one.
    ///
    /// # Errors
    /// [`Error::Lie`] if it is not what was asked for; [`Error::Document`] if it is too large; [`Error::Unreachable`],
    /// [`Error::Login`], [`Error::Refused`].
    pub fn manifest(&self, which: &Which) -> Result<Option<Found>, Error> {
        let what = || format!("pull {}", self.location().with(which.clone()));
        let url = self.manifest_url(which);
        let call = Call::new(Method::GET, url).header(header::ACCEPT, ACCEPT).believed();
        let (headers, bytes) = match self.document(&call, &what)? {
            Answer::Document(headers, bytes) => (headers, bytes),
            Answer::Other(response) if response.status() == StatusCode::NOT_FOUND => {
                return Ok(None);
            }
            Answer::Other(response) => return Err(self.refused(what(), response)),
        };
        let lie = |why: String| Error::Lie { what: what(), why };
        let digest = Digest::of(&bytes);
        if let Which::Digest(expected) = which
            && digest != *expected
        {
            return Err(lie(format!("the sha256 of what it gives is {digest}")));
        }
        let said = headers.get(DIGEST).and_then(|value| value.to_str().ok());
        check_said(said, &digest).map_err(lie)?;
        let told = text(&headers, header::CONTENT_TYPE);
        let told = told.and_then(|text| text.split(';').next()).map(str::trim);
        let heading: Heading = serde_json::from_slice(&bytes).unwrap_or_default();
        let media_type = match (told, heading.media_type) {
            (Some(told), Some(own)) if told != own => {
                return Err(lie(format!("it says that it is `{told}`, but it is `{own}`")));
            }
            (_, Some(own)) => own,
            (told, None) => told.unwrap_or(MANIFEST).to_owned(),
        };
        Ok(Some(Found { digest, media_type, bytes }))
    }

    /// Puts a manifest. What it mentions has to be there. If it is about another one, and the registry keeps no list
    /// of such, the list is put, too (OCI distribution specification, "Pushing Manifests with Subject").
    ///
    /// # Errors
    /// Those of [`Repository::manifest`].
    pub fn put_manifest(
        &self,
        which: &Which,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Put, Error> {
        let what = || format!("push {}", self.location().with(which.clone()));
        let digest = Digest::of(bytes);
        let call = Call::new(Method::PUT, self.manifest_url(which))
            .header(header::CONTENT_TYPE, media_type)
            .content(Content::Bytes(bytes));
        let response = self.patiently(&call).map_err(|trouble| trouble.into_error(&what()))?;
        if response.status() != StatusCode::CREATED {
            return Err(self.refused(what(), response));
        }
        let said = response.headers().get(DIGEST).and_then(|value| value.to_str().ok());
        check_said(said, &digest).map_err(|why| Error::Lie { what: what(), why })?;
        let is_listed = response.headers().contains_key(SUBJECT);
        let heading: Heading = serde_json::from_slice(bytes).unwrap_or_default();
        let Some(subject) = heading.subject.as_ref().filter(|_| !is_listed) else {
            return Ok(Put { digest, listed: false });
        };
        let mut descriptor = Descriptor::new(media_type, digest, bytes.len() as u64);
        descriptor.artifact_type =
            heading.artifact_type.or(heading.config.map(|config| config.media_type));
        descriptor.annotations = heading.annotations;
        self.list(&subject.digest, &descriptor)?;
        Ok(Put { digest, listed: true })
    }

    /// Deletes a manifest that is about `subject`, and before that its place in the list of such where the registry keeps
    /// none: what is in the list has to be there. Returns whether there was one.
    ///
    /// # Errors
    /// Those of [`Repository::manifest`]. [`Error::Refused`] or [`Error::Login`] if the registry deletes nothing.
    pub fn delete_manifest(&self, subject: &Digest, digest: &Digest) -> Result<bool, Error> {
        let which = Which::Digest(*digest);
        let what = || format!("delete {}", self.location().with(which.clone()));
        self.unlist(subject, digest)?;
        let call = Call::new(Method::DELETE, self.manifest_url(&which));
        let response = self.patiently(&call).map_err(|trouble| trouble.into_error(&what()))?;
        match response.status() {
            StatusCode::ACCEPTED | StatusCode::OK | StatusCode::NO_CONTENT => Ok(true),
            // Deleted by somebody else, or by a try whose answer was lost.
            StatusCode::NOT_FOUND => Ok(false),
            _ => Err(self.refused(what(), response)),
        }
    }
}

/// Holds what a registry says of a digest against it. Other algorithms than SHA-256 are passed over: they say
/// nothing that could be compared.
fn check_said(said: Option<&str>, digest: &Digest) -> Result<(), String> {
    let Some(hexadecimal) = said.and_then(|said| said.strip_prefix("sha256:")) else {
        return Ok(());
    };
    match lower_case(hexadecimal) {
        Some(said) if said == *digest => Ok(()),
        _ => Err(format!("its header says sha256:{hexadecimal}, the document is sha256:{digest}")),
    }
}
