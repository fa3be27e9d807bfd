//! Finds out whether this machine can run guests on its own processors.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::{Accelerator, PROGRAM};
use crate::boot::Error;
use crate::boot::output;
use crate::boot::stage::again;

/// QEMU before this version crashes the kernel of Debian 13 when it emulates a processor.
const OLDEST_EMULATOR: u32 = 8;

/// How long the machine that is only tried gets to run its firmware.
const TRIAL: Duration = Duration::from_millis(500);

/// How long QEMU may take to answer.
const ANSWER: Duration = Duration::from_secs(10);

impl Accelerator {
    /// KVM if it really works here, or else emulation. `executable` is imgbuild.
    ///
    /// # Errors
    ///
    /// When QEMU is not installed, or too old to emulate.
    pub fn detect(executable: &Path) -> Result<Self, Error> {
        super::available()?;
        let kvm = File::options().read(true).write(true).open("/dev/kvm").is_ok();
        if kvm && runs_on_kvm(executable) {
            return Ok(Self::Kvm);
        }
        let mut command = Command::new(PROGRAM);
        let said = output::run(command.arg("--version"), ANSWER);
        let said = said.map_err(Error::io("execute", Path::new(PROGRAM)))?.unwrap_or_default();
        match version(&said.text()) {
            Some((text, major)) if major < OLDEST_EMULATOR => {
                Err(Error::OldQemu { version: text.to_owned() })
            }
            _ => Ok(Self::Emulation),
        }
    }
}

/// The version in what `--version` prints, and the part before its first dot.
fn version(text: &str) -> Option<(&str, u32)> {
    let version = text.strip_prefix("QEMU emulator version ")?.split_whitespace().next()?;
    Some((version, version.split('.').next()?.parse().ok()?))
}

/// Runs the firmware of a machine without disks for a moment: a /dev/kvm that opens may still fail at
/// making a machine, a processor, or at the first instruction.
fn runs_on_kvm(executable: &Path) -> bool {
    let mut command = again(executable, "execute");
    command.arg(PROGRAM);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35"]);
    command.args(["-accel", "kvm", "-cpu", "host", "-m", "64", "-qmp", "stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let works = child.stdin.take().zip(child.stdout.take()).is_some_and(|(mut input, output)| {
        let lines = lines(output);
        let mut ask = |command: &str| {
            writeln!(input, "{{\"execute\":\"{command}\"}}").ok()?;
            answer(&lines)
        };
        // QEMU Machine Protocol: nothing is answered before the capabilities are agreed on.
        ask("qmp_capabilities").is_some() && {
            std::thread::sleep(TRIAL);
            ask("query-status").is_some_and(|status| status.contains("\"status\": \"running\""))
        }
    });
    // Both fail only if it has ended.
    let _ = child.kill();
    let _ = child.wait();
    works
}

fn lines(output: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The next answer; events and the greeting are passed over.
fn answer(lines: &Receiver<String>) -> Option<String> {
    let deadline = Instant::now() + ANSWER;
    loop {
        let line = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()?;
        if line.contains("\"return\"") {
            return Some(line);
        }
        if line.contains("\"error\"") {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_qemu_says() {
        let text = "QEMU emulator version 7.2.17 (Debian 1:7.2+dfsg-7+deb12u13)\nCopyright";
        assert_eq!(version(text), Some(("7.2.17", 7)));
        assert_eq!(version("QEMU emulator version 10.0.2"), Some(("10.0.2", 10)));
        assert_eq!(version("something else"), None);
    }
}
