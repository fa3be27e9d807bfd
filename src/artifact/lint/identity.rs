//! What would make every guest of an image the same guest.

use std::path::Path;

use super::{Check, Rule};
use crate::layer::entry::{Entry, Kind};
use crate::lint as registry;

pub(super) const RULES: &[Rule] = &[
    Rule { lint: &registry::SSH_HOST_KEY, check: Check::Entry(ssh_host_key) },
    Rule { lint: &registry::MACHINE_ID, check: Check::Entry(machine_id) },
    Rule { lint: &registry::RANDOM_SEED, check: Check::Entry(random_seed) },
    Rule { lint: &registry::CREDENTIAL_SECRET, check: Check::Entry(credential_secret) },
    Rule { lint: &registry::SNAKEOIL_KEY, check: Check::Entry(snakeoil_key) },
    Rule { lint: &registry::DATABASE_CONTENT, check: Check::Entry(database_content) },
    Rule { lint: &registry::HOST_NAME, check: Check::Entry(host_name) },
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
