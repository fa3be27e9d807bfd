//! What a small application of our own shows in Moodle's place (`tests/data/mini-moodle`).

use std::fs;

use super::site::{NAME, SITE, Site};
use crate::support::browser::{Answer, Browser};
use crate::support::lab::wait_for;

/// All of it, in the order in which it happens to a site: from an empty database to an upgrade.
pub fn live_through_a_sites_life(site: &Site<'_>) {
    a_dataroot_that_is_not_the_sites_is_not_used(site);
    the_site_is_installed_once(site);
    one_session_reaches_over_both_nodes(site);
    files_are_shared_and_only_code_may_hand_them_out(site);
    scheduled_tasks_run(site);
    a_drained_node_gets_no_requests(site);
    maintenance_is_a_page_and_not_an_outage(site);
    code_that_does_not_fit_the_database_serves_nobody(site);
    a_dataroot_that_goes_away_takes_nodes_out(site);
    an_empty_database_beside_uploaded_files_is_refused(site);
}

/// A field of a JSON answer, as text.
fn field(answer: &Answer, name: &str) -> String {
    let value: serde_json::Value =
        serde_json::from_str(&answer.body).unwrap_or_else(|_| panic!("{answer:?}"));
    let field = &value[name];
    field.as_str().map_or_else(|| field.to_string(), str::to_owned)
}

/// Names of the nodes that answer a number of requests through the load balancer.
fn answering(site: &Site<'_>, browser: &mut Browser, path: &str, requests: usize) -> Vec<String> {
    (0..requests)
        .map(|_| {
            let answer = browser.get(site.lab, path).unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            field(&answer, "node")
        })
        .collect()
}

/// Waits until exactly these nodes answer through the load balancer.
fn wait_until_nodes_answer(site: &Site<'_>, wanted: &[&str]) {
    wait_for(&format!("{wanted:?} to answer"), || {
        let mut names = Vec::new();
        for _ in 0..6 {
            let answer = Browser::new(SITE, NAME).get(site.lab, "/").ok()?;
            (answer.status == 200).then_some(())?;
            names.push(field(&answer, "node"));
        }
        names.sort();
        names.dedup();
        (names == wanted).then_some(())
    });
}

fn a_dataroot_that_is_not_the_sites_is_not_used(site: &Site<'_>) {
    for node in &site.nodes {
        assert_eq!(node.boot(), "running", "{}", node.run("systemctl --failed --no-pager"));
        assert_eq!(node.run("systemctl --failed --no-legend"), "");
        wait_for("the reason", || {
            let status = node.run("systemctl show --property=StatusText imgbuild-moodle-dataroot");
            status.contains("no file /var/lib/moodledata/.imgbuild-dataroot").then_some(())
        });
        node.run("/usr/lib/imgbuild/moodle/ask /healthz/live");
        // Not even an installer is served.
        assert!(!node.attempt("/usr/lib/imgbuild/moodle/ask /index.php").status.success());
    }
    assert_eq!(site.sql("SHOW TABLES"), "");
}

fn the_site_is_installed_once(site: &Site<'_>) {
    fs::write(site.sentinel(), "").unwrap();
    site.wait_until_ready_says("ready\n");
    assert_eq!(site.sql("SELECT value FROM mdl_config WHERE name = 'installations'"), "1");
    for node in &site.nodes {
        // Secrets are for the web server and root.
        assert_eq!(
            node.run("stat -c '%U:%G %a' /run/imgbuild/moodle/settings.php"),
            "root:www-data 640"
        );
        // Restarting finds what is there.
        node.run("systemctl restart moodle-site");
    }
    site.wait_until_ready_says("ready\n");
    assert_eq!(site.sql("SELECT value FROM mdl_config WHERE name = 'installations'"), "1");
    wait_until_nodes_answer(site, &["moodle1", "moodle2"]);
    let answer = site.get("/");
    assert_eq!(field(&answer, "site"), "Campus of the example university");
    assert_eq!(field(&answer, "servers"), r#"{"writer":"galera1","reader":"galera2"}"#);
    // Who asks, not who passes it on.
    assert_eq!(field(&answer, "client"), "10.20.40.1");
    let cached = |answer: &Answer| field(answer, "cached").parse::<u64>().unwrap();
    assert!(cached(&site.get("/")) > cached(&answer), "the cache is one for both nodes");
}

fn one_session_reaches_over_both_nodes(site: &Site<'_>) {
    let mut browser = Browser::new(SITE, NAME);
    assert_eq!(browser.get(site.lab, "/my/").unwrap().status, 303);
    let wrong = browser.post(site.lab, "/login/index.php", "username=admin&password=x").unwrap();
    assert_eq!(wrong.status, 403);
    let form = "username=admin&password=let+%24me+%27in%27";
    let right = browser.post(site.lab, "/login/index.php", form).unwrap();
    assert_eq!(
        (right.status, right.header("Location")),
        (303, Some("http://moodle.campus.example/my/"))
    );
    let names = answering(site, &mut browser, "/my/", 8);
    assert!(
        names.contains(&"moodle1".to_owned()) && names.contains(&"moodle2".to_owned()),
        "{names:?}"
    );
    assert_eq!(field(&browser.get(site.lab, "/my/").unwrap(), "pages"), "9");
}

fn files_are_shared_and_only_code_may_hand_them_out(site: &Site<'_>) {
    let content = "an essay\n".repeat(100_000);
    let answer = Browser::new("10.20.40.11:80", NAME)
        .upload(site.lab, "/pluginfile.php", &[], ("file", &content))
        .unwrap();
    let parts: Vec<&str> = answer.body.split_whitespace().collect();
    let [sha1, node, uploads] = parts[..] else { panic!("{answer:?}") };
    assert_eq!(node, "moodle1");
    // While it arrived it was on the shared store, too: a node has only memory.
    assert_eq!(uploads, "/var/lib/moodledata/.imgbuild-uploads");
    let stored = site.dataroot.join(format!("filedir/{}/{}/{sha1}", &sha1[..2], &sha1[2..4]));
    assert_eq!(fs::read_to_string(stored).unwrap(), content);
    let path = format!("/pluginfile.php/README/{sha1}");
    let answer = Browser::new("10.20.40.12:80", NAME).get(site.lab, &path).unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, content.len()));
    for path in [
        format!("/dataroot/filedir/{}/{}/{sha1}", &sha1[..2], &sha1[2..4]).as_str(),
        "/localcache/bootstrap.php",
        "/install.php",
        "/version.php",
        "/db/upgrade.php",
        "/config.php/../../config.php",
        "/healthz/requests",
        "/healthz/ready",
    ] {
        let status = site.get(path).status;
        assert!([400, 403, 404].contains(&status), "{path}: {status}");
    }
    assert_eq!(site.get("/course/of/the/router?a=b").body, "routed /course/of/the/router\n");
}

