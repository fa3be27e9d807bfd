//! HTTP/1.1 over TLS, as much of it as a Proxmox node speaks.
//!
//! The library for downloads, ureq, is not used: it hides the reason phrase, in which Proxmox puts its
//! messages (before libpve-http-server-perl 5.2.0 only there, and for a refused token still), and it
//! leaves nobody a say in which bytes of an upload are written together, which matters here
//! (`super::upload`). TLS is rustls, and answers are read by httparse.
//!
//! Of `PVE/APIServer/AnyEvent.pm` (pve-http-server): connections may be used again for 5 s, not after an
//! error; answers have a `Content-Length`, or end with the connection; without `Accept-Encoding` nothing is
//! compressed.

pub(crate) mod answer;
mod connection;

pub(super) use answer::Answer;
pub(super) use connection::{Connection, Send};

use std::io;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::trust::Disbelieved;

/// Where a server is, and how it proves who it is.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    /// Host name or address, without brackets.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// What its certificate is for.
    pub(super) name: ServerName<'static>,
    /// How its certificate is checked.
    pub(super) tls: Arc<ClientConfig>,
}

impl Endpoint {
    /// `HOST:PORT`, as the header `Host` and messages have it.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// What can go wrong between two machines.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No connection; nothing was sent.
    #[error("{0}")]
    Unreachable(io::Error),
    /// The server's certificate is not the right one; nothing was sent.
    #[error("{0}")]
    Disbelieved(Disbelieved),
    /// What answers does not speak TLS, or none that is spoken here; nothing was sent.
    #[error("{0}")]
    Tls(rustls::Error),
    /// The connection broke after something was sent.
    #[error("{0}")]
    Interrupted(io::Error),
    /// The answer is not HTTP.
    #[error("{0}")]
    Garbled(String),
    /// The content to send could not be read.
    #[error("{0}")]
    Source(io::Error),
}

impl Failure {
    /// What `error` means before anything was sent.
    fn before(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => match Disbelieved::within(tls) {
                Some(disbelieved) => Self::Disbelieved(disbelieved.clone()),
                None => Self::Tls(tls.clone()),
            },
            None => Self::Unreachable(readable(error)),
        }
    }

    /// What `error` means afterwards.
    fn after(error: io::Error) -> Self {
        Self::Interrupted(readable(error))
    }
}

/// A limit of time of a socket shows as `WouldBlock`, whose words help nobody.
fn readable(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            io::Error::new(io::ErrorKind::TimedOut, "no answer in time")
        }
        io::ErrorKind::UnexpectedEof => {
            io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed")
        }
        _ => error,
    }
}
