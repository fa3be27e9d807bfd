//! The real archive, for tests that need the network.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use imgbuild::debian::repository::{Certificates, Repository, Transport, TransportError};
use imgbuild::digest::Digest;

/// Debian's stable and security archives.
pub const DEBIAN: &str = "http://deb.debian.org/debian";
pub const SECURITY: &str = "http://deb.debian.org/debian-security";

/// Where Debian keeps the certificates of its archives.
const KEYRINGS: &str = "/usr/share/keyrings";

/// Gets files over HTTP. Files that are named by their hash are kept for the next run.
pub struct Network {
    agent: ureq::Agent,
    cache: PathBuf,
}

impl Network {
    pub fn new() -> Self {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(120)));
        let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("archive");
        fs::create_dir_all(&cache).unwrap();
        Self { agent: config.build().into(), cache }
    }

    fn download(&self, url: &str, limit_bytes: u64) -> Result<Vec<u8>, ureq::Error> {
        self.agent.get(url).call()?.body_mut().with_config().limit(limit_bytes).read_to_vec()
    }
}

impl Transport for Network {
    fn get(&self, url: &str, limit_bytes: u64) -> Result<Vec<u8>, TransportError> {
        let cached = url.contains("/by-hash/").then(|| self.cache.join(Digest::of(url).short()));
        if let Some(content) = cached.as_ref().and_then(|path| fs::read(path).ok()) {
            return Ok(content);
        }
        let content = self
            .download(url, limit_bytes)
            .map_err(|error| TransportError { url: url.to_owned(), source: error.into() })?;
        if let Some(path) = cached {
            fs::write(path, &content).unwrap();
        }
        Ok(content)
    }
}

/// A suite of trixie with the keys that sign it.
pub fn repository(url: &str, suite: &str) -> Repository {
    let keys = ["automatic", "security-automatic", "stable"];
    let keyring = keys.map(|key| {
        let path = format!("{KEYRINGS}/debian-archive-trixie-{key}.gpg");
        fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    });
    // https://ftp-master.debian.org/keys.html
    let signed_by = [
        "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
        "5E04A1E3223A19A20706E20F9904613D4CCE68C6",
        "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
    ];
    Repository {
        name: suite.to_owned(),
        url: url.to_owned(),
        mirrors: Vec::new(),
        snapshot: None,
        suite: suite.to_owned(),
        components: vec!["main".to_owned()],
        packages: Vec::new(),
        keyring: Certificates::Here(keyring.concat()),
        signed_by: signed_by.map(str::to_owned).into(),
    }
}
