//! Who signed a Release file: OpenPGP (RFC 9580) clear signatures, checked against the
//! certificates and fingerprints that a definition names.
//!
//! The [`pgp`] crate does the parsing and the cryptography; the rules are ours, because it has
//! none:
//!
//! - a signature counts only if its key belongs to a certificate whose *primary* fingerprint is
//!   listed, either as the primary key itself or as a subkey bound to it, with a back signature;
//! - the key that signs must carry the flag for signing data;
//! - no digest weaker than SHA-256 counts anywhere, no RSA key below 2048 bits and no DSA key;
//! - what is expired or revoked when it is checked does not count;
//! - only the signed text is ever returned, and a file with anything outside it is refused.
//!
//! One valid signature of any listed certificate suffices, as for apt's `Signed-By`.

mod certificate;
mod cleartext;
#[cfg(test)]
mod tests;

use std::io::{BufReader, Read as _};
use std::time::Duration;

use memchr::memmem;
use pgp::armor::{BlockType, Dearmor};
use pgp::composed::{Deserializable, SignedPublicKey};
use pgp::packet::{Packet, PacketParser, Signature};
use pgp::types::KeyDetails;

use super::date::Moment;

/// How far the clocks of a signer and of this machine may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(30 * 60);

/// More signatures than this are not looked at; Debian makes up to three.
const MOST_SIGNATURES: usize = 32;

const BEGIN_CERTIFICATE: &[u8] = b"-----BEGIN PGP PUBLIC KEY BLOCK-----";
const END_CERTIFICATE: &[u8] = b"-----END PGP PUBLIC KEY BLOCK-----";

/// Why a signed text or a keyring was refused.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The file of certificates cannot be read.
    #[error("the keyring holds no readable OpenPGP certificate")]
    #[diagnostic(help(
        "`keyring` names a file of OpenPGP certificates (public keys), armoured or binary: for \
         Debian, one of /usr/share/keyrings/debian-archive-*"
    ))]
    Keyring {
        /// What the parser says, if it got as far.
        #[source]
        source: Option<pgp::errors::Error>,
    },
    /// An entry of `signed_by` is no fingerprint.
    #[error("`{0}` in `signed_by` is not a fingerprint")]
    #[diagnostic(help(
        "write all 40 hexadecimal digits, as `gpg --show-keys FILE` shows them; short key ids are \
         easily forged"
    ))]
    Fingerprint(String),
    /// `signed_by` names nobody that the keyring knows.
    #[error("the keyring holds none of the certificates that `signed_by` names: {0}")]
    #[diagnostic(help("`gpg --show-keys FILE` lists what a keyring holds"))]
    NotInKeyring(String),
    /// The frame around the signed text is not as it must be.
    #[error("not a clear-signed message: {0}")]
    #[diagnostic(help(
        "the file may be truncated, or something between the mirror and here (a login page, a \
         proxy) answered instead of it: try another mirror"
    ))]
    Frame(&'static str),
    /// No signature counts.
    #[error("no valid signature by any certificate that `signed_by` names{0}")]
    #[diagnostic(help(
        "if the repository changed its keys, get the new certificate from a source that you \
         trust and name its fingerprint in `signed_by`; otherwise do not use this mirror"
    ))]
    NoValidSignature(Rejections),
}

/// Each signature with the reason why it does not count.
#[derive(Debug, Default)]
pub struct Rejections(Vec<(String, Reason)>);

impl std::fmt::Display for Rejections {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return formatter.write_str(": there is no signature at all");
        }
        for (index, (issuer, reason)) in self.0.iter().enumerate() {
            let separator = if index == 0 { ": " } else { "; " };
            write!(formatter, "{separator}{issuer}: {reason}")?;
        }
        Ok(())
    }
}

/// Why one signature does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// It cannot be parsed.
    #[error("unreadable ({0})")]
    Unreadable(String),
    /// It is not a signature over text, or of a version that nobody makes any more.
    #[error("not a signature of version 4 or 6 over text")]
    Kind,
    /// The digest is too weak.
    #[error("made with the weak digest {0}")]
    WeakDigest(String),
    /// The key is too weak.
    #[error("made with a weak key ({0})")]
    WeakKey(String),
    /// A part that must be understood is not.
    #[error("it carries a critical notation that is not understood")]
    Critical,
    /// It was made in the future, or does not say when.
    #[error("made in the future or without a date; is the clock of this machine right?")]
    Future,
    /// The signature has a limited life, which is over.
    #[error("the signature expired at {0}")]
    SignatureExpired(Moment),
    /// No listed certificate in the keyring has this key.
    #[error("not by a listed certificate")]
    NotListed,
    /// The certificate has no valid signature by itself that says what its key is for.
    #[error("the certificate {0} has no valid self-signature")]
    NoSelfSignature(String),
    /// The key was revoked.
    #[error("the key {0} is revoked")]
    Revoked(String),
    /// The key's life is over.
    #[error("the key {key} expired at {at}")]
    KeyExpired {
        /// Its fingerprint.
        key: String,
        /// When it expired.
        at: Moment,
    },
    /// The key is not for signing data.
    #[error("the key {0} is not meant for signing")]
    NotForSigning(String),
    /// The subkey is not bound to the certificate both ways.
    #[error("the subkey {0} is not validly bound to its certificate")]
    NotBound(String),
    /// The key is younger than the signature it is said to have made.
    #[error("made before its key")]
    BeforeKey,
    /// The cryptography says no.
    #[error("bad signature: the text or the signature was altered")]
    Bad,
}

/// Certificates that may sign.
#[derive(Debug)]
pub struct Keyring(Vec<SignedPublicKey>);

