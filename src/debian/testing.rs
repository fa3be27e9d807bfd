//! Keys, signatures and archives made up for tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use pgp::armor::{self, BlockType};
use pgp::composed::{SignedKeyDetails, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::ed25519::{Mode, SecretKey as Ed25519};
use pgp::crypto::eddsa_legacy;
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::packet::{
    KeyFlags, PubKeyInner, PublicKey, PublicSubkey, SecretKey, SecretSubkey, Signature,
    SignatureConfig, SignatureType, Subpacket, SubpacketData, UserId,
};
use pgp::ser::Serialize as _;
use pgp::types::{
    Duration, KeyDetails, KeyVersion, Password, PlainSecretParams, PublicParams, SecretParams,
    SignedUser, SigningKey, Tag, Timestamp,
};

use super::date::Moment;
use super::repository::{Certificates, Repository, Transport, TransportError};
use crate::digest::Digest;

/// The time at which tests happen.
pub const NOW: u32 = 1_790_000_000;

/// When the keys of tests are made.
pub const CREATED: u32 = NOW - 1_000_000;

/// How a signature is made, where that differs from what is usual.
#[derive(Clone)]
pub struct Making {
    pub created: u32,
    pub digest: HashAlgorithm,
    pub kind: SignatureType,
    /// Seconds until the signature expires.
    pub life: Option<u32>,
    /// Further subpackets.
    pub more: Vec<Subpacket>,
}

impl Making {
    pub fn of(kind: SignatureType) -> Self {
        Self { created: CREATED, digest: HashAlgorithm::Sha256, kind, life: None, more: Vec::new() }
    }

    fn config(&self, signer: &impl SigningKey) -> SignatureConfig {
        let mut config = SignatureConfig::v4(self.kind, signer.algorithm(), self.digest);
        let created = Timestamp::from_secs(self.created);
        let mut data = vec![
            SubpacketData::SignatureCreationTime(created),
            SubpacketData::IssuerFingerprint(signer.fingerprint()),
        ];
        data.extend(
            self.life.map(|life| SubpacketData::SignatureExpirationTime(Duration::from_secs(life))),
        );
        config.hashed_subpackets = data.into_iter().map(regular).collect();
        config.hashed_subpackets.extend(self.more.iter().cloned());
        config
    }
}

pub fn regular(data: SubpacketData) -> Subpacket {
    Subpacket::regular(data).unwrap()
}

/// The subpacket that says whether a key may sign data.
pub fn may_sign(sign: bool) -> Subpacket {
    let mut flags = KeyFlags::default();
    flags.set_certify(true);
    flags.set_sign(sign);
    regular(SubpacketData::KeyFlags(flags))
}

pub fn key_life(seconds: u32) -> Subpacket {
    regular(SubpacketData::KeyExpirationTime(Duration::from_secs(seconds)))
}

/// A certificate under construction.
pub struct Signer {
    pub key: SecretKey,
    pub subkey: SecretSubkey,
    pub certificate: SignedPublicKey,
}

impl Signer {
    /// A certificate without signatures. Different seeds make different keys.
    pub fn bare(seed: u8) -> Self {
        let secret = |seed: u8| {
            let secret = Ed25519::try_from_bytes([seed; 32], Mode::EdDSALegacy).unwrap();
            let public = PublicParams::EdDSALegacy((&secret).into());
            let secret = PlainSecretParams::EdDSALegacy(eddsa_legacy::SecretKey::Ed25519(secret));
            let created = Timestamp::from_secs(CREATED);
            let algorithm = PublicKeyAlgorithm::EdDSALegacy;
            let inner = PubKeyInner::new(KeyVersion::V4, algorithm, created, None, public).unwrap();
            (inner, SecretParams::Plain(secret))
        };
        let (public, parameters) = secret(seed);
        let key = SecretKey::new(PublicKey::from_inner(public).unwrap(), parameters).unwrap();
        let (public, parameters) = secret(seed ^ 0x80);
        let subkey = PublicSubkey::from_inner(public).unwrap();
        let subkey = SecretSubkey::new(subkey, parameters).unwrap();
        let details = SignedKeyDetails::new(Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let certificate = SignedPublicKey::new(key.public_key().clone(), details, Vec::new());
        Self { key, subkey, certificate }
    }

    /// A certificate whose primary key may sign.
    pub fn new(seed: u8) -> Self {
        Self::bare(seed).user(Making::of(SignatureType::CertPositive), [may_sign(true)])
    }

    /// A certificate whose primary key may not sign, but its subkey.
    pub fn with_subkey(seed: u8) -> Self {
        let signer = Self::bare(seed);
        let consent = signer.consent(Making::of(SignatureType::KeyBinding));
        signer
            .user(Making::of(SignatureType::CertPositive), [may_sign(false)])
            .bind(Making::of(SignatureType::SubkeyBinding), [may_sign(true), consent])
    }

    /// Adds a user id with a signature of the primary key.
    pub fn user(mut self, making: Making, more: impl IntoIterator<Item = Subpacket>) -> Self {
        let id = UserId::from_str(Default::default(), "archive@example.org").unwrap();
        let mut config = making.config(&self.key);
        config.hashed_subpackets.extend(more);
        let public = self.key.public_key();
        let signature = config
            .sign_certification(&self.key, &public, &Password::empty(), Tag::UserId, &id)
            .unwrap();
        match self.certificate.details.users.first_mut() {
            Some(user) => user.signatures.push(signature),
            None => self.certificate.details.users.push(SignedUser::new(id, vec![signature])),
        }
        self
    }

    /// Adds a signature of the primary key over itself: a direct key signature or a revocation.
    pub fn direct(mut self, making: Making, more: impl IntoIterator<Item = Subpacket>) -> Self {
        let mut config = making.config(&self.key);
        config.hashed_subpackets.extend(more);
        let public = self.key.public_key();
        let signature = config.sign_key(&self.key, &Password::empty(), &public).unwrap();
        let details = &mut self.certificate.details;
        match making.kind {
            SignatureType::KeyRevocation => details.revocation_signatures.push(signature),
            _ => details.direct_signatures.push(signature),
        }
        self
    }

    /// The subkey's agreement to belong to the primary key.
    pub fn consent(&self, making: Making) -> Subpacket {
        let public = self.subkey.public_key();
        let signature = making
            .config(&self.subkey)
            .sign_primary_key_binding(
                &self.subkey,
                &public,
                &Password::empty(),
                &self.key.public_key(),
            )
            .unwrap();
        regular(SubpacketData::EmbeddedSignature(Box::new(signature)))
    }

    /// Adds a signature of the primary key over the subkey: a binding or a revocation.
    pub fn bind(mut self, making: Making, more: impl IntoIterator<Item = Subpacket>) -> Self {
        let mut config = making.config(&self.key);
        config.hashed_subpackets.extend(more);
        let subkey = self.subkey.public_key().clone();
        let public = self.key.public_key();
        let signature =
            config.sign_subkey_binding(&self.key, &public, &Password::empty(), &subkey).unwrap();
        match self.certificate.public_subkeys.first_mut() {
            Some(subkey) => subkey.signatures.push(signature),
            None => {
                let subkey = SignedPublicSubKey::new(subkey, vec![signature]);
                self.certificate.public_subkeys.push(subkey);
            }
        }
        self
    }

    pub fn fingerprint(&self) -> String {
        self.key.fingerprint().to_string()
    }

    /// The certificate as gpg would export it.
    pub fn keyring(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.certificate.to_writer(&mut bytes).unwrap();
        bytes
    }

    /// `text` in clear with a signature of the primary key.
    pub fn sign(&self, text: &str) -> Vec<u8> {
        let making = Making { created: NOW - 10, ..Making::of(SignatureType::Text) };
        clear_signed(text, &[signature(&self.key, &making, text)])
    }
}

/// A signature over text, whatever `making` calls it.
pub fn signature(signer: &impl SigningKey, making: &Making, text: &str) -> Signature {
    let canonical = text.replace('\n', "\r\n");
    making.config(signer).sign(signer, &Password::empty(), canonical.as_bytes()).unwrap()
}

/// The frame of a clear-signed message. `text` must not need escaping.
pub fn clear_signed(text: &str, signatures: &[Signature]) -> Vec<u8> {
    struct Packets<'a>(&'a [Signature]);
    impl pgp::ser::Serialize for Packets<'_> {
        fn to_writer<W: std::io::Write>(&self, writer: &mut W) -> pgp::errors::Result<()> {
            use pgp::packet::PacketTrait as _;
            self.0.iter().try_for_each(|signature| signature.to_writer_with_header(writer))
        }

        fn write_len(&self) -> usize {
            use pgp::packet::PacketTrait as _;
            self.0.iter().map(|signature| signature.write_len_with_header()).sum()
        }
    }
    let mut message =
        format!("-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\n{text}\n").into_bytes();
    armor::write(&Packets(signatures), BlockType::Signature, &mut message, None, true).unwrap();
    message
}

