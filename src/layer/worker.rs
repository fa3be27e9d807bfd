//! What the sandbox's worker does: it holds one tree, lays layers into it, lets package scripts and checks
//! run in it, and writes what changed as a new layer.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use rustix::mount::{MountFlags, mount};
use serde::{Deserialize, Serialize};

use super::accounts::{self, Group, User};
use super::archive::{Archive, Writer};
use super::entry::{Entry, Kind};
pub use super::failure::Failure;
use super::lay::{Extent, lay};
use super::normalise::normalise;
use super::tree::Tree;
use crate::debian::database::{self, root::Root};
use crate::debian::deb;
use crate::debian::unpack::{self, Maintainer, Package};
use crate::digest::Digest;
use crate::progress::Silent;
use crate::sandbox::{self, Channel, Invocation};
use crate::store::Store;

/// Asks the worker for something.
#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// Makes an empty tree below `directory`: in memory, or on its file system.
    Open {
        /// An empty directory.
        directory: PathBuf,
        /// Whether the tree lives on a tmpfs.
        memory: bool,
    },
    /// Lays a layer into the tree.
    Lay {
        /// The layer's archive.
        archive: PathBuf,
        /// Its name.
        digest: Digest,
        /// How much of it.
        extent: Extent,
    },
    /// Takes what is in the tree as the lower layers.
    Settle,
    /// Installs packages and writes the layer.
    Packages(Packages),
    /// Runs commands and writes the layer.
    Run(Run),
    /// Runs one command that changes nothing.
    Check {
        /// The command.
        command: Vec<String>,
        /// What scripts see as `SOURCE_DATE_EPOCH`.
        epoch: u64,
    },
    /// Opens an interactive shell in the tree, on the terminal.
    Shell {
        /// What the shell sees as `SOURCE_DATE_EPOCH`.
        epoch: u64,
    },
}

/// A packages layer to build.
#[derive(Debug, Serialize, Deserialize)]
pub struct Packages {
    /// What to install: everything that is not in a lower layer.
    pub packages: Vec<PackageFile>,
    /// Accounts to make first.
    pub users: Vec<User>,
    /// Groups to make first.
    pub groups: Vec<Group>,
    /// Threads that unpack.
    pub threads: usize,
    /// What every layer needs.
    pub layer: Output,
}

/// A verified package file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PackageFile {
    /// Where it is.
    pub path: PathBuf,
    /// The package's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
}

/// A layer of commands to build.
#[derive(Debug, Serialize, Deserialize)]
pub struct Run {
    /// The commands, in order.
    pub commands: Vec<Vec<String>>,
    /// What every layer needs.
    pub layer: Output,
}

/// Where a layer goes.
#[derive(Debug, Serialize, Deserialize)]
pub struct Output {
    /// The store.
    pub store: PathBuf,
    /// Takes all output of scripts.
    pub log: PathBuf,
    /// Directories of state volumes, relative to the root, that must be empty.
    pub state: Vec<PathBuf>,
    /// The lower layers' epoch.
    pub epoch: u64,
}

/// Told while a request runs.
#[derive(Debug, Serialize, Deserialize)]
pub enum Report {
    /// A part of the work has begun.
    Doing(String),
}

/// What became of a request.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    /// Done, with nothing to tell.
    Done,
    /// A layer was written to the store.
    Built(Built),
    /// A command has ended.
    Ended {
        /// Its exit status; 128 and more for signals.
        status: i32,
        /// Everything it wrote.
        output: String,
    },
    /// It went wrong.
    Failed(Failure),
}

/// A layer in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Built {
    /// Its name.
    pub digest: Digest,
    /// Bytes of its archive.
    pub size: u64,
    /// Paths that it changes.
    pub entries: u64,
    /// No file of it or of a lower layer is younger, in seconds since 1970.
    pub epoch: u64,
    /// Users and groups of the tree.
    pub accounts: Accounts,
}

/// The text of the account files of a tree, to find the numbers of names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    /// /etc/passwd
    pub passwd: String,
    /// /etc/group
    pub group: String,
}

