//! Indexes of repositories come the same way as packages.

use super::{Error, Failure, Fetcher};
use crate::debian::repository::{Transport, TransportError};

impl Transport for Fetcher {
    fn get(&self, url: &str, limit_bytes: u64) -> Result<Vec<u8>, TransportError> {
        Fetcher::get(self, &[url.to_owned()], limit_bytes).map_err(|error| {
            // Which URL it was is said there already.
            let source: Box<dyn std::error::Error + Send + Sync> = match error {
                Error::NotFound { .. } => Box::new(Failure::NotFound),
                Error::Get { mut attempts } if attempts.len() == 1 => {
                    Box::new(attempts.remove(0).failure)
                }
                other => Box::new(other),
            };
            TransportError { url: url.to_owned(), source }
        })
    }
}
