//! What would make every guest of an image the same guest.

use std::path::Path;

use super::{Check, Lint};
use crate::layer::entry::{Entry, Kind};

pub(super) const LINTS: &[Lint] = &[
    Lint {
        name: "ssh-host-key",
        reason: "every guest made from the image would have the same host key, and whoever has the \
                 image could pose as any of them",
        remedy: "remove it after the packages are configured; a key is made at the first start",
        check: Check::Entry(ssh_host_key),
    },
    Lint {
        name: "machine-id",
        reason: "every guest made from the image would have the same machine id (machine-id(5))",
        remedy: "leave /etc/machine-id empty and make /var/lib/dbus/machine-id a link to it",
        check: Check::Entry(machine_id),
    },
    Lint {
        name: "random-seed",
        reason: "guests would start from the same random numbers \
                 (systemd.io/BUILDING_IMAGES)",
        remedy: "remove it; it is made at the first start",
        check: Check::Entry(random_seed),
    },
    Lint {
        name: "credential-secret",
        reason: "credentials encrypted for one guest could be read by every other \
                 (systemd-creds(1), /var/lib/systemd/credential.secret)",
        remedy: "remove it; it is made when it is first needed",
        check: Check::Entry(credential_secret),
    },
    Lint {
        name: "snakeoil-key",
        reason: "the ssl-cert package makes this key while it is installed, so every guest would have \
                 the same",
        remedy: "remove the key and its certificate, and have the service use one from a secret",
        check: Check::Entry(snakeoil_key),
    },
    Lint {
        name: "database-content",
        reason: "a database that was made during the build has one identity and one set of passwords \
                 for all guests, and state belongs on a volume",
        remedy: "empty the directory; the service fills its volume at the first start",
        check: Check::Entry(database_content),
    },
    Lint {
        name: "host-name",
        reason: "the name of a guest comes from Proxmox; one in the image is that of the machine that \
                 built it, or overrides it",
        remedy: "remove /etc/hostname",
        check: Check::Entry(host_name),
    },
];

/// Says what is at a path that should not be there at all.
fn present(found: bool) -> Option<String> {
    found.then(|| "is in the image".to_owned())
}

fn is(entry: &Entry, paths: &[&str]) -> bool {
    paths.iter().any(|path| entry.path == Path::new(path))
}

fn ssh_host_key(entry: &Entry) -> Option<String> {
    let name = entry.path.file_name()?.to_str()?;
    let parent = entry.path.parent()?;
    present(
        (parent == Path::new("etc/ssh") && name.starts_with("ssh_host_"))
            || (parent == Path::new("etc/dropbear") && name.ends_with("_host_key")),
    )
}

fn machine_id(entry: &Entry) -> Option<String> {
    if entry.path == Path::new("etc/machine-id") {
        return match entry.kind {
            Kind::File { size: 0 } => None,
            Kind::File { .. } => Some("is not empty".to_owned()),
            _ => Some("is not a file".to_owned()),
        };
    }
    let link = matches!(entry.kind, Kind::Symlink { .. });
    (is(entry, &["var/lib/dbus/machine-id"]) && !link)
        .then(|| "is not a link to /etc/machine-id".to_owned())
}

fn random_seed(entry: &Entry) -> Option<String> {
    present(is(
        entry,
        &["var/lib/systemd/random-seed", "var/lib/urandom/random-seed", "boot/loader/random-seed"],
    ))
}

fn credential_secret(entry: &Entry) -> Option<String> {
    present(is(entry, &["var/lib/systemd/credential.secret"]))
}

fn snakeoil_key(entry: &Entry) -> Option<String> {
    present(is(
        entry,
        &["etc/ssl/private/ssl-cert-snakeoil.key", "etc/ssl/certs/ssl-cert-snakeoil.pem"],
    ))
}

/// The data directories of the databases that roles use. Directories that packages ship in them are
/// no content.
fn database_content(entry: &Entry) -> Option<String> {
    const DIRECTORIES: [&str; 4] =
        ["var/lib/mysql", "var/lib/postgresql", "var/lib/proxysql", "var/lib/redis"];
    let inside = DIRECTORIES.iter().any(|directory| entry.path.starts_with(directory));
    (inside && entry.kind != Kind::Directory).then(|| "is content of a database".to_owned())
}

fn host_name(entry: &Entry) -> Option<String> {
    present(is(entry, &["etc/hostname"]) && entry.kind != Kind::File { size: 0 })
}