/// Serves requests until the caller has gone.
pub fn serve() -> ExitCode {
    if let Err(code) = sandbox::prepare_worker() {
        return code;
    }
    let mut channel = Channel::new(BufReader::new(io::stdin()), io::stdout());
    let mut worker = Worker { open: None };
    loop {
        let request = match channel.receive::<Request>() {
            Ok(Some(request)) => request,
            Ok(None) => break,
            Err(_) => return ExitCode::FAILURE,
        };
        let mut report = |text: &str| {
            // The caller may have gone; the next receive tells.
            let _ = channel.event(Report::Doing(text.to_owned()));
        };
        let answer = worker.handle(request, &mut report).unwrap_or_else(Answer::Failed);
        if channel.answer(answer).is_err() {
            return ExitCode::FAILURE;
        }
    }
    worker.close();
    ExitCode::SUCCESS
}

struct Worker {
    open: Option<Open>,
}

struct Open {
    directory: PathBuf,
    memory: bool,
    executable: PathBuf,
    tree: Tree,
}

impl Worker {
    fn handle(
        &mut self,
        request: Request,
        report: &mut dyn FnMut(&str),
    ) -> Result<Answer, Failure> {
        if let Request::Open { directory, memory } = request {
            self.open = Some(Open::new(directory, memory)?);
            return Ok(Answer::Done);
        }
        let open = self.open.as_mut().ok_or_else(|| io::Error::other("no tree is open"))?;
        match request {
            Request::Open { .. } => {}
            Request::Lay { archive, digest, extent } => {
                let archive = Archive::open(&archive, digest)?;
                lay(open.tree.root(), &archive, extent)?;
            }
            Request::Settle => open.tree.forget_changes()?,
            Request::Packages(packages) => return open.packages(&packages, report),
            Request::Run(run) => return open.run(&run, report),
            Request::Check { command, epoch } => return open.check(command, epoch),
            Request::Shell { epoch } => return open.shell(epoch),
        }
        Ok(Answer::Done)
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take()
            && !open.memory
        {
            let _ = fs::remove_dir_all(open.tree.root());
        }
    }
}

