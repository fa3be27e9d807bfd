//! What the builder asks the sandbox's worker for, and what it answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::accounts::{Group, User};
use super::failure::Failure;
use super::lay::Extent;
use crate::digest::Digest;

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
