//! What Moodle itself shows, with the tree that the environment names built into the image.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::site::{NAME, SITE, Site};
use crate::support::browser::{Answer, Browser};
use crate::support::lab::{Guest, wait_for, wait_up_to};

/// Its installer makes hundreds of tables, on two databases that this machine emulates beside all else.
const INSTALLATION: Duration = Duration::from_secs(1200);

/// In the order in which it happens: an installation, a login, pages, a file, a drained node, a dead one.
pub fn live_through_a_day(site: &Site<'_>) {
    nothing_is_made_without_the_mark_of_the_store(site);
    one_node_installs_and_both_serve(site);
    let mut browser = sign_in(site);
    one_session_reaches_over_both_nodes(site, &mut browser);
    sessions_and_caches_are_in_valkey(site);
    pages_read_from_the_reading_node(site, &mut browser);
    a_file_that_one_node_took_comes_from_the_other(site, &mut browser);
    only_moodles_own_pages_are_served(site);
    tasks_run(site);
    a_drained_node_takes_no_session_with_it(site, &mut browser);
    a_dead_node_takes_no_session_with_it(site, &mut browser);
}

fn nothing_is_made_without_the_mark_of_the_store(site: &Site<'_>) {
    for node in &site.nodes {
        assert_eq!(node.boot(), "running", "{}", node.run("systemctl --failed --no-pager"));
        assert!(!node.attempt("/usr/lib/imgbuild/moodle/ask /healthz/ready").status.success());
    }
    assert_eq!(site.sql("SHOW TABLES"), "");
}

fn one_node_installs_and_both_serve(site: &Site<'_>) {
    fs::write(site.sentinel(), "").unwrap();
    let start = Instant::now();
    for node in &site.nodes {
        wait_up_to(INSTALLATION, "Moodle to be installed", || {
            let output = node.attempt("/usr/lib/imgbuild/moodle/ask /healthz/ready");
            output.status.success().then_some(())
        });
    }
    let tables: u32 = site.sql("SHOW TABLES").lines().count().try_into().unwrap();
    eprintln!("installed: {tables} tables in {} s", start.elapsed().as_secs());
    assert!(tables > 400, "{tables} tables");
    let installed = site.nodes.iter().filter(|node| journal(node).contains("installing the site"));
    assert_eq!(installed.count(), 1, "one of them installs");
    let expected = site.sql("SELECT fullname FROM mdl_course WHERE category = 0");
    assert_eq!(expected, "Campus of the example university");
    wait_for("the load balancer to see both", || {
        let before = site.requests();
        for _ in 0..4 {
            site.get("/login/index.php");
        }
        grown(before, site.requests()).iter().all(|requests| *requests > 0).then_some(())
    });
}

fn journal(node: &Guest<'_>) -> String {
    node.run("journalctl --no-pager --output=cat --unit=moodle-site")
}

/// How much each number has grown.
fn grown(before: [u64; 2], after: [u64; 2]) -> [u64; 2] {
    [after[0] - before[0], after[1] - before[1]]
}

/// What stands in `text` between two marks.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start} in {text}"));
    rest.split_once(end).unwrap_or_else(|| panic!("no {end} after {start}")).0
}

/// A browser in which the administrator is signed in.
fn sign_in(site: &Site<'_>) -> Browser {
    let mut browser = Browser::new(SITE, NAME);
    let page = browser.get(site.lab, "/login/index.php").unwrap();
    assert_eq!(page.status, 200, "{page:?}");
    let token = between(&page.body, "name=\"logintoken\" value=\"", "\"").to_owned();
    let form = format!("logintoken={token}&username=admin&password=let+%24me+%27in%27");
    let answer = browser.post(site.lab, "/login/index.php", &form).unwrap();
    assert_eq!(answer.status, 303, "{answer:?}");
    let home = follow(site, &mut browser, answer);
    assert!(home.body.contains("/login/logout.php"), "{home:?}");
    browser
}

/// Goes where an answer sends the browser, until it is somewhere.
fn follow(site: &Site<'_>, browser: &mut Browser, mut answer: Answer) -> Answer {
    for _ in 0..5 {
        let Some(location) = answer.header("Location") else { break };
        let path = location.strip_prefix(&format!("http://{NAME}")).unwrap_or(location).to_owned();
        answer = browser.get(site.lab, &path).unwrap();
    }
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

/// A page that only somebody who is signed in gets. Browsers ask again, once, when a connection breaks, as
/// it does for who is just being answered by a node that dies.
fn profile(site: &Site<'_>, browser: &mut Browser) -> Answer {
    let path = "/user/profile.php";
    let answer = browser.get(site.lab, path).or_else(|_| browser.get(site.lab, path)).unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("/login/logout.php"), "signed out: {answer:?}");
    answer
}

