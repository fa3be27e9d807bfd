//! Whether a signature counts: which key made it, and whether that key was allowed to.

use pgp::composed::{SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{Signature, SignatureType, SignatureVersion, SubpacketData};
use pgp::ser::Serialize as _;
use pgp::types::{Duration, KeyDetails, Tag};

use super::{CLOCK_SKEW, Moment, Reason, fingerprint};

/// The least bits of an RSA key that are thought to last.
const LEAST_RSA_BITS: u16 = 2048;

/// Checks `signature` over `text`, whose lines end in CRLF, and returns the primary fingerprint
/// of the certificate among `listed` that made it.
pub(super) fn check(
    listed: &[&SignedPublicKey],
    signature: &Signature,
    text: &[u8],
    now: Moment,
) -> Result<String, Reason> {
    if signature.typ() != Some(SignatureType::Text) {
        return Err(Reason::Kind);
    }
    let created = check_alone(signature, now)?;
    for certificate in listed {
        let primary = &certificate.primary_key;
        if is_by(signature, primary) {
            let binding = check_primary(certificate, now)?;
            require_signing(binding, primary)?;
            check_data(signature, created, primary, text)?;
            return Ok(fingerprint(primary));
        }
        for subkey in &certificate.public_subkeys {
            if is_by(signature, &subkey.key) {
                check_primary(certificate, now)?;
                check_subkey(certificate, subkey, now)?;
                check_data(signature, created, &subkey.key, text)?;
                return Ok(fingerprint(primary));
            }
        }
    }
    Err(Reason::NotListed)
}

/// What can be said about any signature without a key. Returns when it was made.
fn check_alone(signature: &Signature, now: Moment) -> Result<Moment, Reason> {
    if !matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6) {
        return Err(Reason::Kind);
    }
    match signature.hash_alg() {
        Some(
            HashAlgorithm::Sha256
            | HashAlgorithm::Sha384
            | HashAlgorithm::Sha512
            | HashAlgorithm::Sha3_256
            | HashAlgorithm::Sha3_512,
        ) => {}
        Some(other) => return Err(Reason::WeakDigest(other.to_string())),
        None => return Err(Reason::Kind),
    }
    // Critical subpackets of unknown types are refused by the library; unknown notations are
    // ours to refuse, and we know none (RFC 9580, section 5.2.3.24).
    let critical_notation = signature.config().is_some_and(|config| {
        config.hashed_subpackets().any(|subpacket| {
            subpacket.is_critical && matches!(subpacket.data, SubpacketData::Notation(_))
        })
    });
    if critical_notation {
        return Err(Reason::Critical);
    }
    let created = moment(signature.created().ok_or(Reason::Future)?.as_secs());
    if created > now.after(CLOCK_SKEW) {
        return Err(Reason::Future);
    }
    match end_of_life(created, signature.signature_expiration_time()) {
        Some(end) if end <= now => Err(Reason::SignatureExpired(end)),
        _ => Ok(created),
    }
}

/// Checks that the certificate is alive, and returns the signature that says what its primary
/// key is for.
fn check_primary(certificate: &SignedPublicKey, now: Moment) -> Result<&Signature, Reason> {
    let primary = &certificate.primary_key;
    check_strength(primary)?;
    // A revocation counts whatever its digest and date: to heed one too many is the safe side.
    let revocations = &certificate.details.revocation_signatures;
    if revocations.iter().any(|revocation| revocation.verify_key(primary).is_ok()) {
        return Err(Reason::Revoked(fingerprint(primary)));
    }
    let newest = newest_self_signature(certificate, now)
        .ok_or_else(|| Reason::NoSelfSignature(fingerprint(primary)))?;
    check_key_life(primary, newest, now)?;
    Ok(newest)
}

