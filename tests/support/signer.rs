//! A key that signs archives made by tests.

use pgp::armor::{self, BlockType};
use pgp::composed::{ArmorOptions, SignedKeyDetails, SignedPublicKey};
use pgp::crypto::ed25519::{Mode, SecretKey as Ed25519};
use pgp::crypto::eddsa_legacy;
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    KeyFlags, PacketTrait as _, PubKeyInner, PublicKey, SecretKey, Signature, SignatureConfig,
    SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::types::{
    KeyDetails as _, KeyVersion, Password, PlainSecretParams, PublicParams, SecretParams,
    SignedUser, Tag, Timestamp,
};

/// When the keys are made: 2025-01-01.
const CREATED: u32 = 1_735_689_600;

/// When they sign: 2025-06-01.
const SIGNED: u32 = 1_748_736_000;

/// A primary key that may sign, and nothing else.
pub struct Signer {
    key: SecretKey,
}

impl Signer {
    /// Different seeds make different keys.
    pub fn new(seed: u8) -> Self {
        let secret = Ed25519::try_from_bytes([seed; 32], Mode::EdDSALegacy).unwrap();
        let public = PublicParams::EdDSALegacy((&secret).into());
        let secret = PlainSecretParams::EdDSALegacy(eddsa_legacy::SecretKey::Ed25519(secret));
        let algorithm = PublicKeyAlgorithm::EdDSALegacy;
        let created = Timestamp::from_secs(CREATED);
        let inner = PubKeyInner::new(KeyVersion::V4, algorithm, created, None, public).unwrap();
        let public = PublicKey::from_inner(inner).unwrap();
        Self { key: SecretKey::new(public, SecretParams::Plain(secret)).unwrap() }
    }

    /// The fingerprint as 40 hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint().to_string()
    }

    /// The certificate, armoured.
    pub fn certificate(&self) -> String {
        let mut flags = KeyFlags::default();
        flags.set_certify(true);
        flags.set_sign(true);
        let mut config = self.config(SignatureType::CertPositive, CREATED);
        config.hashed_subpackets.push(regular(SubpacketData::KeyFlags(flags)));
        let id = UserId::from_str(Default::default(), "archive@example.org").unwrap();
        let public = self.key.public_key();
        let signature = config
            .sign_certification(&self.key, &public, &Password::empty(), Tag::UserId, &id)
            .unwrap();
        let users = vec![SignedUser::new(id, vec![signature])];
        let details = SignedKeyDetails::new(Vec::new(), Vec::new(), users, Vec::new());
        let certificate = SignedPublicKey::new(public.clone(), details, Vec::new());
        certificate.to_armored_string(ArmorOptions::default()).unwrap()
    }

    /// `text` as a clear-signed message (RFC 9580 §7). It must not need escaping, nor end with a
    /// newline.
    pub fn sign(&self, text: &str) -> Vec<u8> {
        let config = self.config(SignatureType::Text, SIGNED);
        let canonical = text.replace('\n', "\r\n");
        let signature = config.sign(&self.key, &Password::empty(), canonical.as_bytes()).unwrap();
        let mut message =
            format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{text}\n").into_bytes();
        let packet = Packet(signature);
        armor::write(&packet, BlockType::Signature, &mut message, None, true).unwrap();
        message
    }

    fn config(&self, kind: SignatureType, created: u32) -> SignatureConfig {
        let digest = HashAlgorithm::Sha256;
        let mut config = SignatureConfig::v4(kind, self.key.algorithm(), digest);
        config.hashed_subpackets = vec![
            regular(SubpacketData::SignatureCreationTime(Timestamp::from_secs(created))),
            regular(SubpacketData::IssuerFingerprint(self.key.fingerprint())),
        ];
        config
    }
}

fn regular(data: SubpacketData) -> Subpacket {
    Subpacket::regular(data).unwrap()
}

/// A signature with its packet header.
struct Packet(Signature);

impl pgp::ser::Serialize for Packet {
    fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
        self.0.to_writer_with_header(writer)
    }

    fn write_len(&self) -> usize {
        self.0.write_len_with_header()
    }
}
