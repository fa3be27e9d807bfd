//! What Proxmox VE and systemd need to find in a container's tree.
//!
//! Read in pve-container 6.1.10 (`PVE::LXC::Setup`, `Setup::Base`, `Setup::Debian`, `Setup::Ubuntu`):
//! it reads these files when a container is created, and the creation fails where it cannot.

use std::path::{Path, PathBuf};

use super::{Check, Error, Objections, Rule, Tree};
use crate::layer::entry::Kind;
use crate::lint as registry;

pub(super) const RULES: &[Rule] = &[
    Rule { lint: &registry::OS_RELEASE, check: Check::Image(os_release) },
    Rule { lint: &registry::SHELL, check: Check::Image(shell) },
    Rule { lint: &registry::INIT, check: Check::Image(init) },
    Rule { lint: &registry::NEEDED_PATH, check: Check::Image(needed_paths) },
    Rule { lint: &registry::NETWORK_TOOLS, check: Check::Image(network_tools) },
    Rule { lint: &registry::KERNEL, check: Check::Image(kernel) },
    Rule { lint: &registry::FSTAB, check: Check::Image(fstab) },
    Rule { lint: &registry::EMPTY_MACHINE_ID, check: Check::Image(empty_machine_id) },
    Rule { lint: &registry::STATE_PATH, check: Check::Image(state_paths) },
];

fn os_release(tree: &Tree<'_>, _: &[PathBuf], objections: &mut Objections) -> Result<(), Error> {
    const PATHS: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
    let mut text = None;
    for path in PATHS {
        text = text.or(tree.text(path)?);
    }
    let Some(text) = text else {
        objections.add(PATHS[0], "is missing");
        return Ok(());
    };
    match assignment(&text, "ID") {
        Some("debian") => debian_version(tree, objections),
        Some("ubuntu") => ubuntu_release(tree, objections),
        other => {
            let id = other.unwrap_or_default();
            objections.add(PATHS[0], format!("has the ID `{id}`, not `debian` or `ubuntu`"));
            Ok(())
        }
    }
}

/// The value of `NAME=value` (os-release(5)), without its quotes.
fn assignment<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.trim().trim_matches(['"', '\'']))
}

/// Proxmox wants digits, or a code name with `/sid`.
fn debian_version(tree: &Tree<'_>, objections: &mut Objections) -> Result<(), Error> {
    const PATH: &str = "etc/debian_version";
    match tree.text(PATH)? {
        None => objections.add(PATH, "is missing"),
        Some(text) if text.starts_with(|first: char| first.is_ascii_digit()) => {}
        Some(text) if text.trim_end().ends_with("/sid") => {}
        Some(text) => objections.add(PATH, format!("does not begin with a version: {text:?}")),
    }
    Ok(())
}

fn ubuntu_release(tree: &Tree<'_>, objections: &mut Objections) -> Result<(), Error> {
    const PATH: &str = "etc/lsb-release";
    let text = tree.text(PATH)?.unwrap_or_default();
    if assignment(&text, "DISTRIB_ID") != Some("Ubuntu")
        || assignment(&text, "DISTRIB_RELEASE").is_none()
    {
        objections.add(PATH, "does not name Ubuntu and its release");
    }
    Ok(())
}

fn shell(tree: &Tree<'_>, _: &[PathBuf], objections: &mut Objections) -> Result<(), Error> {
    match tree.beginning("bin/sh", 4)?.as_deref() {
        Some(b"\x7fELF") => {}
        Some(_) => objections.add("bin/sh", "does not lead to an ELF program"),
        None => objections.add("bin/sh", "does not lead to a file"),
    }
    Ok(())
}

fn init(tree: &Tree<'_>, _: &[PathBuf], objections: &mut Objections) -> Result<(), Error> {
    let leads_to_systemd = tree
        .file("sbin/init")
        .is_some_and(|(found, _)| found.entry.path == Path::new("usr/lib/systemd/systemd"));
    if !leads_to_systemd {
        objections.add("sbin/init", "does not lead to /usr/lib/systemd/systemd");
    }
    Ok(())
}

