//! A cluster of three databases is replaced, node by node, while a client writes to it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::site::Site;
use super::support::lab::{Guest, wait_for};

/// The gateway of the network of databases, from where the site is looked at.
const BRIDGE: [&str; 1] = ["10.20.30.1/24"];

/// Containers, which the campus has for everything but its databases.
const OVERLAY: &str = "
[guests.galera]
kind = \"container\"
cores = 2
memory_mib = 1024
bridge = \"vmbr0\"
vlan = 30
volumes = { mysql = { size_gib = 10 } }
";

/// The one that is written to comes first.
const NODES: [&str; 3] = ["galera2", "galera1", "galera3"];

/// Rows that are written by one process in a guest.
const BATCH: u64 = 10;

/// What became of the writes to a cluster.
#[derive(Default)]
struct Written {
    /// The rows that the database has said it has.
    acknowledged: BTreeSet<u64>,
    /// How many were refused, or never answered.
    failed: u64,
    /// The longest time without one.
    gap: Duration,
}

#[test]
#[ignore = "some minutes: three databases are made, and made anew"]
fn databases_are_replaced_under_a_writer_without_losing_a_row() {
    let Some(site) = Site::new("galera", &BRIDGE, OVERLAY) else { return };
    site.secret("all/galera.database", "Ahch5iuquoh0Eeph");
    site.secret("all/galera.monitor", "ooK2ahgheiph4oox");
    site.secret("galera1/galera.bootstrap", "galera1 first light");
    site.build(|overlay| overlay);
    site.succeed(&["swap", "galera", "--yes", "--secrets", "secrets"]);
    for statement in ["CREATE DATABASE acks", "CREATE TABLE acks.acks (id BIGINT PRIMARY KEY)"] {
        query(&site.inside("galera1"), statement);
    }
    let before = NODES.map(|node| site.number(node));
    site.build(|overlay| overlay.replace("gcache_mib = 64", "gcache_mib = 96"));
    let (ended, written) = while_writing(&site, &["swap", "galera", "--yes"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    // The one that is written to goes last, whatever its number.
    let order = ended.stderr.lines().filter(|line| line.contains("give the node to"));
    let order: Vec<&str> = order.map(|line| &line[..7]).collect();
    assert_eq!(order, ["galera3", "galera1", "galera2"], "{}", ended.stderr);
    for (node, old) in NODES.into_iter().zip(before) {
        assert_ne!(site.number(node), old);
        let said = query(&site.inside(node), "SHOW VARIABLES LIKE 'wsrep_provider_options'");
        assert!(said.contains("gcache.size = 96M"), "{node}: {said}");
    }
    check(&site, "swap", &written);
    // Back, with what was written since.
    let (ended, more) = while_writing(&site, &["rollback", "galera", "--yes"]);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    assert_eq!(NODES.map(|node| site.number(node)), before);
    check(&site, "rollback", &more);
    assert_eq!(lost(&site, &written), [[0; 0]; 3]);
}

/// Runs `imgbuild` while somebody writes.
fn while_writing(site: &Site, arguments: &[&str]) -> (super::support::project::Ended, Written) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| write(site, &over));
        thread::sleep(Duration::from_secs(3));
        let ended = site.run(arguments);
        thread::sleep(Duration::from_secs(1));
        over.store(true, Ordering::Relaxed);
        (ended, writer.join().expect("a writer"))
    })
}

/// Writes to one node as long as that takes writes, then to the next, as SQL proxies do.
fn write(site: &Site, over: &AtomicBool) -> Written {
    let mut written = Written::default();
    let first = query(&site.inside(NODES[1]), "SELECT COALESCE(MAX(id), 0) FROM acks.acks");
    let (mut next, mut at) = (first.parse::<u64>().expect("a number") + 1, 0);
    let mut last = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let script = format!(
            "for id in $(seq {next} {}); do \
             mariadb --execute \"INSERT INTO acks.acks VALUES ($id)\" && echo $id || exit 1; done",
            next + BATCH - 1
        );
        let (running, _) = site.guests(NODES[at]);
        let output = running.first().map(|vmid| site.lab.guest(&vmid.to_string()).attempt(&script));
        let done = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let done: Vec<u64> =
            done.unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect();
        if !done.is_empty() {
            written.gap = written.gap.max(last.elapsed());
            last = Instant::now();
        }
        if done.len() as u64 != BATCH {
            written.failed += 1;
            at = (at + 1) % NODES.len();
            thread::sleep(Duration::from_millis(100));
        }
        written.acknowledged.extend(done);
        // What was not answered may be there all the same, so its number is not used again.
        next += BATCH;
    }
    written
}

fn query(guest: &Guest<'_>, statement: &str) -> String {
    guest.run(&format!("mariadb --batch --skip-column-names --execute \"{statement}\""))
}

/// The acknowledged rows that each node lacks.
fn lost(site: &Site, written: &Written) -> [Vec<u64>; 3] {
    NODES.map(|node| {
        let rows = "SET SESSION wsrep_sync_wait = 1; SELECT id FROM acks.acks";
        let rows: BTreeSet<u64> = query(&site.inside(node), rows)
            .lines()
            .map(|line| line.parse().expect("a number"))
            .collect();
        written.acknowledged.difference(&rows).copied().collect()
    })
}

/// Nothing that was acknowledged is lost on any node, and the check would have noticed.
fn check(site: &Site, what: &str, written: &Written) {
    for node in NODES {
        wait_for(&format!("{node} to be synced"), || {
            let ready = site.inside(node).attempt("/usr/lib/imgbuild/galera-ready");
            ready.status.success().then_some(())
        });
    }
    assert!(written.acknowledged.len() > 100, "{}", written.acknowledged.len());
    assert_eq!(lost(site, written), [[0; 0]; 3]);
    let some = *written.acknowledged.first().expect("a row");
    query(&site.inside(NODES[0]), &format!("DELETE FROM acks.acks WHERE id = {some}"));
    assert_eq!(lost(site, written), [[some]; 3]);
    query(&site.inside(NODES[0]), &format!("INSERT INTO acks.acks VALUES ({some})"));
    eprintln!(
        "{what}: {} rows acknowledged, none lost; {} failures, longest gap {:.1?}",
        written.acknowledged.len(),
        written.failed,
        written.gap
    );
}
