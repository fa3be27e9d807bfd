//! A real Scalelite in a container, in front of three servers that only look like BigBlueButton
//! (`data/bbb-fake`). Scalelite itself and two of its gems are neither packages of Debian nor part of
//! this project, so whoever runs this supplies them:
//!
//! | variable | what |
//! |---|---|
//! | `IMGBUILD_TEST_SCALELITE` | a clone of <https://github.com/blindsidenetworks/scalelite> |
//! | `IMGBUILD_TEST_TABULO` | a clone of <https://github.com/matt-harvey/tabulo> |
//! | `IMGBUILD_TEST_REDIS_GEM` | `redis-4.8.1.gem` |
//!
//! or, in `IMGBUILD_TEST_TEMPLATES`, a directory with a template that was built for the site of
//! `tests/lab/overlay.toml`. Without them, or without what containers take (`tests/boot.rs`), the test
//! says so and passes.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

mod support;

use std::env;
use std::path::{Path, PathBuf};

use imgbuild::artifact::name::Format;
use support::images;
use support::lab::{Guest, Lab, unavailable, wait_for};
use support::meetings::{Fake, path, server, servers, sources, spread, succeeded};
use support::web::get_from_host;

/// The gateway of the web network, which Scalelite is in, and the conference servers of the lab.
const BRIDGE: [&str; 4] = ["10.20.40.1/24", "10.20.50.11/32", "10.20.50.12/32", "10.20.50.13/32"];
const HOST: &str = "bbb-scale.campus.example";
const SECRET: &str = "0123456789abcdef0123456789abcdef-loadbalancer";

/// The template under test, or why there is none.
fn template() -> Result<PathBuf, String> {
    if let Some(reason) = unavailable() {
        return Err(reason);
    }
    if let Some(directory) = env::var_os("IMGBUILD_TEST_TEMPLATES") {
        return Ok(images::artifact(Path::new(&directory), "scalelite", Format::LxcTemplate));
    }
    let sources = sources()?;
    let directory = images::build_roles("project-scalelite", "lxc", &["scalelite"], &sources);
    Ok(images::artifact(&directory, "scalelite", Format::LxcTemplate))
}

/// What Scalelite answers to a call signed with `secret`.
fn signed(lab: &Lab, call: &str, query: &str, secret: &str) -> String {
    let path = path(secret, call, query);
    let answer = lab.on_network(move || get_from_host("10.20.40.21:80", HOST, &path));
    answer.join().unwrap().unwrap().1
}

fn call(lab: &Lab, name: &str, query: &str) -> String {
    let answer = signed(lab, name, query, SECRET);
    assert!(succeeded(&answer), "{name} {query}: {answer}");
    answer
}

fn redis(guest: &Guest<'_>, command: &str) -> String {
    guest.run(&format!("redis-cli -s /run/redis/redis-server.sock --raw {command}"))
}

/// How many of the meetings 1 to `last` each server has, the most first.
fn placement(guest: &Guest<'_>, last: u8) -> String {
    spread((1..=last).map(|meeting| placed_on(guest, meeting)))
}

fn placed_on(guest: &Guest<'_>, meeting: u8) -> String {
    redis(guest, &format!("hget scalelite:meeting:meeting{meeting} server_id"))
}

fn create(lab: &Lab, meeting: u8) {
    call(lab, "create", &format!("meetingID=meeting{meeting}&name=Meeting&moderatorPW=chair"));
}

fn wait_until_online(guest: &Guest<'_>) {
    for number in 1..=3 {
        wait_for("a server to be online", || {
            let key = format!("hget scalelite:server:{} online", server(number));
            (redis(guest, &key) == "true").then_some(())
        });
    }
}

fn wait_until_ready(guest: &Guest<'_>) {
    wait_for("Scalelite to be ready", || {
        guest.attempt("/usr/lib/imgbuild/scalelite-health ready").status.success().then_some(())
    });
}

