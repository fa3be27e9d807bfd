//! A disk that is soon full.

use std::path::Path;

/// A file system of 2 MiB, unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Nothing, and a message, where this user may not mount.
    #[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
    pub fn mount() -> Option<Self> {
        use rustix::mount::{MountFlags, mount};
        let directory = tempfile::tempdir().unwrap();
        let options = c"size=2m";
        match mount("tmpfs", directory.path(), "tmpfs", MountFlags::empty(), options) {
            Ok(()) => Some(Self(directory)),
            Err(error) => {
                eprintln!("skipped: cannot mount a tmpfs: {error}");
                None
            }
        }
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        use rustix::mount::{UnmountFlags, unmount};
        // If it fails the directory cannot be deleted either, and says so itself.
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}
