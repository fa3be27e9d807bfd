//! Why a lab cannot be made or changed.

use std::io;
use std::path::{Path, PathBuf};

use crate::boot;
use crate::definition::{self, SiteName};
use crate::swap::{CallError, Lease, WantedError, site};

/// Why a lab cannot be made or changed.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A plain user.
    #[error("only root can have a lab: it takes a network and control groups of its own")]
    #[diagnostic(help("run this as root"))]
    NotRoot,
    /// There is no lab.
    #[error("there is no lab in {}", directory.display())]
    #[diagnostic(help(
        "make it: `imgbuild lab up --site {site}`, or say with `--lab` where it is"
    ))]
    NoLab {
        /// Where it would be.
        directory: PathBuf,
        /// Whose it would be.
        site: SiteName,
    },
    /// The lab is there, but its host is not.
    #[error("the host of the lab in {} does not run", directory.display())]
    #[diagnostic(help("`imgbuild lab up --site {site}` starts it, and the guests that ran on it"))]
    HostDown {
        /// Where the lab is.
        directory: PathBuf,
        /// Whose it is.
        site: SiteName,
    },
    /// A lab of another site.
    #[error("the lab in {} is one of the site {is}", directory.display())]
    #[diagnostic(help("say with `--lab` where this one shall be"))]
    OtherSite {
        /// Where.
        directory: PathBuf,
        /// Whose it is.
        is: SiteName,
    },
    /// A directory with something else in it.
    #[error("{} is not empty, and no lab", .0.display())]
    #[diagnostic(help("say with `--lab` where the lab shall be: a new directory"))]
    Occupied(PathBuf),
    /// The path becomes part of configuration files and socket addresses.
    #[error("the path of a lab may have no `..`, and at most 60 letters, digits, `/`, `.`, `_` and `-`: {}", .0.display())]
    #[diagnostic(help("say another one with `--lab`"))]
    StrangePath(PathBuf),
    /// Ids of containers cannot pass a directory.
    #[error("guests cannot reach {}: others may not pass {}", directory.display(), blocked.display())]
    #[diagnostic(help("`chmod o+x {}`, or say with `--lab` another place", blocked.display()))]
    Unreachable {
        /// The lab.
        directory: PathBuf,
        /// The directory above it, or itself.
        blocked: PathBuf,
    },
    /// What is written down about the lab cannot be read.
    #[error("{} is damaged: {why}", path.display())]
    #[diagnostic(help(
        "use the imgbuild that wrote it; or remove the lab with `imgbuild lab down`, and make it anew"
    ))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Somebody changes it.
    #[error("somebody is changing the lab: {0}")]
    #[diagnostic(help("wait until that is done, or end the process"))]
    Operated(Box<Lease>),
    /// Guests would not let the lab's host ask how they are.
    #[error(
        "the lab's host cannot be an operator of the site {site}: no address of [operators] is left for it, and {} not in there",
        are(addresses)
    )]
    #[diagnostic(help(
        "the lab's host asks guests how they are, which they tell operators only. Add to the site's overlay, or to one \
         that extends it: `[operators]`, `networks = [{}]`",
        networks(addresses)
    ))]
    NoOperator {
        /// The site.
        site: SiteName,
        /// The gateways.
        addresses: Vec<std::net::IpAddr>,
    },
    /// The machine's limit is too low.
    #[error(
        "{guests} guests take about {needed} instances of inotify, and this machine allows {limit}"
    )]
    #[diagnostic(help(
        "`sysctl fs.inotify.max_user_instances=1024`; Debian's lxc brings this as /etc/sysctl.d/30-lxc-inotify.conf, \
         which counts from the next start of the machine. Or name fewer roles"
    ))]
    TooFewWatches {
        /// How many would run.
        guests: u64,
        /// What is allowed.
        limit: u64,
        /// What they would take.
        needed: u64,
    },
    /// A node without a gateway.
    #[error("the node {0} has no gateway, so the lab's host has no address to ask it from")]
    #[diagnostic(help("add `gateway` to the node in the site's overlay"))]
    NoGateway(definition::Hostname),
    /// A site has no such role.
    #[error("the site {site} has no node that runs `{role}`")]
    #[diagnostic(help("{help}"))]
    NoRole {
        /// The site.
        site: SiteName,
        /// What was asked for.
        role: String,
        /// What there is.
        help: String,
    },
    /// A directory that guests are to have.
    #[error("`{0}` cannot be bound: {1}")]
    #[diagnostic(help(
        "`--bind NODE-OR-ROLE:DIRECTORY:PATH`: a directory of this machine, and where guests have it, both absolute"
    ))]
    Bind(String, String),
    /// A guest that cannot be read.
    #[error(transparent)]
    Guest(CallError),
    /// A file.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Containers.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Boot(#[from] boot::Error),
    /// The site's definitions.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Definition(#[from] definition::Error),
    /// The site's artifacts.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Site(#[from] site::Error),
    /// The site contradicts itself.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Wanted(#[from] WantedError),
}

impl Error {
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

fn are(addresses: &[std::net::IpAddr]) -> String {
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    format!("{} {}", list.join(", "), if list.len() == 1 { "is" } else { "are" })
}

fn networks(addresses: &[std::net::IpAddr]) -> String {
    let list: Vec<String> = addresses
        .iter()
        .map(|address| format!("\"{}\"", definition::Network::host(*address)))
        .collect();
    list.join(", ")
}
