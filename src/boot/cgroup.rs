//! Control groups of the machine's cgroup2 hierarchy.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

/// How long processes of a dead guest may hold its control group.
const DYING: Duration = Duration::from_secs(20);

/// Makes the control group `name` below the machine's cgroup2 hierarchy; none if it has no such hierarchy.
pub(super) fn make(name: &OsStr) -> io::Result<Option<PathBuf>> {
    let Some(path) = find(name)? else { return Ok(None) };
    fs::create_dir(&path)?;
    Ok(Some(path))
}

/// Where the control group `name` would be.
pub(super) fn find(name: &OsStr) -> io::Result<Option<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    Ok(hierarchy(&mounts).map(|hierarchy| hierarchy.join(name)))
}

/// Where the cgroup2 hierarchy is mounted: on a machine with version 1, beside those.
fn hierarchy(mounts: &str) -> Option<PathBuf> {
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut fields| {
        let path = fields.nth(1)?;
        (fields.next() == Some("cgroup2")).then(|| path.into())
    })
}

/// Removes a control group and those below it. False if processes are still in it.
pub(super) fn remove(cgroup: &Path) -> bool {
    let start = Instant::now();
    // Kernels before 5.14 do not have the file; then all hangs on the dying namespaces.
    let _ = fs::write(cgroup.join("cgroup.kill"), "1");
    loop {
        for entry in walkdir::WalkDir::new(cgroup).contents_first(true).into_iter().flatten() {
            if entry.file_type().is_dir() {
                // Refused while a process is in it.
                let _ = fs::remove_dir(entry.path());
            }
        }
        if !cgroup.exists() {
            return true;
        }
        if start.elapsed() > DYING {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cgroup2_hierarchy_is_found_beside_others() {
        let mounts = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(hierarchy(mounts).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(hierarchy("cgroup /x cgroup rw 0 0\n"), None);
    }
}
