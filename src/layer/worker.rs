//! What the sandbox's worker does: it holds one tree, lays layers into it, lets package scripts and checks
//! run in it, and writes what changed as a new layer.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use rustix::mount::{MountFlags, mount};

use super::accounts;
use super::archive::{Archive, Writer};
use super::entry::{Entry, Kind};
use super::failure::Failure;
use super::lay::lay;
use super::normalise::normalise;
use super::request::{
    Accounts, Answer, Built, Output, PackageFile, Packages, Report, Request, Run,
};
use super::script::{NoServices, Runner, default_environment, new_log, read_back};
use super::tree::Tree;
use crate::debian::database::{self, root::Root};
use crate::debian::deb;
use crate::debian::unpack::{self, Package};
use crate::progress::Silent;
use crate::sandbox::{self, Channel, Invocation};
use crate::store::Store;

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

/// A tree, and what it takes to run commands in it.
pub(super) struct Open {
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
        let output = tempfile::tempfile_in(&self.directory)?;
        let status = self.invoke(command, &[], epoch, &output)?;
        let output = read_back(&output)?;
        // The stages between here and the command speak for themselves.
        match output.lines().find_map(|line| line.strip_prefix("imgbuild: ")) {
            Some(complaint) if matches!(status, 126 | 127) => {
                Err(io::Error::other(complaint.to_owned()).into())
            }
            _ => Ok(Answer::Ended { status, output }),
        }
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

    /// Runs a command of the image and returns its exit status. Its output goes to `output`.
    pub fn invoke(
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
