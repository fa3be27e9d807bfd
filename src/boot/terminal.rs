//! Joins the terminal of this process to the console of a guest.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcsetattr};

/// Ctrl-], with which the user leaves.
const LEAVE: u8 = 0x1d;

/// A terminal that hands on every key. Dropping it gives it back as it was.
struct Raw(Option<Termios>);

impl Raw {
    fn new() -> io::Result<Self> {
        let terminal = io::stdin();
        if !isatty(&terminal) {
            return Ok(Self(None));
        }
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&terminal, OptionalActions::Now, &raw)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // A terminal that has gone needs nothing.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, before);
        }
    }
}

/// Carries keys to `console` and what that says to the terminal, until the user leaves with Ctrl-] or
/// either end closes.
pub(super) fn join(console: &mut UnixStream) -> io::Result<()> {
    let _raw = Raw::new()?;
    // Asks whatever waits there to show itself.
    console.write_all(b"\r")?;
    let (input, mut output) = (io::stdin(), io::stdout());
    let mut chunk = [0; 4096];
    loop {
        let (from_user, from_guest) = {
            let keys = input.as_fd();
            let mut wanted =
                [PollFd::new(&keys, PollFlags::IN), PollFd::new(&*console, PollFlags::IN)];
            match poll(&mut wanted, None) {
                Err(rustix::io::Errno::INTR) => continue,
                result => result?,
            };
            (!wanted[0].revents().is_empty(), !wanted[1].revents().is_empty())
        };
        if from_guest {
            let count = console.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            output.write_all(chunk.get(..count).unwrap_or_default())?;
            output.flush()?;
        }
        if from_user {
            // Unbuffered, because poll(2) knows nothing of what std has read ahead.
            let count = rustix::io::read(&input, &mut chunk)?;
            let keys = chunk.get(..count).unwrap_or_default();
            if let Some(end) = keys.iter().position(|key| *key == LEAVE) {
                return console.write_all(keys.get(..end).unwrap_or_default());
            }
            if count == 0 {
                return Ok(());
            }
            console.write_all(keys)?;
        }
    }
}
