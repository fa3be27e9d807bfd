//! What a build leaves behind: useless in an image, and different with every build.

use super::{Group, Lint, Stance, Subject};

/// A log.
pub static LOG_FILE: Lint = Lint {
    name: "log-file",
    group: Group::Residues,
    subject: Subject::Layer,
    stance: Stance::Deny,
    reason: "a log of the build tells times and machines, and differs with every build",
    remedy: "remove it after the packages are configured",
};

/// A cache.
pub static CACHE: Lint = Lint {
    name: "cache",
    group: Group::Residues,
    subject: Subject::Layer,
    stance: Stance::Deny,
    reason: "caches take room, are made again when needed, and differ with every build \
                 (ld.so's auxiliary cache holds inode numbers)",
    remedy: "remove it after the packages are configured",
};

/// A backup copy.
pub static BACKUP_FILE: Lint = Lint {
    name: "backup-file",
    group: Group::Residues,
    subject: Subject::Layer,
    stance: Stance::Deny,
    reason: "it is the state of a file before the build last changed it",
    remedy: "remove it after the packages are configured",
};

/// What keeps services from starting.
pub static BUILD_TOOL: Lint = Lint {
    name: "build-tool",
    group: Group::Residues,
    subject: Subject::Layer,
    stance: Stance::Deny,
    reason: "it keeps services from starting during the build, and would do so in the guest",
    remedy: "this is a defect of imgbuild or of a `[[run]]` step that put it there",
};

/// Content of directories that do not last.
pub static VOLATILE_CONTENT: Lint = Lint {
    name: "volatile-content",
    group: Group::Residues,
    subject: Subject::Layer,
    stance: Stance::Deny,
    reason: "/run, /tmp and /var/tmp belong to the running system; what is there in the image is \
                 hidden or deleted at the start",
    remedy: "remove it in the step that made it, or put it where it belongs",
};

/// Content of /dev.
pub static DEVICE: Lint = Lint {
    name: "device",
    group: Group::Residues,
    subject: Subject::Layer,
    stance: Stance::Forbid(
        "what is there is hidden below the /dev that is mounted over it, so nothing could use it",
    ),
    reason: "Proxmox and the kernel fill /dev, and an unprivileged container cannot create devices",
    remedy: "remove it in the step that made it",
};

pub(super) static ALL: &[&Lint] =
    &[&LOG_FILE, &CACHE, &BACKUP_FILE, &BUILD_TOOL, &VOLATILE_CONTENT, &DEVICE];