impl Open {
    fn new(directory: PathBuf, memory: bool) -> io::Result<Self> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let programs = directory.join("program");
        fs::create_dir(&programs)?;
        mount("tmpfs", &programs, "tmpfs", flags, Some(c"mode=0700"))?;
        let executable = sandbox::read_only_executable(&programs)?;
        let root = directory.join("tree");
        fs::create_dir(&root)?;
        if memory {
            // The caller has compared the size of the tree with the memory there is.
            mount("tmpfs", &root, "tmpfs", flags, Some(c"mode=0755,size=100%"))?;
        }
        rustix::fs::chmod(&root, rustix::fs::Mode::from_raw_mode(0o755))?;
        Ok(Self { directory, memory, executable, tree: Tree::empty(root) })
    }

    fn packages(
        &mut self,
        request: &Packages,
        report: &mut dyn FnMut(&str),
    ) -> Result<Answer, Failure> {
        let log = new_log(&request.layer.log)?;
        let root = self.tree.root().to_owned();
        let existing = root.join("etc/passwd").exists();
        if existing {
            accounts::create(&root, &request.users, &request.groups)?;
        }
        let epoch =
            newest(&request.packages).map_err(|failure| failure.naming(&request.packages))?;
        let epoch = epoch.max(request.layer.epoch);
        let guard = NoServices::new(&root)?;
        report("unpack");
        let threads = NonZeroUsize::new(request.threads).unwrap_or(NonZeroUsize::MIN);
        let packages: Vec<Package> = request.packages.iter().map(package).collect();
        let mut runner = Runner { open: self, log: &log, epoch };
        unpack::install(&root, &packages, &mut runner, threads, &Silent)
            .map_err(|failure| failure.naming(&request.packages))?;
        require_dpkg(&root)?;
        if !existing {
            accounts::create(&root, &request.users, &request.groups)?;
        }
        report("configure");
        runner.dpkg(&["--configure", "--pending"])?;
        drop(guard);
        report("write");
        self.write_layer(&request.layer, epoch)
    }

    fn run(&mut self, request: &Run, report: &mut dyn FnMut(&str)) -> Result<Answer, Failure> {
        let log = new_log(&request.layer.log)?;
        let guard = NoServices::new(self.tree.root())?;
        let runner = Runner { open: self, log: &log, epoch: request.layer.epoch };
        for command in &request.commands {
            report(&command.join(" "));
            runner.command(command.clone(), &[])?;
        }
        drop(guard);
        report("write");
        self.write_layer(&request.layer, request.layer.epoch)
    }

    fn check(&self, command: Vec<String>, epoch: u64) -> Result<Answer, Failure> {
        let output = tempfile_in(&self.directory)?;
        let status = self.invoke(command, &[], epoch, &output)?;
        Ok(Answer::Ended { status, output: read_back(&output)? })
    }

    fn shell(&self, epoch: u64) -> Result<Answer, Failure> {
        let terminal = || File::options().read(true).write(true).open("/dev/tty");
        let invocation = self.invocation(vec!["/bin/sh".into(), "-i".into()], &[], epoch);
        let (input, output, errors) = (terminal()?, terminal()?, terminal()?);
        sandbox::invoke(&self.executable, &invocation, input.into(), output.into(), errors.into())?;
        Ok(Answer::Done)
    }

    fn write_layer(&mut self, output: &Output, epoch: u64) -> Result<Answer, Failure> {
        let root = self.tree.root().to_owned();
        normalise(&root, &output.state)?;
        database::normalise(&Root::open(&root)?)?;
        let entries = self.tree.take_changes(epoch)?;
        let store = Store::open(Some(&output.store))?;
        let mut writer = Writer::new(io::BufWriter::with_capacity(1 << 20, store.writer()?));
        for entry in &entries {
            append(&mut writer, &root, entry)?;
        }
        let blob = writer.finish()?.into_inner().map_err(|error| error.into_error())?;
        let blob = blob.commit()?;
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        Ok(Answer::Built(Built {
            digest: blob.digest(),
            size: blob.size(),
            entries: entries.len() as u64,
            epoch,
            accounts: Accounts { passwd: read("etc/passwd"), group: read("etc/group") },
        }))
    }

    fn invocation(
        &self,
        argv: Vec<String>,
        environment: &[(String, String)],
        epoch: u64,
    ) -> Invocation {
        let mut all = default_environment(epoch);
        all.extend_from_slice(environment);
        Invocation { root: self.tree.root().to_owned(), argv, environment: all }
    }

    fn invoke(
        &self,
        argv: Vec<String>,
        environment: &[(String, String)],
        epoch: u64,
        output: &File,
    ) -> io::Result<i32> {
        let invocation = self.invocation(argv, environment, epoch);
        let (out, errors) = (output.try_clone()?, output.try_clone()?);
        let status = sandbox::invoke(
            &self.executable,
            &invocation,
            Stdio::null(),
            out.into(),
            errors.into(),
        )?;
        Ok(status.code().unwrap_or(255))
    }
}

/// Runs commands of a layer, all output going to its log.
struct Runner<'a> {
    open: &'a Open,
    log: &'a File,
    epoch: u64,
}

impl unpack::Runner for Runner<'_> {
    type Error = Failure;

    fn preinst(&mut self, script: &Maintainer) -> Result<(), Failure> {
        let mut argv = vec![Path::new("/").join(&script.script).display().to_string()];
        argv.extend(script.arguments.iter().cloned());
        self.command(argv, &script.environment).map_err(|mut failure| {
            let Maintainer { package, version, .. } = script;
            failure.chain.insert(0, format!("the preinst script of {package} {version}"));
            failure
        })
    }

    fn configure(&mut self, packages: &[String]) -> Result<(), Failure> {
        let names = packages.iter().map(String::as_str);
        self.dpkg(&std::iter::once("--configure").chain(names).collect::<Vec<_>>())
    }
}

