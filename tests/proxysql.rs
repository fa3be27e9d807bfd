//! The configuration of ProxySQL. Its program cannot be had from Debian and has no check of its own, so a
//! strict reader of the format, and the list of names that it knows, stand in for it.

#[path = "support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use imgbuild::definition::Project;
use imgbuild::render::{RenderedKind, render};
use support::libconfig::{Setting, parse};
use tempfile::TempDir;

const DATA: &str = "tests/data/proxysql";

/// The part of a site that ProxySQL sees.
const SITE: &str = r#"summary = "A site with two proxies and three nodes"

[images.proxysql]
backends = [
    { name = "galera1", address = "10.20.30.11", weight = 1000 },
    { name = "galera2", address = "10.20.30.12", weight = 900 },
    { name = "galera3", address = "10.20.30.13", port = 3307, weight = 800 },
]
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The project's images with a site of this test's own.
fn project(values: &str) -> (TempDir, Project) {
    let directory = tempfile::tempdir().unwrap();
    let images = root().join("images");
    for entry in walkdir::WalkDir::new(&images) {
        let entry = entry.unwrap();
        let to = directory.path().join("images").join(entry.path().strip_prefix(&images).unwrap());
        if entry.file_type().is_dir() {
            fs::create_dir_all(&to).unwrap();
        } else if entry.path_is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(entry.path()).unwrap(), &to).unwrap();
        } else {
            fs::copy(entry.path(), &to).unwrap();
        }
    }
    let overlay = directory.path().join("overlays/test");
    fs::create_dir_all(&overlay).unwrap();
    fs::write(overlay.join("overlay.toml"), format!("{SITE}{values}")).unwrap();
    let project = Project::load(directory.path()).unwrap();
    (directory, project)
}

/// What ProxySQL's definition makes of the site with `values` more, by path.
fn rendered(values: &str) -> BTreeMap<PathBuf, String> {
    let (_directory, project) = project(values);
    let plan = project.plan("proxysql", Some("test")).unwrap();
    let layers = render(&project, &plan).unwrap();
    let entries = layers.into_iter().filter(|layer| layer.image == "proxysql");
    let file = |entry: imgbuild::render::RenderedEntry| match entry.kind {
        RenderedKind::File { content } => Some((entry.path, String::from_utf8(content).unwrap())),
        _ => None,
    };
    entries.flat_map(|layer| layer.entries).filter_map(file).collect()
}

fn configuration(values: &str) -> String {
    rendered(values).remove(Path::new("etc/proxysql/imgbuild.cnf")).unwrap()
}

/// The names that ProxySQL knows, by the group or list that they stand in.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let text = fs::read_to_string(root().join(DATA).join("keys.txt")).unwrap();
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (group, names) = line.split_once(':').unwrap();
        let names = names.split_whitespace().map(str::to_owned);
        known.entry(group.to_owned()).or_default().extend(names);
    }
    known
}

#[test]
fn the_configuration_is_as_it_was_reviewed() {
    let golden = fs::read_to_string(root().join(DATA).join("golden.cnf")).unwrap();
    // Every line of it was compared with what the program's source says about its name.
    assert_eq!(configuration(""), golden, "review the change and write it to {DATA}/golden.cnf");
}

#[test]
fn proxysql_knows_every_name_in_its_configuration() {
    let known = known();
    let more = "tls = true\nclient_tls = true\nthreads = 8\n";
    for values in ["", more, "backends_none"] {
        let text = match values {
            "backends_none" => {
                let (_directory, project) = project("");
                let plan = project.plan("proxysql", None).unwrap();
                let layers = render(&project, &plan).unwrap();
                let mut entries = layers.into_iter().flat_map(|layer| layer.entries);
                let entry = entries.find(|it| it.path.ends_with("imgbuild.cnf")).unwrap();
                let RenderedKind::File { content } = entry.kind else { panic!() };
                String::from_utf8(content).unwrap()
            }
            values => configuration(values),
        };
        let read = parse(&text).unwrap();
        for (name, setting) in read.group() {
            let groups: Vec<&BTreeMap<String, Setting>> = match setting {
                Setting::Group(group) => vec![group],
                Setting::List(list) => list.iter().map(Setting::group).collect(),
                _ => {
                    assert!(known[""].contains(name), "`{name}` is no setting of ProxySQL");
                    continue;
                }
            };
            let names = known.get(name).unwrap_or_else(|| panic!("ProxySQL has no `{name}`"));
            for key in groups.into_iter().flat_map(BTreeMap::keys) {
                assert!(names.contains(key), "`{name}` of ProxySQL has no `{key}`");
            }
        }
    }
}

#[test]
fn there_is_one_writer_and_ports_decide_who_gets_a_query() {
    let read = parse(&configuration("")).unwrap();
    let read = read.group();
    let [galera] = read["mysql_galera_hostgroups"].list() else { panic!("one cluster") };
    assert_eq!(galera.group()["max_writers"], Setting::Integer(1));
    let servers = read["mysql_servers"].list();
    assert_eq!(servers.len(), 3);
    for server in servers {
        assert_eq!(server.group()["hostgroup"], galera.group()["writer_hostgroup"]);
    }
    let [rule] = read["mysql_query_rules"].list() else { panic!("one rule") };
    assert_eq!(rule.group()["destination_hostgroup"], galera.group()["reader_hostgroup"]);
    let by_text = ["match_digest", "match_pattern", "digest", "replace_pattern"];
    assert!(by_text.iter().all(|key| !rule.group().contains_key(*key)));
    let admin = read["admin_variables"].group();
    let (account, _) = admin["admin_credentials"].text().split_once(':').unwrap();
    // Whoever may administer cannot use the database (ProxySQL refuses the same name in both).
    let users = read["mysql_users"].list();
    assert!(users.iter().all(|user| user.group()["username"].text() != account));
    for name in ["mysql_ifaces", "pgsql_ifaces"] {
        let interfaces = admin[name].text().split(';');
        for interface in interfaces.filter(|interface| !interface.starts_with('/')) {
            assert!(interface.starts_with("127.0.0.1:"), "{name} lets the world at {interface}");
        }
    }
}

