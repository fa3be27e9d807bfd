//! Runs commands of an image in isolation: user, mount, pid, ipc, uts, cgroup and network
//! namespaces of their own, with nothing of the host but the kernel.
//!
//! Namespaces are entered by executing imgbuild again instead of forking, because a process
//! with threads may not enter a user namespace (unshare(2), `EINVAL`) and because it needs no
//! unsafe code. One worker consists of these processes:
//!
//! 1. the caller starts **outer**, which leaves the caller's namespaces, has the caller map its
//!    ids (0 to 65535) and starts
//! 2. **worker**, pid 1 of the new namespaces and root in them. It still sees the host's
//!    files, with the rights of the calling user: it unpacks trees, reads them and writes layers.
//!    Code of the image never runs in it.
//! 3. For each command of the image the worker starts **enter**, which makes another pid and mount
//!    namespace, and that starts **init**: pid 1 there, its root changed to the image's tree by
//!    pivot_root(2), all capabilities dropped that package scripts do not need, no way to gain
//!    privileges. It starts the command and waits for it; with it dies whatever was left running.
//!
//! Every process asks the kernel to be killed with its parent (prctl(2), `PR_SET_PDEATHSIG`), so
//! killing imgbuild at any instant leaves no process behind, and no mount: mounts live in the
//! namespaces.

mod diagnose;
mod identity;
mod init;
mod namespace;
mod stage;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use init::{Invocation, invoke, read_only_executable};
pub(crate) use namespace::unshare;
pub(crate) use stage::die_with_parent;
pub use stage::{Stage, prepare_worker, requested_stage, run_stage};

/// The argument that makes the executable act as a stage of the sandbox instead of a command.
pub const STAGE_ARGUMENT: &str = "__sandbox";

/// Why a sandbox could not be entered or was lost.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// The kernel or its configuration refuses user namespaces.
    #[error("this machine refuses the namespaces that the build sandbox needs: {step}: {cause}")]
    Refused {
        /// What was tried.
        step: String,
        /// The kernel's answer.
        cause: String,
        /// How to mend it on this machine.
        #[help]
        help: String,
    },
    /// A user without a sufficient range of subordinate ids.
    #[error("user `{user}` has no range of 65535 subordinate {kind} ids in {file}")]
    NoSubordinateIds {
        /// The calling user.
        user: String,
        /// `user` or `group`.
        kind: &'static str,
        /// `/etc/subuid` or `/etc/subgid`.
        file: &'static str,
        /// How to get one.
        #[help]
        help: String,
    },
    /// `newuidmap` or `newgidmap` failed or is not installed.
    #[error("cannot map ids into the sandbox with `{helper}`: {cause}")]
    #[diagnostic(help(
        "building as a plain user needs newuidmap and newgidmap (Debian: `apt install uidmap`), \
         setuid root as Debian installs them; building as root needs neither"
    ))]
    IdentityMap {
        /// The program.
        helper: &'static str,
        /// What it said.
        cause: String,
    },
    /// A process of the sandbox could not be started.
    #[error("cannot start the build sandbox from {}", executable.display())]
    Start {
        /// The executable.
        executable: PathBuf,
        /// The cause.
        #[source]
        source: std::io::Error,
    },
    /// The worker ended without an answer.
    #[error("the build sandbox ended unexpectedly{}", tail(.output))]
    #[diagnostic(help(
        "if the machine ran out of memory, give it more or build fewer images at once with `--jobs 1`"
    ))]
    Lost {
        /// The last of what it wrote to its standard error.
        output: String,
    },
    /// The worker said something that is not a message.
    #[error("the build sandbox sent a message that cannot be read: {0}")]
    Protocol(String),
}

fn tail(output: &str) -> String {
    if output.trim().is_empty() { String::new() } else { format!(": {}", output.trim()) }
}

/// A running worker. Dropping it kills it and everything in it.
pub struct Worker {
    outer: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    errors: Option<std::thread::JoinHandle<String>>,
}