#[test]
fn meetings_go_to_the_least_loaded_server_and_none_to_one_that_is_drained() {
    let template = match template() {
        Ok(template) => template,
        Err(reason) => {
            eprintln!("skipped: {reason}");
            return;
        }
    };
    let lab = Lab::up("scalelite", &BRIDGE);
    // A process is on the network of the thread that starts it.
    let fake = |number| lab.on_network(move || Fake::start(number)).join().unwrap();
    let _fakes = [1, 2, 3].map(fake);
    let [database, memory] = ["postgresql", "redis"].map(|name| lab.volume(name));
    let secrets = lab.secrets(
        "scale1",
        &[
            ("scalelite.loadbalancer", SECRET),
            ("scalelite.secret-key-base", "fedcba9876543210fedcba9876543210-key-base"),
            ("scalelite.servers", &servers()),
        ],
    );
    let guest = lab.create(
        "scale1",
        &template,
        "10.20.40.21/24",
        "10.20.40.1",
        &[
            (&database, "/var/lib/postgresql"),
            (&memory, "/var/lib/redis"),
            (&secrets, "/etc/imgbuild/secrets"),
        ],
    );
    // There is no name server in the lab, and Ruby reads the file once for each process.
    let know_names = || {
        for number in 1..=3 {
            let address = Fake::address(number);
            guest.run(&format!("echo {address} {} >> /etc/hosts", server(number)));
        }
        guest.run("systemctl restart scalelite-poller scalelite-api");
        wait_until_ready(&guest);
    };
    assert_eq!(guest.boot(), "running", "{}", guest.run("systemctl --failed --no-pager"));
    know_names();
    wait_until_online(&guest);

    // Until the next round a new meeting weighs one, so rounds would make the order a matter of luck.
    guest.run("systemctl stop scalelite-poller");
    for (meetings, expected) in [(3, "1/1/1"), (4, "2/1/1"), (5, "2/2/1")] {
        for meeting in if meetings == 3 { 1..=3 } else { meetings..=meetings } {
            create(&lab, meeting);
        }
        assert_eq!(placement(&guest, meetings), expected);
    }
    guest.run("systemctl start scalelite-poller");

    // Who does not know the secret is refused, and nothing comes of it.
    let answer = signed(&lab, "create", "meetingID=stranger", "some other secret");
    assert!(answer.contains("checksumError"), "{answer}");
    assert_eq!(redis(&guest, "exists scalelite:meeting:stranger"), "0");

    // No new meetings for a server that is being drained; those it has go on until they end.
    let drained = server(1);
    guest.run(&format!("/usr/lib/imgbuild/scalelite-server cordon {drained}"));
    let is_drained = || {
        let command = format!("/usr/lib/imgbuild/scalelite-server drained {drained}");
        guest.attempt(&command).status.success()
    };
    assert!(!is_drained());
    assert!(!guest.attempt("/usr/lib/imgbuild/scalelite-drain").status.success());
    for meeting in 6..=9 {
        create(&lab, meeting);
        assert_ne!(placed_on(&guest, meeting), drained);
    }
    for meeting in (1..=5).filter(|meeting| placed_on(&guest, *meeting) == drained) {
        call(&lab, "getMeetingInfo", &format!("meetingID=meeting{meeting}"));
        call(&lab, "end", &format!("meetingID=meeting{meeting}&password=chair"));
    }
    wait_for("the server to be empty", || is_drained().then_some(()));
    guest.run("/usr/lib/imgbuild/scalelite-drain");

    // The next image finds everything on the volumes: meetings, and the server that is out.
    let meetings = redis(&guest, "scard scalelite:meetings");
    guest.stop();
    assert_eq!(guest.boot(), "running");
    know_names();
    assert!(is_drained());
    assert_eq!(redis(&guest, "scard scalelite:meetings"), meetings);
    call(&lab, "getMeetingInfo", "meetingID=meeting9");
    guest.run(&format!("/usr/lib/imgbuild/scalelite-server enable {drained}"));
    assert!(!is_drained());
}
