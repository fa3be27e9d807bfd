//! Unpacks a real set of packages, configures it with dpkg, and compares every path and all of
//! dpkg's database with what mmdebstrap (that is, apt and dpkg) makes of the same packages.
//!
//! Needs root, mmdebstrap and a Debian mirror, and takes minutes, so it only runs on request:
//!
//! ```text
//! cargo test --test unpack_oracle -- --ignored --nocapture
//! ```
//!
//! `UNPACK_ORACLE_SUITE` and `UNPACK_ORACLE_INCLUDE` choose another suite and other packages.
//! The reference tree is kept in `$TMPDIR/imgbuild-unpack-oracle-SUITE`; remove it to fetch anew.

#![expect(clippy::print_stderr, reason = "differences are reported one by one")]

mod chroot;
mod compare;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use chroot::Chroot;
use imgbuild::debian::database;
use imgbuild::debian::database::root::Root;
use imgbuild::debian::database::stanza::Stanza;
use imgbuild::debian::deb::Deb;
use imgbuild::debian::relation;
use imgbuild::debian::unpack::{Package, install};
use imgbuild::progress::Silent;

const SUITE: &str = "trixie";
const MIRROR: &str = "http://deb.debian.org/debian";
/// What programs that respect it take for the current time.
const EPOCH: &str = "1760000000";
/// Between them these have `preinst` scripts with and without pre-dependencies, diversions,
/// configuration files, alternatives, triggers of all kinds, users of their own, hard links,
/// set-user-id programs and file capabilities.
const INCLUDE: &str = "systemd-sysv,ifupdown,dhcpcd-base,haproxy,keepalived,ca-certificates,\
                       mariadb-server,mariadb-backup,nftables,openssh-server";

#[test]
#[ignore = "needs root, mmdebstrap and a Debian mirror"]
fn the_result_is_the_same_as_that_of_dpkg() {
    if let Some(reason) = missing() {
        eprintln!("skipped: {reason}");
        return;
    }
    let variable = |name, default: &str| std::env::var(name).unwrap_or(default.to_owned());
    let suite = variable("UNPACK_ORACLE_SUITE", SUITE);
    let include = variable("UNPACK_ORACLE_INCLUDE", INCLUDE);
    let cache = std::env::temp_dir().join(format!("imgbuild-unpack-oracle-{suite}"));
    fs::create_dir_all(&cache).unwrap();
    let reference = cache.join("reference");
    if !cache.join("complete").exists() {
        make_reference(&reference, &suite, &include);
        fs::write(cache.join("complete"), "").unwrap();
    }
    let packages = packages(&reference.join("var/cache/apt/archives"));
    let (essential, others) = split(packages.values());
    let everything = packages.into_values().collect();
    let mut failures = 0;
    for (name, layers) in [("one-layer", vec![everything]), ("two-layers", vec![essential, others])]
    {
        let ours = cache.join(name);
        if ours.exists() {
            fs::remove_dir_all(&ours).unwrap();
        }
        fs::DirBuilder::new().mode(0o755).create(&ours).unwrap();
        for layer in layers {
            build(&ours, &layer);
        }
        for line in compare::compare(&suite, &reference, &ours) {
            eprintln!("{name}: {line}");
            failures += 1;
        }
    }
    assert_eq!(failures, 0, "differences");
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

fn make_reference(target: &Path, suite: &str, include: &str) {
    if target.exists() {
        fs::remove_dir_all(target).unwrap();
    }
    let status = Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=essential", "--quiet"])
        .arg(format!("--include={include}"))
        .arg("--aptopt=APT::Install-Recommends \"false\"")
        .arg("--aptopt=APT::Keep-Downloaded-Packages \"true\"")
        .args(["--skip=essential/unlink", "--skip=cleanup"])
        .arg(suite)
        .arg(target)
        .arg(format!("deb {MIRROR} {suite} main"))
        .env("SOURCE_DATE_EPOCH", EPOCH)
        .status()
        .unwrap();
    assert!(status.success(), "mmdebstrap failed");
}

/// A package with what the test needs of its control file.
struct Known {
    package: Package,
    stanza: Stanza,
}

fn packages(directory: &Path) -> BTreeMap<String, Package> {
    let mut packages = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            let Stanza { name, version, architecture, .. } = stanza(&file);
            packages.insert(name.clone(), Package { file, name, version, architecture });
        }
    }
    packages
}

fn stanza(file: &Path) -> Stanza {
    let deb = Deb::open(file).unwrap();
    Stanza::parse(deb.control_file("control").unwrap(), "package").unwrap()
}

/// The essential packages with all that they depend on, and the others.
fn split<'a>(packages: impl Iterator<Item = &'a Package>) -> (Vec<Package>, Vec<Package>) {
    let known: Vec<Known> = packages
        .map(|package| Known { package: package.clone(), stanza: stanza(&package.file) })
        .collect();
    let mut provided: BTreeMap<&str, &str> = BTreeMap::new();
    for Known { stanza, .. } in &known {
        for name in names(stanza, "Provides") {
            provided.insert(name, &stanza.name);
        }
    }
    let by_name: BTreeMap<&str, &Known> =
        known.iter().map(|known| (known.stanza.name.as_str(), known)).collect();
    let mut chosen = BTreeSet::new();
    let mut open: Vec<&str> = known
        .iter()
        .filter(|known| known.stanza.is_essential())
        .map(|known| known.stanza.name.as_str())
        .collect();
    while let Some(name) = open.pop() {
        let name =
            if by_name.contains_key(name) { name } else { provided.get(name).unwrap_or(&name) };
        if let Some(known) = by_name.get(name)
            && chosen.insert(name)
        {
            open.extend(names(&known.stanza, "Depends"));
            open.extend(names(&known.stanza, "Pre-Depends"));
        }
    }
    known
        .iter()
        .map(|known| known.package.clone())
        .partition(|package| chosen.contains(package.name.as_str()))
}

/// All names in a relation field; of alternatives, those that the set has are enough.
fn names<'a>(stanza: &'a Stanza, field: &str) -> Vec<&'a str> {
    let value = stanza.field(field).unwrap_or_default();
    let relations = relation::parse_field(value).unwrap();
    relations.iter().flat_map(|relation| &relation.alternatives).map(|other| other.name).collect()
}

/// Unpacks and configures a layer.
fn build(root: &Path, packages: &[Package]) {
    let mut runner = Chroot::new(root);
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