/// A text whose signature is valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Exactly what was signed, with `\n` at the end of each line but the last.
    pub text: String,
    /// The primary fingerprint of the certificate that signed, in upper case.
    pub signer: String,
}

impl Keyring {
    /// Reads certificates: binary, or any number of armoured blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Keyring`] if there is none, or one of them is damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut certificates = Vec::new();
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            read_certificates(BufReader::new(bytes), &mut certificates)?;
        } else {
            // The library takes text behind a block for a part of it, so blocks are cut out.
            let mut rest = bytes;
            while let Some(start) = memmem::find(rest, BEGIN_CERTIFICATE) {
                rest = &rest[start..];
                let end =
                    memmem::find(rest, END_CERTIFICATE).map(|end| end + END_CERTIFICATE.len());
                let (block, behind) = rest.split_at(end.unwrap_or(rest.len()));
                rest = behind;
                let block =
                    dearmor(block).map_err(|source| Error::Keyring { source: Some(source) })?;
                read_certificates(&block[..], &mut certificates)?;
            }
        }
        if certificates.is_empty() {
            return Err(Error::Keyring { source: None });
        }
        Ok(Self(certificates))
    }

    /// Checks that a certificate whose primary fingerprint is in `signed_by` signed `message`
    /// in clear text (RFC 9580, section 7), and returns the text.
    ///
    /// `now` decides about expiry.
    ///
    /// # Errors
    ///
    /// Any [`Error`] but [`Error::Keyring`].
    pub fn verify(
        &self,
        message: &[u8],
        signed_by: &[String],
        now: Moment,
    ) -> Result<Verified, Error> {
        let listed = self.listed(signed_by)?;
        let message = cleartext::split(message).map_err(Error::Frame)?;
        let canonical = message.text.replace('\n', "\r\n");
        let mut rejections = Rejections::default();
        for signature in signatures(message.signatures)? {
            let signature = match signature {
                Ok(signature) => signature,
                Err(reason) => {
                    rejections.0.push(("a signature".to_owned(), reason));
                    continue;
                }
            };
            match certificate::check(&listed, &signature, canonical.as_bytes(), now) {
                Ok(signer) => return Ok(Verified { text: message.text, signer }),
                Err(reason) => rejections.0.push((issuer(&signature), reason)),
            }
        }
        Err(Error::NoValidSignature(rejections))
    }

    /// Checks that a certificate whose primary fingerprint is in `signed_by` is here.
    ///
    /// # Errors
    ///
    /// [`Error::NotInKeyring`], or [`Error::Fingerprint`] if an entry is none.
    pub fn require(&self, signed_by: &[String]) -> Result<(), Error> {
        self.listed(signed_by).map(drop)
    }

    /// The certificates with the given primary fingerprints.
    fn listed(&self, signed_by: &[String]) -> Result<Vec<&SignedPublicKey>, Error> {
        let mut wanted = Vec::new();
        for text in signed_by {
            let fingerprint = text.replace(' ', "").to_ascii_uppercase();
            let hexadecimal = fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
            if !hexadecimal || !matches!(fingerprint.len(), 40 | 64) {
                return Err(Error::Fingerprint(text.clone()));
            }
            wanted.push(fingerprint);
        }
        let listed: Vec<_> = self
            .0
            .iter()
            .filter(|certificate| wanted.contains(&fingerprint(*certificate)))
            .collect();
        if listed.is_empty() {
            return Err(Error::NotInKeyring(wanted.join(", ")));
        }
        Ok(listed)
    }
}

/// The bytes in an armoured block.
fn dearmor(block: &[u8]) -> Result<Vec<u8>, pgp::errors::Error> {
    let mut bytes = Vec::new();
    Dearmor::new(block).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read_certificates<'a>(
    reader: impl std::io::BufRead + 'a,
    certificates: &mut Vec<SignedPublicKey>,
) -> Result<(), Error> {
    let error = |source| Error::Keyring { source: Some(source) };
    for certificate in SignedPublicKey::from_bytes_many(reader).map_err(error)? {
        certificates.push(certificate.map_err(error)?);
    }
    Ok(())
}

/// The signatures of an armoured block. Those that the library cannot read, such as ones by
/// algorithms yet to come, do not spoil the others.
fn signatures(armoured: &str) -> Result<Vec<Result<Signature, Reason>>, Error> {
    let mut dearmor = Dearmor::new(BufReader::new(armoured.as_bytes()));
    dearmor.read_header().map_err(|_| Error::Frame("the armour of the signature is damaged"))?;
    if dearmor.typ != Some(BlockType::Signature) {
        return Err(Error::Frame("the block after the text is not a signature"));
    }
    let mut found = Vec::new();
    for packet in PacketParser::new(BufReader::new(dearmor)).take(MOST_SIGNATURES) {
        match packet {
            Ok(Packet::Signature(signature)) => found.push(Ok(signature)),
            Ok(_) => return Err(Error::Frame("the signature block holds something else")),
            Err(error) => found.push(Err(Reason::Unreadable(error.to_string()))),
        }
    }
    Ok(found)
}

/// The fingerprint of a key in upper case, the way that gpg and Debian write it.
fn fingerprint(key: &impl KeyDetails) -> String {
    key.fingerprint().to_string().to_ascii_uppercase()
}

/// What a signature says about its maker, for messages.
fn issuer(signature: &Signature) -> String {
    let fingerprint = signature.issuer_fingerprint().first().map(ToString::to_string);
    let issuer = fingerprint.or_else(|| signature.issuer_key_id().first().map(ToString::to_string));
    issuer.map_or_else(|| "an unnamed key".to_owned(), |issuer| issuer.to_ascii_uppercase())
}
