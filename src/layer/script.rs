//! Runs package scripts and commands of definitions in a tree, as part of a layer.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::failure::Failure;
use super::worker::Open;
use crate::debian::unpack::{self, Maintainer};

/// Runs commands of a layer, all output going to its log.
pub(super) struct Runner<'a> {
    /// The tree.
    pub open: &'a Open,
    /// Takes all output.
    pub log: &'a File,
    /// What scripts see as `SOURCE_DATE_EPOCH`.
    pub epoch: u64,
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
    pub fn dpkg(&self, arguments: &[&str]) -> Result<(), Failure> {
        // The tree is thrown away when anything fails: nothing has to survive a crash.
        let argv = ["dpkg", "--force-unsafe-io", "--no-pager", "--log=/dev/null"];
        let argv = argv.iter().chain(arguments).map(|one| (*one).to_owned());
        self.command(argv.collect(), &[])
    }

    pub fn command(
        &self,
        argv: Vec<String>,
        environment: &[(String, String)],
    ) -> Result<(), Failure> {
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

/// The whole environment of a command of the image.
pub(super) fn default_environment(epoch: u64) -> Vec<(String, String)> {
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
        // The hook of initramfs-tools for kernel packages: no initramfs now. The boot image makes its
        // own once everything is configured.
        ("INITRD", "No"),
        ("SOURCE_DATE_EPOCH", &epoch.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect()
}

/// Keeps package scripts from starting services while it lives: invoke-rc.d(8) and
/// deb-systemd-invoke(1p) ask policy-rc.d, and 101 means "forbidden".
pub(super) struct NoServices {
    path: PathBuf,
}

impl NoServices {
    pub fn new(root: &Path) -> io::Result<Self> {
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

/// An empty log, readable too: its last lines are part of the message when a script fails.
pub(super) fn new_log(path: &Path) -> io::Result<File> {
    File::options().read(true).write(true).create(true).truncate(true).open(path)
}

/// Everything in `file`, from its beginning.
pub(super) fn read_back(mut file: &File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