fn scheduled_tasks_run(site: &Site<'_>) {
    wait_for("a scheduled task", || {
        (site.sql("SELECT COUNT(*) FROM mdl_task") != "0").then_some(())
    });
}

fn a_drained_node_gets_no_requests(site: &Site<'_>) {
    let node = &site.nodes[0];
    assert!(!node.attempt("/usr/lib/imgbuild/drained").status.success());
    node.run("/usr/lib/imgbuild/drain");
    wait_until_nodes_answer(site, &["moodle2"]);
    wait_for("the node to be drained", || {
        node.attempt("/usr/lib/imgbuild/drained").status.success().then_some(())
    });
    assert_eq!(node.attempt("systemctl is-active moodle-cron.timer").stdout, b"inactive\n");
    node.run("/usr/lib/imgbuild/drain --cancel");
    wait_until_nodes_answer(site, &["moodle1", "moodle2"]);
}

fn maintenance_is_a_page_and_not_an_outage(site: &Site<'_>) {
    site.nodes[1].run("/usr/lib/imgbuild/moodle-cli maintenance --enable");
    let answer = site.get("/");
    assert_eq!((answer.status, answer.body.as_str()), (503, "<h1>Under maintenance</h1>\n"));
    site.wait_until_ready_says("ready\n");
    let cron = site.nodes[0].attempt("/usr/lib/imgbuild/moodle/may-cron");
    assert_eq!(
        String::from_utf8_lossy(&cron.stdout),
        "no scheduled tasks: the site is in maintenance\n"
    );
    site.nodes[0].run("/usr/lib/imgbuild/moodle-cli maintenance --disable");
    wait_until_nodes_answer(site, &["moodle1", "moodle2"]);
}

fn code_that_does_not_fit_the_database_serves_nobody(site: &Site<'_>) {
    let node = &site.nodes[0];
    let upgrade = |option: &str| {
        node.attempt(&format!("/usr/lib/imgbuild/moodle-cli upgrade {option}")).status.code()
    };
    assert_eq!(upgrade("--is-pending"), Some(0));
    // As after a change to an image with newer code.
    site.sql("UPDATE mdl_config SET value = '1' WHERE name IN ('version', 'allversionshash')");
    site.wait_until_ready_says("the database is for another version of the code");
    assert_eq!(upgrade("--is-pending"), Some(2));
    assert!(!node.attempt("/usr/lib/imgbuild/moodle/may-cron").status.success());
    wait_for("the load balancer to see it", || (site.get("/").status == 503).then_some(()));
    // Starting anew does not upgrade anything either.
    node.run("systemctl restart moodle-site");
    assert_eq!(site.sql("SELECT value FROM mdl_config WHERE name = 'version'"), "1");
    assert_eq!(upgrade("--non-interactive"), Some(0));
    site.wait_until_ready_says("ready\n");
    wait_until_nodes_answer(site, &["moodle1", "moodle2"]);
}

fn a_dataroot_that_goes_away_takes_nodes_out(site: &Site<'_>) {
    let node = &site.nodes[1];
    // As if it hung: nobody finds it in order any more.
    node.run("systemctl stop imgbuild-moodle-dataroot");
    wait_for("the node to notice", || {
        let output = node.attempt("/usr/lib/imgbuild/moodle/ask /healthz/ready");
        String::from_utf8_lossy(&output.stdout).contains("missing or hangs").then_some(())
    });
    wait_until_nodes_answer(site, &["moodle1"]);
    node.run("systemctl start imgbuild-moodle-dataroot");
    wait_until_nodes_answer(site, &["moodle1", "moodle2"]);
}

fn an_empty_database_beside_uploaded_files_is_refused(site: &Site<'_>) {
    let node = &site.nodes[0];
    for other in &site.nodes[1..] {
        other.stop();
    }
    site.sql("DROP TABLE mdl_files");
    site.sql("DELETE FROM mdl_config WHERE name = 'allversionshash'");
    let status_after_restart = || {
        node.run("systemctl restart moodle-site");
        wait_for("the reason", || {
            let status = node.run("systemctl show --property=StatusText moodle-site");
            status.contains("not serving").then_some(status)
        })
    };
    let status = status_after_restart();
    assert!(status.contains("an installation was interrupted"), "{status}");
    for table in ["config", "user", "task"] {
        site.sql(&format!("DROP TABLE mdl_{table}"));
    }
    let status = status_after_restart();
    assert!(status.contains("it is the wrong one, or lost"), "{status}");
    assert_eq!(site.sql("SHOW TABLES"), "");
}
