//! The mistakes of the installation by hand that imgbuild replaces. Each has a test that is named after it
//! and looks at what the images of every site of this project are configured with. What a daemon itself
//! would refuse is found by the checks of the definitions, and not repeated here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use imgbuild::definition::Project;
use imgbuild::render::{RenderedKind, render};

/// A role with its configuration, as one site has it.
struct Role {
    site: String,
    name: String,
    /// The text of every file that is rendered or copied, by path.
    files: BTreeMap<PathBuf, String>,
    /// Every package that its definitions name.
    packages: Vec<String>,
}

impl Role {
    /// The only file whose path ends so.
    fn file(&self, end: &str) -> &str {
        let found: Vec<_> = self.files.iter().filter(|(path, _)| path.ends_with(end)).collect();
        let [(_, text)] = found[..] else {
            panic!("{}: {} files end with {end}", self.name, found.len());
        };
        text
    }

    /// The lines of that file that say something.
    fn lines(&self, end: &str) -> Vec<&str> {
        let lines = self.file(end).lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with(['#', ';'])).collect()
    }

    fn has(&self, end: &str, line: &str) {
        assert!(
            self.lines(end).contains(&line),
            "{} of {}: no line `{line}` in {end}:\n{}",
            self.name,
            self.site,
            self.file(end)
        );
    }
}

fn project() -> Project {
    Project::load(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the project is valid")
}

/// The role `name` as each site that has nodes of it makes it.
fn at_every_site(name: &str) -> Vec<Role> {
    let project = project();
    let sites = project.sites().map(|site| site.name.to_string()).collect::<Vec<_>>();
    let roles: Vec<Role> = sites
        .iter()
        .filter(|site| project.nodes(site).unwrap().iter().any(|node| node.image.as_str() == name))
        .map(|site| role(&project, name, site))
        .collect();
    assert!(!roles.is_empty(), "no site has a node of {name}");
    roles
}

fn role(project: &Project, name: &str, site: &str) -> Role {
    let plan = project.plan(name, Some(site)).unwrap();
    let mut files = BTreeMap::new();
    for layer in render(project, &plan).unwrap() {
        for entry in layer.entries {
            if let RenderedKind::File { content } = entry.kind {
                files.insert(entry.path, String::from_utf8_lossy(&content).into_owned());
            }
        }
    }
    let packages = plan.layers.iter().flat_map(|layer| &layer.packages.install);
    let packages = packages.map(|relation| relation.text.clone()).collect();
    Role { site: site.to_owned(), name: name.to_owned(), files, packages }
}

/// An option file of MariaDB, as groups of lines.
fn groups(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut group = None;
    for line in
        text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => group = Some(name.to_owned()),
            None => {
                let group = group.as_ref().unwrap_or_else(|| panic!("`{line}` is in no group"));
                groups.entry(group.clone()).or_default().push(line.to_owned());
            }
        }
    }
    groups
}

const GALERA: &str = "70-imgbuild.cnf";

#[test]
fn mistake_01_options_of_the_server_in_a_group_that_it_does_not_read() {
    // What mariadbd 11.8 reads: `mariadbd --help --verbose`, "The following groups are read".
    let read = [
        "mysqld",
        "server",
        "mysqld-11.8",
        "mariadb",
        "mariadb-11.8",
        "mariadbd",
        "mariadbd-11.8",
        "client-server",
        "galera",
    ];
    for role in at_every_site("galera") {
        for name in groups(role.file(GALERA)).keys() {
            // State transfers have a group of their own, which wsrep_sst_common reads.
            assert!(read.contains(&name.as_str()) || name == "sst", "[{name}]");
        }
    }
}

#[test]
fn mistake_02_a_list_of_peers_that_grows_from_node_to_node() {
    let project = project();
    for role in at_every_site("galera") {
        let nodes = project.nodes(&role.site).unwrap();
        let peers = nodes.iter().filter(|node| node.image.as_str() == "galera");
        let addresses: Vec<String> = peers.map(|node| node.address.address().to_string()).collect();
        role.has(GALERA, &format!("wsrep-cluster-address = gcomm://{}", addresses.join(",")));
    }
}

