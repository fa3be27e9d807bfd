//! Runs commands with a limit to their time and output.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// The most of each stream that is kept, in bytes.
pub(super) const OUTPUT_LIMIT: u64 = 1 << 20;

/// The most of a log that is read, in bytes.
const LOG_LIMIT: u64 = 4 << 20;

/// The end of the text at `path`; nothing if it cannot be read.
pub(super) fn end_of(path: &Path) -> String {
    let mut text = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_LIMIT)))?;
        file.take(LOG_LIMIT).read_to_end(&mut text)
    });
    // What has been read before an error is still worth showing.
    let _ = read;
    String::from_utf8_lossy(&text).into_owned()
}

/// How a command has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output, the first mebibyte of it.
    pub stdout: Vec<u8>,
    /// Standard error, the first mebibyte of it.
    pub stderr: Vec<u8>,
}

impl Output {
    /// Whether the command has succeeded.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output as text, without blanks around it.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }

    /// Both streams as text, standard error first.
    pub fn complaint(&self) -> String {
        let (errors, text) = (String::from_utf8_lossy(&self.stderr), self.text());
        format!("{}\n{text}", errors.trim()).trim().to_owned()
    }
}

/// Runs `command` to its end; none if it has not ended within `timeout`, and then it is killed.
pub(super) fn run(command: &mut Command, timeout: Duration) -> std::io::Result<Option<Output>> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let Some(status) = wait(&mut child, timeout)? else {
        child.kill()?;
        child.wait()?;
        return Ok(None);
    };
    // What the command has left running may hold its streams open: that is not waited for.
    let rest = Duration::from_millis(500);
    Ok(Some(Output {
        code: status.code(),
        stdout: stdout.recv_timeout(rest).unwrap_or_default(),
        stderr: stderr.recv_timeout(rest).unwrap_or_default(),
    }))
}

/// Waits for `child`; none if it has not ended within `timeout`.
pub(super) fn wait(child: &mut Child, timeout: Duration) -> std::io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() >= timeout {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn collect(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        if let Some(mut stream) = stream {
            // A stream that breaks has said what it had to say.
            let _ = stream.by_ref().take(OUTPUT_LIMIT).read_to_end(&mut kept);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
        let _ = sender.send(kept);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_code_are_those_of_the_command() {
        let output = run(&mut shell("echo a; echo b >&2; exit 3"), Duration::from_secs(10));
        let output = output.unwrap().unwrap();
        assert_eq!((output.code, output.text()), (Some(3), "a".to_owned()));
        assert_eq!(output.complaint(), "b\na");
    }

    #[test]
    fn only_the_end_of_a_long_log_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert_eq!(end_of(&path), "");
        std::fs::write(&path, "x".repeat(LOG_LIMIT as usize) + "end").unwrap();
        let text = end_of(&path);
        assert!(text.len() as u64 == LOG_LIMIT && text.ends_with("xend"));
    }

    #[test]
    fn more_than_the_limit_is_read_but_not_kept() {
        let output = run(&mut shell("head -c 3000000 /dev/zero"), Duration::from_secs(10));
        assert_eq!(output.unwrap().unwrap().stdout.len() as u64, OUTPUT_LIMIT);
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed() {
        let start = Instant::now();
        assert_eq!(run(&mut shell("exec sleep 60"), Duration::from_millis(50)).unwrap(), None);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