/// The youngest valid statement of a certificate about itself: a direct key signature, or a
/// certification of one of its user ids that is not revoked (RFC 9580, section 5.2.3.10).
fn newest_self_signature(certificate: &SignedPublicKey, now: Moment) -> Option<&Signature> {
    let primary = &certificate.primary_key;
    let direct = certificate.details.direct_signatures.iter().filter(|signature| {
        signature.typ() == Some(SignatureType::Key)
            && check_alone(signature, now).is_ok()
            && signature.verify_key(primary).is_ok()
    });
    let users = certificate.details.users.iter().filter_map(|user| {
        let own = |signature: &&Signature| {
            is_by(signature, primary)
                && signature.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        let is_revocation =
            |signature: &Signature| signature.typ() == Some(SignatureType::CertRevocation);
        let revoked = user.signatures.iter().filter(own).any(is_revocation);
        let certifications = user.signatures.iter().filter(|signature| {
            !is_revocation(signature) && check_alone(signature, now).is_ok() && own(signature)
        });
        if revoked { None } else { certifications.max_by_key(|signature| signature.created()) }
    });
    direct.chain(users).max_by_key(|signature| signature.created())
}

/// Checks that `subkey` belongs to the certificate, agrees to that, may sign, and is alive.
fn check_subkey(
    certificate: &SignedPublicKey,
    subkey: &SignedPublicSubKey,
    now: Moment,
) -> Result<(), Reason> {
    let primary = &certificate.primary_key;
    let key = &subkey.key;
    check_strength(key)?;
    let own = |signature: &&Signature| signature.verify_subkey_binding(primary, key).is_ok();
    let is_revocation =
        |signature: &&Signature| signature.typ() == Some(SignatureType::SubkeyRevocation);
    if subkey.signatures.iter().filter(is_revocation).any(|signature| own(&signature)) {
        return Err(Reason::Revoked(fingerprint(key)));
    }
    let not_bound = || Reason::NotBound(fingerprint(key));
    let binding = subkey
        .signatures
        .iter()
        .filter(|signature| signature.typ() == Some(SignatureType::SubkeyBinding))
        .filter(|signature| check_alone(signature, now).is_ok())
        .filter(own)
        .max_by_key(|signature| signature.created())
        .ok_or_else(not_bound)?;
    require_signing(binding, key)?;
    check_key_life(key, binding, now)?;
    // Without the subkey's consent, anybody could claim somebody else's signing key as theirs.
    let consent = binding.embedded_signature().ok_or_else(not_bound)?;
    check_alone(consent, now).map_err(|_| not_bound())?;
    consent.verify_primary_key_binding(key, primary).map_err(|_| not_bound())
}

/// Checks the signature over the data itself.
fn check_data(
    signature: &Signature,
    created: Moment,
    key: &impl pgp::types::VerifyingKey,
    text: &[u8],
) -> Result<(), Reason> {
    if created < moment(key.created_at().as_secs()) {
        return Err(Reason::BeforeKey);
    }
    signature.verify(key, text).map_err(|_| Reason::Bad)
}

fn require_signing(binding: &Signature, key: &impl KeyDetails) -> Result<(), Reason> {
    if binding.key_flags().sign() { Ok(()) } else { Err(Reason::NotForSigning(fingerprint(key))) }
}

fn check_key_life(key: &impl KeyDetails, binding: &Signature, now: Moment) -> Result<(), Reason> {
    let created = moment(key.created_at().as_secs());
    match end_of_life(created, binding.key_expiration_time()) {
        Some(at) if at <= now => Err(Reason::KeyExpired { key: fingerprint(key), at }),
        _ => Ok(()),
    }
}

fn check_strength(key: &impl KeyDetails) -> Result<(), Reason> {
    let weak = |what: String| Err(Reason::WeakKey(what));
    match key.algorithm() {
        PublicKeyAlgorithm::RSA | PublicKeyAlgorithm::RSASign => {
            // The parameters start with the modulus, a number preceded by its length in bits.
            let mut parameters = Vec::new();
            let written = key.public_params().to_writer(&mut parameters);
            match (written, parameters.as_slice()) {
                (Ok(()), [high, low, ..]) => {
                    let bits = u16::from_be_bytes([*high, *low]);
                    if bits < LEAST_RSA_BITS { weak(format!("RSA of {bits} bits")) } else { Ok(()) }
                }
                _ => weak("RSA of unknown size".to_owned()),
            }
        }
        PublicKeyAlgorithm::ECDSA
        | PublicKeyAlgorithm::EdDSALegacy
        | PublicKeyAlgorithm::Ed25519
        | PublicKeyAlgorithm::Ed448 => Ok(()),
        other => weak(format!("{other:?}")),
    }
}

/// Whether `signature` says that `key` made it. What it says is a hint, no more: the
/// cryptography decides.
fn is_by(signature: &Signature, key: &impl KeyDetails) -> bool {
    let fingerprints = signature.issuer_fingerprint();
    if fingerprints.is_empty() {
        signature.issuer_key_id().contains(&&key.legacy_key_id())
    } else {
        fingerprints.contains(&&key.fingerprint())
    }
}

/// When something made at `start` with the given life ends. A life of zero has no end
/// (RFC 9580, section 5.2.3.18).
fn end_of_life(start: Moment, life: Option<Duration>) -> Option<Moment> {
    let seconds = life?.as_secs();
    (seconds > 0).then(|| start.after(std::time::Duration::from_secs(u64::from(seconds))))
}

fn moment(seconds: u32) -> Moment {
    Moment::from_unix(u64::from(seconds))
}
