//! Sites whose parts do not fit each other, and secrets in their overlays.

use crate::refused;
use crate::support::archive::Archive;
use crate::support::project::Project;

const HAPROXY: &str = r#"summary = "The way in"
version = "1.0.0"
extends = "app"
role = true

[parameters.backends]
type = "list"
items = { type = "record", fields = { address = { type = "address" }, port = { type = "port", default = 80 } } }
default = []
doc = "The web nodes"

[parameters.virtual_addresses]
type = "list"
items = { type = "record", fields = { address = { type = "address" } } }
default = []
doc = "Addresses that one node holds at any time"

[parameters.stats_login]
type = "string"
default = ""
doc = "Who may see the statistics"

[[connections]]
to = "moodle"
endpoint = "http"
addresses = "backends"
port = "backends"
"#;

const MOODLE: &str = r#"summary = "A web node"
version = "1.0.0"
extends = "app"
role = true

[parameters.wwwroot]
type = "string"
default = "http://localhost"
public_name = "haproxy"
doc = "The site's one address, as browsers see it"

[endpoints.http]
port = 80
clients = ["haproxy"]
doc = "Requests"
"#;

const GALERA: &str = r#"summary = "A node of the database"
version = "1.0.0"
extends = "app"
role = true

[parameters.options]
type = "string"
default = ""
doc = "More options"

[cluster]
minimum = 3
odd = true
spread = true
"#;

const SCALELITE: &str = r#"summary = "The scheduler of conferences"
version = "1.0.0"
extends = "app"
role = true

[parameters.url_host]
type = "hostname"
default = "localhost"
public_name = "haproxy"
doc = "Name that clients reach it by"
"#;

const CAMPUS: &str = r#"summary = "The campus"

[images.haproxy]
backends = [
    { address = "10.20.40.11" },
    { address = "10.20.40.12" },
]
virtual_addresses = [{ address = "10.20.40.5" }]

[images.moodle]
wwwroot = "https://moodle.campus.example"

[images.galera]
options = "gcache.size=1024M"

[images.scalelite]
url_host = "moodle.campus.example"

[names]
"moodle.campus.example" = "10.20.40.5"
"#;

/// `name`, `image`, what follows 10.20. in its address, `host`.
const NODES: [(&str, &str, &str, &str); 8] = [
    ("lb1", "haproxy", "40.2", "pve1"),
    ("lb2", "haproxy", "40.3", "pve2"),
    ("moodle1", "moodle", "40.11", "pve1"),
    ("moodle2", "moodle", "40.12", "pve2"),
    ("galera1", "galera", "30.11", "pve1"),
    ("galera2", "galera", "30.12", "pve2"),
    ("galera3", "galera", "30.13", "pve3"),
    ("scale1", "scalelite", "40.21", "pve1"),
];

fn node((name, image, address, host): (&str, &str, &str, &str)) -> String {
    format!(
        "\n[[nodes]]\nname = \"{name}\"\nimage = \"{image}\"\naddress = \"10.20.{address}/24\"\n\
         host = \"{host}\"\n"
    )
}

/// A project with a lock whose site holds together.
fn whole() -> Project {
    let project = Project::small(&Archive::new(&[]), "[]", "");
    for (name, definition, parameters) in [
        ("haproxy", HAPROXY, "{{json backends}} {{json virtual_addresses}} {{stats_login}}"),
        ("moodle", MOODLE, "{{wwwroot}}"),
        ("galera", GALERA, "{{options}}"),
        ("scalelite", SCALELITE, "{{url_host}}"),
    ] {
        project.write(&format!("images/{name}/image.toml"), definition);
        project.write(&format!("images/{name}/files/etc/{name}.conf.hbs"), parameters);
    }
    let nodes: String = NODES.into_iter().map(node).collect();
    project.write("overlays/campus/overlay.toml", &format!("{CAMPUS}{nodes}"));
    project.succeed(&["lock"]);
    project.succeed(&["check"]);
    project
}

/// The same with `new` for the only `old` in the overlay, which must be refused as in the snapshot
/// `name`.
#[track_caller]
fn change(name: &str, old: &str, new: &str) {
    let project = whole();
    let overlay = project.read("overlays/campus/overlay.toml");
    assert_eq!(overlay.matches(old).count(), 1, "{old}");
    project.write("overlays/campus/overlay.toml", &overlay.replace(old, new));
    refused(name, &project, &["check"]);
}

#[test]
fn a_peer_that_is_not_there() {
    change("peer_missing", "{ address = \"10.20.40.12\" }", "{ address = \"10.20.40.13\" }");
}

