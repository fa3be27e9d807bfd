//! Meetings, by a real Scalelite behind the load balancers, in front of three servers that only look like
//! BigBlueButton (`tests/data/bbb-fake`). Who runs the test supplies its sources: see `tests/scalelite.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::load::{SITE, enter};
use crate::report::{Report, seconds};
use crate::site::Site;
use crate::support::browser::Browser;
use crate::support::lab::wait_for;
use crate::support::meetings::{Fake, path, server, servers, spread, succeeded};

const NAME: &str = "bbb-scale.campus.example";

/// Figures of the thesis, what they show, and what it saw.
const FIGURES: [&str; 3] =
    ["81 to 90", "meetings over three conference servers", "1/0/0, 1/1/0, then the least loaded"];

/// A conference server on the host of the lab, at the address that the site has for it.
fn fake(site: &Site, number: u8) -> Fake {
    let address = format!("{}/32", Fake::address(number));
    site.on_host(&["ip", "address", "add", &address, "dev", "br0"]);
    let host = site.host();
    let start = thread::spawn(move || {
        enter(host);
        Fake::start(number)
    });
    start.join().unwrap()
}

/// What Scalelite answers to a call that is signed with `secret`, to somebody on the network of the lab.
fn call(secret: &str, name: &str, query: &str) -> Option<String> {
    let answer = Browser::new(SITE, NAME).get_from_here(&path(secret, name, query)).ok()?;
    (answer.status == 200).then_some(answer.body)
}

fn as_a_teacher(site: &Site, name: &'static str, query: String) -> Option<String> {
    let secret = site.secret("scalelite.loadbalancer");
    let host = site.host();
    let ask = thread::spawn(move || {
        enter(host);
        call(&secret, name, &query)
    });
    ask.join().unwrap()
}

fn redis(site: &Site, command: &str) -> String {
    site.run("scale1", &format!("redis-cli -s /run/redis/redis-server.sock --raw {command}"))
}

/// How many of the first meetings each server has, the most first.
fn placement(site: &Site, meetings: u8) -> String {
    let key = |meeting| format!("hget scalelite:meeting:meeting{meeting} server_id");
    spread((1..=meetings).map(|meeting| redis(site, &key(meeting))))
}

fn wait_until_online(site: &Site) {
    for number in 1..=3 {
        let ask = format!("hget scalelite:server:{} online", server(number));
        wait_for("a conference server to be online", || {
            (redis(site, &ask) == "true").then_some(())
        });
    }
}

/// Places meetings, then replaces Scalelite while somebody asks for one of them.
pub fn go_to_the_least_loaded_server(site: &Site, report: &mut Report) {
    let [figures, what, theirs] = FIGURES;
    if !site.has("scalelite") {
        report.thesis(
            figures,
            what,
            theirs,
            "not in this run, which had no Scalelite: see docs/roles/scalelite.md",
        );
        return;
    }
    let _fakes = [1, 2, 3].map(|number| fake(site, number));
    site.lay_secret("scalelite.servers", &servers());
    site.up_with("scalelite");
    wait_until_online(site);

    // Until the next round a new meeting weighs one, so rounds would make the order a matter of luck.
    site.run("scale1", "systemctl stop scalelite-poller");
    let mut seen = Vec::new();
    for (meeting, expected) in (1..).zip(["1/0/0", "1/1/0", "1/1/1", "2/1/1", "2/2/1"]) {
        let query = format!("meetingID=meeting{meeting}&name=Meeting&moderatorPW=chair");
        let answer = as_a_teacher(site, "create", query);
        assert!(answer.as_deref().is_some_and(succeeded), "{answer:?}");
        assert_eq!(placement(site, meeting), expected);
        seen.push(expected);
    }
    site.run("scale1", "systemctl start scalelite-poller");
    report.thesis(
        figures,
        what,
        theirs,
        format!(
            "{}, by the real Scalelite, over three servers that only look like BigBlueButton",
            seen.join(", ")
        ),
    );

    stay_when_scalelite_is_replaced(site, report);
}

fn stay_when_scalelite_is_replaced(site: &Site, report: &mut Report) {
    site.change("poll_interval_seconds = 5", "poll_interval_seconds = 6");
    let over = Arc::new(AtomicBool::new(false));
    let (host, secret, until) =
        (site.host(), site.secret("scalelite.loadbalancer"), Arc::clone(&over));
    let asking = thread::spawn(move || {
        enter(host);
        let (mut answers, mut last, mut longest) = (0_u32, Instant::now(), Duration::ZERO);
        while !until.load(Ordering::Relaxed) {
            if call(&secret, "getMeetingInfo", "meetingID=meeting1")
                .as_deref()
                .is_some_and(succeeded)
            {
                answers += 1;
                longest = longest.max(last.elapsed());
                last = Instant::now();
            }
            thread::sleep(Duration::from_millis(200));
        }
        (answers, longest)
    });
    let took = site.swap("scalelite");
    wait_until_online(site);
    thread::sleep(Duration::from_secs(5));
    over.store(true, Ordering::Relaxed);
    let (answers, longest) = asking.join().unwrap();
    assert!(answers > 0, "nobody was answered");
    for meeting in 1..=5 {
        let answer = as_a_teacher(site, "getMeetingInfo", format!("meetingID=meeting{meeting}"));
        assert!(answer.as_deref().is_some_and(succeeded), "meeting{meeting} is lost: {answer:?}");
    }
    assert_eq!(placement(site, 5), "2/2/1");
    report.swap(
        "scalelite",
        took,
        format!("five meetings go on where they are; {answers} questions for one of them answered, longest gap {}: there is one such guest", seconds(longest)),
    );
}
