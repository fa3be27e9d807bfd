//! The signature: what it is of, and whose it is.

use std::io;

use super::{Subject, Verdict, Verifier};
use crate::artifact::manifest::Manifest;
use crate::digest::Digest;
use crate::signature::files::{DOCUMENTS, Files, read};
use crate::signature::{MOST_BYTES, NAMESPACE, Signature, Sums, TOLERANCE};

/// The most bytes of a document. Those of the largest images have some millions.
const DOCUMENT_LIMIT: u64 = 256 << 20;

const SIGN: &str = "sign it anew: `imgbuild sign`";
const AGAIN: &str =
    "get all its files again from where they were signed, or sign them anew: `imgbuild sign`";

/// What a file holds; none if it is not there.
type Read = io::Result<Option<Vec<u8>>>;

/// What lies beside an artifact, each file as it was when it was read once.
pub(super) struct Beside {
    sums: Read,
    signature: Read,
    /// In the order of [`DOCUMENTS`].
    pub documents: [Read; 3],
}

impl Beside {
    pub fn read(files: &Files) -> Self {
        Self {
            sums: read(&files.sums(), MOST_BYTES),
            signature: read(&files.signature(), MOST_BYTES),
            documents: DOCUMENTS.map(|ending| read(&files.path(ending), DOCUMENT_LIMIT)),
        }
    }

    /// Whether nobody has signed, or at least nothing is there that says so.
    fn is_unsigned(&self) -> bool {
        matches!((&self.sums, &self.signature), (Ok(None), Ok(None)))
    }

    /// The list and its signature, if both are there and what they should be.
    fn parse(&self, files: &Files) -> Result<(Sums, Signature, &[u8]), String> {
        let sums = present(&self.sums, &files.sums())?;
        let text =
            std::str::from_utf8(sums).map_err(|_| "the list of files is no text".to_owned())?;
        let list = Sums::parse(text).map_err(|error| {
            let path = files.sums();
            format!("{}: {error}", path.display())
        })?;
        let signature = String::from_utf8_lossy(present(&self.signature, &files.signature())?);
        let signature = Signature::parse(&signature)
            .map_err(|error| format!("{} is no signature: {error}", files.signature().display()))?;
        Ok((list, signature, sums))
    }
}

fn present<'a>(read: &'a Read, path: &std::path::Path) -> Result<&'a [u8], String> {
    match read {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => Err(format!("{} is not there", path.display())),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

impl Verifier<'_> {
    /// Whether who may sign has signed exactly what is there.
    pub(super) fn check_signature(
        &self,
        files: &Files,
        (manifest, text): (&Manifest, &[u8]),
        beside: &Beside,
        verdict: &mut Verdict,
    ) {
        if beside.is_unsigned() {
            if self.judge.rules().iter().any(super::Rules::demands_signature) {
                return verdict.refuse(Subject::Signature, "it is not signed", "`imgbuild sign`");
            }
            return verdict.unknown(Subject::Signature, "it is not signed, and nothing demands it");
        }
        let (sums, signature, signed) = match beside.parse(files) {
            Ok(parsed) => parsed,
            Err(why) => return verdict.refuse(Subject::Signature, why, AGAIN),
        };
        if signature.namespace != NAMESPACE {
            let text =
                format!("it was signed for `{}`, and not for `{NAMESPACE}`", signature.namespace);
            return verdict.refuse(Subject::Signature, text, SIGN);
        }
        if !signature.is_of(signed) {
            let text =
                "the signature is not of this list of files, or not by the key that it names";
            return verdict.refuse(Subject::Signature, text, AGAIN);
        }
        if let Some(why) = mismatch(files, (manifest, text), beside, &sums, verdict) {
            return verdict.refuse(Subject::Signature, why, AGAIN);
        }
        if sums.signed > self.now.after(TOLERANCE) {
            let text =
                format!("it says that it was signed at {}, and now is {}", sums.signed, self.now);
            return verdict.refuse(
                Subject::Signature,
                text,
                "set the clocks right, and sign it anew",
            );
        }
        verdict.signed = Some(sums.signed);
        let key = signature.identity.name();
        verdict.signer = Some(key.clone());
        let mut is_judged = false;
        for rules in self.judge.rules() {
            match rules.allow(&signature.identity, sums.signed) {
                None => continue,
                Some(Ok(name)) => {
                    verdict.ok(
                        Subject::Signature,
                        format!("by {name} ({key}) at {}, as {} allows", sums.signed, rules.name()),
                    );
                    verdict.signer = Some(name);
                    verdict.is_vouched_for = true;
                }
                Some(Err(why)) => {
                    let help = "have it signed by somebody who may, or let the key sign: docs/signatures.md";
                    verdict.refuse(Subject::Signature, why, help);
                }
            }
            is_judged = true;
        }
        if !is_judged {
            let at = sums.signed;
            let text = format!("by {key} at {at}; nothing says whether that key may sign");
            verdict.unknown(Subject::Signature, text);
        }
    }
}

/// What of the list does not fit the files.
fn mismatch(
    files: &Files,
    (manifest, text): (&Manifest, &[u8]),
    beside: &Beside,
    sums: &Sums,
    verdict: &Verdict,
) -> Option<String> {
    let names = files.signed_names();
    if let Some((name, _)) = sums.files.iter().find(|(name, _)| !names.contains(name)) {
        return Some(format!("the list names {name}, which is no file of this artifact"));
    }
    if sums.image != manifest.digest {
        let (said, is) = (sums.image.short(), manifest.digest.short());
        return Some(format!("the list is of the image {said}, and the manifest of {is}"));
    }
    let documents = beside.documents.iter().map(|read| match read {
        Ok(Some(bytes)) => Ok(Digest::of(bytes)),
        Ok(None) => Err("is signed and not there".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    });
    let artifact = verdict.sha256.ok_or_else(|| "cannot be read".to_owned());
    let found = [artifact, Ok(Digest::of(text))].into_iter().chain(documents);
    for (name, found) in names.iter().zip(found) {
        let Some(said) = sums.of(name) else {
            return Some(format!("the list does not name {name}"));
        };
        match found {
            Ok(found) if found == said => {}
            Ok(_) => return Some(format!("{name} has other bytes than those that were signed")),
            Err(why) => return Some(format!("{name} {why}")),
        }
    }
    None
}
