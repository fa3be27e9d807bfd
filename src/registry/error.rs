//! What can go wrong with a registry, and what to do about it.

use std::io;
use std::path::PathBuf;

use crate::fetch::{FailedDownload, Failure};
use crate::store;

/// Why something could not be pushed or pulled.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// It does not answer, or not in a way that makes sense.
    #[error("cannot {what}: {failure}")]
    #[diagnostic(help(
        "check that this machine reaches the registry (`https_proxy` is honoured) and that it is well, and run the \
         same command again: what was transferred stays. A registry without TLS is written `http://…`; one with a \
         certificate of your own authority needs it in a file that IMGBUILD_REGISTRY_CA names"
    ))]
    Unreachable {
        /// What was tried: `push blob … to …`.
        what: String,
        /// The reason.
        failure: Failure,
    },

    /// It wants to know who this is, and does not let them in.
    #[error("cannot {what}: the registry wants a login{}", colon(why))]
    #[diagnostic(help(
        "log in with `podman login`, `skopeo login` or `docker login` to the same host and port, or name the file \
         with the login in REGISTRY_AUTH_FILE; the login must be allowed to do this there"
    ))]
    Login {
        /// What was tried.
        what: String,
        /// What is wrong with the login that there is, or that there is none.
        why: String,
    },

    /// It redirects to another server, which wants to know who this is.
    #[error(
        "cannot {what}: the registry redirects to {server}, which wants a login, and none is sent there"
    )]
    #[diagnostic(help(
        "a login is for the registry that it was made for, and for no other server: name the registry where it really \
         is, and log in there. If this one should not redirect, it, or a proxy on the way, is broken or hostile"
    ))]
    Elsewhere {
        /// What was tried.
        what: String,
        /// The server, without a path.
        server: String,
    },

    /// It does not allow it.
    #[error("cannot {what}: the registry answers with status {code}{}", colon(reasons))]
    #[diagnostic(help("{}", remedy(*code)))]
    Refused {
        /// What was tried.
        what: String,
        /// The status (RFC 9110, section 15).
        code: u16,
        /// What it says itself.
        reasons: String,
    },

    /// It says what cannot be.
    #[error("cannot {what}: the registry lies: {why}")]
    #[diagnostic(help(
        "nothing of it was kept. The registry, or a proxy on the way, is broken or hostile: pull from another one, or \
         build the image here and push it again"
    ))]
    Lie {
        /// What was tried.
        what: String,
        /// What does not fit.
        why: String,
    },

    /// It wants to have something where it must not go.
    #[error("cannot {what}: the registry names `{url}` as the address for it, {why}")]
    #[diagnostic(help(
        "the registry does not know how it is reached: behind a proxy, that has to pass on `Host` and \
         `X-Forwarded-Proto` (Docker's registry has `http.relativeurls` and `http.host`, too)"
    ))]
    Address {
        /// What was tried.
        what: String,
        /// What it named, without what may be secret in it.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },

    /// Blobs that did not come as they should be.
    #[error("cannot pull {}", list(failed))]
    #[diagnostic(help(
        "nothing that is wrong was kept. If the registry answers with other bytes than its manifest says, it, or a \
         proxy on the way, is broken or hostile: push the image again from where it was built. Otherwise run the same \
         command again: it goes on where it stopped"
    ))]
    Blobs {
        /// The blobs. Not empty.
        failed: Vec<FailedDownload>,
    },

    /// A document is no manifest, or a larger one than is read.
    #[error("cannot {what}: {why}")]
    #[diagnostic(help(
        "check the reference: there is something else in the registry under that name"
    ))]
    Document {
        /// What was tried.
        what: String,
        /// What is wrong with it.
        why: String,
    },

    /// Authorities that cannot be used.
    #[error("cannot trust the authorities in `{}`: {why}", path.display())]
    #[diagnostic(help(
        "expected PEM text with the certificate of the authority that signed the registry's"
    ))]
    Authorities {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },

    /// What is to be pushed cannot be read.
    #[error("cannot read what is to be pushed")]
    #[diagnostic(help("check the file and the disk"))]
    Read(#[source] io::Error),

    /// What was pulled cannot be kept.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::Error),
}

impl Error {
    /// Whether the same may succeed a little later, so that whoever can do without goes on without.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { failure, .. } => failure.is_transient(),
            Self::Blobs { failed } => {
                failed.iter().flat_map(|blob| &blob.attempts).all(|it| it.failure.is_transient())
            }
            _ => false,
        }
    }
}

fn colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

fn list(failed: &[FailedDownload]) -> String {
    failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn remedy(code: u16) -> &'static str {
    match code {
        403 => "the login that was used may not do this there: log in as somebody who may",
        404 => {
            "check the name of the repository; some registries want it to be made before anything is pushed"
        }
        405 | 501 => {
            "the registry does not allow it: its configuration may say so (Docker's: `storage.delete.enabled`)"
        }
        413 => {
            "the registry, or a proxy before it, takes no such large piece: nginx has `client_max_body_size`"
        }
        _ => "what the registry says of itself may tell more, and its log does",
    }
}
