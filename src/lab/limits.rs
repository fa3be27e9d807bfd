//! What this machine must allow, so that all guests can run at one time.

use std::fs;

use super::{Error, LabSite};

/// Files that systemd and its services watch in one guest take about eight instances of inotify(7). All guests'
/// count as their owner's, who is root here.
const INSTANCES_OF_A_GUEST: u64 = 8;

/// What else root's processes may need.
const INSTANCES_OF_OTHERS: u64 = 16;

/// The kernel's own limit is 128. Debian's lxc brings a higher one, which counts from the next start of the machine.
const LIMIT: &str = "/proc/sys/fs/inotify/max_user_instances";

impl LabSite {
    /// Guests beyond the limit would die when they start, with nothing but "Too many open files" on their consoles.
    ///
    /// # Errors
    ///
    /// [`Error::TooFewWatches`].
    pub fn check_limits(&self) -> Result<(), Error> {
        let limit = fs::read_to_string(LIMIT).ok().and_then(|limit| limit.trim().parse().ok());
        check(self.nodes().count() as u64, limit.unwrap_or(u64::MAX))
    }
}

fn check(guests: u64, limit: u64) -> Result<(), Error> {
    let needed = guests * INSTANCES_OF_A_GUEST + INSTANCES_OF_OTHERS;
    match limit < needed {
        true => Err(Error::TooFewWatches { guests, limit, needed }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_campus_does_not_start_where_guests_would_die_for_lack_of_inotify_instances() {
        check(14, 128).unwrap();
        let error = check(16, 128).unwrap_err();
        assert_eq!(
            error.to_string(),
            "16 guests take about 144 instances of inotify, and this machine allows 128"
        );
        check(16, 1024).unwrap();
    }
}
