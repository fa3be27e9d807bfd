//! Every rule of [`super`], broken by a signature or a certificate made for that.

use pgp::packet::{Notation, SignatureType, Subpacket, SubpacketData};

use super::*;
use crate::debian::testing::{
    CREATED, Making, NOW, Signer, clear_signed, key_life, may_sign, signature,
};

const TEXT: &str = "Suite: test\nDate: today\n\n- no list";

fn now() -> Moment {
    Moment::from_unix(u64::from(NOW))
}

fn data() -> Making {
    Making { created: NOW - 10, ..Making::of(SignatureType::Text) }
}

/// Why the signature in `message` does not count.
fn reason(signer: &Signer, message: &[u8]) -> Reason {
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    match keyring.verify(message, &[signer.fingerprint()], now()) {
        Err(Error::NoValidSignature(rejections)) => rejections.0[0].1.clone(),
        other => panic!("{other:?}"),
    }
}

fn signed(signer: &Signer, making: &Making) -> Vec<u8> {
    clear_signed("text", &[signature(&signer.key, making, "text")])
}

fn signed_by_subkey(signer: &Signer, making: &Making) -> Vec<u8> {
    clear_signed("text", &[signature(&signer.subkey, making, "text")])
}

#[test]
fn good_signatures_count_and_yield_the_signed_text_alone() {
    let signer = Signer::new(1);
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    let escaped = clear_signed(
        &TEXT.replace("\n- ", "\n- - ").replace("today", "today \t"),
        &[signature(&signer.key, &data(), TEXT)],
    );
    let verified = keyring.verify(&escaped, &[signer.fingerprint()], now()).unwrap();
    assert_eq!(verified.text, TEXT);
    assert_eq!(verified.signer, signer.fingerprint().to_ascii_uppercase());

    let signer = Signer::with_subkey(2);
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    let fingerprint = signer.fingerprint().to_ascii_uppercase();
    let spaced = fingerprint.chars().map(|digit| format!("{digit} ")).collect();
    let message = signed_by_subkey(&signer, &data());
    assert_eq!(keyring.verify(&message, &[spaced], now()).unwrap().signer, fingerprint);
}

#[test]
fn altered_text_is_refused() {
    let signer = Signer::new(1);
    let message = String::from_utf8(signer.sign(TEXT)).unwrap().replace("today", "tomorrow");
    assert_eq!(reason(&signer, message.as_bytes()), Reason::Bad);
}

#[test]
fn only_listed_certificates_count() {
    let (listed, other) = (Signer::new(1), Signer::new(2));
    let keyring = [listed.keyring(), other.keyring()].concat();
    let keyring = Keyring::parse(&keyring).unwrap();
    let error = keyring.verify(&other.sign(TEXT), &[listed.fingerprint()], now()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("not by a listed certificate"), "{text}");
    assert!(text.contains(&other.fingerprint().to_ascii_uppercase()), "{text}");
    // The fingerprint of a subkey does not name its certificate.
    let signer = Signer::with_subkey(3);
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    let subkey = signer.subkey.fingerprint().to_string();
    let error = keyring.verify(&signed_by_subkey(&signer, &data()), &[subkey], now()).unwrap_err();
    assert!(matches!(error, Error::NotInKeyring(_)), "{error}");
}

#[test]
fn one_good_signature_among_others_suffices() {
    let (listed, other) = (Signer::new(1), Signer::new(2));
    let keyring = Keyring::parse(&listed.keyring()).unwrap();
    let signatures = [signature(&other.key, &data(), TEXT), signature(&listed.key, &data(), TEXT)];
    let text = TEXT.replace("\n- ", "\n- - ");
    let message = clear_signed(&text, &signatures);
    assert!(keyring.verify(&message, &[listed.fingerprint()], now()).is_ok());
    let error =
        keyring.verify(&clear_signed(&text, &[]), &[listed.fingerprint()], now()).unwrap_err();
    assert!(error.to_string().contains("no signature at all"), "{error}");
}

/// Verifies a message that GnuPG made with a certificate that GnuPG made.
fn gnupg(certificate: &str, message: &str) -> Result<Verified, Error> {
    let read = |name: &str| {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/openpgp");
        std::fs::read(format!("{directory}/{name}")).unwrap()
    };
    let keyring = Keyring::parse(&read(certificate)).unwrap();
    let fingerprint = fingerprint(&keyring.0[0]);
    keyring.verify(&read(message), &[fingerprint], now())
}

#[test]
fn signatures_of_gnupg_count() {
    for message in ["rsa2048.signed", "rsa2048-sha512.signed"] {
        let verified = gnupg("rsa2048.asc", message).unwrap();
        assert_eq!(verified.text, "Suite: test\n- dash\ntrailing\n\nend");
    }
}