/// The rendered script at `path`, and what it reads and writes, in a directory of its own.
struct Script(TempDir);

impl Script {
    fn new(values: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let files = rendered(values);
        for name in ["etc/proxysql/imgbuild.cnf", "usr/lib/imgbuild/proxysql-configuration"] {
            let name = Path::new(name);
            fs::write(directory.path().join(name.file_name().unwrap()), &files[name]).unwrap();
        }
        fs::create_dir(directory.path().join("credentials")).unwrap();
        let script = Self(directory);
        script.secret("proxysql.admin", "an-admins-own-password\n");
        script.secret("galera.monitor", "the-monitor+password\n");
        script.secret("galera.database", "a-password-of-moodle\n");
        script
    }

    fn secret(&self, name: &str, text: &str) {
        fs::write(self.0.path().join("credentials").join(name), text).unwrap();
    }

    fn run(&self) -> Output {
        Command::new("/bin/sh")
            .arg(self.0.path().join("proxysql-configuration"))
            .env("CREDENTIALS_DIRECTORY", self.0.path().join("credentials"))
            .env("PROXYSQL_SOURCE", self.0.path().join("imgbuild.cnf"))
            .env("PROXYSQL_RUNTIME", self.0.path().join("runtime"))
            .output()
            .unwrap()
    }

    fn result(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join("runtime").join(name)).unwrap()
    }
}

#[test]
fn secrets_are_put_in_when_it_starts() {
    let script = Script::new("");
    let output = script.run();
    assert!(output.status.success(), "{output:?}");
    let text = script.result("proxysql.cnf");
    assert!(!text.contains("a-password-of-moodle"), "only the digest is needed");
    let read = parse(&text).unwrap();
    let read = read.group();
    assert_eq!(
        read["admin_variables"].group()["admin_credentials"].text(),
        "imgbuild:an-admins-own-password"
    );
    assert_eq!(read["mysql_variables"].group()["monitor_password"].text(), "the-monitor+password");
    // PASSWORD() of MariaDB: SHA-1 of SHA-1.
    let users: Vec<(&str, &str)> = read["mysql_users"]
        .list()
        .iter()
        .map(|user| (user.group()["username"].text(), user.group()["password"].text()))
        .collect();
    let expected = [
        ("moodle", "*846F0DE138962B3FA1940C05604D7068A849C487"),
        ("monitor", "*51B96D2A044707B7ABE5C43A22889C3394AB8E2A"),
    ];
    assert_eq!(users, expected);
    let check = read["admin_variables"].group()["stats_credentials"].text().to_owned();
    let password = check.strip_prefix("check:").unwrap();
    assert_eq!(password.len(), 64);
    assert!(script.result("check.cnf").contains(&format!("user=check\npassword={password}\n")));
    // A second start of the service changes nothing for health checks that are under way.
    assert!(script.run().status.success());
    assert_eq!(script.result("proxysql.cnf"), text);
    use std::os::unix::fs::PermissionsExt as _;
    for (name, mode) in [("proxysql.cnf", 0o640), ("check.cnf", 0o640), ("admin.cnf", 0o600)] {
        let found = fs::metadata(script.0.path().join("runtime").join(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn a_secret_that_would_break_the_configuration_is_refused() {
    let cases = [
        ("galera.monitor", "sixteen characters", "letters, digits"),
        ("galera.monitor", "sixteen\"characters", "letters, digits"),
        ("galera.database", "sixteen\\characters", "letters, digits"),
        ("galera.database", "sixteen|characters", "letters, digits"),
        ("proxysql.admin", "sixteen:characters;", "letters, digits"),
        ("proxysql.admin", "sixteen-char\nacters", "one line"),
        ("proxysql.admin", "brief-text", "at least 16 characters"),
        ("proxysql.admin", "", "at least 16 characters"),
    ];
    for (name, text, reason) in cases {
        let script = Script::new("");
        script.secret(name, text);
        let output = script.run();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{text:?} is accepted as {name}");
        assert!(said.contains(name) && said.contains(reason), "{said}");
        assert!(text.is_empty() || !said.contains(text), "the secret is shown: {said}");
        assert!(!script.0.path().join("runtime/proxysql.cnf").exists());
    }
    let script = Script::new("");
    fs::remove_file(script.0.path().join("credentials/galera.monitor")).unwrap();
    let output = script.run();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("galera.monitor is missing"), "{said}");
}

#[test]
fn what_libconfig_refuses_is_refused() {
    for text in [
        "a=1 a=2",
        "a=(1,)",
        "a=(1 2)",
        "a={ b=1",
        "a=\"x",
        "a=\"x\ny\"",
        "a=word",
        "a=99999999999",
        "a 1",
        "1=2",
        "a=1 }",
    ] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(parse("a=1; b:\"#\" # c\n// d\nc=(); e={f=TRUE}").is_ok());
}
