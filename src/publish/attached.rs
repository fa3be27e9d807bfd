//! What is about an image in a registry, and which of it is pulled with it.
//!
//! Whoever may push may say anything about an image, and not every registry deletes what was said before. So what goes with
//! an image is taken as a whole: a list of sums, its signature, and those documents that it is of. Of several the newest
//! is taken, one that policies allow before all others. What nobody has signed is taken only if nothing is signed.

use std::time::SystemTime;

use super::pull::{Pull, Wanted};
use super::{ATTACHMENTS, Attachment, Error};
use crate::artifact::manifest;
use crate::debian::date::Moment;
use crate::definition;
use crate::digest::Digest;
use crate::progress::Event;
use crate::registry::{self, Descriptor, Manifest, Which};
use crate::signature::files::{DOCUMENTS, MANIFEST};
use crate::signature::{Identity, NAMESPACE, SUMS, Signature, Sums, TOLERANCE};
use crate::verify::Rules;

/// Most manifests about an image that are looked at: whoever may push may push any number.
const MOST_ATTACHED: usize = 64;

/// Gives the policies that hold for images of a site, or of none.
pub type RulesOf<'a> = &'a dyn Fn(Option<&str>) -> definition::Result<Vec<Rules>>;

/// An image that things are about.
pub(super) struct Image<'a> {
    /// The digest of its manifest in the registry.
    pub digest: Digest,
    /// The manifest that a build has written.
    pub manifest: &'a manifest::Manifest,
    /// The SHA-256 of that.
    pub description: Digest,
    /// What the names of its files begin with.
    pub stem: &'a str,
}

/// Something about an image, as the registry has it.
struct Candidate {
    attachment: &'static Attachment,
    files: Vec<Wanted>,
}

impl Candidate {
    fn is_signature(&self) -> bool {
        self.attachment.files[0].0 == SUMS
    }
}

/// Files that one signature is of, with that signature.
struct SignedSet {
    identity: Identity,
    signed: Moment,
    files: Vec<Wanted>,
}

/// What kind of thing is about an image, if it is one of ours.
fn attachment(entry: &Descriptor) -> Option<&'static Attachment> {
    ATTACHMENTS.iter().find(|it| Some(it.artifact_type) == entry.artifact_type.as_deref())
}

