//! Layers that machines share through a registry, so that each is built by one of them.
//!
//! All are in one repository. The layer with the key `KEY` (the digest of everything that decides what it is) has the
//! tag `layer-KEY`: an OCI manifest of the type [`LAYER_TYPE`] with one blob, the archive of the layer compressed with
//! Zstandard, and the annotation [`RECORD`] with what a store remembers of a layer, as JSON. While somebody builds it,
//! there is a note under the tag `claim-KEY` (see `claim`).
//!
//! Bytes are trusted for their digests alone: that of the blob, which the manifest tells, and that of the archive,
//! which the record tells. Records are trusted for their signatures ([`SIGNATURE`]), where a policy demands any.

mod claim;
mod document;
mod packed;
mod trouble;
mod voucher;

use std::cell::Cell;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::build::{LayerRecord, Obtained, Pledge, SharedError, SharedLayers, Taken};
use crate::digest::Digest;
use crate::progress::{Event, Progress, Step};
use crate::registry::{self, Descriptor, MANIFEST, Repository, WantedBlob, Which};
use crate::store::{KeyKind, Store};
use claim::{Claim, Claims, Held, Pace};
use document::{Notes, Record, Told, layer_tag};
use packed::{pack, unpack};
use trouble::Trouble;

pub use document::{CLAIM_TYPE, LAYER_TYPE, RECORD, SIGNATURE};
#[cfg(any(test, fuzzing))]
pub(crate) use document::{NOTE, is_layer, is_note};
use voucher::Objection;
pub use voucher::Voucher;

/// The type of a layer's blob, which other programs know (OCI image specification, "Layer media types").
const BLOB_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// Held by whoever has a layer in its packed form: layers of different keys may be the same, and the packed form is
/// deleted when it has served.
const PACKED: KeyKind = KeyKind::new("packed");

/// The layers in a repository of a registry.
pub struct RegistryLayers {
    repository: Repository,
    /// None: layers are only taken, not given.
    claims: Option<Claims<Notes>>,
    voucher: Voucher,
    /// Whether it was given up to reach the registry.
    is_away: AtomicBool,
}

/// What a registry says of a layer.
enum Seen {
    /// There is none.
    Nothing,
    /// There is one that is not used: nobody vouches for it who may.
    Strange(String),
    /// There is one.
    Layer(Box<Told>),
}

impl RegistryLayers {
    /// Layers are taken from `repository`, as far as `voucher` trusts them.
    pub fn taking(repository: Repository, voucher: Voucher) -> Self {
        Self { repository, claims: None, voucher, is_away: AtomicBool::new(false) }
    }

    /// Layers are taken from `repository`, and those that are built here are given to it.
    pub fn giving(repository: Repository, voucher: Voucher) -> Self {
        let notes = Notes::new(repository.clone());
        let claims = Some(Claims::new(notes, claim::holder(), Pace::STANDARD));
        Self { repository, claims, voucher, is_away: AtomicBool::new(false) }
    }

    fn try_obtain(
        &self,
        key: &Digest,
        label: &str,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Obtained<'_>, Trouble> {
        let warned = Cell::new(false);
        let find = || self.find(key, label, store, (progress, &warned));
        let Some(claims) = &self.claims else {
            return Ok(find()?.map_or_else(alone, obtained));
        };
        let waiting = Cell::new(None);
        let wait = || {
            let label = format!("wait for {label}, which another machine builds");
            waiting.set(Some(Step::start(progress, label, None)));
        };
        let claim = claims.claim(key, find, wait);
        if let Some(step) = waiting.take() {
            step.finish("");
        }
        let held = match claim? {
            Claim::Found(told) => return Ok(obtained(told)),
            Claim::Mine(held) => Some(held),
            Claim::GivenUp(why) => {
                if let Some(why) = why {
                    progress.event(Event::Warning(format!(
                        "{label} is built here, and nobody is waited for from here on: {why}"
                    )));
                }
                None
            }
        };
        let promise = Promise { layers: self, key: *key, label: label.to_owned(), _held: held };
        Ok(Obtained::Build(Box::new(promise)))
    }

    /// The layer of `key`, brought into `store`. One that nobody vouches for who may is told of once, and not there.
    fn find(
        &self,
        key: &Digest,
        label: &str,
        store: &Store,
        (progress, warned): (&dyn Progress, &Cell<bool>),
    ) -> Result<Option<Told>, Trouble> {
        let told = match self.look_up(key)? {
            Seen::Nothing => return Ok(None),
            Seen::Strange(why) => {
                if !warned.replace(true) {
                    let reference = self.reference(key);
                    progress.event(Event::Warning(format!(
                        "{label} is built here: `{reference}` is not to be trusted: {why}"
                    )));
                }
                return Ok(None);
            }
            Seen::Layer(told) => *told,
        };
        let record = &told.record.layer;
        if store.blob(&record.digest).is_none() {
            let _lock = store.lock_key(PACKED, &record.digest)?;
            if store.blob(&record.digest).is_none() {
                self.pull(key, label, (record, &told.blob), store, progress)?;
            }
        }
        Ok(Some(told))
    }

