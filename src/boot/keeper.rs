//! The keeper: see [the module](super).

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::stage::{again, say};
use super::{Error, cgroup, output};

/// How long the keeper may take for anything that it does by itself.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the keeper starts. Its standard error, and its standard output unless that is a stage of ours,
/// go to the file `log` in the keeper's directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Launch {
    /// A program.
    Program {
        /// Program and arguments.
        argv: Vec<OsString>,
        /// Variables besides those of imgbuild.
        environment: Vec<(OsString, OsString)>,
    },
    /// The containers' private host, with these addresses on its bridge.
    Host(Vec<String>),
}

/// A running keeper. Dropping it ends the guest and removes what is the keeper's.
pub(super) struct Keeper {
    process: Child,
    orders: Option<ChildStdin>,
    lines: Receiver<String>,
    directory: PathBuf,
    /// Why the keeper could not start the guest, if it could not.
    refusal: String,
    ended: bool,
}

impl Keeper {
    /// Starts a keeper with a new directory, and with a new control group if `cgroup`. `executable` is
    /// imgbuild.
    pub(super) fn start(executable: &Path, cgroup: bool) -> Result<Self, Error> {
        let mut process = again(executable, "keep")
            .arg(temporary_directory())
            .arg(if cgroup { "cgroup" } else { "-" })
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("execute", executable))?;
        let (sender, lines) = channel();
        if let Some(output) = process.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        let orders = process.stdin.take();
        let directory = PathBuf::new();
        let mut keeper =
            Self { process, orders, lines, directory, refusal: String::new(), ended: false };
        keeper.directory = keeper.expect("directory", PATIENCE)?.into();
        Ok(keeper)
    }

    /// The guest's directory, for everything that shall be gone with it.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the guest.
    pub(super) fn launch(&mut self, launch: &Launch) -> Result<(), Error> {
        let order = serde_json::to_string(launch).map_err(io::Error::from);
        let sent = match (&mut self.orders, order) {
            (Some(orders), Ok(order)) => writeln!(orders, "{order}"),
            (None, _) => Err(io::ErrorKind::BrokenPipe.into()),
            (_, Err(error)) => Err(error),
        };
        sent.map_err(|error| Error::step("start the guest", error))
    }

    /// Waits for the line `word ARGUMENT` and returns the argument.
    pub(super) fn expect(&mut self, word: &str, timeout: Duration) -> Result<String, Error> {
        let action = "prepare a place for the guest";
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = match self.lines.recv_timeout(left) {
                Ok(line) => line,
                Err(RecvTimeoutError::Timeout) => {
                    return Err(Error::step(action, format!("no `{word}` within {timeout:?}")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::step(action, self.log()));
                }
            };
            match line.split_once(' ').unwrap_or((&line, "")) {
                (first, rest) if first == word => return Ok(rest.to_owned()),
                ("refused", "cgroup") => return Err(Error::NoCgroup),
                ("refused", rest) => return Err(Error::step(action, rest)),
                ("ended", code) => {
                    self.ended = true;
                    let log = self.log();
                    let cause = if log.trim().is_empty() { code } else { &log };
                    return Err(Error::step(action, cause));
                }
                _ => {}
            }
        }
    }

    /// Whether the guest has ended.
    pub(super) fn has_ended(&mut self) -> bool {
        loop {
            match self.lines.try_recv() {
                Ok(line) => {
                    self.ended |= line.starts_with("ended ");
                    if let Some(reason) = line.strip_prefix("refused ") {
                        self.refusal = reason.to_owned();
                    }
                }
                Err(TryRecvError::Empty) => return self.ended,
                // The keeper itself has ended, and with it the guest.
                Err(TryRecvError::Disconnected) => return true,
            }
        }
    }

    /// What the guest's process has written, or why there is none.
    pub(super) fn log(&self) -> String {
        format!("{}{}", output::end_of(&self.directory.join("log")), self.refusal)
    }

    /// Ends the guest and waits until all that was the keeper's has been removed.
    pub(super) fn close(mut self) -> Result<(), Error> {
        self.end();
        let mut lines = self.lines.iter();
        match lines.find_map(|line| line.strip_prefix("left ").map(str::to_owned)) {
            Some(what) => Err(Error::Left(what)),
            None => Ok(()),
        }
    }

    fn end(&mut self) {
        drop(self.orders.take());
        // A keeper that cannot be waited for is not there any more.
        let _ = self.process.wait();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

/// Guests are large and may be worth a look while they run, so they are kept where temporary files survive
/// (file-hierarchy(7)). The path becomes part of configuration files and socket addresses: one that
/// is long or has strange characters is not used.
fn temporary_directory() -> PathBuf {
    let plain = |path: &Path| {
        path.is_absolute()
            && path.as_os_str().len() <= 60
            && path.as_os_str().as_encoded_bytes().iter().all(|byte| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-')
            })
    };
    let chosen = std::env::var_os("TMPDIR").map(PathBuf::from);
    chosen.filter(|path| plain(path)).unwrap_or_else(|| "/var/tmp".into())
}

