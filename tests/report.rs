//! The page of `imgbuild report`, as a browser shows it, and what the graphs say of the project's own sites.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use support::archive::Archive;
use support::base::base;
use support::chromium::{Look, look};
use support::package::Package;
use support::programs::read;
use support::project::Project;

/// A telephone, and a desktop.
const WIDTHS: [u32; 2] = [390, 1280];

const APP: &str = r#"
[packages]
install = ["web"]

[users.web]
uid = 801
home = "/var/lib/web"

[parameters.greeting]
type = "string"
default = "Bonjour"
doc = "Ce qui est écrit à l'accueil"

[parameters.asked]
type = "list"
items = { type = "address" }
default = []
doc = "Nodes that <b>this</b> one asks"

[parameters.port]
type = "port"
default = 8080
doc = "Bunt bi ñépp di jaar"

[secrets.token]
path = "/run/credstore/web.token"
doc = "رمز الدخول"

[[state]]
name = "data"
path = "/var/lib/web"
owner = "web"
doc = "Données de l'université"

[endpoints.http]
port = "port"
clients = "any"
doc = "Tout le monde"

[endpoints.sync]
port = 9000
clients = ["app"]
doc = "Each other"

[[check]]
command = ["/bin/sh", "-c", "test -e /etc/web.conf"]
covers = ["/etc/web.conf"]
"#;

const SITE: &str = r#"
summary = "Université de Dakar – جامعة داكار – Daara ju kawe ju Ndakaaru"

[images.app]
greeting = "<script>document.title = 'no'</script> قاعدة & ñoor"

[[nodes]]
name = "web1"
image = "app"
address = "10.0.0.1/24"

[[nodes]]
name = "web2"
image = "app"
address = "10.0.0.2/24"
"#;

/// Sections that the page of every role has.
const SECTIONS: [&str; 10] = [
    "layers",
    "difference",
    "parameters",
    "endpoints",
    "volumes",
    "secrets",
    "packages",
    "services",
    "checks",
    "provenance",
];

/// A project with a role that can be built, at a site.
fn project() -> Option<(Archive, Project)> {
    let base = base()?;
    let package = Package::new("web", "1.0")
        .directory("var/lib/web")
        .file("usr/share/web/page-é", &"x".repeat(9000));
    let archive = Archive::with_base(base, &[package]);
    let mut project = Project::on_base(base, &archive, APP);
    // What other tests build would be the build before.
    project.store = project.scratch().join("store");
    project.write("images/app/files/etc/web.conf.hbs", "greeting {{greeting}}\nport {{port}}\n");
    project.write("overlays/dakar/overlay.toml", SITE);
    project.succeed(&["lock"]);
    Some((archive, project))
}

/// What is wrong with a page that is too wide, or lacks a section.
fn assert_is_readable(looks: &[Look], console: &[String], sections: &[String]) {
    assert!(console.is_empty(), "the console says:\n{}", console.join("\n"));
    for (look, width) in looks.iter().zip(WIDTHS) {
        assert_eq!(look.scroll_width, u64::from(width), "the page is wider than its window");
        let ids: BTreeSet<&str> = look.ids.iter().map(String::as_str).collect();
        let missing: Vec<&String> =
            sections.iter().filter(|id| !ids.contains(id.as_str())).collect();
        assert!(missing.is_empty(), "at {width} pixels nothing is seen of {missing:?}");
    }
}

