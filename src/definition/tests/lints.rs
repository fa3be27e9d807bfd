//! What the lints find, and what they leave alone.

use super::{Files, report};
use crate::definition::lint::lint;

#[test]
fn a_sound_project_raises_no_doubt() {
    assert!(lint(&Files::sound().load().unwrap()).is_empty());
}

#[test]
fn likely_mistakes_are_found() {
    let more = r#"
[parameters.admin_password]
type = "string"
default = "hunter2"
doc = "x"
[parameters.users]
type = "list"
items = { type = "record", fields = { api_token = { type = "string" } } }
default = []
doc = "x"
[parameters.token_lifetime]
type = "integer"
default = 5
doc = "not a secret"
[parameters.root]
type = "string"
default = "$6$salt$hash"
doc = "x"
[parameters.motd]
type = "string"
default = ""
doc = "x"
"#;
    let files = Files::sound()
        .append("images/web/image.toml", more)
        .replace(
            "images/web/image.toml",
            "\"haproxy (>= 3.0)\"",
            "\"haproxy (>= 3.0)\", \"systemd-sysv\"",
        )
        .replace(
            "overlays/campus/overlay.toml",
            "[images.web]\n",
            "[images.web]\nmotd = \"-----BEGIN OPENSSH PRIVATE KEY-----\"\n",
        );
    let findings = lint(&files.load().unwrap());
    let names: Vec<&str> = findings.iter().map(|finding| finding.name).collect();
    let expected = [
        "secret-parameter",
        "secret-value",
        "secret-value",
        "secret-parameter",
        "duplicate-package",
        "secret-value",
    ];
    assert_eq!(names, expected);
    let reports: String = findings.iter().map(|finding| report(&files, finding) + "\n").collect();
    insta::assert_snapshot!("lints", reports);
}
