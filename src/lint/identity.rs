//! What would make every guest of an image the same guest.

use super::{Group, Lint, Stance, Subject};

/// A host key of SSH.
pub static SSH_HOST_KEY: Lint = Lint {
    name: "ssh-host-key",
    group: Group::Identity,
    subject: Subject::Layer,
    stance: Stance::Forbid(
        "every guest can make its own at the first start, and one that is shared identifies nobody",
    ),
    reason: "every guest made from the image would have the same host key, and whoever has the \
                 image could pose as any of them",
    remedy: "remove it after the packages are configured; a key is made at the first start",
};

/// A machine id.
pub static MACHINE_ID: Lint = Lint {
    name: "machine-id",
    group: Group::Identity,
    subject: Subject::Layer,
    stance: Stance::Forbid(
        "two guests with one id take each other's address from a DHCP server and each other's journal",
    ),
    reason: "every guest made from the image would have the same machine id (machine-id(5))",
    remedy: "leave /etc/machine-id empty and make /var/lib/dbus/machine-id a link to it",
};

/// A random seed.
pub static RANDOM_SEED: Lint = Lint {
    name: "random-seed",
    group: Group::Identity,
    subject: Subject::Layer,
    stance: Stance::Forbid(
        "a seed that others know is worse than none, and it is made at the first start",
    ),
    reason: "guests would start from the same random numbers \
                 (systemd.io/BUILDING_IMAGES)",
    remedy: "remove it; it is made at the first start",
};

/// Content of a database.
pub static DATABASE_CONTENT: Lint = Lint {
    name: "database-content",
    group: Group::Identity,
    subject: Subject::Layer,
    stance: Stance::Deny,
    reason: "a database that was made during the build has one identity and one set of passwords \
                 for all guests, and state belongs on a volume",
    remedy: "empty the directory; the service fills its volume at the first start",
};

/// A host name.
pub static HOST_NAME: Lint = Lint {
    name: "host-name",
    group: Group::Identity,
    subject: Subject::Layer,
    stance: Stance::Deny,
    reason: "the name of a guest comes from Proxmox; one in the image is that of the machine that \
                 built it, or overrides it",
    remedy: "remove /etc/hostname",
};

pub(super) static ALL: &[&Lint] =
    &[&SSH_HOST_KEY, &MACHINE_ID, &RANDOM_SEED, &DATABASE_CONTENT, &HOST_NAME];
