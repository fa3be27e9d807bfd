//! Runs a finished artifact on this machine for a while and watches whether it does what it is for.
//!
//! A template runs as an unprivileged container ([`container`]), a disk as a virtual machine
//! ([`qemu`]). Either gets a network without a way out, empty state volumes, an identity and trial
//! secrets, all of which are thrown away with it.
//!
//! # What dies with whom
//!
//! Everything that a guest is made of belongs to a **keeper**: imgbuild, executed again as a process of its
//! own session, with one temporary directory and, for a container, one control group. The keeper waits
//! for its standard input to end, which the kernel sees to however imgbuild ends. Then it kills the guest and
//! removes directory and control group. The guest in turn asks the kernel to be killed with the keeper
//! (prctl(2), `PR_SET_PDEATHSIG`), and all mounts, addresses and processes of a container are in
//! namespaces whose first process it kills.

pub mod agent;
mod certificate;
mod cgroup;
pub mod container;
mod error;
mod hold;
mod host;
mod identity;
mod keeper;
mod output;
pub mod qemu;
mod secrets;
mod stage;
mod terminal;
mod watch;

pub use error::Error;
pub use hold::HeldHost;
pub use host::PrivateHost;
pub use identity::{Identity, UnknownNode};
pub use output::Output;
pub use secrets::{SecretFile, Secrets, is_of_one_node, random_digits, trial_value};
pub use stage::{Stage, requested_stage, run_stage};
pub use watch::{Failure, Guest, Observation, Seconds, observe};

use std::path::PathBuf;

/// A state volume of a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name: a disk of it has the serial `state-NAME`.
    pub name: String,
    /// Where a container has it mounted, an absolute path.
    pub path: String,
    /// A raw disk image to use. Without one the volume is new and empty, and goes with the guest.
    pub disk: Option<PathBuf>,
}

/// Fails unless all `programs` can be found; `packages` are what has them in Debian.
fn require(what: &'static str, programs: &[&str], packages: &'static str) -> Result<(), Error> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = || std::env::split_paths(&path).chain(std::env::split_paths(host::PATH));
    let missing: Vec<&str> = programs
        .iter()
        .copied()
        .filter(|program| !places().any(|directory| directory.join(program).is_file()))
        .collect();
    match missing.as_slice() {
        [] => Ok(()),
        [one] => Err(Error::Missing { what, programs: format!("{one} is"), packages }),
        several => {
            Err(Error::Missing { what, programs: format!("{} are", several.join(", ")), packages })
        }
    }
}