impl Pull<'_> {
    fn warn(&self, warning: String) {
        self.progress.event(Event::Warning(warning));
    }

    /// The files that go with the image.
    pub(super) fn attached(&self, image: &Image, rules: RulesOf) -> Result<Vec<Wanted>, Error> {
        let candidates = self.candidates(image)?.into_iter();
        let (lists, documents): (Vec<_>, Vec<_>) = candidates.partition(Candidate::is_signature);
        let (mut good, mut wrong) = (Vec::new(), None);
        for list in lists {
            match self.signed_set(image, list, &documents)? {
                Ok(set) => good.push(set),
                Err(why) => wrong = Some(why),
            }
        }
        if good.is_empty() {
            if let Some(why) = wrong {
                self.warn(format!(
                    "what is said to be a signature of {} is left out: {why}",
                    self.reference
                ));
            }
            return Ok(self.unsigned(documents));
        }
        // Policies are not read, and need not be right, where there is nothing to choose.
        let rules = match good.len() {
            1 => Vec::new(),
            _ => rules(image.manifest.site.as_deref())?,
        };
        let is_allowed = |set: &SignedSet| {
            let said = rules.iter().filter_map(|rules| rules.allow(&set.identity, set.signed));
            { said }.all(|said| said.is_ok())
        };
        let list = |set: &SignedSet| set.files.last().map(|file| file.digest);
        let best = good.into_iter().max_by_key(|set| (is_allowed(set), set.signed, list(set)));
        Ok(best.map_or_else(Vec::new, |set| {
            let (at, by) = (set.signed, set.identity.name());
            let detail = format!("{}: the signature of {at} by {by} is taken", self.reference);
            self.progress.event(Event::Detail(detail));
            set.files
        }))
    }

    /// One of each kind, of documents that nobody has signed.
    fn unsigned(&self, mut documents: Vec<Candidate>) -> Vec<Wanted> {
        let mut chosen = Vec::new();
        for Attachment { artifact_type, .. } in ATTACHMENTS {
            let same = |it: &Candidate| it.attachment.artifact_type == *artifact_type;
            let (of_kind, others) = documents.into_iter().partition::<Vec<_>, _>(same);
            documents = others;
            if of_kind.len() > 1 {
                self.warn(format!(
                    "{} has several `{artifact_type}`, and nobody has signed one: any of them is taken",
                    self.reference
                ));
            }
            let first = of_kind.into_iter().min_by_key(|it| it.files[0].digest);
            chosen.extend(first.into_iter().flat_map(|it| it.files));
        }
        chosen
    }

    /// What `list` and its signature are of. The inner error says why they are of nothing that could be verified.
    fn signed_set(
        &self,
        image: &Image,
        list: Candidate,
        documents: &[Candidate],
    ) -> Result<Result<SignedSet, String>, Error> {
        let mut texts = Vec::new();
        for Wanted { name, digest, size } in &list.files {
            texts.push(self.small(name, *digest, *size)?);
        }
        let [sums, signature] = &texts[..] else {
            return Ok(Err("it is no list with its signature".to_owned()));
        };
        Ok(check(image, sums, signature, documents).map(|mut set| {
            set.files.extend(list.files);
            set
        }))
    }

    /// What the registry has about the image.
    fn candidates(&self, image: &Image) -> Result<Vec<Candidate>, Error> {
        let is_ours = |entry: &Descriptor| {
            let name = attachment(entry).map(|it| format!("{}{}", image.stem, it.files[0].0));
            // Not every registry tells the annotations of what it lists.
            let is_called = |name: &str| entry.title().is_none_or(|title| title == name);
            entry.media_type == registry::MANIFEST && name.is_some_and(|name| is_called(&name))
        };
        let entries = self.repository.referrers(&image.digest, &is_ours, MOST_ATTACHED)?;
        if entries.len() == MOST_ATTACHED {
            self.warn(format!(
                "much is said about {}: no more than {MOST_ATTACHED} of it is looked at",
                self.reference
            ));
        }
        let mut candidates = Vec::new();
        for entry in entries {
            if let Some(attachment) = attachment(&entry) {
                candidates.extend(self.candidate(image, &entry, attachment)?);
            }
        }
        Ok(candidates)
    }

    /// What `entry` of the list is, if it is ours: of this image, and with the names of files that it should have.
    fn candidate(
        &self,
        image: &Image,
        entry: &Descriptor,
        attachment: &'static Attachment,
    ) -> Result<Option<Candidate>, Error> {
        // A list may name what was deleted.
        let Some(found) = self.repository.manifest(&Which::Digest(entry.digest))? else {
            return Ok(None);
        };
        let Ok(document) = serde_json::from_slice::<Manifest>(&found.bytes) else {
            return Ok(None);
        };
        let is_about = document.subject.as_ref().is_some_and(|it| it.digest == image.digest);
        let is_kind = document.artifact_type.as_deref() == Some(attachment.artifact_type);
        if !is_about || !is_kind || document.layers.len() != attachment.files.len() {
            return Ok(None);
        }
        let mut files = Vec::new();
        for (layer, (ending, media_type)) in document.layers.iter().zip(attachment.files) {
            let name = format!("{}{ending}", image.stem);
            let fits = layer.title() == Some(&name) && layer.media_type == *media_type;
            // Other tools push such things, too, under names of their own.
            if !fits || layer.size > attachment.most {
                return Ok(None);
            }
            files.push(Wanted { name, digest: layer.digest, size: layer.size });
        }
        Ok(Some(Candidate { attachment, files }))
    }
}

/// The `documents` that `sums` and their signature are of, with the artifact and its manifest. An error says why they are
/// of nothing that could be verified: whose the key is, matters to who verifies.
fn check(
    image: &Image,
    sums: &[u8],
    signature: &[u8],
    documents: &[Candidate],
) -> Result<SignedSet, String> {
    let text = std::str::from_utf8(sums).map_err(|_| "the list of sums is no text".to_owned())?;
    let list = Sums::parse(text).map_err(|error| format!("the list of sums: {error}"))?;
    let signature = Signature::parse(&String::from_utf8_lossy(signature))
        .map_err(|error| format!("the signature: {error}"))?;
    if signature.namespace != NAMESPACE || !signature.is_of(sums) {
        return Err("it is not of its list, or not by the key that it names".to_owned());
    }
    if list.signed > Moment::from(SystemTime::now()).after(TOLERANCE) {
        return Err(format!("it says that it was signed at {}, which is to come", list.signed));
    }
    if list.image != image.manifest.digest {
        return Err(format!("it is of the image {}", list.image.short()));
    }
    let artifact = &image.manifest.artifact;
    let own = [
        (artifact.name.clone(), artifact.sha256),
        (format!("{}{MANIFEST}", image.stem), image.description),
    ];
    if let Some((name, _)) = own.iter().find(|(name, digest)| list.of(name) != Some(*digest)) {
        return Err(format!("it is of another {name}"));
    }
    if list.files.len() != own.len() + DOCUMENTS.len() {
        return Err("it is of other files than belong to an image".to_owned());
    }
    let mut files = Vec::new();
    for ending in DOCUMENTS {
        let name = format!("{}{ending}", image.stem);
        let is_signed = |it: &&Wanted| it.name == name && list.of(&name) == Some(it.digest);
        let found = documents.iter().flat_map(|it| &it.files).find(is_signed);
        files.push(found.cloned().ok_or_else(|| format!("the {name} that it is of is not there"))?);
    }
    Ok(SignedSet { identity: signature.identity, signed: list.signed, files })
}
