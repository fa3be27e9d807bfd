//! Indexes of repositories come the same way as packages.

use super::Fetcher;
use crate::debian::repository::{Transport, TransportError};

impl Transport for Fetcher {
    fn get(&self, url: &str, limit_bytes: u64) -> Result<Vec<u8>, TransportError> {
        Fetcher::get(self, &[url.to_owned()], limit_bytes)
            .map_err(|source| TransportError { url: url.to_owned(), source: Box::new(source) })
    }
}
