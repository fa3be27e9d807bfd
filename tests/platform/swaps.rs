//! Every image replaced while users are at work, and what they noticed.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::load::{Load, Outcome, SILENCE, Tally, Users};
use crate::report::{Report, seconds};
use crate::site::Site;
use crate::support::browser;
use crate::thesis::DATABASES;

/// The table that writers write to.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS moodle.written \
                     (worker INT NOT NULL, number INT NOT NULL, PRIMARY KEY (worker, number)); \
                     DELETE FROM moodle.written";

/// A value of each role's overlay, and another one.
const CHANGES: [(&str, &str, &str); 5] = [
    ("proxysql", "revision = 1", "revision = 2"),
    ("galera", "gcache_mib = 64", "gcache_mib = 65"),
    ("cache", "application_memory_mib = 64", "application_memory_mib = 65"),
    ("moodle", "php_workers = 4", "php_workers = 5"),
    ("haproxy", "max_connections = 1000", "max_connections = 1001"),
];

pub fn users(site: &Site, users: Users) -> Load {
    site.sql(DATABASES[0], TABLE);
    let member = if users.members + users.uploaders > 0 {
        site.secret("moodle.admin")
    } else {
        String::new()
    };
    Load::start(site.host(), users, &site.secret("galera.database"), &member)
}

/// Rows that somebody was promised and that one node does not have.
pub fn lost_on(site: &Site, node: &str, writers: &[Tally]) -> Vec<(usize, u64)> {
    let rows = site.sql(node, "SELECT worker, number FROM moodle.written");
    let rows: BTreeSet<(usize, u64)> = rows
        .lines()
        .filter_map(|line| {
            let (worker, number) = line.split_once('\t')?;
            Some((worker.parse().ok()?, number.parse().ok()?))
        })
        .collect();
    let promised = writers
        .iter()
        .enumerate()
        .flat_map(|(worker, tally)| tally.acknowledged.iter().map(move |number| (worker, *number)));
    promised.filter(|row| !rows.contains(row)).collect()
}

/// Says what writers noticed; none may have lost anything, on any node.
pub fn nothing_is_lost(site: &Site, writers: &[Tally]) -> String {
    assert_each_was_answered("writers", writers);
    for node in DATABASES {
        let lost = lost_on(site, node, writers);
        assert!(lost.is_empty(), "{node} has lost {lost:?}");
    }
    let rows: usize = writers.iter().map(|tally| tally.acknowledged.len()).sum();
    let repeated: u64 = writers.iter().map(|tally| tally.repeated).sum();
    format!(
        "{rows} writes acknowledged, 0 lost on each of three nodes, {repeated} repeated, longest gap {}",
        seconds(longest_gap(writers))
    )
}

/// Whoever is cut off has to be told. Else he waits until his own patience is over.
fn nobody_waited_in_vain(outcome: &Outcome) {
    let gap = longest_gap(&outcome.writers);
    assert!(gap < SILENCE, "a writer waited for {gap:?}");
    for tallies in [&outcome.readers, &outcome.members, &outcome.uploaders] {
        let gap = longest_gap(tallies);
        assert!(gap < browser::SILENCE, "a page was waited for {gap:?}");
    }
}

/// Of who was never answered nothing can be lost, and nothing can fail.
fn assert_each_was_answered(who: &str, tallies: &[Tally]) {
    assert!(tallies.iter().all(|tally| !tally.acknowledged.is_empty()), "{who}: {tallies:#?}");
}

fn longest_gap(tallies: &[Tally]) -> Duration {
    tallies.iter().map(|tally| tally.longest_gap).max().unwrap_or_default()
}

/// Says what users of the pages noticed; no request may have failed for good.
pub fn no_request_failed(site: &Site, outcome: &Outcome) -> String {
    let mut parts = Vec::new();
    for (who, tallies) in [
        ("pages", &outcome.readers),
        ("pages of members", &outcome.members),
        ("uploads", &outcome.uploaders),
    ] {
        if tallies.is_empty() {
            continue;
        }
        assert_each_was_answered(who, tallies);
        let failed: Vec<_> = tallies.iter().flat_map(|tally| &tally.failed).collect();
        assert!(failed.is_empty(), "{who}: {failed:#?}");
        let answered: usize = tallies.iter().map(|tally| tally.acknowledged.len()).sum();
        let repeated: u64 = tallies.iter().map(|tally| tally.repeated).sum();
        parts.push(format!(
            "{answered} {who}, {repeated} repeated, longest gap {}",
            seconds(longest_gap(tallies))
        ));
    }
    for name in outcome.uploaders.iter().flat_map(|tally| &tally.files) {
        let path = format!("filedir/{}/{}/{name}", &name[..2], &name[2..4]);
        assert!(site.dataroot.join(&path).exists(), "the uploaded file {path} is lost");
    }
    parts.join("; ")
}

/// How the database of a guest that was just replaced came to its data: by the write sets that it missed (IST),
/// or by a copy of everything (SST).
fn transfer(site: &Site, node: &str) -> &'static str {
    let journal = site.run(node, "journalctl --no-pager --output=cat --boot");
    // "SST received" and "IST received" stand there either way.
    match (journal.contains("SST completed on joiner"), journal.contains("Receiving IST")) {
        (true, _) => "SST",
        (false, true) => "IST",
        (false, false) => "neither",
    }
}

/// One database takes its state to a new guest, and catches up.
pub fn of_one_database(site: &Site, report: &mut Report) {
    let node = DATABASES[2];
    while_they_write(site, report, node, 1, |site| {
        assert_eq!(transfer(site, node), "IST");
        "; by IST"
    });
}

/// The address of the SQL proxies moves from one to the other.
pub fn of_the_proxies(site: &Site, report: &mut Report) {
    while_they_write(site, report, CHANGES[0].0, 0, |_| "");
}

/// Replaces `name` after a change, while somebody writes. `more` looks at it afterwards, and says what it saw.
fn while_they_write(
    site: &Site,
    report: &mut Report,
    name: &str,
    change: usize,
    more: impl FnOnce(&Site) -> &'static str,
) {
    let (_, from, to) = CHANGES[change];
    site.change(from, to);
    let load = users(site, Users { writers: 3, readers: 0, members: 0, uploaders: 0 });
    let took = site.swap(name);
    let outcome = load.stop();
    let seen = nothing_is_lost(site, &outcome.writers);
    nobody_waited_in_vain(&outcome);
    let more = more(site);
    report.swap(name, took, format!("{seen}{more}"));
}

pub fn of_everything(site: &Site, report: &mut Report) {
    for (role, from, to) in CHANGES {
        // Built beforehand: compilers and users would fight for the processors.
        site.change(from, to);
        let load = users(site, Users { writers: 3, readers: 2, members: 2, uploaders: 1 });
        std::thread::sleep(Duration::from_secs(5));
        let took = site.swap(role);
        std::thread::sleep(Duration::from_secs(5));
        let outcome = load.stop();
        let mut seen = nothing_is_lost(site, &outcome.writers);
        if role == "galera" {
            for node in DATABASES {
                assert_eq!(transfer(site, node), "IST", "{node}");
            }
            seen += "; each node by IST";
        }
        let pages = no_request_failed(site, &outcome);
        nobody_waited_in_vain(&outcome);
        report.swap(role, took, format!("{seen}; {pages}"));
    }
}