impl Worker {
    /// Starts a worker by executing `executable` (imgbuild itself) again. The thread that calls
    /// this must outlive the worker: the kernel ties the worker's life to it.
    ///
    /// # Errors
    /// When the kernel refuses namespaces or the ids cannot be mapped, with what to do about it.
    pub fn start(executable: &Path) -> Result<Self, Error> {
        let mut outer = Command::new(executable)
            .args([STAGE_ARGUMENT, "outer"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| Error::Start { executable: executable.to_owned(), source })?;
        let requests = outer.stdin.take();
        let replies = outer.stdout.take().map(BufReader::new);
        let errors = outer.stderr.take().map(|mut stream| {
            std::thread::spawn(move || {
                let mut text = Vec::new();
                let _ = stream.read_to_end(&mut text);
                let text = String::from_utf8_lossy(&text).into_owned();
                text.chars().skip(text.chars().count().saturating_sub(4000)).collect()
            })
        });
        let Some(replies) = replies else {
            return Err(Error::Protocol("no standard output".to_owned()));
        };
        let mut worker = Self { outer, requests, replies, errors };
        worker.expect_ready()?;
        identity::map(worker.outer.id())?;
        worker.send_line("mapped")?;
        worker.expect_ready()?;
        Ok(worker)
    }

    /// Sends `request` and returns the answer; whatever the worker reports before it goes to
    /// `event`.
    ///
    /// # Errors
    /// When the worker is lost.
    pub fn request<Q, E, A>(&mut self, request: &Q, event: &mut dyn FnMut(E)) -> Result<A, Error>
    where
        Q: Serialize,
        E: DeserializeOwned,
        A: DeserializeOwned,
    {
        let text = serde_json::to_string(request).map_err(|e| Error::Protocol(e.to_string()))?;
        self.send_line(&text)?;
        loop {
            let line = self.read_line()?;
            let message: Message<E, A> =
                serde_json::from_str(&line).map_err(|e| Error::Protocol(format!("{e}: {line}")))?;
            match message {
                Message::Event(value) => event(value),
                Message::Answer(value) => return Ok(value),
            }
        }
    }

    fn send_line(&mut self, line: &str) -> Result<(), Error> {
        let sent = match &mut self.requests {
            Some(stream) => writeln!(stream, "{line}").and_then(|()| stream.flush()),
            None => Err(std::io::ErrorKind::BrokenPipe.into()),
        };
        sent.map_err(|_| self.lost())
    }

    fn read_line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        match self.replies.read_line(&mut line) {
            Ok(count) if count > 0 => Ok(line),
            _ => Err(self.lost()),
        }
    }

    /// Waits for the line with which a stage says that it has come as far as it should.
    fn expect_ready(&mut self) -> Result<(), Error> {
        let line = self.read_line()?;
        match line.trim_end().split_once('\t') {
            None if line.trim_end() == "ready" => Ok(()),
            Some(("refused", rest)) => {
                let (step, cause) = rest.split_once('\t').unwrap_or((rest, ""));
                Err(Error::Refused {
                    step: step.to_owned(),
                    cause: cause.to_owned(),
                    help: diagnose::remedy(),
                })
            }
            _ => Err(Error::Protocol(line)),
        }
    }

    fn lost(&mut self) -> Error {
        self.requests = None;
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let output = self.errors.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        Error::Lost { output }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Closing its input tells the worker to end by itself, which unmounts in its own time.
        self.requests = None;
        let _ = self.outer.wait();
    }
}

/// What a worker writes: one JSON object a line.
#[derive(Serialize, Deserialize)]
enum Message<E, A> {
    Event(E),
    Answer(A),
}

/// The worker's end of the conversation.
pub struct Channel<R, W> {
    requests: R,
    replies: W,
}

impl<R: BufRead, W: Write> Channel<R, W> {
    /// Talks over the given streams.
    pub fn new(requests: R, replies: W) -> Self {
        Self { requests, replies }
    }

    /// The next request, or none when the caller has gone.
    ///
    /// # Errors
    /// When the stream breaks or the request cannot be read.
    pub fn receive<Q: DeserializeOwned>(&mut self) -> std::io::Result<Option<Q>> {
        let mut line = String::new();
        if self.requests.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line)?))
    }

    /// Reports `event`.
    ///
    /// # Errors
    /// When the caller has gone.
    pub fn event<E: Serialize>(&mut self, event: E) -> std::io::Result<()> {
        self.send(&Message::<E, ()>::Event(event))
    }

    /// Answers the last request.
    ///
    /// # Errors
    /// When the caller has gone.
    pub fn answer<A: Serialize>(&mut self, answer: A) -> std::io::Result<()> {
        self.send(&Message::<(), A>::Answer(answer))
    }

    fn send<T: Serialize>(&mut self, message: &T) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.replies.write_all(&line)?;
        self.replies.flush()
    }
}