#[test]
fn a_port_that_is_not_the_same_on_both_sides() {
    let new = "{ address = \"10.20.40.12\", port = 8080 }";
    change("port_mismatch", "{ address = \"10.20.40.12\" }", new);
}

#[test]
fn an_even_galera_without_arbitrator() {
    let project = whole();
    let fourth = node(("galera4", "galera", "30.14", "pve4"));
    project.append("overlays/campus/overlay.toml", &fourth);
    refused("galera_even", &project, &["check"]);
}

#[test]
fn two_database_nodes_on_one_host() {
    change("galera_one_host", "host = \"pve3\"", "host = \"pve1\"");
}

#[test]
fn a_wwwroot_that_is_not_the_name_of_the_virtual_address() {
    let node = "\"moodle.campus.example\" = \"10.20.40.11\"";
    change("wwwroot_of_a_node", "\"moodle.campus.example\" = \"10.20.40.5\"", node);
    change("wwwroot_address", "https://moodle.campus.example", "http://10.20.40.11");
}

#[test]
fn a_url_where_scalelite_wants_a_host() {
    let url = "url_host = \"https://moodle.campus.example/bigbluebutton/api\"";
    change("url_host_url", "url_host = \"moodle.campus.example\"", url);
}

#[test]
fn a_default_password() {
    let login = "virtual_addresses = [{ address = \"10.20.40.5\" }]\nstats_login = \"admin:123\"";
    change("default_password", "virtual_addresses = [{ address = \"10.20.40.5\" }]", login);
}

#[test]
fn a_secret_written_into_an_overlay() {
    let options = "options = \"gcache.size=1024M;salt=8cd8ef52e8e101574e400365b55e11a6\"";
    change("secret_literal", "options = \"gcache.size=1024M\"", options);
}

/// Where the guests of a site live, and what is wrong with it.
fn hosting(snapshot: &str, text: &str) {
    let project = whole();
    project.append("overlays/campus/overlay.toml", text);
    refused(snapshot, &project, &["check"]);
}

const PROXMOX: &str = r#"
[proxmox]
url = "https://pve1.campus.example:8006"
artifacts = "local"
storage = "local-lvm"
vmids = [4000, 4999]
"#;

#[test]
fn an_api_that_is_none() {
    hosting("proxmox_url", &PROXMOX.replace("https://", "http://root@"));
    hosting("proxmox_vmids", &PROXMOX.replace("[4000, 4999]", "[4000, 4001]"));
    let both = "vmids = [4000, 4999]\nca = \"ca.pem\"\nfingerprint = \"AA\"";
    hosting("proxmox_two_trusts", &PROXMOX.replace("vmids = [4000, 4999]", both));
    let outside = "vmids = [4000, 4999]\nca = \"../../etc/pve-root-ca.pem\"";
    hosting("proxmox_ca_outside", &PROXMOX.replace("vmids = [4000, 4999]", outside));
}

#[test]
fn guests_that_nobody_has_described() {
    hosting("guests_missing", PROXMOX);
}

#[test]
fn guests_that_cannot_be() {
    let guest = |text: &str| {
        format!("\n[guests.galera]\ncores = 2\nmemory_mib = 8192\nbridge = \"vmbr0\"\n{text}\n")
    };
    hosting("guest_kind", &guest("kind = \"vm\""));
    hosting("guest_without_disk", &guest("kind = \"machine\""));
    hosting(
        "guest_unknown_volume",
        &guest("kind = \"container\"\nvolumes = { mysq = { size_gib = 10 } }"),
    );
    let unknown = guest("kind = \"container\"").replace("guests.galera", "guests.galerra");
    hosting("guest_unknown_role", &unknown);
}

/// A plan, as `imgbuild plan --json` writes it.
const PLAN: &str = r#"{
  "verb": "plan", "schema": 1, "site": "campus", "nodes": [], "steps": [], "secrets": [],
  "ending": "done", "refusal": null
}"#;

#[test]
fn a_plan_that_is_none() {
    let project = whole();
    let swap = ["swap", "--site", "campus", "--yes", "--expect", "plan.json"];
    refused("expect_absent", &project, &swap);
    for (name, text) in [
        ("expect_cut", PLAN.get(..100).unwrap().to_owned()),
        ("expect_no_json", "lb1: to be replaced\n".to_owned()),
        ("expect_other_verb", PLAN.replace("\"plan\"", "\"lab plan\"")),
        ("expect_newer", PLAN.replace("\"schema\": 1", "\"schema\": 2")),
        ("expect_incomplete", PLAN.replace("\"steps\": [],", "")),
        ("expect_other_site", PLAN.replace("campus", "\\u001b[2Jthesis")),
    ] {
        project.write("plan.json", &text);
        refused(name, &project, &swap);
    }
}
