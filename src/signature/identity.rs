//! Who has signed: a public key, or a certificate for one.

use ssh_key::certificate::CertType;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Certificate, HashAlg, PublicKey};

use super::Malformed;
use crate::debian::date::Moment;

/// How names of certificate algorithms end (OpenSSH's `PROTOCOL.certkeys`).
const CERTIFICATE: &str = "-cert-v01@openssh.com";

/// The bits that RSA keys may have. Fewer are weak, and more are not checked by the library.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// A public key that may have signed something, or the certificate of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    key: KeyData,
    certificate: Option<Box<Certificate>>,
}

impl Identity {
    /// Reads what stands in signatures and in files behind the name of the algorithm.
    ///
    /// # Errors
    /// Other bytes; keys of kinds that are weak or unknown; certificates whose authority has not signed them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        let identity = Self::read(bytes)?;
        // The library passes over lengths that are not those of what follows.
        let is_exact = identity.to_bytes() == bytes;
        is_exact.then_some(identity).ok_or(Malformed("a public key and nothing else"))
    }

    fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let malformed = |_| Malformed("a public key or a certificate");
        let name = super::wire::Reader::new(bytes).text().unwrap_or_default();
        if !name.ends_with(CERTIFICATE) {
            let key = PublicKey::from_bytes(bytes).map_err(malformed)?;
            return Self::of_key(key.key_data().clone());
        }
        let certificate = Certificate::from_bytes(bytes).map_err(malformed)?;
        strong(certificate.signature_key())?;
        if certificate.verify_signature().is_err() {
            return Err(Malformed("a certificate that its authority has signed"));
        }
        let Self { key, .. } = Self::of_key(certificate.public_key().clone())?;
        Ok(Self { key, certificate: Some(Box::new(certificate)) })
    }

    /// Reads a line as it stands in `id_ed25519.pub` or `id_ed25519-cert.pub`.
    ///
    /// # Errors
    /// As for [`Identity::from_bytes`].
    pub fn from_line(line: &str) -> Result<Self, Malformed> {
        use base64::Engine as _;
        let mut words = line.split_ascii_whitespace();
        let (name, blob) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let bytes = base64::engine::general_purpose::STANDARD.decode(blob);
        let bytes = bytes.map_err(|_| Malformed("the name of an algorithm and a key in base64"))?;
        if super::wire::Reader::new(&bytes).text() != Some(name) {
            return Err(Malformed("a key of the algorithm that stands before it"));
        }
        Self::from_bytes(&bytes)
    }

    /// Of a key without a certificate.
    ///
    /// # Errors
    /// Keys of kinds that are weak or unknown.
    pub fn of_key(key: KeyData) -> Result<Self, Malformed> {
        strong(&key)?;
        Ok(Self { key, certificate: None })
    }

    /// What stands in signatures.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.certificate {
            Some(certificate) => certificate.to_bytes().unwrap_or_default(),
            None => self.key_bytes(),
        }
    }

    /// The same of the key alone.
    pub fn key_bytes(&self) -> Vec<u8> {
        // To memory nothing fails but a length beyond 4 GiB.
        PublicKey::from(self.key.clone()).to_bytes().unwrap_or_default()
    }

    /// The key.
    pub fn key(&self) -> &KeyData {
        &self.key
    }

    /// The certificate, if there is one.
    pub fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_deref()
    }

    /// `ED25519 SHA256:…`, as `ssh-keygen -l` calls the key.
    pub fn name(&self) -> String {
        name(&self.key)
    }

    /// Whether signatures may be made with `algorithm` by this key.
    pub(super) fn signs_with(&self, algorithm: &Algorithm) -> bool {
        match (&self.key, algorithm) {
            (KeyData::Rsa(_), Algorithm::Rsa { hash: Some(_) }) => true,
            (KeyData::Rsa(_), _) => false,
            (key, algorithm) => key.algorithm() == *algorithm,
        }
    }
}

/// `ED25519 SHA256:…`
pub(super) fn name(key: &KeyData) -> String {
    let kind = match key {
        KeyData::Ed25519(_) => "ED25519",
        KeyData::SkEd25519(_) => "ED25519-SK",
        KeyData::Ecdsa(_) => "ECDSA",
        KeyData::SkEcdsaSha2NistP256(_) => "ECDSA-SK",
        KeyData::Rsa(_) => "RSA",
        _ => "unknown",
    };
    format!("{kind} {}", key.fingerprint(HashAlg::Sha256))
}

fn strong(key: &KeyData) -> Result<(), Malformed> {
    match key {
        KeyData::Ed25519(_)
        | KeyData::SkEd25519(_)
        | KeyData::Ecdsa(_)
        | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
        KeyData::Rsa(key) => {
            let bytes = key.n.as_positive_bytes().unwrap_or_default();
            let unused = bytes.first().map_or(0, |first| first.leading_zeros() as usize);
            let bits = (bytes.len() * 8).saturating_sub(unused);
            let fits = RSA_BITS.contains(&bits);
            fits.then_some(()).ok_or(Malformed("an RSA key of 2048 to 4096 bits"))
        }
        _ => Err(Malformed("a key of the kind Ed25519, ECDSA, RSA, or on a token (sk-)")),
    }
}

/// What keeps `certificate` from saying anything at `at`, as `sshkey_cert_check_authority` of OpenSSH's `sshkey.c` sees
/// it; and, beyond that, as `PROTOCOL.certkeys` demands, any critical option: none is known here.
pub(super) fn objection(certificate: &Certificate, at: Moment) -> Option<String> {
    let moment = |seconds| Moment::from_unix(seconds);
    if certificate.cert_type() != CertType::User {
        return Some("its certificate is one of a host".to_owned());
    }
    if at.unix() < certificate.valid_after() {
        let from = moment(certificate.valid_after());
        return Some(format!("its certificate is valid from {from} on, and it signed at {at}"));
    }
    if at.unix() >= certificate.valid_before() {
        let until = moment(certificate.valid_before());
        return Some(format!("its certificate is valid until {until}, and it signed at {at}"));
    }
    if certificate.valid_principals().is_empty() {
        return Some("its certificate names nobody".to_owned());
    }
    let option = certificate.critical_options().keys().next()?;
    Some(format!("its certificate has the critical option `{option}`, which is not known here"))
}
