//! What the thesis showed of its prototype, shown of the campus.

use std::collections::BTreeSet;
use std::thread;

use crate::load::{NAME, SITE, enter, sign_in};
use crate::report::Report;
use crate::site::Site;
use crate::support::browser::Browser;
use crate::support::lab::wait_for;

pub const DATABASES: [&str; 3] = ["galera1", "galera2", "galera3"];

pub fn the_cluster_is_whole(site: &Site, report: &mut Report) {
    for node in DATABASES {
        wait_for("a cluster of three", || (cluster_size(site, node) == "3").then_some(()));
    }
    report.thesis("27", "size of the cluster", "3", "3, on each node");
}

pub fn cluster_size(site: &Site, node: &str) -> String {
    let script = "mariadb --batch --skip-column-names --execute=\"SHOW STATUS LIKE 'wsrep_cluster_size'\" | cut -f2";
    String::from_utf8_lossy(&site.attempt(node, script).stdout).trim().to_owned()
}

pub fn a_database_made_on_one_node_is_on_all(site: &Site, report: &mut Report) {
    for (number, node) in DATABASES.iter().enumerate() {
        site.sql(node, &format!("CREATE DATABASE galera{number}_made"));
        for other in DATABASES {
            assert!(site.sql(other, "SHOW DATABASES").contains(&format!("galera{number}_made")));
        }
        site.sql(node, &format!("DROP DATABASE galera{number}_made"));
    }
    report.thesis(
        "28",
        "a database made on one node",
        "on the other two",
        "on the other two, whichever node makes it",
    );
}

/// Runs `work` on the network of the lab, where the users are.
pub fn as_a_user<T: Send + 'static>(site: &Site, work: impl FnOnce() -> T + Send + 'static) -> T {
    let host = site.host();
    thread::spawn(move || {
        enter(host);
        work()
    })
    .join()
    .expect("the user does not panic")
}

/// Which web nodes answer so many requests, one after the other.
pub fn answering(site: &Site, requests: usize) -> Vec<String> {
    as_a_user(site, move || {
        (0..requests)
            .filter_map(|_| {
                let answer = Browser::new(SITE, NAME).get_from_here("/").ok()?;
                let value: serde_json::Value = serde_json::from_str(&answer.body).ok()?;
                Some(value["node"].as_str()?.to_owned())
            })
            .collect()
    })
}

pub fn wait_until_these_answer(site: &Site, wanted: &[&str]) {
    let wanted: BTreeSet<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    wait_for(&format!("{wanted:?} to answer"), || {
        let names = answering(site, 8);
        (names.len() == 8 && names.into_iter().collect::<BTreeSet<_>>() == wanted).then_some(())
    });
}

pub fn requests_are_spread_over_the_web_nodes(site: &Site, report: &mut Report) {
    wait_until_these_answer(site, &["moodle1", "moodle2"]);
    let names = answering(site, 20);
    let first = names.iter().filter(|name| *name == "moodle1").count();
    report.thesis(
        "36, 37, 79, 80",
        "requests at the load balancer (least connections)",
        "the first to one web node, the second to the other",
        format!("of 20, one after the other, {first} to moodle1 and {} to moodle2", 20 - first),
    );
    assert!((5..=15).contains(&first), "{names:?}");
    // As if it were broken: its service is gone, the guest is there.
    site.run("moodle1", "systemctl stop nginx");
    wait_until_these_answer(site, &["moodle2"]);
    site.run("moodle1", "systemctl start nginx");
    wait_until_these_answer(site, &["moodle1", "moodle2"]);
    report.thesis(
        "-",
        "a web node that fails",
        "not shown",
        "gets no request, and again some when it is well",
    );
}

pub fn a_login_and_a_file_are_the_same_on_both(site: &Site, report: &mut Report) {
    let password = site.secret("moodle.admin");
    let (nodes, name) = as_a_user(site, move || {
        let mut browser = sign_in(&password).unwrap();
        let nodes: BTreeSet<String> = (0..10)
            .map(|_| {
                let answer = browser.get_from_here("/my/").unwrap();
                let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
                value["node"].as_str().unwrap().to_owned()
            })
            .collect();
        let mut first = Browser::new("10.20.40.11:80", NAME);
        let answer = first.upload_from_here("/pluginfile.php", "an essay").unwrap();
        (nodes, answer.body.split_whitespace().next().unwrap().to_owned())
    });
    assert_eq!(nodes.len(), 2, "{nodes:?}");
    let content = as_a_user(site, move || {
        let path = format!("/pluginfile.php/{name}");
        Browser::new("10.20.40.12:80", NAME).get_from_here(&path).unwrap().body
    });
    assert_eq!(content, "an essay");
    report.thesis(
        "80 (its text)",
        "the same platform on both web nodes",
        "one database, one folder moodledata",
        "one login on both; a file that one took comes from the other",
    );
}
