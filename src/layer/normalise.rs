//! Takes out of a tree what package scripts leave behind and no image may hold: identities, keys,
//! random seeds, logs, caches and backup copies. Every entry is a fact about a package; the lint of
//! finished artifacts checks the same list from the other side.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Files to delete. `*` stands for any run of characters within one name.
const DELETED: &[&str] = &[
    // Identity and secrets: systemd and dbus make their own at the first boot, sshd-keygen too.
    "var/lib/dbus/machine-id",
    "var/lib/systemd/random-seed",
    "var/lib/systemd/credential.secret",
    "etc/ssh/ssh_host_*",
    "etc/ssl/private/ssl-cert-snakeoil.key",
    "etc/ssl/certs/ssl-cert-snakeoil.pem",
    // The host's name and resolver belong to the guest. Proxmox writes both.
    "etc/hostname",
    "etc/resolv.conf",
    // Logs.
    "var/log/dpkg.log",
    "var/log/alternatives.log",
    "var/log/bootstrap.log",
    "var/log/fontconfig.log",
    "var/log/apt/*",
    "var/log/lastlog",
    "var/log/faillog",
    "var/log/wtmp*",
    "var/log/btmp*",
    // Caches: ldconfig's holds inode numbers (ldconfig(8), `--ignore-aux-cache`).
    "var/cache/ldconfig/aux-cache",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/lib/apt/lists/*_*",
    // What package hooks make of the kernel, whatever `INITRD=No` says (the trigger of tiny-initramfs), with
    // the time of day in it. Disks start with the one that the boot image's command makes.
    "boot/initrd.img-*",
    // Backups that tools make of the file they change.
    "etc/passwd-",
    "etc/group-",
    "etc/shadow-",
    "etc/gshadow-",
    "etc/subuid-",
    "etc/subgid-",
    "var/cache/debconf/*-old",
    "var/lib/dpkg/*-old",
    "var/backups/*",
    // Locks.
    "etc/.pwd.lock",
    "var/lib/dpkg/lock",
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/triggers/Lock",
];

/// Directories whose content is deleted: mounted over at boot, or made anew by every service.
const EMPTIED: &[&str] = &["dev", "proc", "run", "sys", "tmp", "var/tmp"];

/// Normalises the tree at `root`. `state` are the directories of declared state volumes, relative to the
/// root: packages may have put an initial state there, which the role makes itself on an empty
/// volume, so that no two sites share identifiers or keys.
///
/// # Errors
/// When a path cannot be deleted or written.
pub fn normalise(root: &Path, state: &[PathBuf]) -> io::Result<()> {
    for pattern in DELETED {
        for path in matches(root, pattern)? {
            delete(&path)?;
        }
    }
    for directory in EMPTIED.iter().map(Path::new).chain(state.iter().map(PathBuf::as_path)) {
        empty(&root.join(directory))?;
    }
    // An empty file, not a missing one: systemd then makes an id without taking the boot for the
    // first one (machine-id(5), "First Boot Semantics").
    let machine_id = root.join("etc/machine-id");
    if root.join("etc").is_dir() && fs::read(&machine_id).ok().as_deref() != Some(b"") {
        fs::write(&machine_id, "")?;
    }
    Ok(())
}

fn matches(root: &Path, pattern: &str) -> io::Result<Vec<PathBuf>> {
    let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
    let directory = root.join(directory);
    let Some((prefix, suffix)) = name.split_once('*') else {
        let path = directory.join(name);
        return Ok(path.symlink_metadata().is_ok().then_some(path).into_iter().collect());
    };
    let entries = match fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let long_enough = name.len() >= prefix.len() + suffix.len();
        if long_enough && name.starts_with(prefix) && name.ends_with(suffix) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

fn delete(path: &Path) -> io::Result<()> {
    if path.symlink_metadata()?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

fn empty(directory: &Path) -> io::Result<()> {
    match directory.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    for entry in fs::read_dir(directory)? {
        delete(&entry?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_logs_and_backups_go_and_the_rest_stays() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let gone = [
            "etc/ssh/ssh_host_rsa_key",
            "etc/ssh/ssh_host_rsa_key.pub",
            "etc/passwd-",
            "etc/hostname",
            "var/lib/dpkg/status-old",
            "var/cache/debconf/config.dat-old",
            "var/lib/mysql/ibdata1",
            "var/lib/mysql/mysql/db.MAD",
            "boot/initrd.img-6.12",
            "run/lock/x",
        ];
        let kept =
            ["etc/ssh/sshd_config", "etc/passwd", "var/lib/dpkg/status", "boot/vmlinuz-6.12"];
        for path in gone.iter().chain(&kept) {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), "x").unwrap();
        }
        fs::write(at("etc/machine-id"), "0123456789abcdef0123456789abcdef\n").unwrap();
        normalise(root.path(), &[PathBuf::from("var/lib/mysql")]).unwrap();
        for path in gone {
            assert!(!at(path).exists(), "{path}");
        }
        for path in kept.into_iter().chain(["var/lib/mysql", "run"]) {
            assert!(at(path).exists(), "{path}");
        }
        assert_eq!(fs::read(at("etc/machine-id")).unwrap(), b"");
    }
}
