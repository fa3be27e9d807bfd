//! What sound projects come to.

use serde_json::json;

use super::Files;
use crate::definition::{Plan, Relation};

const CAMPUS: &str = "overlays/campus/overlay.toml";

fn value(plan: &Plan, name: &str) -> serde_json::Value {
    plan.values[name].value.clone()
}

#[test]
fn values_are_settled_and_completed() {
    let plan = Files::sound().load().unwrap().plan("web", Some("campus")).unwrap();
    let names: Vec<&str> = plan.values.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["backends", "domain", "max_connections", "mode", "time_servers"]);
    assert_eq!(value(&plan, "domain"), json!("campus.example"));
    assert_eq!(
        value(&plan, "backends"),
        json!([
            { "address": "10.20.40.11", "name": "moodle1", "port": 80 },
            { "address": "10.20.40.12", "name": "moodle2", "port": 8080 },
        ])
    );
    assert_eq!(plan.values["domain"].place.to_string(), format!("{CAMPUS}:4"));
    assert_eq!(plan.values["mode"].place.to_string(), "images/web/image.toml:24");
}

#[test]
fn the_last_word_on_a_value_wins() {
    let value_for = |text: &str| format!("[values]\ndomain = \"{text}\"\n");
    let files = Files::sound().append("images/node/image.toml", &value_for("node"));
    let site = "summary = \"x\"\nextends = \"campus\"\n[images.node]\ndomain = \"lab\"\n";
    let files = files.with("overlays/lab/overlay.toml", site);
    let project = files.load().unwrap();
    let domain = |site| value(&project.plan("web", site).unwrap(), "domain");
    assert_eq!(domain(None), json!("node"));
    assert_eq!(domain(Some("campus")), json!("campus.example"));
    assert_eq!(domain(Some("lab")), json!("lab"));

    // Within one overlay, the table of the image nearer to the role.
    let files = files.append("images/web/image.toml", &value_for("web"));
    let files = files.append(CAMPUS, "[images.node]\ndomain = \"from-node\"\n");
    let project = files.load().unwrap();
    assert_eq!(value(&project.plan("web", None).unwrap(), "domain"), json!("web"));
    let campus = project.plan("web", Some("campus")).unwrap();
    assert_eq!(value(&campus, "domain"), json!("from-node"));
}

#[test]
fn layers_keep_what_each_definition_asks_for() {
    let plan = Files::sound().load().unwrap().plan("web", Some("campus")).unwrap();
    let layers: Vec<(&str, Vec<&str>)> = plan
        .layers
        .iter()
        .map(|layer| {
            let texts = layer.packages.install.iter().map(|Relation { text, .. }| text.as_str());
            (layer.image.as_str(), texts.collect())
        })
        .collect();
    let expected =
        [("base", vec!["systemd-sysv"]), ("node", vec![]), ("web", vec!["haproxy (>= 3.0)"])];
    assert_eq!(layers, expected);
    assert!(plan.layers[0].packages.essential);
    assert_eq!(plan.layers[2].packages.install[0].place.line(), 7);
    let accounts = &plan.layers[2].accounts;
    assert_eq!((accounts.users["haproxy"].uid, accounts.groups["haproxy"]), (990, 990));
    assert_eq!(accounts.users["haproxy"].home.as_str(), "/nonexistent");
    let repository = &plan.debian.repositories[0];
    assert_eq!(repository.url, "http://deb.debian.org/debian");
    let crate::definition::Keyring::File { bytes, .. } = &repository.keyring else {
        panic!("it is a file")
    };
    assert_eq!(bytes, b"a certificate");
    assert_eq!(repository.signed_by, ["4D64FEC119C2029067D6E791F8D2585B8783D481"]);
}

#[test]
fn a_primary_group_of_another_name_is_not_made_twice() {
    let users = "[users.aaa]\nuid = 400\ngid = 401\n[users.bbb]\nuid = 401\n[groups.shared]\ngid = 500\n[users.ccc]\nuid = 402\ngid = 500\n";
    let files = Files::sound().append("images/web/image.toml", users);
    let plan = files.load().unwrap().plan("web", Some("campus")).unwrap();
    let groups = &plan.layers[2].accounts.groups;
    let groups: Vec<(&str, u32)> = groups.iter().map(|(name, id)| (name.as_str(), *id)).collect();
    assert_eq!(groups, [("bbb", 401), ("haproxy", 990), ("shared", 500)]);
}

#[test]
fn nodes_are_numbered_within_their_image_and_inherited() {
    let site = r#"summary = "x"
extends = "campus"
[[nodes]]
name = "lb2"
image = "web"
address = "10.9.0.3/24"
[[nodes]]
name = "lb3"
image = "web"
address = "fd00::3/64"
number = 7
"#;
    let project = Files::sound().with("overlays/lab/overlay.toml", site).load().unwrap();
    let nodes: Vec<(String, String, u32)> = project
        .nodes("lab")
        .unwrap()
        .iter()
        .map(|node| (node.name.to_string(), node.address.to_string(), node.number))
        .collect();
    let node = |name: &str, address: &str, number| (name.to_owned(), address.to_owned(), number);
    let expected = [
        node("lb1", "10.20.40.2/24", 1),
        node("lb2", "10.9.0.3/24", 2),
        node("lb3", "fd00::3/64", 7),
    ];
    assert_eq!(nodes, expected);
    assert_eq!(project.plan("web", Some("lab")).unwrap().peers().count(), 3);
    assert_eq!(project.plan("web", Some("lab")).unwrap().site.unwrap().name.as_str(), "lab");
}

#[test]
fn a_disk_is_the_role_with_the_machine_on_top_and_a_kernel_of_its_own() {
    let project = Files::with_machine().load().unwrap();
    let disk = project.disk_plan("web", Some("campus")).unwrap().unwrap();
    let names =
        |plan: &Plan| plan.layers.iter().map(|layer| layer.image.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&disk.machine), ["base", "node", "web", "machine"]);
    assert_eq!((disk.machine.role.as_str(), disk.machine.version.as_str()), ("web", "1.2.0"));
    assert_eq!(names(&disk.boot), ["base", "kernel"]);
    assert_eq!(disk.boot_command.command, ["/usr/lib/make"]);
    let role = project.plan("web", Some("campus")).unwrap();
    assert_eq!(names(&role), ["base", "node", "web"]);
    assert!(Files::sound().load().unwrap().disk_plan("web", Some("campus")).unwrap().is_none());
}

#[test]
fn volumes_are_named_by_their_last_component() {
    let states = "[[state]]\npath = \"/var/lib/mysql\"\ndoc = \"x\"\n\
                  [[state]]\nname = \"logs\"\npath = \"/srv/mysql\"\ndoc = \"x\"\n";
    let plan = Files::sound().append("images/web/image.toml", states).load().unwrap();
    let plan = plan.plan("web", Some("campus")).unwrap();
    let names: Vec<&str> = plan.states.iter().map(|state| state.name.as_str()).collect();
    assert_eq!(names, ["mysql", "logs"]);
}
