//! What runs, as the kernel sees it: by control groups, whoever has started what.

use std::fs;
use std::path::PathBuf;

use crate::swap::GuestId;

/// Whether a guest runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing of it runs.
    Stopped,
    /// Its processes run.
    Running,
    /// Only what lxc does for it runs: it is being started, or its network is being put away.
    Between,
}

/// The control groups of a lab's host.
#[derive(Clone, Debug)]
pub(super) struct Groups(pub(super) PathBuf);

impl Groups {
    /// Whether the guest `id` runs.
    pub(super) fn state(&self, id: GuestId) -> State {
        match (self.is_populated("payload", id), self.is_populated("monitor", id)) {
            (true, _) => State::Running,
            (false, true) => State::Between,
            (false, false) => State::Stopped,
        }
    }

    fn is_populated(&self, what: &str, id: GuestId) -> bool {
        let groups = self.groups(what, id);
        groups.iter().any(|group| {
            // cgroups(7): whether there is a process in it or in one below it.
            let events = fs::read_to_string(group.join("cgroup.events")).unwrap_or_default();
            events.lines().any(|line| line == "populated 1")
        })
    }

    /// `lxc.payload.4001`, and `lxc.payload.4001-1` where lxc has found that name taken.
    fn groups(&self, what: &str, id: GuestId) -> Vec<PathBuf> {
        let own = format!("lxc.{what}.{id}");
        let Ok(entries) = fs::read_dir(&self.0) else { return Vec::new() };
        let names = entries.flatten().filter(|entry| {
            let name = entry.file_name();
            let rest = name.to_str().and_then(|name| name.strip_prefix(&own));
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        });
        names.map(|entry| entry.path()).collect()
    }

    /// Ends every process of the guest, whether or not lxc still knows it.
    pub(super) fn kill(&self, id: GuestId) {
        for group in self.groups("payload", id) {
            // Not there before Linux 5.14; whether it has helped is seen by the state.
            let _ = fs::write(group.join("cgroup.kill"), "1");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_runs_as_long_as_a_process_of_its_own_does() {
        let directory = tempfile::tempdir().unwrap();
        let groups = Groups(directory.path().to_owned());
        let set = |group: &str, populated: u8| {
            let group = directory.path().join(group);
            fs::create_dir_all(&group).unwrap();
            let text = format!("populated {populated}\nfrozen 0\n");
            fs::write(group.join("cgroup.events"), text).unwrap();
        };
        let id = GuestId(100);
        assert_eq!(groups.state(id), State::Stopped);
        set("lxc.payload.1001", 1);
        set("lxc.monitor.100", 1);
        assert_eq!(groups.state(id), State::Between);
        set("lxc.payload.100", 0);
        assert_eq!(groups.state(id), State::Between);
        set("lxc.payload.100-1", 1);
        assert_eq!(groups.state(id), State::Running);
        set("lxc.payload.100-1", 0);
        set("lxc.monitor.100", 0);
        assert_eq!(groups.state(id), State::Stopped);
    }
}
