//! Drives the containers of `tests/lab`: a private host made by `lab`, guests made by `container`.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Nothing in the lab takes this long; it only ends a test that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(300);

/// Owner of a volume on the host: what root of a container is outside of it.
const GUEST_ROOT: u32 = 100_000;

/// Why containers cannot be booted here, if they cannot.
pub fn unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("it takes root to make a private lab host".into());
    }
    // Proxmox VE's containers include it, and Debian ships it apart from the program.
    if !Path::new("/usr/share/lxc/config/debian.common.conf").exists() {
        return Some("Debian's package lxc-templates is not installed".into());
    }
    ["lxc-start", "lxc-usernsexec", "newuidmap", "ip", "zstd"]
        .into_iter()
        .find(|tool| !on_path(tool))
        .map(|tool| format!("`{tool}` is not installed (Debian: lxc, uidmap, iproute2, zstd)"))
}

fn on_path(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}

/// Calls `probe` until it returns something.
///
/// # Panics
///
/// After five minutes, with `what` was waited for.
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    wait_up_to(PATIENCE, what, probe)
}

/// As [`wait_for`], for what takes longer.
pub fn wait_up_to<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(start.elapsed() < patience, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(200));
    }
}

/// A private host for containers, gone with everything in it when dropped, or when this process ends.
pub struct Lab {
    directory: PathBuf,
    /// `lab hold`, which removes the lab when its standard input ends.
    holder: Child,
    /// Names of the guests made in it.
    guests: Mutex<Vec<String>>,
}

impl Lab {
    /// Makes a lab whose bridge has the given addresses, each with a prefix length.
    pub fn up(name: &str, addresses: &[&str]) -> Self {
        // Not the directory for temporary files: that may be memory, and guests are large.
        let directory = PathBuf::from(format!("/var/tmp/imgbuild-{}-{name}", std::process::id()));
        let mut holder = script("lab", &directory)
            .arg("hold")
            .args(addresses)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the lab did not come up");
        Self { directory, holder, guests: Mutex::default() }
    }

    /// `tests/lab/container`, inside the lab.
    fn container(&self, verb: &str, guest: &str) -> Command {
        let mut command = script("lab", &self.directory);
        command.arg("run").arg(script_path("container")).args([verb, guest]);
        command
    }

    /// Where everything of it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Makes the journal of a guest part of what a failed test shows.
    pub fn note(&self, name: &str) {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).push(name.to_owned());
    }

    /// A guest that was made, by its name.
    pub fn guest(&self, name: &str) -> Guest<'_> {
        Guest { lab: self, name: name.to_owned() }
    }

    /// Does what `tests/lab/container` can do to a guest. Returns what it prints, or what it complains of.
    pub fn attempt(
        &self,
        verb: &str,
        guest: &str,
        arguments: &[impl AsRef<OsStr>],
    ) -> Result<String, String> {
        let output = self.container(verb, guest).args(arguments).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(format!("{verb} {guest}: {}", text(&output.stderr))),
        }
    }

    /// A new empty volume, owned by the root of containers.
    pub fn volume(&self, name: &str) -> PathBuf {
        let volume = self.directory.join("volumes").join(name);
        fs::create_dir_all(&volume).unwrap();
        std::os::unix::fs::chown(&volume, Some(GUEST_ROOT), Some(GUEST_ROOT)).unwrap();
        volume
    }

    /// A volume with one file for each secret.
    pub fn secrets(&self, guest: &str, secrets: &[(&str, &str)]) -> PathBuf {
        let volume = self.volume(&format!("{guest}.secrets"));
        for (name, value) in secrets {
            let file = volume.join(name);
            fs::write(&file, format!("{value}\n")).unwrap();
            std::os::unix::fs::chown(&file, Some(GUEST_ROOT), Some(GUEST_ROOT)).unwrap();
        }
        volume
    }

    /// Makes a guest from a template. Volumes are pairs of a directory here and a path in the guest.
    pub fn create(
        &self,
        name: &str,
        template: &Path,
        address: &str,
        gateway: &str,
        volumes: &[(&Path, &str)],
    ) -> Guest<'_> {
        let mut command = self.container("create", name);
        command.arg(template).args([address, gateway]);
        for (directory, target) in volumes {
            command.arg(format!("{}:{target}", directory.display()));
        }
        succeed(&mut command);
        self.note(name);
        self.guest(name)
    }

    /// Runs `work` in a new thread that is in the lab's network, as are the threads it starts.
    pub fn on_network<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let pid = fs::read_to_string(self.directory.join("pid")).unwrap();
        let network = fs::File::open(format!("/proc/{}/ns/net", pid.trim())).unwrap();
        thread::spawn(move || {
            use std::os::fd::AsFd;
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            work()
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if thread::panicking() {
            for guest in self.guests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                let mut journal = self.container("exec", guest);
                let journal = journal.args(["journalctl", "--no-pager", "--lines=60"]).output();
                let journal = journal.map(|output| output.stdout).unwrap_or_default();
                eprintln!("journal of {guest}:\n{}", String::from_utf8_lossy(&journal));
            }
        }
        drop(self.holder.stdin.take());
        // What a failed test leaves behind must not fail it a second time.
        let _ = self.holder.wait();
    }
}

fn script_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab").join(name)
}

fn script(name: &str, lab: &Path) -> Command {
    let mut command = Command::new(script_path(name));
    command.env("LAB_DIR", lab);
    command
}

/// A container of the lab.
pub struct Guest<'lab> {
    lab: &'lab Lab,
    name: String,
}

impl Guest<'_> {
    /// Starts the guest, and waits until systemd has. Returns systemd's state.
    pub fn boot(&self) -> String {
        self.start();
        succeed(&mut self.lab.container("wait", &self.name)).trim().to_owned()
    }

    /// Starts the guest.
    pub fn start(&self) {
        succeed(&mut self.lab.container("start", &self.name));
    }

    /// Shuts the guest down.
    pub fn stop(&self) {
        succeed(&mut self.lab.container("stop", &self.name));
    }

    /// Ends every process of the guest at once, as a power failure would.
    pub fn kill(&self) {
        succeed(&mut self.lab.container("kill", &self.name));
    }

    /// Runs a shell command in the guest.
    pub fn attempt(&self, command: &str) -> Output {
        self.lab.container("exec", &self.name).args(["sh", "-c", command]).output().unwrap()
    }

    /// Runs a shell command in the guest that must succeed. Returns what it prints.
    pub fn run(&self, command: &str) -> String {
        let mut process = self.lab.container("exec", &self.name);
        succeed(process.args(["sh", "-c", command])).trim_end().to_owned()
    }
}

/// Runs a command that must succeed. Returns its standard output.
pub fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr),
    );
    text(&output.stdout)
}
