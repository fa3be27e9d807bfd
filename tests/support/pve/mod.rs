//! A Proxmox VE in this process, over TLS, for tests.
//!
//! ```ignore
//! let pve = Pve::start(Flavour::V9);
//! let client = pve.client();
//! ```
//!
//! It holds every request against the API's own description where that is at hand (`schema`), checks the token
//! and its rights, and does to guests and volumes what PVE does, as far as replacing guests relies on it: the
//! facts are from the sources of PVE, and the places are named beside the code. A request that the description
//! does not allow fails the test when the fake is dropped, unless [`Pve::take_invalid`] took it.
//!
//! What it is not: a proof that a real node does the same.
#![allow(dead_code, clippy::print_stderr, clippy::result_large_err)]

pub mod access;
pub mod api;
pub mod backing;
pub mod cluster;
pub mod fault;
pub mod format;
pub mod schema;
pub mod serve;
pub mod tls;
pub mod upload;
pub mod wire;

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use imgbuild::proxmox::{Client, Fingerprint, NodeName, Pace, Trust};

#[allow(unused_imports)]
pub use cluster::{Cluster, Guest, Kind};
#[allow(unused_imports)]
pub use fault::{Fault, Spoil, When};
pub use schema::Flavour;
pub use tls::Certificate;

/// The name of the fake's token.
pub const TOKEN: &str = "imgbuild@pve!test";
/// Its secret.
pub const SECRET: &str = "01234567-89ab-4cde-8f01-23456789abcd";

/// A pace for tests.
pub fn hasty() -> Pace {
    Pace {
        again: vec![Duration::from_millis(10); 3],
        first_look: Duration::from_millis(5),
        longest_look: Duration::from_millis(50),
        stall: Duration::from_millis(50),
        ..Pace::default()
    }
}

/// A request that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub method: String,
    /// Below `/api2/json`, decoded.
    pub path: String,
    pub parameters: Vec<(String, String)>,
}

/// What the threads share.
pub struct Shared {
    pub cluster: Mutex<Cluster>,
    pub faults: Mutex<fault::Faults>,
    pub seen: Mutex<Vec<Seen>>,
    pub invalid: Mutex<Vec<String>>,
    pub connections: Mutex<usize>,
    pub in_body: bool,
}

/// The fake. Its threads end with the test process.
pub struct Pve {
    address: SocketAddr,
    fingerprint: Fingerprint,
    authority: String,
    shared: Arc<Shared>,
}

impl Pve {
    /// Starts one node `pve1`, with the storages `local` (files) and `local-lvm` (disks), the pool `imgbuild`,
    /// and a token with the rights of docs/proxmox.md.
    pub fn start(flavour: Flavour) -> Self {
        Self::with_certificate(flavour, Certificate::Good)
    }

    /// As [`Pve::start`], with this certificate.
    pub fn with_certificate(flavour: Flavour, certificate: Certificate) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::serve(flavour, certificate, listener)
    }

    /// As [`Pve::start`], with real containers, answering at `listener`, which has an address of this machine,
    /// or of a network of its own.
    pub fn start_backed(
        flavour: Flavour,
        listener: TcpListener,
        backing: Arc<dyn backing::Backing>,
    ) -> Self {
        let pve = Self::serve(flavour, Certificate::Good, listener);
        pve.cluster().backing = Some(backing);
        pve
    }

    fn serve(flavour: Flavour, certificate: Certificate, listener: TcpListener) -> Self {
        schema::schema();
        let tls = tls::tls(certificate);
        let address = listener.local_addr().expect("the address of a bound socket");
        let shared = Arc::new(Shared {
            cluster: Mutex::new(Cluster::new(flavour, TOKEN)),
            faults: Mutex::default(),
            seen: Mutex::default(),
            invalid: Mutex::default(),
            connections: Mutex::default(),
            in_body: flavour == Flavour::V9,
        });
        let for_threads = Arc::clone(&shared);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                *lock(&for_threads.connections) += 1;
                let (config, shared) = (Arc::clone(&tls.config), Arc::clone(&for_threads));
                // A client that goes away in the middle is part of the tests.
                std::thread::spawn(move || serve::connection(socket, config, &shared));
            }
        });
        Self { address, fingerprint: tls.fingerprint, authority: tls.authority, shared }
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Of its certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Its authority, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// `user@realm!name=secret`.
    pub fn token(&self) -> String {
        format!("{TOKEN}={SECRET}")
    }

    /// A client that trusts its certificate and has its token, in a hurry.
    pub fn client(&self) -> Client {
        let token = self.token().parse().expect("a token");
        Client::new(&self.url(), &Trust::Certificate(self.fingerprint), token)
            .expect("a client")
            .at_pace(hasty())
    }

    /// The node that there is from the start.
    pub fn node(&self) -> NodeName {
        "pve1".parse().expect("the name of a node")
    }

    /// All that it keeps, to look at and to change. Requests wait meanwhile.
    pub fn cluster(&self) -> MutexGuard<'_, Cluster> {
        let mut cluster = lock(&self.shared.cluster);
        cluster.advance();
        cluster
    }

    /// Makes something go wrong.
    pub fn plan(&self, when: When, fault: Fault) {
        lock(&self.shared.faults).plan(when, fault);
    }

    /// How many planned faults have not happened.
    pub fn faults_left(&self) -> usize {
        lock(&self.shared.faults).left()
    }

    /// Forgets the faults that are to come, and counts requests anew.
    pub fn reset_faults(&self) {
        lock(&self.shared.faults).reset();
    }

    /// How many requests came, and how many of them were no GET, since the last reset.
    pub fn counted(&self) -> (usize, usize) {
        lock(&self.shared.faults).counted()
    }

    /// The requests so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// The requests so far that were no GET, as `VERB /path`.
    pub fn changes(&self) -> Vec<String> {
        let seen = self.seen().into_iter().filter(|seen| seen.method != "GET");
        seen.map(|seen| format!("{} {}", seen.method, seen.path)).collect()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        *lock(&self.shared.connections)
    }

    /// Takes the requests that the API's description does not allow, so that they do not fail the test.
    pub fn take_invalid(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.shared.invalid))
    }
}

impl Drop for Pve {
    fn drop(&mut self) {
        // The threads stay until the process ends; what is behind the guests need not.
        self.cluster().backing = None;
        let invalid = self.take_invalid();
        if !std::thread::panicking() {
            assert!(invalid.is_empty(), "the API does not allow these requests: {invalid:#?}");
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