#[test]
fn mistake_03_options_without_a_group_and_on_one_node_only() {
    // `groups` refuses a line outside; and there is one file for all nodes, which names none of them.
    let project = project();
    for role in at_every_site("galera") {
        groups(role.file(GALERA));
        let nodes = project.nodes(&role.site).unwrap();
        for node in nodes.iter().filter(|node| node.image.as_str() == "galera") {
            assert!(!role.file(GALERA).contains(node.name.as_str()), "{}", node.name);
        }
    }
}

#[test]
fn mistake_04_characters_of_three_bytes() {
    for role in at_every_site("galera") {
        role.has(GALERA, "character-set-server = utf8mb4");
        role.has(GALERA, "collation-server = utf8mb4_unicode_ci");
        assert!(!role.file(GALERA).contains("init-connect"));
    }
}

#[test]
fn mistake_05_state_transfers_that_lock_the_donor() {
    for role in at_every_site("galera") {
        role.has(GALERA, "wsrep-sst-method = mariabackup");
        assert!(role.packages.iter().any(|name| name == "mariadb-backup"));
    }
}

#[test]
fn mistake_06_versions_that_nobody_maintains() {
    // The oldest that are maintained for as long as Debian 13 is, by the first number of the version.
    let wanted = [("mariadb-server", 11), ("haproxy", 3)];
    let lock =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/imgbuild.lock")).unwrap();
    for (package, oldest) in wanted {
        let entry = format!("{{ name = \"{package}\", version = \"");
        let versions: Vec<_> = lock.lines().filter_map(|line| line.split_once(&entry)).collect();
        for (_, rest) in &versions {
            let version = rest.split('"').next().unwrap();
            let upstream = version.split_once(':').map_or(version, |(_, rest)| rest);
            let number: u32 = upstream.split('.').next().unwrap().parse().unwrap();
            assert!(number >= oldest, "{package} {version}");
        }
        assert!(!versions.is_empty(), "{package} is locked");
    }
    for name in ["mongodb", "nodejs", "php7", "mcrypt"] {
        assert!(!lock.contains(&format!("name = \"{name}")), "{name}");
    }
}

#[test]
fn mistake_11_more_rights_than_needed_and_passwords_that_everybody_knows() {
    for role in at_every_site("galera") {
        let script = role.file("galera-accounts");
        assert!(!script.contains("GRANT OPTION") && !script.contains("ALL PRIVILEGES"), "{script}");
        // Passwords come from credentials alone.
        for line in script.lines().filter(|line| line.contains("IDENTIFIED BY")) {
            assert!(line.contains("IDENTIFIED BY $(password galera."), "{line}");
        }
    }
}

#[test]
fn mistake_14_a_load_balancer_that_sees_no_requests() {
    for role in at_every_site("haproxy") {
        let file = "haproxy/imgbuild.cfg";
        role.has(file, "mode http");
        role.has(file, "balance leastconn");
        role.has(file, "option httpchk");
        role.has(file, "option forwardfor");
        let text = role.file(file);
        assert!(!text.contains("mode tcp") && !text.contains("stats auth"), "{text}");
        let statistics = text.split("stats uri").next().unwrap();
        let bind = statistics.lines().rfind(|line| line.trim().starts_with("bind")).unwrap();
        assert!(bind.contains("127.0.0.1:"), "statistics are for the host itself: {bind}");
    }
}

#[test]
fn mistake_15_a_changed_configuration_that_is_never_loaded() {
    // It cannot be changed in a guest at all; in the image it is loaded by the real daemon once.
    let project = project();
    for role in ["haproxy", "galera"] {
        let image = project.image(role).unwrap();
        assert!(image.checks.iter().any(|check| !check.covers.is_empty()), "{role}");
    }
}

#[test]
fn mistake_24_programs_that_are_fetched_while_installing_and_never_verified() {
    let project = project();
    for image in project.images() {
        for run in &image.runs {
            let command = run.command.join(" ");
            for tool in
                ["curl", "wget", "git clone", "docker pull", "docker run", "pip", "npm", "apt"]
            {
                // A path among the arguments is a file, and only the first one is run.
                let run_itself = run.command[0].rsplit('/').next() == Some(tool);
                let in_a_script = command
                    .split(|sign: char| !sign.is_ascii_alphanumeric() && !"/._-".contains(sign))
                    .any(|word| word == tool);
                let phrase = tool.contains(' ') && command.contains(tool);
                assert!(!run_itself && !in_a_script && !phrase, "{}: {command}", image.name);
            }
        }
    }
}

