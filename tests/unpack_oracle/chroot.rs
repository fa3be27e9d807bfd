//! Running maintainer scripts and dpkg in a plain chroot.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use imgbuild::debian::unpack::{self, Maintainer, Runner};

/// Runs programs as mmdebstrap does: with `/proc`, `/sys` and `/dev`, and no services started.
pub struct Chroot {
    root: PathBuf,
    /// Seconds spent in programs.
    pub waited: f64,
}

#[derive(Debug)]
#[expect(dead_code, reason = "shown by its Debug form")]
pub enum Failure {
    Unpack(unpack::Error),
    Program(String),
}

impl From<unpack::Error> for Failure {
    fn from(error: unpack::Error) -> Self {
        Self::Unpack(error)
    }
}

impl Chroot {
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), waited: 0.0 }
    }

    pub fn run(
        &mut self,
        program: &str,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let policy = self.root.join("usr/sbin/policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 101\n").unwrap();
        fs::set_permissions(&policy, PermissionsExt::from_mode(0o755)).unwrap();
        let script = "umask 022; cd \"$1\" && shift && for d in proc sys dev; do \
                      mount --rbind /$d ./$d || exit 99; done; exec chroot . \"$@\"";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", script, "sh"])
            .arg(&self.root)
            .arg(program)
            .args(arguments)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .env("DEBCONF_NONINTERACTIVE_SEEN", "true")
            .env("LC_ALL", "C.UTF-8")
            .env("LANGUAGE", "C.UTF-8")
            .env("LANG", "C.UTF-8")
            .env("SOURCE_DATE_EPOCH", super::EPOCH)
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .output()
            .unwrap();
        fs::remove_file(&policy).unwrap();
        self.waited += start.elapsed().as_secs_f64();
        if output.status.success() && (program != "dpkg" || output.stderr.is_empty()) {
            return Ok(());
        }
        let text = [output.stdout, output.stderr].concat();
        let text = format!("{program} {arguments:?}\n{}", String::from_utf8_lossy(&text));
        if output.status.success() {
            eprintln!("{text}");
            return Ok(());
        }
        Err(Failure::Program(text))
    }
}

impl Runner for Chroot {
    type Error = Failure;

    fn preinst(&mut self, script: &Maintainer) -> Result<(), Failure> {
        eprintln!("preinst {}", script.package);
        let arguments: Vec<&str> = script.arguments.iter().map(String::as_str).collect();
        self.run(script.script.to_str().unwrap(), &arguments, &script.environment)
    }

    fn configure(&mut self, packages: &[String]) -> Result<(), Failure> {
        eprintln!("configure {}", packages.join(" "));
        let mut arguments = vec!["--configure"];
        arguments.extend(packages.iter().map(String::as_str));
        self.run("dpkg", &arguments, &[])
    }
}