/// The keeper's own side.
pub(super) fn keep(arguments: &[OsString]) -> ExitCode {
    // Away from the terminal, whose interrupts would leave the work undone.
    let _ = rustix::process::setsid();
    let [parent, cgroup] = arguments else { return ExitCode::FAILURE };
    // Said or not said: once imgbuild has gone nobody listens, and the work is the same.
    let refuse = |cause: &str| {
        let _ = say(&format!("refused {}", cause.replace('\n', " ")));
        ExitCode::FAILURE
    };
    let builder = &mut tempfile::Builder::new();
    // Ids of a container own nothing on the way to their own files: let them pass, but not look.
    let builder = builder.prefix("imgbuild-boot-").permissions(Permissions::from_mode(0o711));
    let directory = match builder.tempdir_in(parent) {
        Ok(directory) => directory,
        Err(error) => return refuse(&format!("{}: {error}", Path::new(parent).display())),
    };
    let cgroup = match cgroup == "cgroup" {
        false => None,
        true => match cgroup::make(directory.path().file_name().unwrap_or_default()) {
            Ok(Some(path)) => Some(path),
            Ok(None) => return refuse("cgroup"),
            Err(error) => return refuse(&format!("making a control group: {error}")),
        },
    };
    let _ = say(&format!("directory {}", directory.path().display()));
    let guest = serve(directory.path(), cgroup.as_deref());
    if let Err(error) = &guest {
        refuse(&error.to_string());
    }
    clean_up(guest.ok().flatten(), cgroup, directory)
}

/// Starts what is ordered, and returns when there is nobody any more to give orders.
fn serve(directory: &Path, cgroup: Option<&Path>) -> io::Result<Option<Child>> {
    let mut orders = io::stdin().lock();
    let mut order = String::new();
    if orders.read_line(&mut order)? == 0 {
        return Ok(None);
    }
    let guest = start(directory, cgroup, &serde_json::from_str(&order)?)?;
    if let Some(pid) = i32::try_from(guest.id()).ok().and_then(Pid::from_raw) {
        std::thread::spawn(move || {
            // Without taking its status: as long as it is there, its number is nobody else's.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            if let Ok(Some(status)) = waitid(WaitId::Pid(pid), options) {
                let code = status
                    .exit_status()
                    .map_or("by a signal".to_owned(), |code| format!("with code {code}"));
                let _ = say(&format!("ended {code}"));
            }
        });
    }
    io::copy(&mut orders, &mut io::sink())?;
    Ok(Some(guest))
}

fn start(directory: &Path, cgroup: Option<&Path>, launch: &Launch) -> io::Result<Child> {
    let log = fs::File::options().create(true).append(true).open(directory.join("log"))?;
    let myself = Path::new("/proc/self/exe");
    let mut command: Command;
    match launch {
        Launch::Program { argv, environment } => {
            command = again(myself, "execute");
            command.args(argv).envs(environment.iter().map(|(name, value)| (name, value)));
            command.stdout(log.try_clone()?);
        }
        Launch::Host(addresses) => {
            command = again(myself, "leave");
            command.arg(directory).arg(cgroup.unwrap_or(Path::new(""))).args(addresses);
        }
    }
    command.current_dir(directory).stdin(Stdio::null()).stderr(log).spawn()
}

fn clean_up(guest: Option<Child>, cgroup: Option<PathBuf>, directory: TempDir) -> ExitCode {
    if let Some(mut guest) = guest {
        // Both fail only if it has ended already.
        let _ = guest.kill();
        let _ = guest.wait();
    }
    if let Some(cgroup) = cgroup.filter(|cgroup| !cgroup::remove(cgroup)) {
        let _ = say(&format!("left {}", cgroup.display()));
    }
    let path = directory.path().to_owned();
    if directory.close().is_err() && fs::remove_dir_all(&path).is_err() {
        let _ = say(&format!("left {}", path.display()));
    }
    ExitCode::SUCCESS
}
