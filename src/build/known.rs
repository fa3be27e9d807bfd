//! The layers that the store knows: those that were built here, and those that were taken from other machines.
//!
//! What was built here is known to be made of what its key says. What was taken is known to be what somebody has said of
//! it, so it is judged anew each time that it is used.

use super::{LAYER, LayerRecord, TAKEN, Taken, Trust};
use crate::artifact::manifest::{Layer, Manifest};
use crate::digest::Digest;
use crate::store::Store;

/// The layers of a store, as far as they may be used.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    store: &'a Store,
    trust: &'a dyn Trust,
}

/// What the store has under a key.
pub(super) enum Found {
    /// A layer that may be used.
    Layer(LayerRecord),
    /// One of another machine that may not, and why.
    Distrusted(String),
    /// None.
    Nothing,
}

impl<'a> Known<'a> {
    /// Those of `store`; of those that were taken, the ones that `trust` allows.
    pub fn new(store: &'a Store, trust: &'a dyn Trust) -> Self {
        Self { store, trust }
    }

    pub(super) fn find(self, key: &Digest) -> Found {
        if let Some(record) = self.store.get_key(LAYER, key) {
            return Found::Layer(record);
        }
        let taken: Option<Taken> = self.store.get_key(TAKEN, key);
        match taken.map(|taken| self.trust.judge(key, &taken)) {
            Some(Ok(record)) => Found::Layer(record),
            Some(Err(why)) => Found::Distrusted(why),
            None => Found::Nothing,
        }
    }

    /// The digest of the layer of `key`, if there is one that may be used.
    pub(super) fn digest(self, key: &Digest) -> Option<Digest> {
        match self.find(key) {
            Found::Layer(record) => Some(record.digest),
            Found::Distrusted(_) | Found::Nothing => None,
        }
    }

    /// Why a layer of `manifest` is not known to be made of what its key says, if one is not: an artifact that was
    /// written when others were trusted is still there when they no longer are.
    pub fn objection(self, manifest: &Manifest) -> Option<String> {
        let boot = manifest.disk.iter().flat_map(|disk| &disk.boot);
        manifest.layers.iter().chain(boot).find_map(|layer| self.objection_to(layer))
    }

    fn objection_to(self, layer: &Layer) -> Option<String> {
        let Layer { image, kind, digest, key, .. } = layer;
        let name = format!("its layer {image} {} ({})", kind.name(), digest.short());
        let built: Option<LayerRecord> = self.store.get_key(LAYER, key);
        if built.is_some_and(|record| record.digest == *digest) {
            return None;
        }
        let taken: Option<Taken> = self.store.get_key(TAKEN, key);
        let Some(taken) = taken.filter(|taken| taken.digest == *digest) else {
            return Some(format!("{name} is none that the store knows to be made of its inputs"));
        };
        let why = self.trust.judge(key, &taken).err()?;
        Some(format!("{name} is one of another machine, and not to be trusted: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    /// Trusts what is signed by a certain text, and says what it is.
    struct Word(&'static str);

    impl Trust for Word {
        fn judge(&self, _key: &Digest, taken: &Taken) -> Result<LayerRecord, String> {
            match &taken.signature {
                Some(word) if word == self.0 => Ok(record(taken.digest)),
                _ => Err("nobody vouches for it".to_owned()),
            }
        }
    }

    fn record(digest: Digest) -> LayerRecord {
        let accounts = Default::default();
        LayerRecord { digest, size: 1, entries: 1, epoch: 1, accounts, seconds: 1.0 }
    }

    #[test]
    fn what_was_taken_is_judged_at_each_use_and_what_was_built_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Some(directory.path())).unwrap();
        let (key, built, taken) = (Digest::of("key"), Digest::of("built"), Digest::of("taken"));
        let (trust, other) = (Word("a"), Word("b"));
        let digest = |trust: &Word| Known::new(&store, trust).digest(&key);
        assert_eq!(digest(&trust), None);
        let signature = Some("a".to_owned());
        let said = Taken { digest: taken, said: String::new(), signature };
        store.put_key(TAKEN, &key, &said).unwrap();
        assert_eq!((digest(&trust), digest(&other)), (Some(taken), None));
        let found = Known::new(&store, &other).find(&key);
        assert!(matches!(found, Found::Distrusted(why) if why == "nobody vouches for it"));
        store.put_key(LAYER, &key, &record(built)).unwrap();
        assert_eq!((digest(&trust), digest(&other)), (Some(built), Some(built)));
    }

    #[test]
    fn the_archive_of_a_layer_that_was_taken_is_kept_as_long_as_its_record() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Store::open(Some(directory.path())).unwrap();
        let digest = store.insert_bytes(b"archive").unwrap().digest();
        let key = Digest::of("key");
        let taken = Taken { digest, said: "{}".to_owned(), signature: None };
        store.put_key(TAKEN, &key, &taken).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        let keep = |item: crate::store::Item<'_>| matches!(item, crate::store::Item::Key { kind, .. } if kind == TAKEN.name());
        store.gc(&keep, later, &crate::progress::Silent).unwrap();
        assert!(store.blob(&digest).is_some());
    }
}