fn one_session_reaches_over_both_nodes(site: &Site<'_>, browser: &mut Browser) {
    let before = site.requests();
    for _ in 0..12 {
        profile(site, browser);
    }
    let grown = grown(before, site.requests());
    eprintln!("twelve pages of one session: {grown:?}");
    assert!(grown.iter().all(|requests| *requests >= 3), "{grown:?}");
}

fn sessions_and_caches_are_in_valkey(site: &Site<'_>) {
    for instance in ["sessions", "application"] {
        let keys = site.cache.run(&format!("/usr/lib/imgbuild/cache-cli {instance} DBSIZE"));
        eprintln!("Valkey for {instance}: {keys} keys");
        assert_ne!(keys, "0", "{instance}");
    }
    let files = site.nodes[0].run("ls /var/lib/moodledata/sessions 2>/dev/null | wc -l");
    assert_eq!(files, "0", "a session on the store");
}

fn pages_read_from_the_reading_node(site: &Site<'_>, browser: &mut Browser) {
    let selects = || {
        [0, 1].map(|database| {
            let line = site.databases[database]
                .run("mariadb --batch --skip-column-names --execute=\"SHOW GLOBAL STATUS LIKE 'Com_select'\"");
            line.split_whitespace().last().unwrap().parse().unwrap()
        })
    };
    let before = selects();
    for _ in 0..6 {
        profile(site, browser);
    }
    let grown = grown(before, selects());
    eprintln!("SELECTs of six pages on the writer and the reader: {grown:?}");
    assert!(grown[1] > 60, "{grown:?}");
}

/// The way of the file picker: an upload into the user's drafts.
fn a_file_that_one_node_took_comes_from_the_other(site: &Site<'_>, browser: &mut Browser) {
    let page = profile(site, browser);
    let key = between(&page.body, "\"sesskey\":\"", "\"").to_owned();
    let repository = site.sql(
        "SELECT i.id FROM mdl_repository_instances i JOIN mdl_repository r ON r.id = i.typeid \
         WHERE r.type = 'upload'",
    );
    let content = "an essay\n".repeat(100_000);
    let fields = [
        ("sesskey", key.as_str()),
        ("repo_id", &repository),
        ("itemid", "4711"),
        ("author", "A student"),
        ("title", "essay.txt"),
    ];
    let mut first = browser.at("10.20.40.11:80");
    let path = "/repository/repository_ajax.php?action=upload";
    let answer = first.upload(site.lab, path, &fields, ("repo_upload_file", &content)).unwrap();
    let value: serde_json::Value =
        serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    let url = value["url"].as_str().unwrap_or_else(|| panic!("{answer:?}"));
    let path = url.strip_prefix(&format!("http://{NAME}")).unwrap();
    let answer = browser.at("10.20.40.12:80").get(site.lab, path).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, content.len()));
    assert!(answer.body == content);
    let hash = site.sql("SELECT contenthash FROM mdl_files WHERE filename = 'essay.txt'");
    let stored: PathBuf = ["filedir", &hash[..2], &hash[2..4], &hash].iter().collect();
    assert_eq!(fs::read_to_string(site.dataroot.join(stored)).unwrap(), content);
}

fn only_moodles_own_pages_are_served(site: &Site<'_>) {
    for path in [
        "/install.php",
        "/version.php",
        "/admin/cli/install.php",
        "/lib/db/upgrade.php",
        "/dataroot/.imgbuild-dataroot",
        "/.git/config",
        "/config.php/../../config.php",
        "/healthz/ready",
    ] {
        let status = site.get(path).status;
        assert!([400, 403, 404].contains(&status), "{path}: {status}");
    }
}

fn tasks_run(site: &Site<'_>) {
    wait_for("scheduled tasks", || {
        (site.sql("SELECT COUNT(*) FROM mdl_task_log") != "0").then_some(())
    });
}

fn a_drained_node_takes_no_session_with_it(site: &Site<'_>, browser: &mut Browser) {
    let node = &site.nodes[0];
    node.run("/usr/lib/imgbuild/drain");
    wait_until_only_the_second_answers(site, browser);
    wait_for("the node to be drained", || {
        node.attempt("/usr/lib/imgbuild/drained").status.success().then_some(())
    });
    node.run("/usr/lib/imgbuild/drain --cancel");
    wait_for("the node to be back", || {
        let before = site.requests();
        for _ in 0..4 {
            profile(site, browser);
        }
        (grown(before, site.requests())[0] > 0).then_some(())
    });
}

fn a_dead_node_takes_no_session_with_it(site: &Site<'_>, browser: &mut Browser) {
    site.nodes[0].kill();
    wait_until_only_the_second_answers(site, browser);
}

fn wait_until_only_the_second_answers(site: &Site<'_>, browser: &mut Browser) {
    wait_for("the second node to answer alone", || {
        let before = site.requests();
        for _ in 0..4 {
            profile(site, browser);
        }
        (grown(before, site.requests()) == [0, 4]).then_some(())
    });
}
