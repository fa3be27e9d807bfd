//! A whole site in miniature, from the project's own templates: two web nodes behind HAProxy, a cluster of two
//! databases behind a writing and a reading port, sessions and caches in Valkey, one shared dataroot.
//! HAProxy stands in for ProxySQL, which Debian does not have. Moodle's code is not in Debian either: a
//! small application of our own stands in for it (`tests/data/mini-moodle`), and the real one is used where
//! `IMGBUILD_TEST_MOODLE` names a directory with its tree.
//!
//! Needs what `tests/boot.rs` needs; without it, it says so and passes. `IMGBUILD_TEST_TEMPLATES` names a
//! directory with templates of `haproxy`, `galera`, `cache` and `moodle` to use instead of building them.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod real;
mod site;
mod stand_in;

use std::env;
use std::path::Path;

use crate::support::lab::{Lab, unavailable};
use site::{BRIDGE, Site};

#[test]
fn two_web_nodes_are_one_site() {
    if let Some(reason) = unavailable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let code = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/mini-moodle");
    let templates = site::templates("project-moodle", &code);
    let lab = Lab::up("moodle", &BRIDGE);
    stand_in::live_through_a_sites_life(&Site::start(&lab, &templates));
}

#[test]
#[ignore = "takes Moodle's own code, and ten minutes"]
fn a_real_moodle_is_one_site_on_two_web_nodes() {
    if let Some(reason) = unavailable() {
        eprintln!("skipped: {reason}");
        return;
    }
    let Some(code) = env::var_os("IMGBUILD_TEST_MOODLE") else {
        eprintln!("skipped: IMGBUILD_TEST_MOODLE is not set");
        return;
    };
    let templates = site::templates("project-real-moodle", Path::new(&code));
    let lab = Lab::up("real-moodle", &BRIDGE);
    real::live_through_a_day(&Site::start(&lab, &templates));
}