/// An archive in memory.
pub struct Archive {
    signer: Signer,
    files: BTreeMap<String, Vec<u8>>,
    /// The URLs that were asked for, in order.
    pub asked: Mutex<Vec<String>>,
}

/// Where the archive of tests is.
pub const URL: &str = "http://archive.test/debian";

impl Archive {
    /// An archive without suites.
    pub fn new() -> Self {
        Self { signer: Signer::new(1), files: BTreeMap::new(), asked: Mutex::new(Vec::new()) }
    }

    /// Publishes `packages` as the content of `suite` at `date`.
    pub fn publish(&mut self, suite: &str, date: u32, packages: &str) {
        let path = "main/binary-amd64/Packages";
        let packed = xz(packages.as_bytes());
        let mut release = format!(
            "Suite: {suite}\nDate: {}\nAcquire-By-Hash: yes\nArchitectures: amd64\n\
             Components: main\nSHA256:\n",
            release_date(date)
        );
        for (bytes, extension) in [(packages.as_bytes(), ""), (packed.as_slice(), ".xz")] {
            let (digest, size) = (Digest::of(bytes), bytes.len());
            writeln!(release, " {digest} {size} {path}{extension}").unwrap();
        }
        let by_hash = format!("main/binary-amd64/by-hash/SHA256/{}", Digest::of(&packed));
        self.put(&format!("dists/{suite}/{by_hash}"), packed);
        self.sign(suite, release.trim_end());
    }

