//! Comparing two trees, path by path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// Paths that may differ or be on one side only, with the reason.
const EXPECTED: &[(&str, &str)] = &[
    ("/dev/*", "mmdebstrap makes device nodes; ours are mounted"),
    ("/etc/apt/*", "written by mmdebstrap and apt"),
    ("/etc/fstab", "written by mmdebstrap"),
    ("/etc/hostname", "written by mmdebstrap"),
    ("/etc/resolv.conf", "written by mmdebstrap"),
    ("/tmp/*", "left by mmdebstrap"),
    ("/var/cache/apt", "apt does not run here"),
    ("/var/cache/apt/*", "apt does not run here"),
    ("/var/lib/apt", "apt does not run here"),
    ("/var/lib/apt/*", "apt does not run here"),
    ("/var/log/apt", "apt does not run here"),
    ("/var/log/apt/*", "apt does not run here"),
    ("/var/lib/dpkg/arch", "written by mmdebstrap"),
    ("/var/lib/dpkg/diversions-old", "a backup, normalised away"),
    ("/var/lib/dpkg/statoverride-old", "a backup, normalised away"),
    ("/var/lib/dpkg/status-old", "a backup, normalised away"),
    ("/var/lib/dpkg/lock", "a lock, normalised away"),
    ("/var/lib/dpkg/lock-frontend", "a lock, normalised away"),
    ("/var/lib/dpkg/triggers/Lock", "a lock, normalised away"),
    ("/var/log/dpkg.log", "a log with times; we log no unpacking"),
    ("/var/log/alternatives.log", "a log with times"),
    ("/etc/machine-id", "random, by systemd's postinst"),
    ("/etc/ssh/*", "host keys, random, by openssh-server's postinst"),
    ("/etc/passwd-", "the state before the last change, which is another one"),
    ("/etc/shadow-", "the state before the last change, which is another one"),
    ("/etc/group-", "the state before the last change, which is another one"),
    ("/etc/gshadow-", "the state before the last change, which is another one"),
    ("/var/cache/ldconfig/aux-cache", "holds inode numbers"),
    ("/var/lib/mysql/*", "a new database with random identities, by mariadb-server's postinst"),
    ("/var/lock", "the link's time: made by base-files' postinst"),
    ("/var/run", "the link's time: made by base-files' postinst"),
];

/// A path as it is compared.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    links: u64,
    xattrs: BTreeMap<String, Vec<u8>>,
    content: Vec<u8>,
    mtime: Option<i64>,
}

/// The same for Debian 12, where mmdebstrap unpacks without links of `/bin` and the like, and the
/// package usrmerge moves everything afterwards.
const EXPECTED_BOOKWORM: &[(&str, &str)] = &[
    ("/bin", "the link's time"),
    ("/lib", "the link's time"),
    ("/lib64", "the link's time"),
    ("/sbin", "the link's time"),
    ("/usr/bin/gunzip", "usrmerge copies hard links as files"),
    ("/usr/bin/uncompress", "usrmerge copies hard links as files"),
];

/// Everything in which `ours` differs from `reference` without a known reason.
pub fn compare(suite: &str, reference: &Path, ours: &Path) -> Vec<String> {
    let more = if suite == "bookworm" { EXPECTED_BOOKWORM } else { &[] };
    let packaged = packaged(reference);
    let (theirs, ours) = (tree(reference, &packaged), tree(ours, &packaged));
    let mut differences = Vec::new();
    for path in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let expected = EXPECTED.iter().chain(more).any(|(pattern, _)| matches(pattern, path));
        let line = match (theirs.get(path), ours.get(path)) {
            (Some(_), None) => format!("only dpkg: {path}"),
            (None, Some(_)) => format!("only we:   {path}"),
            (Some(theirs), Some(ours)) if theirs != ours => describe(path, theirs, ours),
            _ => continue,
        };
        if !expected {
            differences.push(line);
        }
    }
    differences
}

/// `pattern` is a path, or a directory with `/*` for all below it.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix("/*") {
        Some(directory) => path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/')),
        None => pattern == path,
    }
}

fn describe(path: &str, theirs: &Seen, ours: &Seen) -> String {
    let mut parts = Vec::new();
    let mut part = |name: &str, theirs: String, ours: String| {
        if theirs != ours {
            parts.push(format!("{name} {theirs} / {ours}"));
        }
    };
    part("kind", theirs.kind.to_owned(), ours.kind.to_owned());
    part("mode", format!("{:o}", theirs.mode), format!("{:o}", ours.mode));
    part("owner", format!("{:?}", theirs.owner), format!("{:?}", ours.owner));
    part("links", theirs.links.to_string(), ours.links.to_string());
    part("mtime", format!("{:?}", theirs.mtime), format!("{:?}", ours.mtime));
    part("xattrs", format!("{:?}", theirs.xattrs), format!("{:?}", ours.xattrs));
    if theirs.content != ours.content {
        parts.push(format!("content {} / {} bytes", theirs.content.len(), ours.content.len()));
    }
    format!("differs:   {path}: {}", parts.join(", "))
}

/// The paths that packages ship, whose times come from the packages.
fn packaged(root: &Path) -> BTreeSet<String> {
    let mut paths = BTreeSet::new();
    for entry in fs::read_dir(root.join("var/lib/dpkg/info")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "list") {
            let text = fs::read(path).unwrap();
            paths.extend(String::from_utf8_lossy(&text).lines().map(str::to_owned));
        }
    }
    paths
}

fn tree(root: &Path, packaged: &BTreeSet<String>) -> BTreeMap<String, Seen> {
    let mut tree = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root).min_depth(1) {
        let entry = entry.unwrap();
        let path = format!("/{}", entry.path().strip_prefix(root).unwrap().display());
        let seen = see(&path, entry.path(), packaged.contains(&path));
        tree.insert(path, seen);
    }
    tree
}

fn see(name: &str, path: &Path, packaged: bool) -> Seen {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let (kind, content) = if kind.is_dir() {
        ("directory", Vec::new())
    } else if kind.is_symlink() {
        ("link", fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec())
    } else if kind.is_file() {
        ("file", canonical(name, fs::read(path).unwrap()))
    } else {
        (if kind.is_char_device() { "character device" } else { "special" }, Vec::new())
    };
    let directory = kind == "directory";
    Seen {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        links: if directory { 0 } else { metadata.nlink() },
        xattrs: xattrs(path),
        content,
        // dpkg leaves directories the time of unpacking.
        mtime: (packaged && !directory).then(|| metadata.mtime()),
    }
}

/// Files in which the order of lines is the order in which packages were unpacked or configured.
fn canonical(name: &str, content: Vec<u8>) -> Vec<u8> {
    let lines = match name {
        "/var/lib/dpkg/diversions" => 3,
        "/etc/shells" | "/etc/passwd" | "/etc/shadow" | "/etc/group" | "/etc/gshadow" => 1,
        _ if name.starts_with("/var/lib/dpkg/triggers/") => 1,
        _ => return content,
    };
    let text = String::from_utf8_lossy(&content);
    let all: Vec<&str> = text.lines().collect();
    let mut entries: Vec<String> = all.chunks(lines).map(|entry| entry.join("\n")).collect();
    entries.sort();
    entries.join("\n").into_bytes()
}

fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut buffer = vec![0; 4096];
    let length = rustix::fs::llistxattr(path, &mut buffer).unwrap_or(0);
    let mut found = BTreeMap::new();
    for name in buffer[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 4096];
        let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
        value.truncate(length);
        found.insert(String::from_utf8_lossy(name).into_owned(), value);
    }
    found
}