    /// Brings the archive of the layer that `record` tells of into `store`, out of `blob`.
    fn pull(
        &self,
        key: &Digest,
        label: &str,
        (record, blob): (&LayerRecord, &Descriptor),
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<(), Trouble> {
        if let Some(why) = packed::objection(blob.size, record.size) {
            return Err(self.lie(key, why).into());
        }
        // What the store has already, it has for something else: nobody has signed which blob it is, and it may as well be
        // a package. Then it stays, whatever it turns out to be.
        let was_there = store.blob(&blob.digest).is_some();
        let wanted = WantedBlob { label: label.to_owned(), digest: blob.digest, size: blob.size };
        let packed = self.repository.pull_blob(wanted, store, progress)?;
        let unpacked = unpack(packed.path(), record.size, store)?;
        if !was_there && let Some(packed) = store.blob(&blob.digest) {
            store.remove(packed)?;
        }
        let unpacked = unpacked.map_err(|why| self.lie(key, why))?;
        if unpacked.digest() != record.digest {
            let (is, said) = (unpacked.digest(), record.digest);
            let why = format!("the archive of the layer is {is}, and not {said}");
            return Err(self.lie(key, why).into());
        }
        Ok(())
    }

    /// What the registry says of the layer of `key`, and of its blob.
    fn look_up(&self, key: &Digest) -> Result<Seen, Trouble> {
        let Some(found) = self.repository.manifest(&Which::Tag(layer_tag(key)))? else {
            return Ok(Seen::Nothing);
        };
        let told = document::read_layer(&found.bytes).map_err(|why| self.lie(key, why))?;
        if told.record.key != *key {
            let why = format!("it is the layer of {}", told.record.key);
            return Err(self.lie(key, why).into());
        }
        let signature = told.signature.as_deref();
        match self.voucher.objection(&told.record, &told.text, signature) {
            Some(Objection::Forged(why)) => Err(self.lie(key, why).into()),
            Some(Objection::Strange(why)) => Ok(Seen::Strange(why)),
            None => Ok(Seen::Layer(Box::new(told))),
        }
    }

    /// Gives the layer of `key` to the others.
    fn push(
        &self,
        key: &Digest,
        label: &str,
        record: &LayerRecord,
        archive: &Path,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<(), Trouble> {
        if self.is_there(key, label, record)? {
            return Ok(());
        }
        let _lock = store.lock_key(PACKED, &record.digest)?;
        let packed = pack(archive, store).map_err(registry::Error::Read)?;
        if let Some(why) = packed::objection(packed.size(), record.size) {
            // Everybody else would take that for an attempt to fill their disks.
            progress.event(Event::Warning(format!("{label} is not shared: {why}, to the others")));
            return Ok(store.remove(packed)?);
        }
        let file = File::open(packed.path()).map_err(registry::Error::Read)?;
        let offered = registry::OfferedBlob {
            label,
            digest: packed.digest(),
            size: packed.size(),
            file: &file,
        };
        self.repository.push_blobs(&[offered], 1, progress)?;
        document::push_empty(&self.repository)?;
        let blob = Descriptor::new(BLOB_TYPE, packed.digest(), packed.size());
        let mut signed = Record { key: *key, layer: record.clone(), signed: None };
        let (text, signature) = self.voucher.vouch(&mut signed)?;
        if let Some(objection) = self.voucher.objection(&signed, &text, signature.as_deref()) {
            return Err(self.unfit(label, &objection.text()).into());
        }
        let manifest = document::layer(text, signature, blob);
        // Packing and pushing takes minutes. Somebody whose claim was lost may have been here meanwhile, and may be yet.
        if self.is_there(key, label, record)? {
            return Ok(store.remove(packed)?);
        }
        self.repository.put_manifest(
            &Which::Tag(layer_tag(key)),
            MANIFEST,
            &manifest.to_bytes(),
        )?;
        store.remove(packed)?;
        self.is_there(key, label, record)?;
        Ok(())
    }

    /// Whether the registry has the layer of `key` already, and somebody vouches for it who may. An error if it has
    /// another one than `record` tells of.
    fn is_there(&self, key: &Digest, label: &str, record: &LayerRecord) -> Result<bool, Trouble> {
        let Seen::Layer(there) = self.look_up(key)? else { return Ok(false) };
        let there = there.record.layer;
        match there.digest == record.digest {
            true => Ok(true),
            false => Err(self.differs(label, record, &there).into()),
        }
    }
}

impl SharedLayers for RegistryLayers {
    fn obtain<'a>(
        &'a self,
        key: &Digest,
        label: &str,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<Obtained<'a>, SharedError> {
        if self.is_away.load(Ordering::Relaxed) {
            return Ok(alone());
        }
        self.try_obtain(key, label, store, progress)
            .or_else(|trouble| self.without(trouble, progress).map(|()| alone()))
    }
}

/// The word of this machine to build a layer of a registry.
struct Promise<'a> {
    layers: &'a RegistryLayers,
    key: Digest,
    label: String,
    /// Others wait until it is gone. None: nobody could be told.
    _held: Option<Held<Notes>>,
}

impl Pledge for Promise<'_> {
    fn keep(
        self: Box<Self>,
        record: &LayerRecord,
        archive: &Path,
        store: &Store,
        progress: &dyn Progress,
    ) -> Result<(), SharedError> {
        self.layers
            .push(&self.key, &self.label, record, archive, store, progress)
            .or_else(|trouble| self.layers.without(trouble, progress))
    }
}

/// The word of a machine that nobody listens to.
struct Alone;

impl Pledge for Alone {
    fn keep(
        self: Box<Self>,
        _record: &LayerRecord,
        _archive: &Path,
        _store: &Store,
        _progress: &dyn Progress,
    ) -> Result<(), SharedError> {
        Ok(())
    }
}

/// A layer that the store has, as it was told of.
fn obtained<'a>(told: Told) -> Obtained<'a> {
    let Told { record, text, signature, .. } = told;
    let taken = Taken { digest: record.layer.digest, said: text, signature };
    Obtained::Layer { record: record.layer, taken }
}

fn alone<'a>() -> Obtained<'a> {
    Obtained::Build(Box::new(Alone))
}