    /// Publishes `packages` as the content of a flat repository in `directory`, which is empty or
    /// ends in `/`. Only the packed index is listed, as `apt-ftparchive` does without the other.
    pub fn publish_flat(&mut self, directory: &str, date: u32, packages: &str) {
        let packed = xz(packages.as_bytes());
        let (digest, size) = (Digest::of(&packed), packed.len());
        let date = release_date(date);
        let release = format!("Date: {date}\nSHA256:\n {digest} {size} ./Packages.xz");
        self.put(&format!("{directory}Packages.xz"), packed);
        let signed = self.signer.sign(&release);
        self.put(&format!("{directory}InRelease"), signed);
    }

    /// The certificate of the key that signs everything.
    pub fn certificate(&self) -> Vec<u8> {
        self.signer.keyring()
    }

    /// Publishes `release` as the signed Release file of `suite`.
    pub fn sign(&mut self, suite: &str, release: &str) {
        let signed = self.signer.sign(release);
        self.put(&format!("dists/{suite}/InRelease"), signed);
    }

    /// Puts a file into the archive.
    pub fn put(&mut self, path: &str, content: Vec<u8>) {
        self.files.insert(format!("{URL}/{path}"), content);
    }

    /// Takes a file out of the archive.
    pub fn remove(&mut self, path: &str) {
        self.files.remove(&format!("{URL}/{path}"));
    }

    /// The file at `path`.
    pub fn file(&self, path: &str) -> &[u8] {
        &self.files[&format!("{URL}/{path}")]
    }

    /// `suite` of the archive, called as the suite.
    pub fn repository(&self, suite: &str) -> Repository {
        Repository {
            name: suite.to_owned(),
            url: URL.to_owned(),
            mirrors: Vec::new(),
            snapshot: None,
            suite: suite.to_owned(),
            components: vec!["main".to_owned()],
            packages: Vec::new(),
            keyring: Certificates::Here(self.signer.keyring()),
            signed_by: vec![self.signer.fingerprint()],
        }
    }
}

impl Transport for Archive {
    fn get(&self, url: &str, limit_bytes: u64) -> Result<Vec<u8>, TransportError> {
        self.asked.lock().unwrap().push(url.to_owned());
        let error = |text: &str| TransportError { url: url.to_owned(), source: text.into() };
        let content = self.files.get(url).ok_or_else(|| error("404 Not Found"))?;
        if content.len() as u64 > limit_bytes {
            return Err(error("too long"));
        }
        Ok(content.clone())
    }
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    liblzma::encode_all(bytes, 1).unwrap()
}

/// A date the way that Release files write it.
pub fn release_date(unix: u32) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let moment = Moment::from_unix(u64::from(unix)).to_string();
    let month: usize = moment[5..7].parse().unwrap();
    let (year, day, clock) = (&moment[..4], &moment[8..10], &moment[11..19]);
    format!("Mon, {day} {} {year} {clock} UTC", MONTHS[month - 1])
}

/// A `Packages` file from lines `name version; Field: value; …`.
pub fn packages(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        let digest = Digest::of(format!("{name} {version}"));
        writeln!(text, "Package: {name}\nVersion: {version}\nArchitecture: amd64").unwrap();
        writeln!(text, "Filename: pool/{name}_{version}_amd64.deb\nSize: 1\nSHA256: {digest}")
            .unwrap();
        for field in parts {
            writeln!(text, "{field}").unwrap();
        }
        text.push('\n');
    }
    text
}
