//! Talks to the agent in a virtual machine: JSON texts, one a line, over a socket (QEMU Guest Agent
//! Protocol Reference, qemu-ga-ref(7)).

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Output;

/// The longest answer that is taken, in bytes. The agent itself keeps 16 MiB of each stream of a
/// command (qga/commands.c, `GUEST_EXEC_MAX_OUTPUT`), which base64 makes a third longer.
const ANSWER_LIMIT: usize = 48 << 20;

/// How long an agent that was just there may take for one answer. Emulated machines are slow.
const ANSWER: Duration = Duration::from_secs(30);

/// How long one attempt to be heard takes before another one is made.
const ATTEMPT: Duration = Duration::from_secs(2);

/// Precedes a synchronising answer, and resets the parser of whoever reads it.
const SENTINEL: u8 = 0xff;

/// The whole environment of commands in the guest.
const ENVIRONMENT: [&str; 2] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8"];

/// Why the agent could not be asked.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// No answer in time.
    #[error("the guest agent does not answer")]
    #[diagnostic(help("the image needs the package qemu-guest-agent"))]
    Silent,
    /// The machine has gone.
    #[error("the connection to the guest agent is closed")]
    Closed(#[source] std::io::Error),
    /// The agent does not do what it is asked.
    #[error("the guest agent refuses {command}: {reason}")]
    Refused {
        /// The command.
        command: String,
        /// What it says.
        reason: String,
    },
    /// Not what the protocol says.
    #[error("the guest agent's answer to {command} cannot be read: {reason}")]
    Garbled {
        /// The command.
        command: String,
        /// What is wrong.
        reason: String,
    },
}

/// A conversation with an agent.
#[derive(Debug)]
pub struct Agent {
    stream: UnixStream,
    /// Read, but not yet a whole line.
    pending: Vec<u8>,
    /// Identifies the last synchronisation.
    number: u64,
    /// Whether the next answer is that to the next question.
    synchronised: bool,
}

/// An interface of a guest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    #[serde(rename = "hardware-address")]
    pub mac: Option<String>,
    /// Its addresses.
    #[serde(rename = "ip-addresses", default)]
    pub addresses: Vec<InterfaceAddress>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct InterfaceAddress {
    /// The address.
    #[serde(rename = "ip-address")]
    pub address: String,
    /// The length of the network's prefix.
    pub prefix: u8,
}

#[derive(Deserialize)]
struct Started {
    pid: i64,
}

#[derive(Deserialize)]
struct Status {
    exited: bool,
    exitcode: Option<i32>,
    #[serde(rename = "out-data", default)]
    stdout: String,
    #[serde(rename = "err-data", default)]
    stderr: String,
}

