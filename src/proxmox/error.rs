//! What a call can end with. Whoever calls branches on the [`Reason`]; people read the rest.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::classify::classify;
use super::task::Upid;
use super::trust::Fingerprint;

/// The verbs of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads. The only one that is ever repeated.
    Get,
    /// Starts something, or makes something.
    Post,
    /// Changes something.
    Put,
    /// Removes something.
    Delete,
}

impl Method {
    /// As it is written in a request.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

/// What holds a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lock {
    /// The key `lock` of its configuration: `backup`, `migrate`, `snapshot`, `create`, … It stays until
    /// what set it is done, or for ever when that was killed.
    Config(String),
    /// Another task is changing the guest this moment.
    Busy,
}

/// Why a call did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// 401: the token is not known, or not any more.
    Unauthorized,
    /// 403: the token may not do this.
    Forbidden {
        /// What the privilege is missing on, `/vms/100`. Empty when the server does not say.
        path: String,
        /// The privilege, `VM.Allocate`; several when any of them would do. Empty when the server does not
        /// say.
        privilege: String,
    },
    /// There is no such guest, storage, volume or task.
    NotFound,
    /// The VMID is taken.
    AlreadyExists,
    /// Something else is at work on the guest.
    Locked(Lock),
    /// The configuration has another digest than was given: somebody changed it meanwhile.
    Modified,
    /// The cluster has no majority, and changes nothing.
    NoQuorum,
    /// No connection came about. Nothing was sent, so nothing has happened.
    Unreachable,
    /// The server could not prove who it is. Nothing was sent.
    Untrusted {
        /// The certificate that it showed, if any.
        met: Option<Fingerprint>,
        /// The certificate that was expected, if it was a certain one.
        expected: Option<Fingerprint>,
    },
    /// The connection broke, or no answer came in time, after something was sent. Whether the server has
    /// done it is not known.
    Interrupted,
    /// 501: this version of Proxmox does not know the call.
    Unsupported,
    /// 400: what is wrong with which parameter.
    Parameters(BTreeMap<String, String>),
    /// 595 to 599: the server that was asked cannot reach the node that it is about, or got no answer.
    NodeUnreachable(u16),
    /// The task was started, and failed.
    Task {
        /// Which.
        upid: Upid,
        /// Its last lines.
        log: Vec<String>,
    },
    /// The task was started, and still runs after so long.
    StillRunning {
        /// Which.
        upid: Upid,
        /// How long was waited.
        waited: Duration,
    },
    /// The answer is none that Proxmox gives: something else answers at this address, or a version that is
    /// not known here.
    Garbled,
    /// The file to upload could not be read, or is not what was said.
    Source,
    /// The caller ended it. The server has nothing of it.
    Stopped,
    /// Anything else. The status of HTTP.
    Other(u16),
}

/// A call that failed: which, why, and what the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Parts>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Parts {
    method: Method,
    server: String,
    path: String,
    reason: Reason,
    message: String,
    /// The task that failed.
    task: Option<Upid>,
}

impl Error {
    pub(super) fn new(call: &Call<'_>, reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            method: call.method,
            server: call.server.to_owned(),
            path: call.path.clone(),
            reason,
            message: message.into(),
            task: None,
        }))
    }

    /// What an answer with an error means. Servers before libpve-http-server-perl 5.2.0 have the message
    /// in the reason phrase only, and all have it only there when the token is refused.
    pub(super) fn answered(call: &Call<'_>, status: u16, phrase: &str, body: &[u8]) -> Self {
        #[derive(serde::Deserialize, Default)]
        struct Body {
            message: Option<String>,
            errors: Option<BTreeMap<String, serde_json::Value>>,
        }
        let body: Body = serde_json::from_slice(body).unwrap_or_default();
        let message = body.message.unwrap_or_default();
        let message = if message.trim().is_empty() { phrase } else { &message }.trim();
        let errors = body.errors.unwrap_or_default();
        let errors: BTreeMap<_, _> = errors
            .into_iter()
            .map(|(name, value)| {
                (
                    name,
                    value.as_str().map_or_else(|| value.to_string(), |text| text.trim().to_owned()),
                )
            })
            .collect();
        Self::new(call, classify(status, message, errors), message)
    }

    /// The same, about a task.
    pub(super) fn of_task(mut self, upid: &Upid) -> Self {
        self.0.task = Some(upid.clone());
        self
    }

    /// The task that failed, when the call itself was taken.
    pub fn task(&self) -> Option<&Upid> {
        self.0.task.as_ref()
    }

    /// Why.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// What the server said, or what went wrong on the way; one or more lines.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The verb of the call.
    pub fn method(&self) -> Method {
        self.0.method
    }

    /// The path of the call, below `/api2/json`.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// Whether the same call may succeed a little later, with nothing changed in between and without doing
    /// anything twice.
    pub fn is_transient(&self) -> bool {
        match &self.0.reason {
            Reason::Locked(_) | Reason::NoQuorum | Reason::Unreachable => true,
            // 595: no connection to the node, so it has seen nothing; the others may have begun.
            Reason::NodeUnreachable(status) => *status == 595 || self.0.method == Method::Get,
            Reason::Interrupted => self.0.method == Method::Get,
            _ => false,
        }
    }

    /// Whether the call may have had its effect although it failed: look before doing it again.
    pub fn may_have_happened(&self) -> bool {
        match &self.0.reason {
            Reason::Interrupted | Reason::Garbled => self.0.method != Method::Get,
            Reason::NodeUnreachable(status) => *status != 595 && self.0.method != Method::Get,
            Reason::StillRunning { .. } | Reason::Task { .. } => true,
            _ => false,
        }
    }
}

