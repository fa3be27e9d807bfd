//! The campus from its images in a lab on this machine, by `imgbuild lab`: what the thesis showed of its
//! prototype, and then every image replaced while users are at work.
//!
//! A small application stands in for Moodle's code (`tests/data/mini-moodle`), or what `IMGBUILD_TEST_MOODLE`
//! names is used; HAProxy stands in for ProxySQL (`tests/data/sql-stand-in`). Needs what `tests/boot.rs` needs.
//! With the sources of Scalelite (`tests/scalelite.rs`) it is one of the roles.
//! `IMGBUILD_VALIDATION` names a file that the figures are written to, as docs/validation.md.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

#[path = "platform/faults.rs"]
mod faults;
#[path = "platform/load.rs"]
mod load;
#[path = "platform/meetings.rs"]
mod meetings;
mod moodle;
#[path = "platform/report.rs"]
mod report;
#[path = "platform/site.rs"]
mod site;
mod support;
#[path = "platform/swaps.rs"]
mod swaps;
#[path = "platform/thesis.rs"]
mod thesis;

use std::path::Path;

use report::Report;
use site::{ROLES, Site};
use support::lab::unavailable;

fn code() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mini-moodle")
}

/// The part that can lose what somebody was promised, as far as there is time in every run: the proxies in front of the
/// database, and one of its nodes.
#[test]
fn a_database_and_its_proxies_are_replaced_while_somebody_writes_and_nothing_is_lost() {
    if let Some(reason) = unavailable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let site = Site::build(&["proxysql", "galera"], &code(), None);
    let mut report = Report::default();
    site.up();
    thesis::the_cluster_is_whole(&site, &mut report);
    swaps::of_the_proxies(&site, &mut report);
    swaps::of_one_database(&site, &mut report);
}

#[test]
#[ignore = "replaces every guest of the campus under load, and breaks some: twenty minutes"]
fn the_whole_platform_is_replaced_under_load() {
    if let Some(reason) = unavailable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let site = Site::build(&ROLES, &code(), support::meetings::sources().ok());
    let mut report = Report::default();
    report.deployed(site.up());
    thesis::the_cluster_is_whole(&site, &mut report);
    thesis::a_database_made_on_one_node_is_on_all(&site, &mut report);
    thesis::requests_are_spread_over_the_web_nodes(&site, &mut report);
    thesis::a_login_and_a_file_are_the_same_on_both(&site, &mut report);
    meetings::go_to_the_least_loaded_server(&site, &mut report);
    swaps::of_everything(&site, &mut report);
    faults::the_checks_can_fail(&site, &mut report);
    faults::the_writer_is_killed(&site, &mut report);
    faults::an_image_that_never_gets_ready_is_taken_back(&site, &mut report);
    faults::a_database_that_never_joins_is_taken_back(&site, &mut report);
    faults::all_databases_lose_power(&site, &mut report);
    faults::the_host_loses_power(&site, &mut report);
    report.write();
}
