//! A private host that outlives the command that has made it, in one directory:
//!
//! | file | what |
//! |---|---|
//! | `lock` | locked (flock(2)) by the holder, imgbuild in a session of its own, as long as the host is there |
//! | `pid` | the number of the host's first process |
//! | `log` | what holder and host complain of |
//!
//! The host dies with its holder, and the holder removes the host's control group when the host has died.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::host::{OWN_GROUP, PrivateHost};
use super::stage::{again, say};
use super::{Error, cgroup, output};

/// How long a holder may take to make its host, or to remove what is left of it.
const PATIENCE: Duration = Duration::from_secs(30);

/// A private host that may or may not run.
#[derive(Clone, Debug)]
pub struct HeldHost {
    directory: PathBuf,
    cgroup: String,
}

impl HeldHost {
    /// The host in `directory`, with the control group `cgroup`.
    pub fn new(directory: PathBuf, cgroup: String) -> Self {
        Self { directory, cgroup }
    }

    /// Where the control groups of its containers are: what `NAME` runs is in `lxc.payload.NAME`, and what lxc
    /// runs for it is in `lxc.monitor.NAME`.
    ///
    /// # Errors
    ///
    /// [`Error::NoCgroup`].
    pub fn containers(&self) -> Result<PathBuf, Error> {
        Ok(self.cgroup()?.join(OWN_GROUP))
    }

    fn cgroup(&self) -> Result<PathBuf, Error> {
        let mounts = Path::new("/proc/mounts");
        let found = cgroup::find(OsStr::new(&self.cgroup)).map_err(Error::io("read", mounts))?;
        found.ok_or(Error::NoCgroup)
    }

    /// The host, if it runs. `executable` is imgbuild.
    ///
    /// # Errors
    ///
    /// When its files cannot be read.
    pub fn running(&self, executable: &Path) -> Result<Option<PrivateHost>, Error> {
        let start = Instant::now();
        while self.is_held()? {
            let path = self.directory.join(PID);
            let text = fs::read_to_string(&path).unwrap_or_default();
            if let Ok(pid) = text.trim().parse() {
                return Ok(Some(PrivateHost::new(executable.to_owned(), pid)));
            }
            // It is being made, or is dying.
            if start.elapsed() > PATIENCE {
                return Err(Error::step("find the private host", self.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(None)
    }

    fn is_held(&self) -> Result<bool, Error> {
        let path = self.directory.join(LOCK);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        // A shared one, so that two who look do not see each other.
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// Makes the host, with `addresses` on its bridge. What is left of one that has died is removed first.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or is there already.
    pub fn start(&self, executable: &Path, addresses: &[String]) -> Result<PrivateHost, Error> {
        fs::create_dir_all(&self.directory).map_err(Error::io("make", &self.directory))?;
        let path = self.directory.join("log");
        let log = File::create(&path).map_err(Error::io("write", &path))?;
        let mut holder = again(executable, "hold")
            .arg(&self.directory)
            .arg(&self.cgroup)
            .args(addresses)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(Error::io("execute", executable))?;
        let mut line = String::new();
        if let Some(output) = holder.stdout.take() {
            BufReader::new(output)
                .read_line(&mut line)
                .map_err(Error::io("execute", executable))?;
        }
        match line.trim().split_once(' ') {
            Some(("pid", pid)) => {
                let pid = pid.parse().map_err(|error| Error::step("make a private host", error))?;
                Ok(PrivateHost::new(executable.to_owned(), pid))
            }
            Some(("refused", "cgroup")) => Err(Error::NoCgroup),
            Some(("refused", why)) => Err(Error::step("make a private host", why)),
            _ => Err(Error::step("make a private host", self.log())),
        }
    }

    fn log(&self) -> String {
        output::end_of(&self.directory.join("log"))
    }

    /// Ends the host with everything that runs on it, and waits until its control group is gone.
    ///
    /// # Errors
    ///
    /// [`Error::Left`].
    pub fn end(&self, executable: &Path) -> Result<(), Error> {
        if let Some(host) = self.running(executable)?
            && let Some(pid) = i32::try_from(host.pid()).ok().and_then(Pid::from_raw)
        {
            // Refused only if it has just ended.
            let _ = kill_process(pid, Signal::KILL);
        }
        let start = Instant::now();
        while self.is_held()? {
            if start.elapsed() > PATIENCE {
                return Err(Error::Left(format!("the holder of {}", self.directory.display())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let cgroup = self.cgroup()?;
        match !cgroup.exists() || cgroup::remove(&cgroup) {
            true => Ok(()),
            false => Err(Error::Left(cgroup.display().to_string())),
        }
    }
}

const LOCK: &str = "lock";
const PID: &str = "pid";

/// The holder: `DIRECTORY CGROUP ADDRESS/PREFIX…`.
pub(super) fn hold(arguments: &[OsString]) -> ExitCode {
    // Away from the terminal: it lives longer than whoever sits there.
    let _ = rustix::process::setsid();
    let [directory, name, addresses @ ..] = arguments else { return ExitCode::FAILURE };
    let directory = Path::new(directory);
    match held(directory, name, addresses) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = say(&format!("refused {}", error.to_string().replace('\n', " ")));
            ExitCode::FAILURE
        }
    }
}

fn held(directory: &Path, name: &OsStr, addresses: &[OsString]) -> io::Result<()> {
    let lock = File::create(directory.join(LOCK))?;
    lock.try_lock().map_err(|_| io::Error::other("it is there already"))?;
    let pid = directory.join(PID);
    match fs::remove_file(&pid) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // A holder that was killed has left it.
    if let Some(old) = cgroup::find(name)?.filter(|old| old.exists())
        && !cgroup::remove(&old)
    {
        let text = format!("processes of the host before are still in {}", old.display());
        return Err(io::Error::other(text));
    }
    let Some(cgroup) = cgroup::make(name)? else { return Err(io::Error::other("cgroup")) };
    let ended = live(directory, &cgroup, addresses);
    cgroup::remove(&cgroup);
    let _ = fs::remove_file(&pid);
    ended
}

/// Makes the host, and returns when it has died.
fn live(directory: &Path, cgroup: &Path, addresses: &[OsString]) -> io::Result<()> {
    let mut command: Command = again(Path::new("/proc/self/exe"), "leave");
    command.arg(directory).arg(cgroup).args(addresses);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    match announce(directory, &mut child) {
        Ok(()) => {}
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            return Err(error);
        }
    }
    child.wait().map(drop)
}

fn announce(directory: &Path, child: &mut Child) -> io::Result<()> {
    let output = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut lines = BufReader::new(output).lines();
    let mut number = None;
    let number = loop {
        let Some(line) = lines.next().transpose()? else {
            return Err(io::Error::other(output::end_of(&directory.join("log"))));
        };
        match (line.split_once(' '), number.take()) {
            (Some(("pid", pid)), _) => number = Some(pid.to_owned()),
            (None, Some(pid)) if line == "ready" => break pid,
            (_, before) => number = before,
        }
    };
    let temporary = directory.join(".pid");
    fs::write(&temporary, &number)?;
    fs::rename(&temporary, directory.join(PID))?;
    say(&format!("pid {number}"))
}