impl Runner<'_> {
    fn dpkg(&self, arguments: &[&str]) -> Result<(), Failure> {
        // The tree is thrown away when anything fails: nothing has to survive a crash.
        let argv = ["dpkg", "--force-unsafe-io", "--no-pager", "--log=/dev/null"];
        let argv = argv.iter().chain(arguments).map(|one| (*one).to_owned());
        self.command(argv.collect(), &[])
    }

    fn command(&self, argv: Vec<String>, environment: &[(String, String)]) -> Result<(), Failure> {
        let shown = argv.join(" ");
        let status = self.open.invoke(argv, environment, self.epoch, self.log)?;
        if status == 0 {
            return Ok(());
        }
        Err(Failure {
            chain: vec![format!("`{shown}` failed with exit status {status}")],
            help: None,
            command: Some(shown),
            output: last_lines(&read_back(self.log)?, 40),
        })
    }
}

fn package(file: &PackageFile) -> Package {
    let PackageFile { path, name, version, architecture } = file.clone();
    Package { file: path, name, version, architecture }
}

/// When the youngest of `packages` was built, in seconds since 1970: the time in the header of its first
/// member (deb(5), ar(5)), which dpkg-deb(1) also makes the limit for every file in it.
fn newest(packages: &[PackageFile]) -> Result<u64, Failure> {
    let mut newest = 0;
    for PackageFile { path, .. } in packages {
        let mut start = [0; 36];
        File::open(path)?.read_exact(&mut start).map_err(|_| {
            let problem = "it is too short".to_owned();
            deb::Error::Format { path: path.clone(), problem }
        })?;
        let date = String::from_utf8_lossy(&start[24..36]).trim().parse().unwrap_or(0);
        newest = newest.max(date);
    }
    Ok(newest)
}

/// Without dpkg in the tree nothing can be configured.
fn require_dpkg(root: &Path) -> Result<(), Failure> {
    if root.join("usr/bin/dpkg").exists() {
        return Ok(());
    }
    Err(Failure::because(
        "no image of the stack installs dpkg, which configures the packages",
        "give the root image what every Debian system has: `essential = true` under [packages]",
    ))
}

fn default_environment(epoch: u64) -> Vec<(String, String)> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("TERM", "dumb"),
        ("DEBIAN_FRONTEND", "noninteractive"),
        ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
        ("PERL_HASH_SEED", "0"),
        ("PYTHONHASHSEED", "0"),
        ("SOURCE_DATE_EPOCH", &epoch.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// Keeps package scripts from starting services while it lives: invoke-rc.d(8) and
/// deb-systemd-invoke(1p) ask policy-rc.d, and 101 means "forbidden".
struct NoServices {
    path: PathBuf,
}

impl NoServices {
    fn new(root: &Path) -> io::Result<Self> {
        let directory = root.join("usr/sbin");
        fs::create_dir_all(&directory)?;
        let path = directory.join("policy-rc.d");
        fs::write(&path, "#!/bin/sh\nexit 101\n")?;
        rustix::fs::chmod(&path, rustix::fs::Mode::from_raw_mode(0o755))?;
        Ok(Self { path })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn append<W: io::Write>(
    writer: &mut Writer<W>,
    root: &Path,
    entry: &Entry,
) -> Result<(), super::archive::Error> {
    match entry.kind {
        Kind::File { .. } => {
            let failed =
                |source| super::archive::Error::Content { path: entry.path.clone(), source };
            let mut file = File::open(root.join(&entry.path)).map_err(failed)?;
            writer.append(entry, &mut file)
        }
        _ => writer.append(entry, &mut io::empty()),
    }
}

/// An empty log, readable too: its last lines are part of the message when a script fails.
fn new_log(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).open(path)
}

fn tempfile_in(directory: &Path) -> io::Result<File> {
    tempfile::tempfile_in(directory)
}

fn read_back(mut file: &File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
