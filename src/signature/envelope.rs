//! Signatures as `ssh-keygen -Y sign` writes them: SSHSIG.
//!
//! The format is described in OpenSSH's `PROTOCOL.sshsig`, and read as its `sshsig.c` does, but for what stands behind
//! the end, which is refused here. The arithmetic is that of the crate `ssh-key`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256, Sha512};
use signature::Verifier as _;

use super::Malformed;
use super::identity::Identity;
use super::wire::{Reader, put};

const MAGIC: &[u8] = b"SSHSIG";
const VERSION: u32 = 1;
const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";
/// The characters of a line of base64 (`sshbuf_dtob64` in `sshbuf-misc.c`).
const LINE: usize = 70;

/// A signature, and whose it says that it is.
#[derive(Clone, Debug)]
pub struct Signature {
    /// Whose key it is of.
    pub identity: Identity,
    /// What it was made for.
    pub namespace: String,
    hash: Hash,
    signature: ssh_key::Signature,
}

/// How the message is hashed before it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

impl Hash {
    fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn of(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

/// What is signed for `message`, with SHA-512.
pub(super) fn signed_data(namespace: &str, message: &[u8]) -> Vec<u8> {
    data(namespace, Hash::Sha512, message)
}

fn data(namespace: &str, hash: Hash, message: &[u8]) -> Vec<u8> {
    let mut data = MAGIC.to_vec();
    put(&mut data, namespace.as_bytes());
    put(&mut data, b"");
    put(&mut data, hash.name().as_bytes());
    put(&mut data, &hash.of(message));
    data
}

impl Signature {
    /// The signature of [`signed_data`] by the key of `identity`: `blob`, as RFC 4253, section 6.6, and the agent
    /// have it.
    ///
    /// # Errors
    /// A `blob` that is no signature.
    pub(super) fn new(identity: Identity, namespace: &str, blob: &[u8]) -> Result<Self, Malformed> {
        let signature = ssh_key::Signature::try_from(blob);
        let signature = signature.map_err(|_| Malformed("a signature"))?;
        Ok(Self { identity, namespace: namespace.to_owned(), hash: Hash::Sha512, signature })
    }

    /// Reads a signature in its armour.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        let text = text.replace("\r\n", "\n");
        let body = text.strip_prefix(BEGIN).ok_or(Malformed("`-----BEGIN SSH SIGNATURE-----`"))?;
        let body = body.strip_suffix(END).or_else(|| body.strip_suffix(END.trim_end()));
        let body = body.ok_or(Malformed("`-----END SSH SIGNATURE-----` at the end"))?;
        let blob = STANDARD.decode(body.replace('\n', "")).map_err(|_| Malformed("base64"))?;
        Self::from_bytes(&blob)
    }

    fn from_bytes(blob: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(blob);
        if reader.take(MAGIC.len()) != Some(MAGIC) || reader.number() != Some(VERSION) {
            return Err(Malformed("a signature of version 1"));
        }
        let cut = Malformed("a whole signature");
        let identity = Identity::from_bytes(reader.string().ok_or(cut)?)?;
        let namespace = reader.text().ok_or(cut)?.to_owned();
        // Reserved: to be ignored.
        reader.string().ok_or(cut)?;
        let hash = match reader.text().ok_or(cut)? {
            "sha256" => Hash::Sha256,
            "sha512" => Hash::Sha512,
            _ => return Err(Malformed("the hash sha256 or sha512")),
        };
        let own = reader.string().ok_or(cut)?;
        let signature = ssh_key::Signature::try_from(own);
        let signature = signature.map_err(|_| Malformed("a signature of a known kind"))?;
        let whole = Self { identity, namespace, hash, signature };
        // The library does not look at what is behind it.
        if !reader.is_at_end() || whole.signature_bytes()? != own {
            return Err(Malformed("nothing behind the signature"));
        }
        Ok(whole)
    }

    /// Whether the key has signed `message`, for [`Signature::namespace`]. Who may sign is another question.
    pub fn is_of(&self, message: &[u8]) -> bool {
        let data = data(&self.namespace, self.hash, message);
        self.identity.signs_with(&self.signature.algorithm())
            && self.identity.key().verify(&data, &self.signature).is_ok()
    }

    /// The signature in its armour, as `ssh-keygen` writes it.
    ///
    /// # Errors
    /// A signature that cannot be written.
    pub fn to_text(&self) -> Result<String, Malformed> {
        let mut blob = MAGIC.to_vec();
        blob.extend(VERSION.to_be_bytes());
        put(&mut blob, &self.identity.to_bytes());
        put(&mut blob, self.namespace.as_bytes());
        put(&mut blob, b"");
        put(&mut blob, self.hash.name().as_bytes());
        put(&mut blob, &self.signature_bytes()?);
        let text = STANDARD.encode(blob);
        let lines = text.as_bytes().chunks(LINE).map(String::from_utf8_lossy);
        let body: String = lines.flat_map(|line| [line.into_owned(), "\n".to_owned()]).collect();
        Ok(format!("{BEGIN}{body}{END}"))
    }

    /// As RFC 4253, section 6.6, has it; of keys on tokens flags and counter stand behind it (`PROTOCOL.u2f`).
    fn signature_bytes(&self) -> Result<Vec<u8>, Malformed> {
        let algorithm = self.signature.algorithm();
        let data = self.signature.as_bytes();
        let is_token = algorithm.as_str().starts_with("sk-");
        let trailer = if is_token { data.len().checked_sub(5) } else { Some(data.len()) };
        let (own, trailer) = data.split_at(trailer.ok_or(Malformed("a signature"))?);
        let mut bytes = Vec::new();
        put(&mut bytes, algorithm.as_str().as_bytes());
        put(&mut bytes, own);
        bytes.extend(trailer);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Made by `ssh-keygen -Y sign -n imgbuild`, of the bytes `hello` and a line feed.
    const SIGNATURE: &str = include_str!("testdata/hello.sig");

    fn decoded() -> Vec<u8> {
        let body = SIGNATURE.strip_prefix(BEGIN).unwrap().strip_suffix(END).unwrap();
        STANDARD.decode(body.replace('\n', "")).unwrap()
    }

    #[test]
    fn a_signature_of_openssh_is_read_and_written_as_it_was() {
        let signature = Signature::parse(SIGNATURE).unwrap();
        assert_eq!(signature.namespace, "imgbuild");
        assert!(signature.is_of(b"hello\n") && !signature.is_of(b"hello"));
        assert_eq!(signature.to_text().unwrap(), SIGNATURE);
        let other = Signature { namespace: "file".to_owned(), ..signature };
        assert!(!other.is_of(b"hello\n"), "the purpose is signed, too");
    }

    #[test]
    fn what_stands_around_a_signature_is_refused() {
        for text in [
            format!(" {SIGNATURE}"),
            format!("{SIGNATURE}more\n"),
            format!("{SIGNATURE}{SIGNATURE}"),
            SIGNATURE.replace("SIGNATURE", "SIGNATUR"),
        ] {
            assert!(Signature::parse(&text).is_err(), "{text}");
        }
        assert!(Signature::parse(&SIGNATURE.replace('\n', "\r\n")).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_break_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Signature::from_bytes(&bytes);
        }

        /// A signature with another byte is refused, or is none of the message.
        #[test]
        fn every_byte_counts(at in 0..decoded().len(), other in 1u8..) {
            let mut bytes = decoded();
            bytes[at] ^= other;
            if let Ok(signature) = Signature::from_bytes(&bytes) {
                let is_purpose = signature.namespace == "imgbuild";
                prop_assert!(!(is_purpose && signature.is_of(b"hello\n")));
            }
        }

        #[test]
        fn every_cut_is_noticed(length in 0..decoded().len()) {
            prop_assert!(Signature::from_bytes(&decoded()[..length]).is_err());
        }
    }
}