#[test]
fn weak_digests_and_keys_are_refused() {
    for (certificate, message, expected) in [
        ("rsa2048.asc", "rsa2048-sha1.signed", "made with the weak digest SHA1"),
        ("sha1self.asc", "sha1self.signed", "has no valid self-signature"),
        ("rsa1024.asc", "rsa1024.signed", "made with a weak key (RSA of 1024 bits)"),
        ("dsa2048.asc", "dsa2048.signed", "made with a weak key (DSA)"),
    ] {
        let text = gnupg(certificate, message).unwrap_err().to_string();
        assert!(text.contains(expected), "{message}: {text}");
    }
}

#[test]
fn signatures_that_are_not_over_text_are_refused() {
    let signer = Signer::new(1);
    let making = Making { kind: SignatureType::Binary, ..data() };
    assert_eq!(reason(&signer, &signed(&signer, &making)), Reason::Kind);
}

#[test]
fn time_is_heeded() {
    let signer = Signer::new(1);
    for (making, expected) in [
        (Making { created: NOW + 7200, ..data() }, Reason::Future),
        (Making { created: CREATED - 1, ..data() }, Reason::BeforeKey),
        (
            Making { life: Some(10), ..data() },
            Reason::SignatureExpired(Moment::from_unix(u64::from(NOW))),
        ),
    ] {
        assert_eq!(reason(&signer, &signed(&signer, &making)), expected);
    }
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    for making in [
        Making { life: Some(11), ..data() },
        Making { life: Some(0), ..data() },
        Making { created: NOW + 60, ..data() },
    ] {
        let message = signed(&signer, &making);
        assert!(keyring.verify(&message, &[signer.fingerprint()], now()).is_ok());
    }
}

#[test]
fn expired_keys_are_refused() {
    let life = NOW - CREATED;
    let certification = || Making::of(SignatureType::CertPositive);
    let signer = Signer::bare(1).user(certification(), [may_sign(true), key_life(life)]);
    let found = reason(&signer, &signed(&signer, &data()));
    assert!(matches!(found, Reason::KeyExpired { .. }), "{found}");

    // The newest self-signature decides, whatever its kind.
    let renewal = Making { created: NOW - 100, ..Making::of(SignatureType::Key) };
    let signer = signer.direct(renewal, [may_sign(true), key_life(life + 1)]);
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    let message = signed(&signer, &data());
    assert!(keyring.verify(&message, &[signer.fingerprint()], now()).is_ok());

    let signer = Signer::bare(1);
    let consent = signer.consent(Making::of(SignatureType::KeyBinding));
    let signer = signer
        .user(certification(), [may_sign(true)])
        .bind(Making::of(SignatureType::SubkeyBinding), [may_sign(true), key_life(life), consent]);
    let found = reason(&signer, &signed_by_subkey(&signer, &data()));
    assert!(matches!(found, Reason::KeyExpired { .. }), "{found}");
}

#[test]
fn revoked_keys_are_refused() {
    let signer = Signer::new(1).direct(Making::of(SignatureType::KeyRevocation), []);
    let found = reason(&signer, &signed(&signer, &data()));
    assert!(matches!(found, Reason::Revoked(_)), "{found}");

    // The certificate takes its subkeys with it.
    let signer = Signer::with_subkey(1).direct(Making::of(SignatureType::KeyRevocation), []);
    let found = reason(&signer, &signed_by_subkey(&signer, &data()));
    assert!(matches!(found, Reason::Revoked(_)), "{found}");

    let signer = Signer::with_subkey(1).bind(Making::of(SignatureType::SubkeyRevocation), []);
    let found = reason(&signer, &signed_by_subkey(&signer, &data()));
    assert!(matches!(found, Reason::Revoked(_)), "{found}");

    // A revoked user id says nothing any more.
    let signer = Signer::new(1).user(Making::of(SignatureType::CertRevocation), []);
    let found = reason(&signer, &signed(&signer, &data()));
    assert!(matches!(found, Reason::NoSelfSignature(_)), "{found}");
}

#[test]
fn keys_sign_only_if_they_are_meant_to() {
    let signer = Signer::with_subkey(1);
    let found = reason(&signer, &signed(&signer, &data()));
    assert!(matches!(found, Reason::NotForSigning(_)), "{found}");

    let silent = Signer::bare(1).user(Making::of(SignatureType::CertPositive), []);
    let found = reason(&silent, &signed(&silent, &data()));
    assert!(matches!(found, Reason::NotForSigning(_)), "{found}");

    let signer = Signer::bare(1);
    let consent = signer.consent(Making::of(SignatureType::KeyBinding));
    let signer = signer
        .user(Making::of(SignatureType::CertPositive), [may_sign(true)])
        .bind(Making::of(SignatureType::SubkeyBinding), [may_sign(false), consent]);
    let found = reason(&signer, &signed_by_subkey(&signer, &data()));
    assert!(matches!(found, Reason::NotForSigning(_)), "{found}");
}

