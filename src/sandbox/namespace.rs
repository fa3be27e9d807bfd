//! The only unsafe code of the crate: entering namespaces.

#![expect(unsafe_code, reason = "unshare(2) has no safe wrapper")]

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves this process into namespaces of its own.
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    debug_assert!(!flags.contains(UnshareFlags::FILES));
    // SAFETY: unshare is unsafe because of `CLONE_FILES`, which lets one thread lose sight of
    // descriptors of another. No caller passes it, and all of them are stages with a single thread.
    unsafe { unshare_unsafe(flags - UnshareFlags::FILES) }
}
