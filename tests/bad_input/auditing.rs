//! Audits: data that are none, and acceptances that mean nothing.

use crate::refused;
use crate::support::archive::Archive;
use crate::support::package::Package;
use crate::support::project::Project;

/// A locked role, and data that know nothing.
fn locked() -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    project.write("tracker.json", "{}");
    project.succeed(&["lock"]);
    (archive, project)
}

#[test]
fn data_that_are_none() {
    let (archive, project) = locked();
    let audit = |name: &str, data: &str| refused(name, &project, &["audit", "--data", data]);
    audit("audit_no_file", "none.json");
    audit("audit_directory", "images");
    project.write("list.json", "{\n  \"openssl\": []\n}");
    audit("audit_form", "list.json");
    project.write("cut.json", "{\"openssl\":{\"CVE-2026-1234\":{\"relea");
    audit("audit_cut", "cut.json");
    std::fs::write(project.path().join("broken.json.gz"), b"\x1f\x8bnot gzip at all").unwrap();
    audit("audit_packed", "broken.json.gz");
    audit("audit_other_release", "tracker.json");
    audit("audit_insecure", "http://tracker.example/data/json");
    audit("audit_scheme", "ftp://tracker.example/data/json");
    audit("audit_not_found", &archive.server.url("/none"));
    let remote = "https://tracker.example/data/json";
    refused("audit_offline", &project, &["audit", "--offline", "--data", remote]);
}

#[test]
fn roles_and_sites_that_do_not_exist() {
    let (_archive, project) = locked();
    refused("audit_role", &project, &["audit", "ap", "--data", "tracker.json"]);
    refused("audit_site", &project, &["audit", "--site", "campus", "--data", "tracker.json"]);
    std::fs::remove_file(project.path().join(crate::LOCK)).unwrap();
    refused("audit_lock", &project, &["audit", "--data", "tracker.json"]);
}

#[test]
fn acceptances_that_mean_nothing() {
    let (_archive, project) = locked();
    let whole =
        "[[accept]]\ncve = \"CVE-2026-1234\"\nreason = \"not reachable\"\nuntil = \"2026-12-31\"\n";
    for (name, text) in [
        ("accept_key", whole.replace("reason", "reasn")),
        ("accept_table", whole.replace("accept", "acept")),
        ("accept_no_reason", whole.replace("reason = \"not reachable\"\n", "")),
        ("accept_cve", whole.replace("CVE-2026", "cve 2026")),
        ("accept_day", whole.replace("2026-12-31", "2026-02-30")),
        ("accept_twice", whole.repeat(2)),
    ] {
        project.write("audit.toml", &text);
        refused(name, &project, &["audit", "--data", "tracker.json"]);
        refused(name, &project, &["check"]);
    }
}
