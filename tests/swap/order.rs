//! Who is replaced first.

use std::sync::atomic::Ordering;

use super::pve::Flavour;
use super::support::programs::read;
use super::{Site, base};

#[test]
fn a_node_that_says_that_it_leads_is_replaced_last() {
    let Some(base) = base() else { return };
    let site = Site::new(base, Flavour::V9);
    site.build("1");
    site.succeed(&["swap", "--yes"]);
    site.build("2");
    site.leader.store(3, Ordering::Relaxed);
    let status = site.succeed(&["status"]);
    assert!(status.lines().any(|line| line.starts_with("app3") && line.ends_with("ready, leads")));
    let status = read(&site.succeed(&["status", "--json"]));
    let leads: Vec<_> = status["nodes"].as_array().unwrap().iter().map(|it| &it["leads"]).collect();
    assert_eq!(leads, [false, false, true]);
    let plan = site.succeed(&["plan"]);
    let order: Vec<&str> = plan
        .lines()
        .filter(|line| line.contains("give the node to"))
        .map(|line| line[6..].trim())
        .collect();
    let order: Vec<&str> = order.iter().map(|line| &line[..4]).collect();
    assert_eq!(order, ["app2", "app1", "app3"], "{plan}");
    let told = site.run(&["swap", "--yes"]).stderr;
    let order: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("give the node to"))
        .map(|line| &line[..4])
        .collect();
    assert_eq!(order, ["app2", "app1", "app3"], "{told}");
}
