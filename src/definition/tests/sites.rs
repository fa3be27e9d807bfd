//! Endpoints, and sites that hold together or do not.

use super::{Files, report};
use crate::definition::site::prove;
use crate::definition::{Admitted, Protocol};

const WEB: &str = "images/web/image.toml";
const APP: &str = "images/app/image.toml";
const DATABASE: &str = "images/database/image.toml";
const CAMPUS: &str = "overlays/campus/overlay.toml";

const WEB_PARTS: &str = r#"
[parameters.tls]
type = "boolean"
default = false
doc = "x"

[parameters.virtual_addresses]
type = "list"
items = { type = "record", fields = { address = { type = "address" } } }
default = []
doc = "x"

[endpoints.http]
port = 80
clients = "any"
doc = "Requests"

[endpoints.https]
port = 443
clients = "any"
when = "tls"
doc = "Requests"

[endpoints.vrrp]
protocol = "vrrp"
clients = ["web"]
when = "virtual_addresses"
doc = "Who holds the addresses"

[[connections]]
to = "app"
endpoint = "http"
addresses = "backends"
port = "backends"

[cluster]
spread = true
"#;

const APP_TEXT: &str = r#"summary = "The application"
version = "1.0.0"
extends = "node"
role = true

[parameters.http_port]
type = "port"
default = 80
doc = "x"

[parameters.address]
type = "string"
default = ""
doc = "x"
public_name = "web"

[parameters.database]
type = "hostname"
default = "db1"
doc = "x"

[endpoints.http]
port = "http_port"
clients = ["web"]
doc = "Requests"

[endpoints.media]
port = 16384
range = 32768
protocol = "udp"
clients = ["web", "operators"]
doc = "Media"

[[connections]]
to = "database"
endpoint = "sql"
addresses = "database"
port = 3306

[cluster]
minimum = 2

[swap]
order = 20
drain = ["/usr/lib/drain"]
drained = ["/usr/lib/drained"]
"#;

const DATABASE_TEXT: &str = r#"summary = "The database"
version = "1.0.0"
extends = "node"
role = true

[endpoints.sql]
port = 3306
clients = ["app"]
doc = "Queries"

[cluster]
odd = true
arbitrator = "arbitrator"
spread = true
"#;

const ARBITRATOR: &str =
    "summary = \"A vote\"\nversion = \"1.0.0\"\nextends = \"node\"\nrole = true\n";

const SITE: &str = r#"summary = "The campus"

[images.base]
domain = "campus.example"

[images.web]
backends = [
  { name = "app1", address = "10.20.40.11" },
  { name = "app2", address = "10.20.40.12" },
]
virtual_addresses = [{ address = "10.20.40.5" }]

[images.app]
address = "https://app.campus.example"

[names]
"app.campus.example" = "10.20.40.5"

[operators]
networks = ["10.20.10.0/24", "10.20.40.3/32"]
"#;

/// `name`, `image`, last byte of the address, `host`.
const NODES: [(&str, &str, u8, &str); 7] = [
    ("lb1", "web", 2, "pve1"),
    ("lb2", "web", 3, "pve2"),
    ("app1", "app", 11, "pve1"),
    ("app2", "app", 12, "pve2"),
    ("db1", "database", 21, "pve1"),
    ("db2", "database", 22, "pve2"),
    ("db3", "database", 23, "pve3"),
];

fn node((name, image, byte, host): (&str, &str, u8, &str)) -> String {
    format!(
        "\n[[nodes]]\nname = \"{name}\"\nimage = \"{image}\"\naddress = \"10.20.40.{byte}/24\"\nhost = \"{host}\"\n"
    )
}

/// A project whose site holds together.
fn whole() -> Files {
    let nodes: String = NODES.into_iter().map(node).collect();
    Files::sound()
        .append(WEB, WEB_PARTS)
        .with(APP, APP_TEXT)
        .with(DATABASE, DATABASE_TEXT)
        .with("images/arbitrator/image.toml", ARBITRATOR)
        .with(CAMPUS, &format!("{SITE}{nodes}"))
}

#[test]
fn a_site_that_holds_together_is_proven() {
    let project = whole().load().unwrap();
    prove(&project).unwrap_or_else(|error| panic!("{}", report(&whole(), &error)));
    assert!(crate::definition::lint::lint(&project).is_empty());
    let swap = project.image("app").unwrap().swap.as_ref().unwrap();
    assert_eq!((swap.order, swap.drain.as_ref().unwrap().len()), (20, 1));
}

