//! The guests that the tests of Moodle's web nodes are about, and those that these need.

use std::env;
use std::path::{Path, PathBuf};

use imgbuild::artifact::name::Format;

use crate::support::browser::{Answer, Browser};
use crate::support::images;
use crate::support::lab::{Guest, Lab, wait_for};

pub const BRIDGE: [&str; 2] = ["10.20.40.1/24", "10.20.30.1/24"];
const WEB_GATEWAY: &str = "10.20.40.1";
const DATABASE_GATEWAY: &str = "10.20.30.1";

/// The load balancer, and what a browser of the site calls it.
pub const SITE: &str = "10.20.40.2:80";
pub const NAME: &str = "moodle.campus.example";

/// www-data of an unprivileged container, as the host sees it.
const WEB_SERVER: u32 = 100_033;

const SECRETS: [(&str, &str); 3] = [
    // What quoting could spoil.
    ("galera.database", "data'ba\\se"),
    ("cache.password", "0123456789abcdef\\of the cache'"),
    ("moodle.admin", "let $me 'in'"),
];

/// Two ports as ProxySQL has them: one node is written to, the other one is read from.
const SQL_PROXY: &str = "
defaults
    mode tcp
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout check 5s
    option httpchk
    default-server inter 2s fall 3 rise 2 check port 9200 on-marked-down shutdown-sessions
listen writer
    bind :6033
    server galera1 10.20.30.11:3306
    server galera2 10.20.30.12:3306 backup
listen reader
    bind :6034
    server galera2 10.20.30.12:3306
    server galera1 10.20.30.11:3306 backup
";

/// The templates under test, with this tree as Moodle's code.
pub fn templates(copy: &str, code: &Path) -> PathBuf {
    env::var_os("IMGBUILD_TEST_TEMPLATES").map(PathBuf::from).unwrap_or_else(|| {
        let source = format!("moodle={}", code.display());
        images::build_roles(copy, "lxc", &["haproxy", "galera", "cache", "moodle"], &[source])
    })
}

/// The guests of the site.
pub struct Site<'lab> {
    pub lab: &'lab Lab,
    /// Shared by the web nodes.
    pub dataroot: PathBuf,
    pub databases: Vec<Guest<'lab>>,
    pub cache: Guest<'lab>,
    balancer: Guest<'lab>,
    pub nodes: Vec<Guest<'lab>>,
}

impl<'lab> Site<'lab> {
    /// Starts everything but the web nodes, and waits for it.
    pub fn start(lab: &'lab Lab, templates: &Path) -> Self {
        let template = |role| images::artifact(templates, role, Format::LxcTemplate);
        let back = |name: &str, role, address: &str, volumes: &[(&Path, &str)]| {
            lab.create(name, &template(role), address, DATABASE_GATEWAY, volumes)
        };
        let databases = [1, 2].map(|number| {
            let name = format!("galera{number}");
            let secrets = lab.secrets(
                &name,
                &[
                    SECRETS[0],
                    ("galera.monitor", "monitor"),
                    ("galera.bootstrap", "galera1 first light"),
                ],
            );
            let state = lab.volume(&format!("{name}.state"));
            back(
                &name,
                "galera",
                &format!("10.20.30.1{number}/24"),
                &[(&state, "/var/lib/mysql"), (&secrets, "/etc/imgbuild/secrets")],
            )
        });
        let secrets = lab.secrets("cache1", &SECRETS[1..2]);
        let state = lab.volume("cache1.state");
        let cache = back(
            "cache1",
            "cache",
            "10.20.30.31/24",
            &[(&state, "/var/lib/valkey"), (&secrets, "/etc/imgbuild/secrets")],
        );
        let proxy = back("sql1", "haproxy", "10.20.30.21/24", &[]);
        let balancer = lab.create("lb1", &template("haproxy"), "10.20.40.2/24", WEB_GATEWAY, &[]);
        for guest in [&databases[0], &databases[1], &cache, &proxy, &balancer] {
            assert_eq!(guest.boot(), "running", "{}", guest.run("systemctl --failed --no-pager"));
        }
        // The databases let in the address of the node, and web nodes know the virtual one.
        proxy.run(&format!(
            "systemctl stop keepalived haproxy\nip address add 10.20.30.20/24 dev eth0\n\
             cat > /run/proxy.cfg <<'CONFIGURATION'\n{SQL_PROXY}CONFIGURATION\n\
             nft flush ruleset 2>/dev/null; systemd-run --unit=proxy haproxy -Ws -f /run/proxy.cfg"
        ));
        wait_for("the databases", || {
            let output = databases[1].attempt("/usr/lib/imgbuild/galera-ready");
            String::from_utf8_lossy(&output.stdout).trim().ends_with("size=2").then_some(())
        });

        let dataroot = lab.volume("dataroot");
        std::os::unix::fs::chown(&dataroot, Some(WEB_SERVER), Some(WEB_SERVER)).unwrap();
        let nodes = [1, 2].map(|number| {
            let name = format!("moodle{number}");
            let secrets = lab.secrets(&name, &SECRETS);
            lab.create(
                &name,
                &template("moodle"),
                &format!("10.20.40.1{number}/24"),
                WEB_GATEWAY,
                &[(&dataroot, "/var/lib/moodledata"), (&secrets, "/etc/imgbuild/secrets")],
            )
        });
        Self { lab, dataroot, databases: databases.into(), cache, balancer, nodes: nodes.into() }
    }

    pub fn sentinel(&self) -> PathBuf {
        self.dataroot.join(".imgbuild-dataroot")
    }

    pub fn sql(&self, statement: &str) -> String {
        self.databases[0]
            .run(&format!("mariadb --batch --skip-column-names moodle --execute=\"{statement}\""))
    }

    pub fn get(&self, path: &str) -> Answer {
        Browser::new(SITE, NAME).get(self.lab, path).unwrap()
    }

    /// Waits until all nodes give this answer, in part, to the question whether they are ready.
    pub fn wait_until_ready_says(&self, text: &str) {
        for node in &self.nodes {
            wait_for(&format!("ready to say: {text}"), || {
                let output = node.attempt("/usr/lib/imgbuild/moodle/ask /healthz/ready");
                String::from_utf8_lossy(&output.stdout).contains(text).then_some(())
            });
        }
    }

    /// How many requests the load balancer has given to each node, in their order.
    pub fn requests(&self) -> [u64; 2] {
        let lines = self.balancer.run("echo show stat | socat stdio /run/haproxy/admin.sock");
        ["moodle1", "moodle2"].map(|node| {
            let start = format!("web,{node},");
            let line = lines.lines().find(|line| line.starts_with(&start));
            // `stot`, the eighth field (HAProxy's management guide, 9.1).
            line.and_then(|line| line.split(',').nth(7)).unwrap().parse().unwrap()
        })
    }
}
