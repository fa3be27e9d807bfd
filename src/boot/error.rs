//! Why a guest could not be run.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::agent;

/// Why a guest could not be run. What is wrong inside of a running one is no error but an
/// [`Observation`](super::Observation).
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// Programs that are not installed.
    #[error("cannot boot a {what} here: {programs} not installed")]
    #[diagnostic(help("Debian: `apt install {packages}`"))]
    Missing {
        /// `container` or `virtual machine`.
        what: &'static str,
        /// The programs, with the verb: `lxc-start and ip are`.
        programs: String,
        /// Debian's packages, divided by blanks.
        packages: &'static str,
    },
    /// A container as a plain user.
    #[error("only root can boot a container: it takes a network and control groups of its own")]
    #[diagnostic(help("run this as root, or boot the disk instead with `--format qcow2`"))]
    NotRoot,
    /// QEMU that cannot run the kernel.
    #[error(
        "QEMU {version} cannot emulate a machine for Debian 13: its kernel crashes before version 8"
    )]
    #[diagnostic(help(
        "take QEMU 10 from Debian's backports: `apt install -t bookworm-backports qemu-system-x86`; \
         with a working /dev/kvm any version will do"
    ))]
    OldQemu {
        /// What it says of itself.
        version: String,
    },
    /// No hierarchy to make a control group in.
    #[error("cannot boot a container here: no cgroup2 hierarchy is mounted")]
    #[diagnostic(help(
        "as root: `mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified`"
    ))]
    NoCgroup,
    /// A step of making the guest failed.
    #[error("cannot {action}{}", shown(output))]
    Step {
        /// What was tried.
        action: String,
        /// What whoever tried it said.
        output: String,
    },
    /// The guest ended by itself.
    #[error("the guest stopped by itself {when}{}", tail(console))]
    Stopped {
        /// While what was done.
        when: String,
        /// The end of its console.
        console: String,
    },
    /// Something took too long.
    #[error("gave up {what} after {} s{}", after.as_secs(), tail(console))]
    #[diagnostic(help(
        "give it more time with `--timeout SECONDS`, or look around in it with `--shell`"
    ))]
    Timeout {
        /// What was waited for: `waiting for …`.
        what: String,
        /// How long.
        after: Duration,
        /// The end of its console.
        console: String,
    },
    /// The guest agent.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Agent(#[from] agent::Error),
    /// A file.
    #[error("cannot {action} {}", path.display())]
    #[diagnostic(help("what a guest needs is kept in /var/tmp, or in $TMPDIR if that is set"))]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Something is still there.
    #[error("could not remove {0} after the guest had ended")]
    #[diagnostic(help("nothing uses it any more: remove it by hand"))]
    Left(String),
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(super) fn step(action: impl Into<String>, output: impl ToString) -> Self {
        Self::Step { action: action.into(), output: output.to_string() }
    }
}

fn shown(output: &str) -> String {
    match output.trim() {
        "" => String::new(),
        line if !line.contains('\n') => format!(": {line}"),
        lines => lines.lines().map(|line| format!("\n  {line}")).collect(),
    }
}

fn tail(console: &str) -> String {
    match console.trim() {
        "" => "; its console is empty".to_owned(),
        text => {
            let lines = text.lines().map(|line| format!("\n  {line}"));
            format!("; the end of its console:{}", lines.collect::<String>())
        }
    }
}
