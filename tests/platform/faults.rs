//! What goes wrong while guests are replaced, or at any time.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::load::Users;
use crate::report::{Report, seconds};
use crate::site::Site;
use crate::support::lab::wait_for;
use crate::swaps::{lost_on, no_request_failed, nothing_is_lost, users};
use crate::thesis::{DATABASES, cluster_size, wait_until_these_answer};

/// Ends every process of a guest at once. First the network, or else the kernel would tell everybody on its connections.
const POWER_FAILURE: &str = "ip link set eth0 down; systemctl --force --force poweroff";

/// The numbers above are worth something only if they can be others.
pub fn the_checks_can_fail(site: &Site, report: &mut Report) {
    let load = users(site, Users { writers: 1, readers: 0, members: 0, uploaders: 0 });
    thread::sleep(Duration::from_secs(3));
    let outcome = load.stop();
    let [writer] = &outcome.writers[..] else { unreachable!("one writer") };
    let row = writer.acknowledged[writer.acknowledged.len() / 2];
    site.sql(
        DATABASES[0],
        &format!("DELETE FROM moodle.written WHERE worker = 0 AND number = {row}"),
    );
    for node in DATABASES {
        assert_eq!(lost_on(site, node, &outcome.writers), [(0, row)]);
    }
    report.fault("a row is taken away on purpose", "the check names it, on each node");

    // A web node that is not drained: what it was working on is cut off.
    let load = users(site, Users { writers: 0, readers: 0, members: 0, uploaders: 12 });
    for _ in 0..5 {
        thread::sleep(Duration::from_secs(2));
        site.run("moodle1", "systemctl kill --signal=KILL nginx php8.4-fpm; sleep 1; systemctl start php8.4-fpm nginx");
    }
    let outcome = load.stop();
    let repeated: u64 = outcome.uploaders.iter().map(|tally| tally.repeated).sum();
    assert!(repeated > 0, "nobody noticed that a web node was killed");
    let failed: usize = outcome.uploaders.iter().map(|tally| tally.failed.len()).sum();
    report.fault(
        "a web node killed five times, not drained, with twelve who upload",
        format!("{repeated} uploads had to be repeated, {failed} failed"),
    );
    wait_until_these_answer(site, &["moodle1", "moodle2"]);
}

fn wait_until_whole(site: &Site) {
    for node in DATABASES {
        wait_for("a cluster of three", || (cluster_size(site, node) == "3").then_some(()));
    }
}

pub fn the_writer_is_killed(site: &Site, report: &mut Report) {
    let load = users(site, Users { writers: 3, readers: 1, members: 1, uploaders: 0 });
    thread::sleep(Duration::from_secs(3));
    site.attempt("galera1", POWER_FAILURE);
    thread::sleep(Duration::from_secs(10));
    let start = Instant::now();
    site.up();
    wait_until_whole(site);
    let back = start.elapsed();
    let outcome = load.stop();
    let seen = nothing_is_lost(site, &outcome.writers);
    let pages = no_request_failed(site, &outcome);
    report.fault(
        "the guest that is written to loses its power",
        format!("{seen}; {pages}; started again, it is in the cluster after {}", seconds(back)),
    );
}

/// An image that is never ready: nobody has made its database. `check` cannot know that.
pub fn an_image_that_never_gets_ready_is_taken_back(site: &Site, report: &mut Report) {
    let good = "bigbluebutton_url = \"\"";
    let bad = "bigbluebutton_url = \"\"\ndatabase_name = \"absent\"";
    let load = users(site, Users { writers: 0, readers: 2, members: 2, uploaders: 1 });
    let took = is_taken_back(site, "moodle", good, bad);
    let pages = no_request_failed(site, &load.stop());
    report.fault(
        "an image whose health stays red",
        format!(
            "the old guest is back by itself, {} after the start of the swap; {pages}",
            seconds(took)
        ),
    );
}

/// A database that never has what the others have: it looks for a cluster that does not exist.
pub fn a_database_that_never_joins_is_taken_back(site: &Site, report: &mut Report) {
    let good = "buffer_pool_mib = 128";
    let bad = "buffer_pool_mib = 128\ncluster_name = \"strangers\"";
    let load = users(site, Users { writers: 3, readers: 0, members: 0, uploaders: 0 });
    let took = is_taken_back(site, "galera", good, bad);
    wait_until_whole(site);
    let seen = nothing_is_lost(site, &load.stop().writers);
    report.fault(
        "a new database that never becomes Synced",
        format!(
            "the old guest is back by itself, {} after the start of the swap, and the other two were left alone; {seen}",
            seconds(took)
        ),
    );
}

/// Swaps a role to an image that cannot get ready, and says how long it took until all was as before.
fn is_taken_back(site: &Site, role: &str, good: &str, bad: &str) -> Duration {
    let before = site.images(role);
    site.change(good, bad);
    let start = Instant::now();
    let output = site.try_swap(role);
    let took = start.elapsed();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert_eq!(site.images(role), before);
    site.change(bad, good);
    took
}

pub fn all_databases_lose_power(site: &Site, report: &mut Report) {
    let load = users(site, Users { writers: 3, readers: 0, members: 0, uploaders: 0 });
    thread::sleep(Duration::from_secs(3));
    // One after the other, so that one of them has the most.
    for node in ["galera2", "galera3", "galera1"] {
        site.attempt(node, POWER_FAILURE);
    }
    let start = Instant::now();
    site.up();
    wait_until_whole(site);
    let back = start.elapsed();
    let outcome = load.stop();
    let seen = nothing_is_lost(site, &outcome.writers);
    report.fault(
        "all three databases lose their power, one after the other",
        format!("{seen}; started again, they are a cluster of three after {}", seconds(back)),
    );
}

pub fn the_host_loses_power(site: &Site, report: &mut Report) {
    let load = users(site, Users { writers: 2, readers: 0, members: 0, uploaders: 0 });
    thread::sleep(Duration::from_secs(3));
    let killed = Command::new("kill").args(["-KILL", &site.host().to_string()]).status();
    assert!(killed.unwrap().success());
    // The users were on its network: they are cut off for good.
    let tallies = load.stop().writers;
    let start = Instant::now();
    site.up();
    wait_until_whole(site);
    let back = start.elapsed();
    let seen = nothing_is_lost(site, &tallies);
    report.fault(
        "the machine that all guests are on loses its power",
        format!("{seen}; `imgbuild lab up` has all of it back after {}", seconds(back)),
    );
}