#[test]
fn mistake_25_a_url_where_scalelite_wants_a_host_name() {
    // A URL in an overlay is refused by the parameter's type; this is what Rails is given.
    for role in at_every_site("scalelite") {
        let line = role.lines("scalelite/environment").into_iter();
        let host = line.filter_map(|line| line.strip_prefix("URL_HOST=")).collect::<Vec<_>>();
        let [host] = host[..] else { panic!("URL_HOST: {host:?}") };
        let allowed = |sign: char| sign.is_ascii_alphanumeric() || sign == '.' || sign == '-';
        assert!(!host.is_empty() && host.chars().all(allowed), "{host}");
    }
}

#[test]
fn mistake_26_recordings_that_never_reach_scalelite() {
    for role in at_every_site("scalelite").iter().filter(|role| role.site == "campus") {
        role.has("scalelite/environment", "RECORDING_DISABLED=false");
        let wanted = role.file("system/scalelite.target");
        assert!(wanted.contains("scalelite-recording-importer.service"), "{wanted}");
        let mount = role.file("system/var-bigbluebutton.mount");
        assert!(mount.contains("What=10.20.30.30:/srv/bbb-recordings"), "{mount}");
    }
    let project = project();
    for role in at_every_site("bbb") {
        // BigBlueButton runs Scalelite's own script for each recording, which puts it into the spool of the
        // store that Scalelite imports from.
        let source = |name: &str| project.image(name).unwrap().sources["scalelite"].pin.clone();
        assert_eq!(source("bbb-packages"), source("scalelite"), "the same commit");
        assert!(role.file("imgbuild/bbb-configuration").contains("scalelite_post_publish.rb"));
        role.has("bbb/scalelite.yml", "spool_dir: /srv/recordings/spool");
        let store = &project.plan("scalelite", Some(&role.site)).unwrap().values["store_address"];
        let mount = role.file("system/srv-recordings.mount");
        let from = format!("What={}:/srv/bbb-recordings", store.value.as_str().unwrap());
        assert!(mount.contains(&from), "{mount}");
        let worker = role.file("bbb-rap-resque-worker.service.d/70-imgbuild.conf");
        assert!(worker.contains("Requires=imgbuild-bbb-store.service"), "{worker}");
        // Scalelite reads it by its group.
        let group = |name: &str| {
            let plan = project.plan(name, Some(&role.site)).unwrap();
            plan.layers.iter().find_map(|it| it.accounts.groups.get("scalelite-spool").cloned())
        };
        assert_eq!(group("bbb"), group("files"));
        assert_eq!(group("bbb"), group("scalelite"));
    }
}

#[test]
fn mistake_27_one_of_everything() {
    let project = project();
    let count = |role: &str| {
        let nodes = project.nodes("campus").unwrap();
        nodes.iter().filter(|node| node.image.as_str() == role).count()
    };
    for role in ["haproxy", "proxysql"] {
        assert!(count(role) >= 2, "{role}");
        let role = &at_every_site(role).into_iter().find(|one| one.site == "campus").unwrap();
        assert!(role.file("keepalived.conf").contains("vrrp_instance"), "{}", role.name);
    }
    assert!(count("galera") >= 3);
}

const PROXY: &str = "proxysql/imgbuild.cnf";

#[test]
fn mistake_07_a_proxy_that_never_looks_whether_its_servers_live() {
    for role in at_every_site("proxysql") {
        let text = role.file(PROXY);
        assert!(text.contains("mysql_galera_hostgroups") && !text.contains("scheduler"), "{text}");
        role.has(PROXY, "monitor_galera_healthcheck_interval=2000");
    }
}

#[test]
fn mistake_08_three_nodes_that_are_written_to() {
    for role in at_every_site("proxysql") {
        assert!(role.file(PROXY).contains("max_writers=1,"));
    }
}

#[test]
fn mistake_09_queries_told_apart_by_a_pattern() {
    for role in at_every_site("proxysql") {
        let text = role.file(PROXY);
        assert!(!text.contains("match_digest") && !text.contains("match_pattern"), "{text}");
    }
}

#[test]
fn mistake_10_the_accounts_of_administrators_are_those_of_clients() {
    for role in at_every_site("proxysql") {
        let (administrators, clients) = role.file(PROXY).split_once("mysql_users").unwrap();
        assert!(administrators.contains("admin_credentials=\"imgbuild:@ADMIN@\""));
        assert!(clients.contains("username=\"moodle\"") && !clients.contains("imgbuild"));
    }
}

