//! Keys that sign: in a file, or in an agent.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use signature::Signer as _;
use ssh_key::private::KeypairData;
use ssh_key::{Certificate, PrivateKey};

use super::identity::{self, Identity, objection};
use super::{Malformed, NAMESPACE, Signature, agent, envelope};
use crate::debian::date::Moment;

/// The most bytes of a file that holds a key.
const LIMIT: u64 = 64 * 1024;

/// How files of private keys begin that OpenSSH has written since 2014.
const PRIVATE: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";

/// Where a key is.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// The private key; or the public one, or a certificate, of a key that is in the agent or in the file of the same name
    /// without `.pub` or `-cert.pub`.
    pub key: PathBuf,
    /// A certificate for the key.
    pub certificate: Option<PathBuf>,
    /// The socket of the agent, if there is one.
    pub agent: Option<PathBuf>,
}

/// A key that signs.
pub struct Signer {
    identity: Identity,
    /// The private key, unless only the agent can sign with it.
    private: Option<PrivateKey>,
    /// The agent, and why the key is asked for there.
    agent: Option<PathBuf>,
    path: PathBuf,
    /// Why the file alone will not do.
    why_agent: &'static str,
}

/// Why nothing is signed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A file that cannot be read.
    #[error("cannot read {}", path.display())]
    #[diagnostic(help(
        "`--key` and IMGBUILD_SIGNING_KEY name the file of a key, never the key itself"
    ))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A private key that others can read.
    #[error("{} can be read by others: its mode is {mode:04o}", path.display())]
    #[diagnostic(help("`chmod 600 {}`; as ssh(1), imgbuild uses no such key", path.display()))]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file that holds no key.
    #[error("{} holds no key that can sign: {why}", path.display())]
    #[diagnostic(help(
        "make one with `ssh-keygen -t ed25519`, or give this one to an agent: `ssh-add FILE`, and then \
         `--key FILE.pub`; other forms become that of OpenSSH by `ssh-keygen -p -f FILE`"
    ))]
    NoKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: Malformed,
    },
    /// A certificate that does not belong to the key, or is of no use.
    #[error("the certificate {} does not do: {why}", path.display())]
    #[diagnostic(help(
        "have one made for this key: `ssh-keygen -s AUTHORITY -I ID -n NAME -V +1h KEY.pub`"
    ))]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key can sign only in an agent, and does not.
    #[error("nothing signs with {}: {why}, and {agent}", path.display())]
    #[diagnostic(help("{}ssh-add {}`", begin(*is_there), private_half(path).display()))]
    Agent {
        /// The file.
        path: PathBuf,
        /// Why the file alone will not do.
        why: &'static str,
        /// Whether there is an agent.
        is_there: bool,
        /// What is the matter with the agent.
        agent: String,
    },
    /// A signature that does not fit the key.
    #[error("what signed with {} gave no good signature", path.display())]
    #[diagnostic(help("try the key with `ssh-keygen -Y sign -n imgbuild -f {} FILE`", path.display()))]
    Bad {
        /// The file.
        path: PathBuf,
    },
}

impl Signer {
    /// The key of `keys`, to sign at `now`.
    ///
    /// # Errors
    /// Files that hold no such things; private keys that others can read.
    pub fn open(keys: &Keys, now: Moment) -> Result<Self, Error> {
        let path = keys.key.clone();
        let text = read(&path)?;
        let mut signer = match text.starts_with("-----BEGIN") {
            true => Self::of_private(&path, &text, keys.agent.clone())?,
            false => Self::of_public(&path, &text, keys.agent.clone())?,
        };
        if let Some(path) = &keys.certificate {
            let fails = |why: String| Error::Certificate { path: path.clone(), why };
            let identity = Identity::from_line(&read(path)?).map_err(|it| fails(it.to_string()))?;
            if identity.certificate().is_none() {
                return Err(fails("it is a key".to_owned()));
            }
            if identity.key() != signer.identity.key() {
                return Err(fails("it is for another key".to_owned()));
            }
            signer.identity = identity;
        }
        if let Some(why) = signer.identity.certificate().and_then(|it| objection(it, now)) {
            let path = keys.certificate.clone().unwrap_or(path);
            return Err(Error::Certificate { path, why });
        }
        Ok(signer)
    }

