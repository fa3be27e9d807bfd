//! Unpacks a real set of packages, configures it with dpkg, and compares every path and all of
//! dpkg's database with what mmdebstrap (that is, apt and dpkg) makes of the same packages.
//!
//! Needs root, mmdebstrap and a Debian mirror, and takes minutes, so it only runs on request:
//!
//! ```text
//! cargo test --test unpack_oracle -- --ignored --nocapture
//! ```
//!
//! The reference tree is kept in `$TMPDIR/imgbuild-unpack-oracle`; remove it to fetch anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use imgbuild::debian::database::root::Root;
use imgbuild::debian::database::stanza::Stanza;
use imgbuild::debian::database::{self};
use imgbuild::debian::deb::Deb;
use imgbuild::debian::unpack::{self, Maintainer, Package, Runner, install};
use imgbuild::progress::Silent;

const SUITE: &str = "trixie";
const MIRROR: &str = "deb http://deb.debian.org/debian trixie main";
/// Between them these have `preinst` scripts with and without pre-dependencies, diversions,
/// configuration files, alternatives, triggers of all kinds, users of their own, hard links,
/// set-user-id programs and file capabilities.
const INCLUDE: &str = "systemd-sysv,ifupdown,dhcpcd-base,haproxy,keepalived,ca-certificates,\
                       mariadb-server,mariadb-backup,nftables,openssh-server";

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

#[test]
#[ignore = "needs root, mmdebstrap and a Debian mirror"]
fn the_result_is_the_same_as_that_of_dpkg() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let cache = std::env::temp_dir().join("imgbuild-unpack-oracle");
    fs::create_dir_all(&cache).unwrap();
    let reference = cache.join("reference");
    if !cache.join("complete").exists() {
        make_reference(&reference);
        fs::write(cache.join("complete"), "").unwrap();
    }
    let packages = packages(&reference.join("var/cache/apt/archives"));
    let ours = cache.join("ours");
    if ours.exists() {
        fs::remove_dir_all(&ours).unwrap();
    }
    fs::DirBuilder::new().mode(0o755).create(&ours).unwrap();
    build(&ours, &packages);
    let differences = compare(&reference, &ours);
    for line in &differences {
        eprintln!("{line}");
    }
    assert!(differences.is_empty(), "{} differences", differences.len());
}

fn missing() -> Option<&'static str> {
    if !rustix::process::getuid().is_root() {
        return Some("not root");
    }
    let found = Command::new("mmdebstrap").arg("--version").output();
    if !found.is_ok_and(|output| output.status.success()) {
        return Some("mmdebstrap is not installed");
    }
    None
}

fn make_reference(target: &Path) {
    if target.exists() {
        fs::remove_dir_all(target).unwrap();
    }
    let status = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=essential", "--quiet"])
        .arg(format!("--include={INCLUDE}"))
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg("--aptopt=APT::Keep-Downloaded-Packages \"true\"")
        .args(["--skip=essential/unlink", "--skip=cleanup"])
        .args([SUITE.as_ref(), target.as_os_str(), MIRROR.as_ref()])
        .status()
        .unwrap();
    assert!(status.success(), "mmdebstrap failed");
}

fn packages(directory: &Path) -> Vec<Package> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let deb = Deb::open(&file).unwrap();
            let stanza = Stanza::parse(deb.control_file("control").unwrap(), "package").unwrap();
            let Stanza { name, version, architecture, .. } = stanza;
            packages.push(Package { file, name, version, architecture });
        }
    }
    packages
}

/// Unpacks and configures `packages` in the empty directory `root`.
fn build(root: &Path, packages: &[Package]) {
    let mut runner = Chroot { root: root.to_owned(), waited: 0.0 };
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let start = Instant::now();
    let installation = install(root, packages, &mut runner, threads, &Silent).unwrap();
    let unpacking = start.elapsed().as_secs_f64() - runner.waited;
    eprintln!(
        "{} packages unpacked in {unpacking:.2} s, {} pending, scripts {:.2} s",
        packages.len(),
        installation.pending.len(),
        runner.waited
    );
    runner.run("dpkg", &["--configure", "--pending"], &[]).unwrap();
    runner.run("dpkg", &["--audit"], &[]).unwrap();
    database::normalise(&Root::open(root).unwrap()).unwrap();
}

/// Runs programs as mmdebstrap does: with `/proc`, `/sys` and `/dev`, and no services started.
struct Chroot {
    root: PathBuf,
    waited: f64,
}

#[derive(Debug)]
#[expect(dead_code, reason = "shown by its Debug form")]
enum Failure {
    Unpack(unpack::Error),
    Program(String),
}

impl From<unpack::Error> for Failure {
    fn from(error: unpack::Error) -> Self {
        Self::Unpack(error)
    }
}

impl Chroot {
    fn run(
        &mut self,
        program: &str,
        arguments: &[&str],
        environment: &[(String, String)],
    ) -> Result<(), Failure> {
        let start = Instant::now();
        let policy = self.root.join("usr/sbin/policy-rc.d");
        fs::write(&policy, "#!/bin/sh\nexit 101\n").unwrap();
        fs::set_permissions(&policy, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
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

fn compare(reference: &Path, ours: &Path) -> Vec<String> {
    let packaged = packaged(reference);
    let (theirs, ours) = (tree(reference, &packaged), tree(ours, &packaged));
    let mut differences = Vec::new();
    for path in theirs.keys().chain(ours.keys()).collect::<BTreeSet<_>>() {
        let expected = EXPECTED.iter().any(|(pattern, _)| matches(pattern, path));
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
        "/etc/passwd" | "/etc/shadow" | "/etc/group" | "/etc/gshadow" => 1,
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