/// Which call something is about.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) server: &'a str,
    pub(super) path: String,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { method, server, path, reason, message, task } = &*self.0;
        match (reason, task) {
            (Reason::Unreachable, _) => write!(formatter, "cannot reach {server}: ")?,
            (Reason::Untrusted { .. }, _) => write!(formatter, "{server} cannot be trusted: ")?,
            (Reason::StillRunning { waited, .. }, Some(task)) => {
                return write!(
                    formatter,
                    "{} still runs after {} s",
                    Named(task),
                    waited.as_secs()
                );
            }
            (_, Some(task)) => write!(formatter, "{} failed: ", Named(task))?,
            _ => write!(formatter, "{} {path} on {server}: ", method.name())?,
        }
        formatter.write_str(message)?;
        match reason {
            Reason::Parameters(errors) => {
                errors.iter().try_for_each(|(name, why)| write!(formatter, "\n  {name}: {why}"))
            }
            Reason::Task { log, .. } => {
                log.iter().try_for_each(|line| write!(formatter, "\n  {line}"))
            }
            _ => Ok(()),
        }
    }
}

/// A task as people know it.
struct Named<'a>(&'a Upid);

impl fmt::Display for Named<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(upid) = self;
        write!(formatter, "the task {}", upid.kind())?;
        if !upid.id().is_empty() {
            write!(formatter, " {}", upid.id())?;
        }
        write!(formatter, " on {}", upid.node())
    }
}

impl std::error::Error for Error {}

impl miette::Diagnostic for Error {
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.hint().map(|hint| Box::new(hint) as Box<dyn fmt::Display>)
    }
}

impl Error {
    /// What to do about it.
    fn hint(&self) -> Option<String> {
        let plain = |text: &str| Some(text.to_owned());
        match &self.0.reason {
            Reason::Unauthorized => plain(
                "the token is wrong, was removed or has expired: `pveum user token list USER` on a node lists \
                 those that there are; a secret that is lost cannot be shown again, only made anew",
            ),
            Reason::Forbidden { path, privilege } if !path.is_empty() => Some(format!(
                "the token needs {privilege} on `{path}`: give it the role of docs/proxmox.md there \
                 (`pveum acl modify {path} --tokens 'USER!TOKEN' --roles ImgbuildDeploy`); with privilege \
                 separation its user needs the same",
            )),
            Reason::Forbidden { .. } => plain(
                "the token has not the right to do this: docs/proxmox.md lists the privileges; with privilege \
                 separation its user needs them, too",
            ),
            Reason::Locked(Lock::Config(kind)) => Some(format!(
                "a `{kind}` holds it: wait until that is done (the task log of the node shows it); if nothing \
                 runs any more, `qm unlock VMID` or `pct unlock VMID` on the node takes the lock away",
            )),
            Reason::Locked(Lock::Busy) => {
                plain("another task works on it: try again when that is done")
            }
            Reason::Modified => plain(
                "somebody else changed it a moment ago: run the same command again, it looks anew at what there is",
            ),
            Reason::NoQuorum => plain(
                "the cluster has no majority of nodes and changes nothing: `pvecm status` on a node shows who is \
                 missing; bring them back first",
            ),
            Reason::Unreachable => plain(
                "check the address and the port (8006) in the overlay, and that a firewall lets this machine \
                 through; any node of the cluster will do",
            ),
            Reason::Untrusted { expected: Some(_), met: Some(_) } => plain(
                "`pvenode cert info` on the node shows the right fingerprint. If it is the one above, the \
                 certificate was renewed: put it into the overlay. If it is not, something else answers at this \
                 address. Do not take it from this message alone",
            ),
            Reason::Untrusted { met: Some(_), .. } => plain(
                "give the certificate of the cluster's own authority, `/etc/pve/pve-root-ca.pem` of any node, or \
                 the fingerprint that `pvenode cert info` shows on the node; an expired certificate is renewed by \
                 `pvecm updatecerts --force` there",
            ),
            Reason::Untrusted { met: None, .. } => {
                plain("expected a server that speaks TLS 1.2 or 1.3 at this address and port")
            }
            Reason::Interrupted => plain(
                "whether it was done is not known: run the same command again, it looks at what there is and goes \
                 on from there",
            ),
            Reason::Unsupported => plain("imgbuild needs Proxmox VE 8.4 or newer"),
            Reason::NodeUnreachable(_) => plain(
                "the node that it is about is down, or cut off from the one that was asked: \
                 `pvecm status` and the node's console say more",
            ),
            Reason::Task { upid, .. } => {
                Some(format!("`pvenode task log {upid}` on `{}` shows all of it", upid.node()))
            }
            Reason::StillRunning { upid, .. } => Some(format!(
                "it goes on by itself: `pvenode task log {upid}` on `{}` shows what it does; run the same \
                 command again when it is done",
                upid.node()
            )),
            Reason::Garbled => plain(
                "is it really Proxmox VE, and its port 8006? A proxy on the way may have answered instead",
            ),
            Reason::Source => plain("build the artifact anew, then run the same command again"),
            Reason::NotFound => plain(
                "it was removed, or is on another node by now: run the same command again, it looks anew at what \
                 there is",
            ),
            Reason::AlreadyExists => plain(
                "another guest has taken this number: run the same command again, it takes the next that is free",
            ),
            Reason::Other(_) if self.0.message.contains(" does not support ") => plain(
                "an administrator allows it: `pvesm set STORAGE --content …` on a node, with all types that the storage \
                 shall have; `/etc/pve/storage.cfg` has those of now",
            ),
            Reason::Stopped | Reason::Parameters(_) | Reason::Other(_) => None,
        }
    }
}
