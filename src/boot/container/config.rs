//! The configuration of a container, as `PVE::LXC::update_lxc_config` of pve-container writes it for an
//! unprivileged one with nesting, AppArmor excepted. What it includes of `debian.common.conf` and
//! `debian.userns.conf` is given here: Debian has those files in another package than lxc's programs.
//!
//! `lxc.apparmor.allow_nesting` does something without AppArmor, too: `proc` and `sysfs` are mounted once more, where
//! nothing covers parts of them (`make_anonymous_mount_file` in lxc's `conf.c`). The kernel mounts them in a user
//! namespace within the container only if they are there.

use std::fmt::Write as _;
use std::path::Path;

use super::{GUEST_IDS, GUEST_ROOT};
use crate::boot::host::BRIDGE;

/// A directory of the machine that a container has mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint<'a> {
    /// The directory.
    pub source: &'a Path,
    /// Where, from the container's root.
    pub target: &'a str,
    /// Whether the container may not write to it.
    pub read_only: bool,
}

/// The text of a container's `config`, lxc.container.conf(5). `rootfs` has no blanks or line ends.
pub(super) fn config(name: &str, rootfs: &Path, mac: &str, mounts: &[MountPoint<'_>]) -> String {
    let rootfs = rootfs.display();
    let mut text = format!(
        "lxc.include = /usr/share/lxc/config/common.conf
lxc.tty.dir =
lxc.include = /usr/share/lxc/config/userns.conf
lxc.apparmor.profile = unconfined
lxc.apparmor.allow_nesting = 1
lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp
lxc.idmap = u 0 {GUEST_ROOT} {GUEST_IDS}
lxc.idmap = g 0 {GUEST_ROOT} {GUEST_IDS}
lxc.uts.name = {name}
lxc.rootfs.path = dir:{rootfs}
lxc.tty.max = 2
lxc.environment = TERM=linux
lxc.signal.halt = SIGRTMIN+3
lxc.net.0.type = veth
lxc.net.0.link = {BRIDGE}
lxc.net.0.flags = up
lxc.net.0.name = eth0
lxc.net.0.hwaddr = {mac}
"
    );
    for MountPoint { source, target, read_only } in mounts {
        let source = escaped(&source.to_string_lossy());
        let target = escaped(target.trim_start_matches('/'));
        let mode = if *read_only { ",ro" } else { "" };
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "lxc.mount.entry = {source} {target} none bind,create=dir{mode} 0 0");
    }
    text
}

/// A path as fstab(5) wants it.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\134").replace(' ', "\\040")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_configured_as_on_proxmox() {
        let mounts = [
            MountPoint {
                source: Path::new("/x/state"),
                target: "/var/lib/my data",
                read_only: false,
            },
            MountPoint {
                source: Path::new("/x/secrets"),
                target: "/etc/imgbuild/secrets",
                read_only: true,
            },
        ];
        let text = config("galera1", Path::new("/x/rootfs"), "02:00:00:00:00:07", &mounts);
        insta::assert_snapshot!(text, @r#"
        lxc.include = /usr/share/lxc/config/common.conf
        lxc.tty.dir =
        lxc.include = /usr/share/lxc/config/userns.conf
        lxc.apparmor.profile = unconfined
        lxc.apparmor.allow_nesting = 1
        lxc.seccomp.profile = /usr/share/lxc/config/common.seccomp
        lxc.idmap = u 0 100000 65536
        lxc.idmap = g 0 100000 65536
        lxc.uts.name = galera1
        lxc.rootfs.path = dir:/x/rootfs
        lxc.tty.max = 2
        lxc.environment = TERM=linux
        lxc.signal.halt = SIGRTMIN+3
        lxc.net.0.type = veth
        lxc.net.0.link = br0
        lxc.net.0.flags = up
        lxc.net.0.name = eth0
        lxc.net.0.hwaddr = 02:00:00:00:00:07
        lxc.mount.entry = /x/state var/lib/my\040data none bind,create=dir 0 0
        lxc.mount.entry = /x/secrets etc/imgbuild/secrets none bind,create=dir,ro 0 0
        "#);
    }
}
