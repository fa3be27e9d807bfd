//! Who vouches for layers: what a layer is made of decides its key, and only its builder can say that it is.

use std::time::SystemTime;

use super::document::Record;
use crate::build::{LayerRecord, Taken, Trust};
use crate::debian::date::Moment;
use crate::digest::Digest;
use crate::signature::{Error, NAMESPACE, Signature, Signer, TOLERANCE};
use crate::verify::Rules;

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

    /// The text of `record` as it goes to the others, and its signature if it gets one.
    pub(super) fn vouch(&self, mut record: Record) -> Result<(String, Option<String>), Error> {
        record.signed = self.signer.as_ref().map(|_| Moment::from(SystemTime::now()));
        let text = serde_json::to_string(&record).expect("text and numbers are JSON");
        let signature = self.signer.as_ref().map(|signer| signer.sign(text.as_bytes()));
        Ok((text, signature.transpose()?))
    }

    /// Why `record`, which `said` and its `signature` tell of a layer, is not to be trusted, if so.
    pub(super) fn objection(
        &self,
        record: &Record,
        said: &str,
        signature: Option<&str>,
    ) -> Option<String> {
        let Some(signature) = signature else {
            let demanding = self.demanding()?;
            return Some(format!("nobody has signed it, and {demanding} demands that"));
        };
        if self.rules.is_empty() {
            return None;
        }
        self.check(record, said, signature).err()
    }

    fn check(&self, record: &Record, said: &str, signature: &str) -> Result<(), String> {
        let signature = Signature::parse(signature)
            .map_err(|error| format!("what is said to be its signature is none: {error}"))?;
        if signature.namespace != NAMESPACE || !signature.is_of(said.as_bytes()) {
            return Err("its signature is not of it, or not by the key that it names".to_owned());
        }
        let signed = record.signed.ok_or("it does not say when it was signed")?;
        if signed > Moment::from(SystemTime::now()).after(TOLERANCE) {
            return Err(format!("it says that it was signed at {signed}, which is to come"));
        }
        for rules in &self.rules {
            if let Some(allowed) = rules.allow(&signature.identity, signed) {
                allowed?;
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
            Some(why) => Err(why),
            None => Ok(record.layer),
        }
    }
}
