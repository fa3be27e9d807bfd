//! What Proxmox VE and systemd need to find in an image.

use super::{Group, Lint, Stance, Subject};

/// What tells the distribution.
pub static OS_RELEASE: Lint = Lint {
    name: "os-release",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Forbid("Proxmox refuses the container whatever a definition says"),
    reason: "Proxmox takes the distribution from these files and refuses the container without \
                 them",
    remedy: "install `base-files`; only Debian and Ubuntu images are supported",
};

/// A shell.
pub static SHELL: Lint = Lint {
    name: "shell",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Forbid("Proxmox refuses the container whatever a definition says"),
    reason: "Proxmox reads the architecture from the ELF header of /bin/sh",
    remedy: "install a shell, `dash` for example",
};

/// An init system.
pub static INIT: Lint = Lint {
    name: "init",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Forbid("nothing else can start the image"),
    reason: "containers and machines are started by systemd",
    remedy: "install `systemd-sysv`",
};

/// Paths that Proxmox writes to.
pub static NEEDED_PATH: Lint = Lint {
    name: "needed-path",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Forbid("Proxmox refuses the container whatever a definition says"),
    reason: "Proxmox writes there when it creates a container, and fails where it cannot",
    remedy: "install `base-files`, `base-passwd`, `passwd`, `systemd` and `ifupdown`",
};

/// What configures the network.
pub static NETWORK_TOOLS: Lint = Lint {
    name: "network-tools",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Deny,
    reason: "Proxmox configures the network of a Debian container in /etc/network/interfaces, which \
                 only ifupdown reads, with DHCP only if there is a client",
    remedy: "install `ifupdown` and `dhcpcd-base`",
};

/// A kernel or boot loader.
pub static KERNEL: Lint = Lint {
    name: "kernel",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Deny,
    reason: "a container runs on the host's kernel, and machines take theirs from the boot layer",
    remedy: "do not install a kernel or boot loader in a role image",
};

/// Entries of /etc/fstab.
pub static FSTAB: Lint = Lint {
    name: "fstab",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Deny,
    reason: "what an image mounts is decided by Proxmox and by state volumes",
    remedy: "remove the lines from /etc/fstab; declare state with `[[state]]`",
};

/// An empty /etc/machine-id.
pub static EMPTY_MACHINE_ID: Lint = Lint {
    name: "empty-machine-id",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Forbid("without it guests have one id, or take every start for the first"),
    reason: "only an empty file makes systemd give every guest an id without taking the start for \
                 the first of all (machine-id(5), \"First Boot Semantics\")",
    remedy: "ship /etc/machine-id as an empty file",
};

/// Where state volumes are mounted.
pub static STATE_PATH: Lint = Lint {
    name: "state-path",
    group: Group::Needs,
    subject: Subject::Image,
    stance: Stance::Forbid(
        "the volume could not be mounted, or what is below it could never be seen",
    ),
    reason: "a volume can only be mounted on a directory that is reached without symbolic links, and \
                 hides what the image has there",
    remedy: "declare the path that the links lead to, and leave its directory empty",
};

pub(super) static ALL: &[&Lint] = &[
    &OS_RELEASE,
    &SHELL,
    &INIT,
    &NEEDED_PATH,
    &NETWORK_TOOLS,
    &KERNEL,
    &FSTAB,
    &EMPTY_MACHINE_ID,
    &STATE_PATH,
];