#[test]
fn mistake_12_a_database_port_left_empty() {
    let project = project();
    for role in at_every_site("moodle") {
        let settings: serde_json::Value = serde_json::from_str(role.file("moodle.json")).unwrap();
        let proxies = project.plan("proxysql", Some(&role.site)).unwrap();
        assert_eq!(settings["database_port"], proxies.values["writer_port"].value);
        assert_eq!(settings["database_read_port"], proxies.values["reader_port"].value);
    }
}

#[test]
fn mistake_13_a_proxy_that_calls_itself_a_server_of_2013() {
    for role in at_every_site("proxysql") {
        role.has(PROXY, "server_version=\"11.8.6-MariaDB\"");
    }
}

#[test]
fn mistake_16_uploads_in_the_web_root_of_one_server() {
    for role in at_every_site("moodle") {
        assert!(role.file("share/moodle/config.php").contains("dataroot = '/var/lib/moodledata'"));
        role.has("sites-enabled/moodle", "root /usr/share/moodle/public;");
    }
}

#[test]
fn mistake_17_each_server_under_an_address_of_its_own() {
    let project = project();
    for role in at_every_site("moodle") {
        let settings: serde_json::Value = serde_json::from_str(role.file("moodle.json")).unwrap();
        let address = settings["wwwroot"].as_str().unwrap();
        for node in project.nodes(&role.site).unwrap() {
            assert!(!address.contains(&node.address.address().to_string()), "{address}");
        }
    }
}

#[test]
fn mistake_18_sessions_in_files_of_one_server() {
    for role in at_every_site("moodle") {
        assert!(role.file("share/moodle/config.php").contains("\\core\\session\\redis"));
    }
}

#[test]
fn mistake_19_no_scheduled_tasks() {
    for role in at_every_site("moodle") {
        role.has("moodle-cron.timer", "OnCalendar=minutely");
        assert!(
            role.file("share/moodle/config.php").contains("db_record_lock_factory"),
            "on every node"
        );
    }
}

#[test]
fn mistake_20_code_that_the_web_server_may_write() {
    let project = project();
    for role in at_every_site("moodle") {
        // What a source brings belongs to root; nothing gives it away afterwards.
        let image = project.image(&role.name).unwrap();
        assert!(image.sources.values().any(|source| {
            source.kind.destination().is_some_and(|into| into.as_str() == "/usr/share/moodle")
        }));
        for run in &image.runs {
            assert!(
                !run.command.iter().any(|word| word.contains("chown") || word.contains("chmod"))
            );
        }
    }
}

#[test]
fn mistake_21_a_database_server_on_each_web_server() {
    for role in at_every_site("moodle") {
        assert!(!role.packages.iter().any(|name| name.starts_with("mariadb-server")));
    }
}

#[test]
fn mistake_22_uploads_that_are_cut_off_and_clocks_of_another_continent() {
    for role in at_every_site("moodle") {
        let settings = "fpm/conf.d/90-imgbuild.ini";
        let limit = |name: &str| {
            let lines = role.lines(settings);
            let line = lines.iter().find(|line| line.starts_with(name)).unwrap();
            line.rsplit(' ').next().unwrap().to_owned()
        };
        assert_eq!(limit("post_max_size"), limit("upload_max_filesize"));
        role.has(settings, "date.timezone = \"Africa/Dakar\"");
        assert!(!role.packages.iter().any(|name| name.contains("mcrypt")));
    }
}

#[test]
fn mistake_25_a_url_where_a_host_name_belongs() {
    let project = project();
    let parameter = &project.image("scalelite").unwrap().parameters["url_host"];
    assert_eq!(parameter.kind, imgbuild::definition::Type::Hostname);
}

#[test]
fn mistake_28_a_majority_of_the_database_on_one_machine() {
    let project = project();
    let hosts: Vec<_> = project
        .nodes("campus")
        .unwrap()
        .iter()
        .filter(|node| node.image.as_str() == "galera")
        .map(|node| node.host.as_ref().map(|(host, _)| host.clone()))
        .collect();
    let different: std::collections::BTreeSet<_> = hosts.iter().flatten().collect();
    assert_eq!(different.len(), hosts.len());
}
