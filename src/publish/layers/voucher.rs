//! Who vouches for layers: what a layer is made of decides its key, and only its builder can say that it is.

use std::time::SystemTime;

use super::document::Record;
use crate::build::{LayerRecord, Taken, Trust};
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::signature::{Error, NAMESPACE, Signature, Signer, TOLERANCE};
use crate::verify::Rules;

/// Why a layer of others is not used.
pub(super) enum Objection {
    /// What is said of it was changed, or made up.
    Forged(String),
    /// Nobody vouches for it who may, or no longer.
    Strange(String),
}

impl Objection {
    pub(super) fn text(self) -> String {
        match self {
            Self::Forged(why) | Self::Strange(why) => why,
        }
    }
}

/// What is asked of layers that others have built, and what is said of those that are built here.
#[derive(Default)]
pub struct Voucher {
    /// The policies that hold.
    pub rules: Vec<Rules>,
    /// Signs what is built here.
    pub signer: Option<Signer>,
}

impl Voucher {
    /// The name of the policy that demands signatures, if one does.
    pub fn demanding(&self) -> Option<&str> {
        self.rules.iter().find(|rules| rules.demands_signature()).map(Rules::name)
    }

    /// Says in `record` when it is signed, if it is. Returns its text as it goes to the others, and its signature.
    pub(super) fn vouch(&self, record: &mut Record) -> Result<(String, Option<String>), Error> {
        record.signed = self.signer.as_ref().map(|_| Moment::from(SystemTime::now()));
        let text = serde_json::to_string(record).expect("text and numbers are JSON");
        let signature = self.signer.as_ref().map(|signer| signer.sign(text.as_bytes()));
        Ok((text, signature.transpose()?))
    }

    /// Why `record`, which `said` and its `signature` tell of a layer, is not to be trusted, if so.
    pub(super) fn objection(
        &self,
        record: &Record,
        said: &str,
        signature: Option<&str>,
    ) -> Option<Objection> {
        let Some(signature) = signature else {
            let demanding = self.demanding()?;
            let why = format!("nobody has signed it, and {demanding} demands that");
            return Some(Objection::Strange(why));
        };
        if self.rules.is_empty() {
            return None;
        }
        self.check(record, said, signature).err()
    }

    fn check(&self, record: &Record, said: &str, signature: &str) -> Result<(), Objection> {
        let forged = |why: &str| Objection::Forged(why.to_owned());
        let signature = Signature::parse(signature).map_err(|error| {
            forged(&format!("what is said to be its signature is none: {error}"))
        })?;
        if signature.namespace != NAMESPACE || !signature.is_of(said.as_bytes()) {
            return Err(forged("its signature is not of it, or not by the key that it names"));
        }
        let signed = record.signed.ok_or_else(|| forged("it does not say when it was signed"))?;
        if signed > Moment::from(SystemTime::now()).after(TOLERANCE) {
            let why = format!("it says that it was signed at {signed}, which is to come");
            return Err(forged(&why));
        }
        for rules in &self.rules {
            if let Some(allowed) = rules.allow(&signature.identity, signed) {
                allowed.map_err(Objection::Strange)?;
            }
        }
        Ok(())
    }
}

impl Trust for Voucher {
    fn judge(&self, key: &Digest, taken: &Taken) -> Result<LayerRecord, String> {
        let record: Record = serde_json::from_str(&taken.said)
            .map_err(|error| format!("what is said of it says nothing: {error}"))?;
        if record.key != *key || record.layer.digest != taken.digest {
            return Err("what is said of it is said of another layer".to_owned());
        }
        match self.objection(&record, &taken.said, taken.signature.as_deref()) {
            Some(objection) => Err(objection.text()),
            None => Ok(record.layer),
        }
    }
}
