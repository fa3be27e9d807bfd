//! Maps the ids 0 to 65535 of an image into the sandbox.
//!
//! As root the map is the identity, so that files written to a disk have the owners that they have
//! in the image. Any other user is root inside, and the ids from 1 on are the user's subordinate ids
//! (subuid(5), subgid(5)), set by newuidmap(1) and newgidmap(1), as user_namespaces(7) demands.

use std::fs;
use std::process::Command;

use super::Error;

/// Ids that an image may use: what Proxmox maps into an unprivileged container.
const COUNT: u32 = 65_536;

/// Writes the id maps of process `pid`, which has just entered a user namespace.
pub(super) fn map(pid: u32) -> Result<(), Error> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    if rustix::process::geteuid().is_root() {
        return map_identity(pid);
    }
    let user = user_name(uid);
    let uids = subordinate_range("/etc/subuid", &user, uid).ok_or_else(|| none(&user, "user"))?;
    // subgid(5) is keyed by user as well, not by group.
    let gids = subordinate_range("/etc/subgid", &user, uid).ok_or_else(|| none(&user, "group"))?;
    map_with_helper("newuidmap", pid, uid, uids)?;
    map_with_helper("newgidmap", pid, gid, gids)
}

fn map_identity(pid: u32) -> Result<(), Error> {
    for file in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, format!("0 0 {COUNT}\n")).map_err(|source| Error::Refused {
            step: format!("writing {path}"),
            cause: source.to_string(),
            help: "this root lacks CAP_SETUID or CAP_SETGID over ids 0 to 65535, as in a \
                   container with fewer ids: give the container a range of 65536 ids"
                .to_owned(),
        })?;
    }
    Ok(())
}

fn map_with_helper(helper: &'static str, pid: u32, own: u32, start: u32) -> Result<(), Error> {
    let rest = COUNT - 1;
    let output = Command::new(helper)
        .args([pid.to_string(), "0".into(), own.to_string(), "1".into()])
        .args(["1".to_owned(), start.to_string(), rest.to_string()])
        .output()
        .map_err(|source| Error::IdentityMap { helper, cause: source.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    let cause = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::IdentityMap { helper, cause })
}

fn none(user: &str, kind: &'static str) -> Error {
    let file = if kind == "user" { "/etc/subuid" } else { "/etc/subgid" };
    Error::NoSubordinateIds {
        user: user.to_owned(),
        kind,
        file,
        help: format!(
            "as root: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}` \
             (a range that no other line of /etc/subuid and /etc/subgid uses), then build again; \
             or build as root"
        ),
    }
}

fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines
        .find_map(|mut fields| {
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        })
        .unwrap_or_else(|| uid.to_string())
}

/// The start of the first range of `file` that belongs to the user and is long enough.
fn subordinate_range(file: &str, user: &str, uid: u32) -> Option<u32> {
    range_in(&fs::read_to_string(file).ok()?, user, uid)
}

fn range_in(text: &str, user: &str, uid: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let start: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let mine = owner == user || owner.parse() == Ok(uid);
        (mine && count >= COUNT - 1 && start.checked_add(count).is_some()).then_some(start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sufficient_range_of_the_user_is_taken() {
        let cases = [
            ("anna:100000:65536", Some(100_000)),
            ("1000:200000:65535", Some(200_000)),
            ("anna:100000:1000\nanna:300000:65536", Some(300_000)),
            ("bert:100000:65536", None),
            ("anna:4294967295:65536", None),
            ("# comment\n\nanna:x:65536", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(range_in(text, "anna", 1000), expected, "{text:?}");
        }
    }
}
