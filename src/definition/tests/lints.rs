//! What the lints find, and what they leave alone.

use super::{Files, report};
use crate::definition::lint::{Judgement, judge, lint};

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
    let names: Vec<&str> = findings.iter().map(|finding| finding.lint.name).collect();
    let expected = [
        "secret-parameter",
        "likely-secret",
        "secret-value",
        "secret-parameter",
        "duplicate-package",
        "secret-value",
    ];
    assert_eq!(names, expected);
    let reports: String = findings.iter().map(|finding| report(&files, finding) + "\n").collect();
    insta::assert_snapshot!("lints", reports);
}

/// What the findings of `files` come to, templates left out.
fn judged(files: &Files) -> Judgement {
    let project = files.load().unwrap();
    judge(&project, lint(&project))
}

/// A project with a duplicate package in `web`, and with `lints` in `file`.
fn with_lints(file: &str, lints: &str) -> Files {
    Files::sound()
        .replace(
            "images/web/image.toml",
            "\"haproxy (>= 3.0)\"",
            "\"haproxy (>= 3.0)\", \"systemd-sysv\"",
        )
        .append(file, lints)
}

fn shown(judgement: &Judgement) -> (Vec<String>, Vec<String>) {
    let findings = judgement.findings.iter();
    let allowed = judgement.allowed.iter();
    (
        findings.map(|it| format!("{}: {} {}", it.level, it.lint.name, it.subject)).collect(),
        allowed
            .map(|it| format!("{} {}: {}", it.finding.lint.name, it.finding.subject, it.reason))
            .collect(),
    )
}

#[test]
fn levels_are_those_that_the_stack_says() {
    let rule = |level: &str, more: &str| {
        format!("[lints.duplicate-package]\nlevel = \"{level}\"\nreason = \"R\"\n{more}")
    };
    let (web, node) = ("images/web/image.toml", "images/node/image.toml");
    for (file, lints, findings, allowed) in [
        (web, String::new(), vec!["warn: duplicate-package systemd-sysv"], vec![]),
        (web, rule("deny", ""), vec!["deny: duplicate-package systemd-sysv"], vec![]),
        (web, rule("allow", ""), vec![], vec!["duplicate-package systemd-sysv: R"]),
        // What a lower image says holds for what stands on it.
        (node, rule("deny", ""), vec!["deny: duplicate-package systemd-sysv"], vec![]),
        (node, rule("allow", ""), vec![], vec!["duplicate-package systemd-sysv: R"]),
        (
            web,
            rule("allow", "names = [\"systemd-sysv\", \"gone\"]\n"),
            vec!["warn: unused-allowance duplicate-package"],
            vec!["duplicate-package systemd-sysv: R"],
        ),
        // A raised level is no allowance, so it may find nothing.
        (
            web,
            rule("deny", "names = [\"gone\"]\n"),
            vec!["warn: duplicate-package systemd-sysv"],
            vec![],
        ),
        (
            web,
            rule(
                "allow",
                "names = [\"gone\"]\n[lints.unused-allowance]\nlevel = \"deny\"\nreason = \"R\"\n",
            ),
            vec![
                "warn: duplicate-package systemd-sysv",
                "deny: unused-allowance duplicate-package",
            ],
            vec![],
        ),
        // What a sibling says holds for it alone.
        (
            "images/machine/image.toml",
            format!("summary = \"x\"\nversion = \"1\"\nextends = \"node\"\n{}", rule("deny", "")),
            vec!["warn: duplicate-package systemd-sysv"],
            vec![],
        ),
    ] {
        let files = with_lints(web, "");
        let files = match file {
            "images/machine/image.toml" => files.with(file, &lints),
            _ => files.append(file, &lints),
        };
        let (found, tolerated) = shown(&judged(&files));
        assert_eq!(
            (found, tolerated),
            (
                findings.iter().map(|it| (*it).to_owned()).collect(),
                allowed.iter().map(|it| (*it).to_owned()).collect()
            ),
            "{file}: {lints}"
        );
    }
}

#[test]
fn a_value_of_a_site_is_allowed_by_the_site_or_by_whoever_declares_it() {
    let value = "8cd8ef52e8e101574e400365b55e11a6";
    let rule = "[lints.likely-secret]\nlevel = \"allow\"\nnames = [\"asset\"]\nreason = \"R\"\n";
    let files = || {
        Files::sound()
            .append(
                "images/web/image.toml",
                "[parameters.asset]\ntype = \"string\"\ndefault = \"\"\ndoc = \"x\"\n",
            )
            .replace(
                "overlays/campus/overlay.toml",
                "[images.web]\n",
                &format!("[images.web]\nasset = \"{value}\"\n"),
            )
    };
    assert_eq!(shown(&judged(&files())).0, ["deny: likely-secret asset"]);
    for file in ["images/web/image.toml", "images/node/image.toml", "overlays/campus/overlay.toml"]
    {
        let (found, allowed) = shown(&judged(&files().append(file, rule)));
        assert_eq!(found, [""; 0], "{file}");
        assert_eq!(allowed, ["likely-secret asset: R"], "{file}");
    }
}

#[test]
fn what_is_said_of_lints_is_held_against_the_registry() {
    let web = "images/web/image.toml";
    let site = "overlays/campus/overlay.toml";
    let rule = |lint: &str, level: &str, more: &str| {
        format!("[lints.{lint}]\nlevel = \"{level}\"\nreason = \"R\"\n{more}")
    };
    let mut reports = String::new();
    for (file, lints) in [
        (web, rule("log-fiel", "allow", "")),
        (web, rule("qqqqqqqqqqqq", "allow", "")),
        (web, rule("log-file", "alow", "")),
        (web, rule("password", "allow", "paths = [\"/etc/shadow\"]\n")),
        (web, rule("secret-value", "warn", "")),
        (web, rule("log-file", "allow", "")),
        (web, rule("secret-parameter", "allow", "")),
        (web, rule("log-file", "allow", "paths = []\n")),
        (web, rule("log-file", "allow", "paths = [\"/**\"]\n")),
        (web, rule("log-file", "allow", "names = [\"x\"]\n")),
        (web, rule("duplicate-package", "deny", "paths = [\"/x\"]\n")),
        (web, rule("private-key", "allow", "paths = [\"/usr/share/doc/*\"]\n")),
        (web, "[lints]\nlog-file = \"allow\"\n".to_owned()),
        (web, "[lints.log-file]\nlevel = \"deny\"\n".to_owned()),
        (web, "[lints.log-file]\nlevel = \"deny\"\nreason = \" \"\n".to_owned()),
        (site, rule("duplicate-package", "allow", "")),
    ] {
        let files = Files::sound().append(file, &lints);
        reports += &(report(&files, &files.load().unwrap_err()) + "\n");
    }
    let files = Files::sound()
        .append("images/node/image.toml", &rule("duplicate-package", "forbid", ""))
        .append(web, &rule("duplicate-package", "allow", ""));
    reports += &report(&files, &files.load().unwrap_err());
    insta::assert_snapshot!("levels", reports);
}
