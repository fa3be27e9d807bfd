//! The images that every project stands on: `base`, `node`, `machine` and `boot` of this repository, as they are.
//!
//! Each file is named here, and its content is compiled in from `images/`, so that it lives once. A test
//! compares this list with the directories.

use super::{Content, Entry};

/// A file of `images/`.
macro_rules! file {
    ($path:literal) => {
        entry($path, include_bytes!(concat!("../../images/", $path)), false)
    };
}

/// A file of `images/` that may be executed.
macro_rules! program {
    ($path:literal) => {
        entry($path, include_bytes!(concat!("../../images/", $path)), true)
    };
}

/// What lies below `images/`.
struct Embedded {
    path: &'static str,
    what: What,
}

enum What {
    File { content: &'static [u8], executable: bool },
    Link { target: &'static str },
}

const fn entry(path: &'static str, content: &'static [u8], executable: bool) -> Embedded {
    Embedded { path, what: What::File { content, executable } }
}

const fn link(path: &'static str, target: &'static str) -> Embedded {
    Embedded { path, what: What::Link { target } }
}

/// The names of the images.
pub(super) const NAMES: [&str; 4] = ["base", "boot", "machine", "node"];

/// The images, by path in a project.
pub(super) fn entries() -> impl Iterator<Item = Entry> {
    FILES.iter().map(|Embedded { path, what }| Entry {
        path: format!("images/{path}").into(),
        content: match what {
            What::File { content, executable } => {
                Content::File { bytes: content.to_vec(), executable: *executable }
            }
            What::Link { target } => Content::Link { target: target.into() },
        },
    })
}

#[rustfmt::skip]
static FILES: &[Embedded] = &[
    file!("base/image.toml"),
    file!("base/keys/README.md"),
    file!("base/keys/debian-archive-trixie-security.asc"),
    file!("base/keys/debian-archive-trixie.asc"),
    file!("boot/files/usr/lib/imgbuild/boot/grub.cfg"),
    program!("boot/files/usr/lib/imgbuild/boot/init"),
    file!("boot/files/usr/lib/imgbuild/boot/modules"),
    program!("boot/files/usr/lib/imgbuild/make-boot"),
    file!("boot/image.toml"),
    file!("machine/files/etc/chrony/chrony.conf.hbs"),
    file!("machine/files/etc/cloud/cloud.cfg.d/99-imgbuild.cfg"),
    program!("machine/files/etc/network/if-up.d/imgbuild-resolv-conf"),
    file!("machine/files/etc/ssh/sshd_config.d/70-imgbuild.conf"),
    link("machine/files/etc/systemd/system-generators/cloud-init-generator", "/dev/null"),
    link("machine/files/etc/systemd/system-generators/systemd-gpt-auto-generator", "/dev/null"),
    link("machine/files/etc/systemd/system-generators/systemd-hibernate-resume-generator", "/dev/null"),
    link("machine/files/etc/systemd/system-generators/systemd-rc-local-generator", "/dev/null"),
    link("machine/files/etc/systemd/system-generators/systemd-ssh-generator", "/dev/null"),
    link("machine/files/etc/systemd/system-generators/systemd-system-update-generator", "/dev/null"),
    link("machine/files/etc/systemd/system-generators/systemd-tpm2-generator", "/dev/null"),
    program!("machine/files/usr/lib/imgbuild/cloud-init"),
    file!("machine/files/usr/lib/imgbuild/python/jsonschema.py"),
    program!("machine/files/usr/lib/imgbuild/volumes"),
    file!("machine/files/usr/lib/systemd/system/cloud-init-local.service.d/70-imgbuild.conf"),
    file!("machine/files/usr/lib/systemd/system/imgbuild-devices.service"),
    file!("machine/files/usr/lib/systemd/system/imgbuild-identity.service.d/70-machine.conf"),
    file!("machine/files/usr/lib/systemd/system/imgbuild-volumes.service"),
    link("machine/files/usr/lib/systemd/system/local-fs.target.wants/imgbuild-volumes.service", "../imgbuild-volumes.service"),
    link("machine/files/usr/lib/systemd/system/sysinit.target.wants/cloud-init-local.service", "../cloud-init-local.service"),
    file!("machine/files/usr/share/imgbuild/volumes.hbs"),
    file!("machine/image.toml"),
    file!("node/files/etc/.pve-ignore.machine-id"),
    file!("node/files/etc/imgbuild/secrets/.gitkeep"),
    program!("node/files/etc/network/if-pre-up.d/imgbuild-duid"),
    program!("node/files/usr/lib/imgbuild/drain-before-shutdown.hbs"),
    program!("node/files/usr/lib/imgbuild/firewall.hbs"),
    program!("node/files/usr/lib/imgbuild/hand-over"),
    program!("node/files/usr/lib/imgbuild/health-http"),
    program!("node/files/usr/lib/imgbuild/hook"),
    program!("node/files/usr/lib/imgbuild/identity"),
    program!("node/files/usr/lib/imgbuild/seal"),
    file!("node/files/usr/lib/systemd/journald.conf.d/70-imgbuild.conf.hbs"),
    file!("node/files/usr/lib/systemd/system/imgbuild-drain.service.hbs"),
    file!("node/files/usr/lib/systemd/system/imgbuild-firewall.service"),
    file!("node/files/usr/lib/systemd/system/imgbuild-health.socket.hbs"),
    file!("node/files/usr/lib/systemd/system/imgbuild-health@.service"),
    file!("node/files/usr/lib/systemd/system/imgbuild-identity.service"),
    file!("node/files/usr/lib/systemd/system/imgbuild-seal.service.hbs"),
    link("node/files/usr/lib/systemd/system/multi-user.target.wants/imgbuild-drain.service", "../imgbuild-drain.service"),
    link("node/files/usr/lib/systemd/system/sockets.target.wants/imgbuild-health.socket", "../imgbuild-health.socket"),
    file!("node/files/usr/lib/systemd/system/sys-kernel-debug.mount.d/70-imgbuild.conf"),
    link("node/files/usr/lib/systemd/system/sysinit.target.wants/imgbuild-firewall.service", "../imgbuild-firewall.service"),
    link("node/files/usr/lib/systemd/system/sysinit.target.wants/imgbuild-identity.service", "../imgbuild-identity.service"),
    link("node/files/usr/lib/systemd/system/sysinit.target.wants/imgbuild-seal.service", "../imgbuild-seal.service"),
    file!("node/files/usr/lib/systemd/system/systemd-logind.service.d/70-imgbuild.conf"),
    file!("node/files/usr/lib/systemd/system/systemd-modules-load.service.d/70-imgbuild.conf"),
    file!("node/files/usr/share/imgbuild/firewall.nft.hbs"),
    file!("node/files/usr/share/imgbuild/hooks/drain.hbs"),
    file!("node/files/usr/share/imgbuild/hooks/drained.hbs"),
    file!("node/files/usr/share/imgbuild/hooks/leads.hbs"),
    file!("node/files/usr/share/imgbuild/hooks/live.hbs"),
    file!("node/files/usr/share/imgbuild/hooks/ready.hbs"),
    file!("node/files/usr/share/imgbuild/image.hbs"),
    file!("node/files/usr/share/imgbuild/nodes.hbs"),
    file!("node/files/usr/share/imgbuild/volatile-size.hbs"),
    file!("node/image.toml"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};

    use super::*;

    #[test]
    fn every_file_of_the_images_is_listed_as_it_is() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut found = BTreeMap::new();
        for name in NAMES {
            for entry in walkdir::WalkDir::new(root.join("images").join(name)) {
                let entry = entry.unwrap();
                let content = if entry.path_is_symlink() {
                    Content::Link { target: fs::read_link(entry.path()).unwrap() }
                } else if entry.file_type().is_file() {
                    let executable = entry.metadata().unwrap().permissions().mode() & 0o100 != 0;
                    Content::File { bytes: fs::read(entry.path()).unwrap(), executable }
                } else {
                    continue;
                };
                found.insert(entry.path().strip_prefix(root).unwrap().to_owned(), content);
            }
        }
        let listed: BTreeMap<PathBuf, Content> =
            entries().map(|entry| (entry.path, entry.content)).collect();
        let missing: Vec<&PathBuf> = found.keys().filter(|it| !listed.contains_key(*it)).collect();
        assert!(missing.is_empty(), "add to FILES: {missing:?}");
        for (path, content) in &listed {
            assert_eq!(found.get(path), Some(content), "{}", path.display());
        }
    }
}
