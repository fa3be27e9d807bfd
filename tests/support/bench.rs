//! A fetcher on a store of its own, with a server at its other end.

use std::time::Duration;

use imgbuild::digest::Digest;
use imgbuild::fetch::{Error, Failure, Fetcher, Network, Policy, Request};
use imgbuild::progress::Silent;
use imgbuild::store::Store;

use super::http::Server;

/// A store of its own, a server and an impatient fetcher.
pub struct Bench {
    /// The other end.
    pub server: Server,
    /// Impatient.
    pub fetcher: Fetcher,
    /// Empty at first.
    pub store: Store,
    _directory: tempfile::TempDir,
}

/// Waits next to nothing between tries.
pub fn hasty() -> Policy {
    Policy {
        tries: 3,
        base_delay: Duration::from_millis(1),
        max_delay: Duration::from_millis(5),
        patience: Duration::from_secs(10),
        slowest: 1,
        proxy_from_environment: false,
    }
}

/// A new bench.
pub fn bench() -> Bench {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(Some(&directory.path().join("store"))).unwrap();
    let fetcher = Fetcher::new(Network::Online, hasty());
    Bench { server: Server::start(), fetcher, store, _directory: directory }
}

/// Bytes that repeat nowhere, so that a wrong offset shows.
pub fn content(length: usize) -> Vec<u8> {
    (0..length.div_ceil(8) as u64)
        .flat_map(|index| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
        .take(length)
        .collect()
}

/// A request for `content` at `urls`.
pub fn request(content: &[u8], urls: &[String]) -> Request {
    Request {
        label: "thing 1.0".to_owned(),
        urls: urls.to_vec(),
        digest: Digest::of(content),
        size: Some(content.len() as u64),
    }
}

impl Bench {
    /// Downloads `content` and returns what came.
    pub fn fetch(&self, content: &[u8], urls: &[String]) -> Result<Vec<u8>, Error> {
        let files = self.fetcher.download(&[request(content, urls)], &self.store, 2, &Silent)?;
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].digest(), Digest::of(content));
        assert_eq!(files[0].size(), content.len() as u64);
        Ok(std::fs::read(files[0].path()).unwrap())
    }

    /// The names of unfinished downloads.
    pub fn downloads(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.store.root().join("downloads")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Leaves the beginning of a download behind, as an interrupted run would.
    pub fn interrupt(&self, content: &[u8], beginning: &[u8], note: Option<&str>) {
        let mut partial = self.store.partial(&Digest::of(content)).unwrap();
        partial.append(beginning).unwrap();
        if let Some(note) = note {
            partial.set_note(note);
        }
    }
}

/// What each URL said when the first file failed.
pub fn failures(error: &Error) -> Vec<&Failure> {
    match error {
        Error::Download { failed, .. } => {
            failed[0].attempts.iter().map(|attempt| &attempt.failure).collect()
        }
        other => panic!("another error: {other}"),
    }
}