#[test]
fn endpoints_admit_the_nodes_of_their_clients_and_operators() {
    let project = whole().load().unwrap();
    let shown = |role: &str, site: Option<&str>| -> Vec<String> {
        let plan = project.plan(role, site).unwrap();
        let endpoints = plan.endpoints.iter().map(|endpoint| {
            let admitted = match &endpoint.admitted {
                Admitted::World => "world".to_owned(),
                Admitted::Only(clients) => {
                    clients.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
                }
            };
            let (first, last) = (endpoint.port, endpoint.last_port);
            format!("{} {}/{first}-{last} {admitted}", endpoint.name, endpoint.protocol.as_str())
        });
        endpoints.collect()
    };
    assert_eq!(
        shown("web", Some("campus")),
        ["http tcp/80-80 world", "vrrp vrrp/0-0 10.20.40.2/32 10.20.40.3/32"]
    );
    assert_eq!(
        shown("app", Some("campus")),
        [
            "http tcp/80-80 10.20.40.2/32 10.20.40.3/32",
            "media udp/16384-32768 10.20.10.0/24 10.20.40.2/32 10.20.40.3/32",
        ]
    );
    assert_eq!(
        shown("database", Some("campus")),
        ["sql tcp/3306-3306 10.20.40.11/32 10.20.40.12/32"]
    );
    let files = whole().append(WEB, "[values]\ndomain = \"x\"\n");
    let plan = files.load().unwrap().plan("web", None).unwrap();
    assert!(plan.endpoints.iter().all(|endpoint| endpoint.admitted == Admitted::World));
    assert!(plan.endpoints.iter().all(|endpoint| endpoint.protocol == Protocol::Tcp));
}