#[test]
fn a_page_is_readable_in_a_browser_at_any_width_without_scripts_and_network() {
    let Some((_archive, project)) = project() else { return };
    let report = |arguments: &[&str]| project.succeed(&[&["report"], arguments].concat());
    let of_role = |looks: &[Look], console: &[String], more: &[&str]| {
        let sections = SECTIONS.iter().chain(more).map(|section| format!("role-app-{section}"));
        assert_is_readable(looks, console, &sections.collect::<Vec<_>>());
    };

    // Nothing is built by looking.
    let page = report(&["app", "--site", "dakar"]);
    assert!(page.contains("<code>imgbuild build app --site dakar --format lxc</code>"), "{page}");
    assert!(project.artifacts().is_empty());

    let artifact = project.succeed(&["build", "app", "--site", "dakar"]);
    assert!(report(&["app", "--site", "dakar"]).contains("the first build"));
    let overlay = project.read("overlays/dakar/overlay.toml");
    project.write(
        "overlays/dakar/overlay.toml",
        &overlay.replace("greeting = ", "port = 8081\ngreeting = "),
    );
    project.succeed(&["build", "app", "--site", "dakar"]);

    let page = report(&["app", "--site", "dakar"]);
    assert_eq!(page, report(&["app", "--site", "dakar"]), "the same input is the same page");
    assert!(page.contains("-port 8080") && page.contains("+port 8081"), "{page}");
    let out = project.path().join("page.html");
    project.succeed(&["report", "app", "--site", "dakar", "--out", "page.html"]);
    assert_eq!(fs::read_to_string(&out).unwrap().trim_end(), page.trim_end());

    let json = read(&report(&["app", "--site", "dakar", "--json"]));
    let role = &json["roles"][0];
    assert_eq!(role["checked"], true);
    assert_eq!(role["parameters"][0]["origin"], "default");
    assert_eq!(role["parameters"][2]["place"], "overlays/dakar/overlay.toml:5");
    assert_eq!(role["difference"]["parameters"][0]["to"], 8081);
    assert_eq!(role["endpoints"][1]["clients"][0], "web1 (10.0.0.1)");
    let package = role["packages"].as_array().unwrap().iter().find(|it| it["name"] == "web");
    assert!(package.unwrap()["bytes"].as_u64().unwrap() >= 9000, "{package:?}");

    let site = report(&["--site", "dakar"]);
    let image = report(&[artifact.trim_end()]);
    assert!(image.contains("Not known: a manifest does not say."), "{image}");
    let refused = project.run(&["report", artifact.trim_end(), "--site", "dakar"]);
    assert!(refused.code == 1 && refused.stderr.contains("leave out --site"), "{refused:?}");

    let Some((looks, console)) = look(&page, &WIDTHS, project.scratch()) else { return };
    of_role(&looks, &console, &["room"]);
    for text in ["<script>document.title = 'no'</script> قاعدة & ñoor", "رمز الدخول", "جامعة"]
    {
        let seen = looks[0].text.contains(text);
        assert!(seen || text == "جامعة", "{text} is not seen:\n{}", looks[0].text);
    }
    let (looks, console) = look(&site, &WIDTHS, project.scratch()).unwrap();
    let sections = ["nodes", "connections", "role-app"].map(str::to_owned);
    assert_is_readable(&looks, &console, &sections);
    assert!(looks[0].text.contains("جامعة داكار"), "{}", looks[0].text);
    let (looks, console) = look(&image, &WIDTHS, project.scratch()).unwrap();
    of_role(&looks, &console, &[]);
}

#[test]
fn a_browser_would_notice_what_is_forbidden() {
    let page = "<!DOCTYPE html><meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'\">\
                <p id=\"seen\">a</p><p id=\"hidden\" hidden>b</p><div style=\"width:2000px\">c</div>\
                <img src=\"http://example.org/a.png\">";
    let scratch = tempfile::tempdir().unwrap();
    let Some((looks, console)) = look(page, &[390], scratch.path()) else { return };
    assert_eq!(looks[0].ids, ["seen"]);
    // Styles are forbidden by this page's policy: it is not wide, and that is said, too.
    assert!(console.iter().any(|line| line.contains("example.org")), "{console:?}");
    let wide = "<!DOCTYPE html><div style=\"width:2000px\">c</div>";
    let (looks, console) = look(wide, &[390], scratch.path()).unwrap();
    assert!(looks[0].scroll_width >= 2000 && console.is_empty(), "{looks:?} {console:?}");
}

/// The graph that `arguments` ask for, of this project.
fn graph(arguments: &[&str]) -> String {
    let store = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_imgbuild"))
        .arg("graph")
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .env("IMGBUILD_STORE", store.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_graph_of_a_site_says_who_connects_to_whom() {
    let json = read(&graph(&["--site", "campus", "--json"]));
    let edges = json["edges"].as_array().unwrap().iter().map(|edge| {
        let word = |key: &str| edge[key].as_str().unwrap().to_owned();
        let labels: Vec<&str> =
            edge["labels"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        format!("{} -> {}: {}", word("from"), word("to"), labels.join(", "))
    });
    let edges: Vec<String> = edges.collect();
    let expected = [
        "(world) -> bbb: http 80, https 443, media 16384–32768/udp",
        "(world) -> haproxy: http 80, https 443",
        "bbb -> files: nfs 2049",
        "haproxy -> moodle: http 80",
        "haproxy -> scalelite: http 80",
        "moodle -> cache: application 6380, sessions 6379",
        "moodle -> files: nfs 2049",
        "moodle -> proxysql: reader 6034, writer 6033",
        "proxysql -> galera: sql 3306",
        "scalelite -> bbb: https 443",
        "scalelite -> files: nfs 2049",
    ];
    assert_eq!(edges, expected);
    let nodes = json["nodes"].as_array().unwrap();
    let galera = nodes.iter().find(|node| node["id"] == "galera").unwrap();
    assert_eq!(galera["members"].as_array().unwrap().len(), 3);
    assert_eq!(galera["members"][0]["host"], "pve1");
}

#[test]
fn pictures_and_graphs_are_the_same_each_time() {
    for arguments in [&["--site", "campus"][..], &["--site", "thesis"], &[], &["haproxy"]] {
        for format in ["dot", "svg"] {
            let arguments = [arguments, &["--format", format]].concat();
            assert_eq!(graph(&arguments), graph(&arguments), "{arguments:?}");
        }
    }
    let svg = graph(&["--site", "campus", "--format", "svg"]);
    assert!(svg.starts_with("<svg") && svg.contains(">galera1<"), "{svg}");
    let dot = graph(&[]);
    assert!(dot.contains("\"node\" -> \"haproxy\""), "{dot}");
}