    fn of_private(path: &Path, text: &str, agent: Option<PathBuf>) -> Result<Self, Error> {
        let no_key = |why| Error::NoKey { path: path.to_owned(), why };
        if !text.starts_with(PRIVATE) {
            return Err(no_key(Malformed(PRIVATE)));
        }
        let key = PrivateKey::from_openssh(text);
        let key = key.map_err(|_| no_key(Malformed("a private key of OpenSSH")))?;
        let identity = Identity::of_key(key.public_key().key_data().clone()).map_err(no_key)?;
        let why_agent = match key.key_data() {
            KeypairData::Ed25519(_) | KeypairData::Ecdsa(_) => "",
            _ if key.is_encrypted() => "the key is encrypted",
            // imgbuild itself calculates nothing with private RSA keys: RUSTSEC-2023-0071.
            KeypairData::Rsa(_) => "RSA keys sign only in an agent",
            _ => "the key is on a token",
        };
        let private = why_agent.is_empty().then_some(key);
        Ok(Self { identity, private, agent, path: path.to_owned(), why_agent })
    }

    fn of_public(path: &Path, text: &str, agent: Option<PathBuf>) -> Result<Self, Error> {
        let identity =
            Identity::from_line(text).map_err(|why| Error::NoKey { path: path.to_owned(), why })?;
        // As `load_sign_key` of OpenSSH's `ssh-keygen.c` finds it.
        let beside = private_half(path);
        let beside = Some(beside.as_path()).filter(|beside| *beside != path && beside.is_file());
        let why_agent = "the file holds its public half";
        let mut signer = Self { identity, private: None, agent, path: path.to_owned(), why_agent };
        if let Some(beside) = beside {
            // One that cannot be read here may be in the agent all the same.
            let private = read(beside).and_then(|text| Self::of_private(beside, &text, None));
            if let Ok(private) = private
                && private.identity.key() == signer.identity.key()
            {
                (signer.private, signer.why_agent) = (private.private, private.why_agent);
            }
        }
        Ok(signer)
    }

    /// Whose the signatures will be.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Whose certificate it is, or which key.
    pub fn name(&self) -> String {
        let names = self.identity.certificate().map(Certificate::valid_principals);
        let key = identity::name(self.identity.key());
        names.map_or_else(|| key.clone(), |names| format!("{} ({key})", names.join(", ")))
    }

    /// Signs `message`; gives the text of the signature.
    ///
    /// # Errors
    /// If the agent does not sign.
    pub fn sign(&self, message: &[u8]) -> Result<String, Error> {
        let data = envelope::signed_data(NAMESPACE, message);
        let bad = || Error::Bad { path: self.path.clone() };
        let blob = match &self.private {
            Some(key) => {
                let signature = key.try_sign(&data).map_err(|_| bad())?;
                Vec::try_from(signature).map_err(|_| bad())?
            }
            None => self.ask(&data)?,
        };
        let signature = Signature::new(self.identity.clone(), NAMESPACE, &blob);
        let signature = signature.map_err(|_| bad())?;
        // What an agent gives is foreign, and a key in a file need not be of one piece.
        if !signature.is_of(message) {
            return Err(bad());
        }
        signature.to_text().map_err(|_| bad())
    }

    /// Has the agent sign `data`: by the certificate, or else by the key.
    fn ask(&self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let fails = |agent: String| {
            let (path, why, is_there) = (self.path.clone(), self.why_agent, self.agent.is_some());
            Error::Agent { path, why, is_there, agent }
        };
        let Some(socket) = &self.agent else {
            return Err(fails("there is no agent (SSH_AUTH_SOCK)".to_owned()));
        };
        for key in [self.identity.to_bytes(), self.identity.key_bytes()] {
            let answer = agent::sign(socket, &key, data);
            let answer = answer.map_err(|error| fails(format!("the agent fails: {error}")))?;
            if let Some(signature) = answer {
                return Ok(signature);
            }
        }
        Err(fails("the agent does not have it, or nobody has agreed".to_owned()))
    }
}

/// What is to be done about an agent before it has a key.
fn begin(is_there: bool) -> &'static str {
    match is_there {
        true => "give the agent the key: `",
        false => "start an agent and give it the key: `eval $(ssh-agent) && ",
    }
}

/// Where the private half is of a key whose public half, or certificate, `path` may name.
fn private_half(path: &Path) -> PathBuf {
    let name = path.to_string_lossy();
    let half = name.strip_suffix("-cert.pub").or_else(|| name.strip_suffix(".pub"));
    half.map_or_else(|| path.to_owned(), PathBuf::from)
}

/// Reads a small file. If it is a private key of this user, nobody else may read it: `sshkey_perm_ok` of OpenSSH's
/// `authfile.c`.
fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let mut text = String::new();
    file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
    let mode = metadata.mode() & 0o7777;
    let is_own = metadata.uid() == rustix::process::getuid().as_raw();
    if text.starts_with("-----BEGIN") && is_own && mode & 0o077 != 0 {
        return Err(Error::Open { path: path.to_owned(), mode });
    }
    Ok(text)
}