#[test]
fn subkeys_have_to_be_bound_both_ways() {
    let certification = || Making::of(SignatureType::CertPositive);
    let binding = || Making::of(SignatureType::SubkeyBinding);
    let other = Signer::bare(7).consent(Making::of(SignatureType::KeyBinding));
    for consent in [None, Some(other)] {
        let more = std::iter::once(may_sign(true)).chain(consent);
        let signer = Signer::bare(1).user(certification(), [may_sign(true)]).bind(binding(), more);
        let found = reason(&signer, &signed_by_subkey(&signer, &data()));
        assert!(matches!(found, Reason::NotBound(_)), "{found}");
    }
    // The binding of another certificate.
    let mut signer = Signer::new(1);
    let victim = Signer::with_subkey(2);
    signer.certificate.public_subkeys = victim.certificate.public_subkeys.clone();
    let found = reason(&signer, &signed_by_subkey(&victim, &data()));
    assert!(matches!(found, Reason::NotBound(_)), "{found}");
}

#[test]
fn certificates_without_a_valid_self_signature_do_not_count() {
    let mut signer = Signer::new(1);
    signer.certificate.details.users = Signer::new(2).certificate.details.users;
    let found = reason(&signer, &signed(&signer, &data()));
    assert!(matches!(found, Reason::NoSelfSignature(_)), "{found}");
}

#[test]
fn critical_notations_are_not_ignored() {
    let notation = SubpacketData::Notation(Notation {
        readable: true,
        name: "purpose@example.org".into(),
        value: "something else".into(),
    });
    let signer = Signer::new(1);
    let critical = Subpacket::critical(notation.clone()).unwrap();
    let making = Making { more: vec![critical], ..data() };
    assert_eq!(reason(&signer, &signed(&signer, &making)), Reason::Critical);
    let making = Making { more: vec![Subpacket::regular(notation).unwrap()], ..data() };
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    assert!(keyring.verify(&signed(&signer, &making), &[signer.fingerprint()], now()).is_ok());
}

#[test]
fn keyrings_may_be_armoured_and_hold_several_certificates() {
    let (first, second) = (Signer::new(1), Signer::new(2));
    let armoured = |signer: &Signer| {
        signer.certificate.to_armored_bytes(pgp::composed::ArmorOptions::default()).unwrap()
    };
    for keyring in [
        [first.keyring(), second.keyring()].concat(),
        [armoured(&first), b"\nnext:\n".to_vec(), armoured(&second)].concat(),
    ] {
        let keyring = Keyring::parse(&keyring).unwrap();
        for signer in [&first, &second] {
            assert!(keyring.verify(&signer.sign("a"), &[signer.fingerprint()], now()).is_ok());
        }
    }
    for bad in [&b""[..], b"hello", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n", b"\xff\xff"]
    {
        assert!(matches!(Keyring::parse(bad), Err(Error::Keyring { .. })));
    }
}

#[test]
fn short_key_ids_are_no_fingerprints() {
    let signer = Signer::new(1);
    let keyring = Keyring::parse(&signer.keyring()).unwrap();
    for bad in ["6ED0E7B82643E131", "", "xyz"] {
        let error = keyring.verify(&signer.sign("a"), &[bad.to_owned()], now()).unwrap_err();
        assert!(matches!(error, Error::Fingerprint(_)), "{error}");
    }
    let error = keyring.verify(&signer.sign("a"), &[], now()).unwrap_err();
    assert!(matches!(error, Error::NotInKeyring(_)), "{error}");
}

proptest::proptest! {
    /// What a byte changed anywhere leads to is an error or the very same text, never a panic.
    #[test]
    fn no_changed_byte_yields_another_text(place in 0..10_000usize, byte: u8) {
        let signer = Signer::with_subkey(1);
        let keyring = Keyring::parse(&signer.keyring()).unwrap();
        let mut message = signed_by_subkey(&signer, &data());
        let place = place % message.len();
        message[place] = byte;
        if let Ok(verified) = keyring.verify(&message, &[signer.fingerprint()], now()) {
            proptest::prop_assert_eq!(verified.text, "text");
        }
    }

    #[test]
    fn no_keyring_makes_the_parser_panic(place in 0..10_000usize, byte: u8, length in 0..10_000usize) {
        let signer = Signer::with_subkey(1);
        let mut keyring = signer.keyring();
        let place = place % keyring.len();
        keyring[place] = byte;
        keyring.truncate(length.max(1));
        if let Ok(keyring) = Keyring::parse(&keyring) {
            let message = signed_by_subkey(&signer, &data());
            let _ = keyring.verify(&message, &[signer.fingerprint()], now());
        }
    }
}
