//! What a build leaves behind: useless in an image, and different with every build.

use std::path::Path;

use super::{Check, Rule};
use crate::layer::entry::{Entry, Kind};
use crate::lint as registry;

pub(super) const RULES: &[Rule] = &[
    Rule { lint: &registry::LOG_FILE, check: Check::Entry(log_file) },
    Rule { lint: &registry::CACHE, check: Check::Entry(cache) },
    Rule { lint: &registry::BACKUP_FILE, check: Check::Entry(backup_file) },
    Rule { lint: &registry::BUILD_TOOL, check: Check::Entry(build_tool) },
    Rule { lint: &registry::VOLATILE_CONTENT, check: Check::Entry(volatile_content) },
    Rule { lint: &registry::DEVICE, check: Check::Entry(device) },
];

fn is_content(entry: &Entry) -> bool {
    !matches!(entry.kind, Kind::Directory | Kind::File { size: 0 })
}

fn below(entry: &Entry, directories: &[&str]) -> bool {
    directories.iter().any(|directory| entry.path.starts_with(directory))
}

/// Packages create empty files there for programs that want to append to them, wtmp for example, and
/// systemd a link to its documentation.
fn log_file(entry: &Entry) -> Option<String> {
    let link = matches!(entry.kind, Kind::Symlink { .. });
    (below(entry, &["var/log"]) && is_content(entry) && !link).then(|| "is a log".to_owned())
}

fn cache(entry: &Entry) -> Option<String> {
    let name = entry.path.file_name()?.to_str()?;
    let apt = below(entry, &["var/cache/apt", "var/lib/apt/lists"]) && is_content(entry);
    let debconf = below(entry, &["var/cache/debconf"]) && name.ends_with("-old");
    let linker = entry.path == Path::new("var/cache/ldconfig/aux-cache");
    (apt || debconf || linker).then(|| "is a cache".to_owned())
}

/// Copies that shadow (`passwd-`), dpkg (`status-old`, `*.dpkg-old`) and ucf make, and what
/// Debian's daily jobs put into /var/backups.
fn backup_file(entry: &Entry) -> Option<String> {
    const ACCOUNTS: [&str; 6] = ["passwd-", "shadow-", "group-", "gshadow-", "subuid-", "subgid-"];
    const SUFFIXES: [&str; 7] =
        [".dpkg-old", ".dpkg-dist", ".dpkg-new", ".dpkg-tmp", ".dpkg-bak", ".ucf-old", ".ucf-dist"];
    if entry.kind == Kind::Directory {
        return None;
    }
    let name = entry.path.file_name()?.to_str()?;
    let parent = entry.path.parent()?;
    let found = (parent == Path::new("etc") && ACCOUNTS.contains(&name))
        || (parent == Path::new("var/lib/dpkg") && name.ends_with("-old"))
        || below(entry, &["var/backups"])
        || (below(entry, &["etc"]) && SUFFIXES.iter().any(|suffix| name.ends_with(suffix)));
    found.then(|| "is a backup copy".to_owned())
}

/// policy-rc.d denies every start of a service (invoke-rc.d(8)); `.REAL` and `.distrib` are what
/// start-stop-daemon is diverted to by build programs.
fn build_tool(entry: &Entry) -> Option<String> {
    const PATHS: [&str; 5] = [
        "usr/sbin/policy-rc.d",
        "usr/sbin/start-stop-daemon.REAL",
        "usr/sbin/start-stop-daemon.distrib",
        "usr/sbin/initctl.REAL",
        "usr/sbin/initctl.distrib",
    ];
    PATHS.iter().any(|path| entry.path == Path::new(path)).then(|| "is left over".to_owned())
}

fn volatile_content(entry: &Entry) -> Option<String> {
    (below(entry, &["run", "tmp", "var/tmp"]) && entry.kind != Kind::Directory)
        .then(|| "would not be there in the guest".to_owned())
}

fn device(entry: &Entry) -> Option<String> {
    (below(entry, &["dev"]) && entry.path != Path::new("dev")).then(|| "is below /dev".to_owned())
}
