//! From the words of Proxmox to a [`Reason`]. It has no codes of errors: most are a 500 and a sentence.
//!
//! The sentences are those of pve-common (`PVE/Tools.pm`, `PVE/Cluster.pm`), qemu-server and pve-container
//! (`check_lock` in `PVE/AbstractConfig.pm` of pve-guest-common), pve-access-control (`PVE/RPCEnvironment.pm`)
//! and pve-http-server.

use std::collections::BTreeMap;

use super::error::{Lock, Reason};

/// What an answer with the status `status` (400 or more) and `message` means.
pub(super) fn classify(status: u16, message: &str, errors: BTreeMap<String, String>) -> Reason {
    match status {
        401 => return Reason::Unauthorized,
        403 => return forbidden(message),
        501 => return Reason::Unsupported,
        595..=599 => return Reason::NodeUnreachable(status),
        _ => {}
    }
    if let Some(reason) = sentence(message) {
        return reason;
    }
    match status {
        400 if errors.values().any(|why| why == "no such task") => Reason::NotFound,
        400 => Reason::Parameters(errors),
        404 => Reason::NotFound,
        _ => Reason::Other(status),
    }
}

/// What a sentence means, be it an answer's or the last word of a task.
pub(super) fn sentence(message: &str) -> Option<Reason> {
    let has = |text: &str| message.contains(text);
    if has("Permission check failed") {
        return Some(forbidden(message));
    }
    if let Some(kind) =
        between(message, "M is locked (", ")").or(between(message, "CT is locked (", ")"))
    {
        return Some(Reason::Locked(Lock::Config(kind.to_owned())));
    }
    if has("can't lock file") && has("got timeout") || has("got lock request timeout") {
        return Some(Reason::Locked(Lock::Busy));
    }
    if has("detected modified configuration") || has("file change by other user") {
        return Some(Reason::Modified);
    }
    if has("cluster not ready - no quorum") {
        return Some(Reason::NoQuorum);
    }
    if between(message, "Configuration file '", "' does not exist").is_some()
        || has("could not find VM ")
        || has("could not find CT ")
        || has("could not find target VM ")
        || between(message, "storage '", "' does not exist").is_some()
        || between(message, "volume '", "' does not exist").is_some()
        || has("no such volume")
    {
        return Some(Reason::NotFound);
    }
    if (has("VM ") || has("CT ")) && has(" already exists on node ") {
        return Some(Reason::AlreadyExists);
    }
    None
}

/// `Permission check failed (/vms/100, VM.Allocate)`; several privileges are `A|B`.
fn forbidden(message: &str) -> Reason {
    let (path, privilege) = between(message, "Permission check failed (", ")")
        .and_then(|inside| inside.split_once(", "))
        .unwrap_or_default();
    Reason::Forbidden { path: path.to_owned(), privilege: privilege.replace('|', " or ") }
}

/// What stands between `before` and the next `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_proxmox_are_understood() {
        let locked = |kind: &str| Reason::Locked(Lock::Config(kind.to_owned()));
        let forbidden = |path: &str, privilege: &str| Reason::Forbidden {
            path: path.to_owned(),
            privilege: privilege.to_owned(),
        };
        let cases = [
            (401, "invalid token value!", Reason::Unauthorized),
            (
                403,
                "Permission check failed (/vms/100, VM.Allocate)",
                forbidden("/vms/100", "VM.Allocate"),
            ),
            (
                403,
                "Permission check failed (/storage/a, Datastore.Audit|Datastore.AllocateSpace)",
                forbidden("/storage/a", "Datastore.Audit or Datastore.AllocateSpace"),
            ),
            (403, "Permission check failed", forbidden("", "")),
            (
                500,
                "Configuration file 'nodes/pve/qemu-server/100.conf' does not exist",
                Reason::NotFound,
            ),
            (500, "storage 'fast' does not exist", Reason::NotFound),
            (
                500,
                "unable to create VM 100 - VM 100 already exists on node 'pve'",
                Reason::AlreadyExists,
            ),
            (500, "CT 100 already exists on node 'pve'", Reason::AlreadyExists),
            (500, "VM is locked (backup)", locked("backup")),
            (500, "CT is locked (snapshot-delete)", locked("snapshot-delete")),
            (
                500,
                "can't lock file '/var/lock/qemu-server/lock-100.conf' - got timeout",
                Reason::Locked(Lock::Busy),
            ),
            (
                500,
                "VM 100: detected modified configuration - file changed by other user? Try again.",
                Reason::Modified,
            ),
            (500, "checksum mismatch (file change by other user?)", Reason::Modified),
            (500, "cluster not ready - no quorum?", Reason::NoQuorum),
            (501, "Method 'GET /x' not implemented", Reason::Unsupported),
            (595, "Connection refused", Reason::NodeUnreachable(595)),
            (500, "storage 'local' does not support 'import' content", Reason::Other(500)),
        ];
        for (status, message, reason) in cases {
            assert_eq!(classify(status, message, BTreeMap::new()), reason, "{message}");
        }
    }

    #[test]
    fn wrong_parameters_are_named() {
        let errors = BTreeMap::from([("vmid".to_owned(), "type check failed".to_owned())]);
        assert_eq!(
            classify(400, "Parameter verification failed.", errors.clone()),
            Reason::Parameters(errors)
        );
        let errors = BTreeMap::from([("upid".to_owned(), "no such task".to_owned())]);
        assert_eq!(classify(400, "Parameter verification failed.", errors), Reason::NotFound);
    }
}