/// A change of the sound project, and what it breaks: a file, what is replaced in it (nothing:
/// added at its end), and by what.
type Change = (&'static str, &'static str, &'static str);

fn changed(changes: &[Change]) -> Files {
    changes.iter().fold(whole(), |files, (path, old, new)| match *old {
        "" => files.append(path, new),
        old => files.replace(path, old, new),
    })
}

#[test]
fn what_does_not_hold_together_is_found() {
    let mut reports = String::new();
    let cases: [(&str, &[Change]); 19] = [
        ("a missing peer", &[(CAMPUS, "\"10.20.40.12\" }", "\"10.20.40.13\" }")]),
        ("a peer of another role", &[(CAMPUS, "\"10.20.40.12\" }", "\"10.20.40.22\" }")]),
        ("a peer with an unknown name", &[(APP, "\"db1\"", "\"db9\"")]),
        ("the guest itself", &[(CAMPUS, "\"10.20.40.12\" }", "\"127.0.0.1\" }")]),
        ("a port of a record", &[(CAMPUS, "\"10.20.40.12\" }", "\"10.20.40.12\", port = 8080 }")]),
        (
            "a port of the other side",
            &[(CAMPUS, "[images.app]\n", "[images.app]\nhttp_port = 81\n")],
        ),
        ("a port in a definition", &[(APP, "port = 3306", "port = 3307")]),
        (
            "an endpoint that is off",
            &[
                (WEB, "to = \"app\"\nendpoint = \"http\"", "to = \"web\"\nendpoint = \"https\""),
                (CAMPUS, "\"10.20.40.12\" }", "\"10.20.40.3\" }"),
                (CAMPUS, "\"10.20.40.11\" }", "\"10.20.40.2\" }"),
            ],
        ),
        ("an endpoint that is not there", &[(APP, "endpoint = \"sql\"", "endpoint = \"sqll\"")]),
        (
            "a client that is not let in",
            &[(DATABASE, "clients = [\"app\"]", "clients = [\"web\"]")],
        ),
        ("too few", &[(APP, "minimum = 2", "minimum = 3")]),
        ("not the number", &[(APP, "minimum = 2", "exactly = 1")]),
        (
            "an even number",
            &[
                (
                    CAMPUS,
                    "name = \"db3\"\nimage = \"database\"",
                    "name = \"db3\"\nimage = \"arbitrator\"",
                ),
                (
                    CAMPUS,
                    "name = \"db2\"\nimage = \"database\"",
                    "name = \"db2\"\nimage = \"arbitrator\"",
                ),
                (
                    CAMPUS,
                    "",
                    "[[nodes]]\nname = \"db4\"\nimage = \"database\"\naddress = \"10.20.40.24/24\"\nhost = \"pve4\"\n",
                ),
            ],
        ),
        (
            "an even number without arbitrator",
            &[(
                CAMPUS,
                "",
                "[[nodes]]\nname = \"db4\"\nimage = \"database\"\naddress = \"10.20.40.24/24\"\nhost = \"pve4\"\n",
            )],
        ),
        ("two on one host", &[(CAMPUS, "host = \"pve3\"", "host = \"PVE2\"")]),
        ("no host", &[(CAMPUS, "host = \"pve3\"\n", "")]),
        (
            "a name of a single node",
            &[(
                CAMPUS,
                "\"app.campus.example\" = \"10.20.40.5\"",
                "\"app.campus.example\" = \"10.20.40.11\"",
            )],
        ),
        (
            "an address as public name",
            &[(CAMPUS, "https://app.campus.example", "https://10.20.40.5")],
        ),
        (
            "a taken virtual address",
            &[(
                CAMPUS,
                "{ address = \"10.20.40.5\" }",
                "{ address = \"10.20.40.5\" }, { address = \"10.20.40.2\" }",
            )],
        ),
    ];
    for (what, changes) in cases {
        let files = changed(changes);
        let project =
            files.load().unwrap_or_else(|error| panic!("{what}: {}", report(&files, &error)));
        let error = prove(&project).err().unwrap_or_else(|| panic!("{what} is not found"));
        reports.push_str(&format!("# {what}\n{}\n", report(&files, &error)));
    }
    insta::assert_snapshot!("sites", reports);
}

#[test]
fn what_also_holds_together_is_left_alone() {
    let cases: [(&str, &[Change]); 6] = [
        ("a node by its name in capitals", &[(APP, "\"db1\"", "\"DB1\"")]),
        (
            "a public name of a peer",
            &[
                (APP, "\"db1\"", "\"db.campus.example\""),
                (CAMPUS, "[names]\n", "[names]\n\"db.campus.example\" = \"10.20.40.22\"\n"),
            ],
        ),
        ("no peers at all", &[(CAMPUS, "[images.app]\n", "[images.node]\n[images.app]\n")]),
        (
            "a name in capitals",
            &[(CAMPUS, "https://app.campus.example", "https://App.Campus.example:8443/x")],
        ),
        (
            "two and a vote",
            &[(
                CAMPUS,
                "name = \"db3\"\nimage = \"database\"",
                "name = \"db3\"\nimage = \"arbitrator\"",
            )],
        ),
        (
            "a single proxy without a virtual address",
            &[
                (CAMPUS, "virtual_addresses = [{ address = \"10.20.40.5\" }]\n", ""),
                (
                    CAMPUS,
                    "\"app.campus.example\" = \"10.20.40.5\"",
                    "\"app.campus.example\" = \"10.20.40.2\"",
                ),
            ],
        ),
    ];
    for (what, changes) in cases {
        let files = changed(changes);
        let project = files.load().unwrap();
        prove(&project).unwrap_or_else(|error| panic!("{what}: {}", report(&files, &error)));
    }
}

#[test]
fn endpoints_and_clusters_that_cannot_be_are_refused() {
    let mut reports = String::new();
    for (path, old, new) in [
        (APP, "clients = [\"web\"]", "clients = \"web\""),
        (APP, "clients = [\"web\"]", "clients = [\"any\"]"),
        (APP, "protocol = \"udp\"", "protocol = \"sctp\""),
        (APP, "port = \"http_port\"", "port = \"http_prt\""),
        (APP, "port = \"http_port\"", "port = \"address\""),
        (APP, "port = \"http_port\"", "port = 70000"),
        (APP, "addresses = \"database\"", "addresses = \"http_port\""),
        (APP, "addresses = \"database\"", "addresses = \"databse\""),
        (APP, "minimum = 2", "minimum = 2\nexactly = 2"),
        (APP, "minimum = 2", "arbitrator = \"arbitrator\""),
        (APP, "drain = [\"/usr/lib/drain\"]\n", ""),
        (APP, "order = 20\n", ""),
        (APP, "public_name = \"web\"", "public_name = \"a b\""),
        (APP, "default = 80\n", "default = 80\npublic_name = \"web\"\n"),
        (WEB, "protocol = \"vrrp\"", "protocol = \"vrrp\"\nport = 112"),
        (WEB, "when = \"tls\"", "when = \"max_connections\""),
        (CAMPUS, "= \"10.20.40.5\"\n", "= \"10.20.40.500\"\n"),
        (CAMPUS, "\"10.20.10.0/24\"", "\"10.20.10.1/24\""),
        (CAMPUS, "host = \"pve3\"", "host = \"pve 3\""),
    ] {
        let files = changed(&[(path, old, new)]);
        let error = files.load().err().unwrap_or_else(|| panic!("{new:?} is accepted"));
        reports.push_str(&format!("{}\n", report(&files, &error)));
    }
    // Only a site knows that a range ends before it begins.
    let files = changed(&[(APP, "range = 32768", "range = 16383")]);
    let error = files.load().unwrap().plan("app", Some("campus")).unwrap_err();
    reports.push_str(&report(&files, &error));
    insta::assert_snapshot!("endpoints", reports);
}

#[test]
fn an_image_that_is_not_there_is_a_doubt() {
    let files = changed(&[(DATABASE, "clients = [\"app\"]", "clients = [\"app\", \"apps\"]")]);
    let findings = crate::definition::lint::lint(&files.load().unwrap());
    let reports: String = findings.iter().map(|finding| report(&files, finding)).collect();
    insta::assert_snapshot!("unknown_image", reports);
}