impl Agent {
    /// Talks over `stream`. Nothing is said yet.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, pending: Vec::new(), number: 0, synchronised: false }
    }

    /// Waits until the agent answers, and throws away whatever it may have said before.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`] after `timeout`; [`Error::Closed`].
    pub fn synchronise(&mut self, timeout: Duration) -> Result<(), Error> {
        let deadline = Instant::now() + timeout;
        loop {
            self.number += 1;
            self.send("guest-sync-delimited", Some(json!({ "id": self.number })), true)?;
            let attempt = deadline.min(Instant::now() + ATTEMPT);
            match self.find_number(attempt) {
                Ok(()) => {
                    self.synchronised = true;
                    return Ok(());
                }
                Err(Error::Silent) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads up to the answer that has the number of the last synchronisation.
    fn find_number(&mut self, deadline: Instant) -> Result<(), Error> {
        loop {
            let line = self.line(deadline)?;
            let start = line.iter().rposition(|byte| *byte == SENTINEL).map_or(0, |at| at + 1);
            let answer: Option<Value> =
                line.get(start..).and_then(|text| serde_json::from_slice(text).ok());
            let number = answer.and_then(|answer| answer.get("return")?.as_u64());
            if number == Some(self.number) {
                return Ok(());
            }
        }
    }

    /// Whether the agent is there.
    ///
    /// # Errors
    ///
    /// [`Error::Silent`] after `timeout`; [`Error::Closed`].
    pub fn ping(&mut self, timeout: Duration) -> Result<(), Error> {
        self.call("guest-ping", None, timeout).map(drop)
    }

    /// Runs a program, whose path is the first of `argv`, and waits for it. None if it has not ended within
    /// `timeout`; it goes on then.
    ///
    /// # Errors
    ///
    /// When the agent does not answer, or cannot start the program.
    pub fn execute(&mut self, argv: &[&str], timeout: Duration) -> Result<Option<Output>, Error> {
        const COMMAND: &str = "guest-exec";
        let deadline = Instant::now() + timeout;
        let (program, arguments) = argv.split_first().unwrap_or((&"", &[]));
        let order = json!({
            "path": program, "arg": arguments, "env": ENVIRONMENT, "capture-output": true,
        });
        let Started { pid } = read(COMMAND, self.call(COMMAND, Some(order), ANSWER)?)?;
        let mut pause = Duration::from_millis(20);
        loop {
            let status = self.call("guest-exec-status", Some(json!({ "pid": pid })), ANSWER)?;
            let status: Status = read("guest-exec-status", status)?;
            if status.exited {
                let decode = |text: &str| {
                    STANDARD.decode(text).map_err(|error| garbled("guest-exec-status", error))
                };
                let (stdout, stderr) = (decode(&status.stdout)?, decode(&status.stderr)?);
                return Ok(Some(Output { code: status.exitcode, stdout, stderr }));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// The guest's interfaces.
    ///
    /// # Errors
    ///
    /// When the agent does not answer or has none to tell of.
    pub fn interfaces(&mut self) -> Result<Vec<Interface>, Error> {
        const COMMAND: &str = "guest-network-get-interfaces";
        read(COMMAND, self.call(COMMAND, None, ANSWER)?)
    }

    /// Asks the guest to power off, or with `reboot` to start again. There is no answer.
    ///
    /// # Errors
    ///
    /// When the agent is not there.
    pub fn shut_down(&mut self, reboot: bool) -> Result<(), Error> {
        if !self.synchronised {
            self.synchronise(ANSWER)?;
        }
        let mode = if reboot { "reboot" } else { "powerdown" };
        self.send("guest-shutdown", Some(json!({ "mode": mode })), false)?;
        self.synchronised = false;
        Ok(())
    }

    /// Asks and waits for the answer.
    fn call(
        &mut self,
        command: &str,
        arguments: Option<Value>,
        timeout: Duration,
    ) -> Result<Value, Error> {
        if !self.synchronised {
            self.synchronise(timeout)?;
        }
        // Until the answer is here, the next thing read may be it.
        self.synchronised = false;
        self.send(command, arguments, false)?;
        let line = self.line(Instant::now() + timeout)?;
        let mut answer: Value =
            serde_json::from_slice(&line).map_err(|error| garbled(command, error))?;
        self.synchronised = true;
        if let Some(value) = answer.get_mut("return") {
            return Ok(value.take());
        }
        match answer.get("error").and_then(|error| error.get("desc")).and_then(Value::as_str) {
            Some(reason) => {
                Err(Error::Refused { command: command.to_owned(), reason: reason.to_owned() })
            }
            None => Err(garbled(command, "neither `return` nor `error`")),
        }
    }

    fn send(&mut self, command: &str, arguments: Option<Value>, reset: bool) -> Result<(), Error> {
        let mut order = json!({ "execute": command });
        if let Some((arguments, order)) = arguments.zip(order.as_object_mut()) {
            order.insert("arguments".to_owned(), arguments);
        }
        let mut text = Vec::new();
        if reset {
            text.push(SENTINEL);
        }
        text.extend(order.to_string().into_bytes());
        text.push(b'\n');
        let sent = self.stream.set_write_timeout(Some(ANSWER));
        match sent.and_then(|()| self.stream.write_all(&text)) {
            Ok(()) => Ok(()),
            Err(error) if is_timeout(&error) => Err(Error::Silent),
            Err(error) => Err(Error::Closed(error)),
        }
    }

    /// The next line, without its end.
    fn line(&mut self, deadline: Instant) -> Result<Vec<u8>, Error> {
        let mut chunk = vec![0; 64 << 10];
        let mut searched = 0;
        loop {
            let end = memchr::memchr(b'\n', self.pending.get(searched..).unwrap_or_default());
            if let Some(end) = end {
                let rest = self.pending.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                return Ok(line);
            }
            searched = self.pending.len();
            if searched > ANSWER_LIMIT {
                self.pending.clear();
                return Err(garbled("anything", "it is too long"));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::Silent);
            }
            let read = self.stream.set_read_timeout(Some(left));
            match read.and_then(|()| self.stream.read(&mut chunk)) {
                Ok(0) => return Err(Error::Closed(ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.pending.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if is_timeout(&error) => return Err(Error::Silent),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::Closed(error)),
            }
        }
    }
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

fn garbled(command: &str, reason: impl ToString) -> Error {
    Error::Garbled { command: command.to_owned(), reason: reason.to_string() }
}

fn read<T: serde::de::DeserializeOwned>(command: &str, value: Value) -> Result<T, Error> {
    serde_json::from_value(value).map_err(|error| garbled(command, error))
}

#[cfg(test)]
mod tests;