fn needed_paths(tree: &Tree<'_>, _: &[PathBuf], objections: &mut Objections) -> Result<(), Error> {
    for path in ["dev", "proc", "sys", "run", "tmp", "etc/systemd", "etc/network", "root"] {
        if !tree.is_directory(path) {
            objections.add(path, "is not a directory");
        }
    }
    for path in ["etc/passwd", "etc/group", "etc/shadow"] {
        if tree.file(path).is_none() {
            objections.add(path, "is not a file");
        }
    }
    Ok(())
}

fn network_tools(tree: &Tree<'_>, _: &[PathBuf], objections: &mut Objections) -> Result<(), Error> {
    let text = tree.text("etc/os-release")?.unwrap_or_default();
    if assignment(&text, "ID") != Some("debian") {
        return Ok(());
    }
    if tree.file("usr/sbin/ifup").is_none() {
        objections.add("usr/sbin/ifup", "is missing");
    }
    if ["usr/sbin/dhcpcd", "usr/sbin/dhclient"].iter().all(|client| tree.file(client).is_none()) {
        objections.add("usr/sbin/dhcpcd", "is missing, and there is no other DHCP client");
    }
    Ok(())
}

fn kernel(tree: &Tree<'_>, _: &[PathBuf], objections: &mut Objections) -> Result<(), Error> {
    const LINKS: [&str; 4] = ["vmlinuz", "vmlinuz.old", "initrd.img", "initrd.img.old"];
    for item in tree.merged().entries() {
        let path = &item.entry.path;
        let inside =
            ["boot", "usr/lib/modules"].iter().any(|directory| path.starts_with(directory));
        let file = item.entry.kind != Kind::Directory;
        if (inside && file) || LINKS.iter().any(|link| path == Path::new(link)) {
            objections.add(path, "belongs to a kernel or boot loader");
        }
    }
    Ok(())
}

fn fstab(tree: &Tree<'_>, _: &[PathBuf], objections: &mut Objections) -> Result<(), Error> {
    const PATH: &str = "etc/fstab";
    let text = tree.text(PATH)?.unwrap_or_default();
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    if let Some(line) = lines.find(|line| !line.starts_with('#')) {
        objections.add(PATH, format!("has an entry: {line:?}"));
    }
    Ok(())
}

fn empty_machine_id(
    tree: &Tree<'_>,
    _: &[PathBuf],
    objections: &mut Objections,
) -> Result<(), Error> {
    const PATH: &str = "etc/machine-id";
    match tree.get(PATH).map(|found| &found.entry.kind) {
        Some(Kind::File { size: 0 }) => {}
        Some(_) => objections.add(PATH, "is not an empty file"),
        None => objections.add(PATH, "is missing"),
    }
    Ok(())
}

fn state_paths(
    tree: &Tree<'_>,
    states: &[PathBuf],
    objections: &mut Objections,
) -> Result<(), Error> {
    for state in states {
        let path = state.strip_prefix("/").unwrap_or(state);
        let culprit = path.ancestors().find(|ancestor| {
            tree.get(ancestor).is_some_and(|found| found.entry.kind != Kind::Directory)
        });
        if let Some(culprit) = culprit {
            objections
                .add(culprit, format!("is no directory, but state is kept at {}", state.display()));
        } else if !tree.is_directory(path) {
            objections.add(path, "is missing, but state is kept there");
        }
        let entries = tree.merged().entries();
        let begin = entries.partition_point(|item| item.entry.path.as_path() < path);
        let inside = entries[begin..].iter().take_while(|item| item.entry.path.starts_with(path));
        for item in inside.filter(|item| item.entry.kind != Kind::Directory) {
            objections.add(&item.entry.path, "would be hidden by a state volume");
        }
    }
    Ok(())
}
