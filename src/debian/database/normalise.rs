//! Removing what dpkg leaves behind that says something about a build rather than its result.

use super::root::Root;
use super::{Error, admin, io_error};

/// Removes from the database of `root` what differs between builds of the same packages, or is
/// of no use in a finished image: backups, lock files and what a stopped run left. The database
/// stays complete: dpkg makes all of these files again when it needs them.
///
/// Nothing may be using the database, and every package must be configured.
pub fn normalise(root: &Root) -> Result<(), Error> {
    // dpkg.log and the like are not part of the database and not touched here.
    let backups = ["status-old", "available-old", "diversions-old", "statoverride-old"];
    let locks = ["lock", "lock-frontend", "triggers/Lock"];
    for name in backups.iter().chain(&locks) {
        remove(root, name)?;
    }
    Ok(())
}

fn remove(root: &Root, name: &str) -> Result<(), Error> {
    let path = admin(name);
    root.remove(&path).map_err(|source| io_error(root, "remove", &path, source))
}
