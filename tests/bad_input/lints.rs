//! Lints: wrong arguments, levels that cannot be, what is refused, and what somebody allows.

use serde_json::Value;

use crate::support::archive::Archive;
use crate::support::base::base;
use crate::support::package::Package;
use crate::support::project::Project;
use crate::{compare, refused};

/// A locked project with one role, and nothing built. `more` is added to its definition.
fn locked(more: &str) -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, r#"["web"]"#, "");
    project.succeed(&["lock"]);
    project.append("images/app/image.toml", more);
    (archive, project)
}

#[test]
fn a_role_or_a_lint_that_does_not_exist() {
    let (_archive, project) = locked("");
    refused("lint_role", &project, &["lint", "ap"]);
    let (_archive, project) = locked("[lints]\nlogfile = { level = \"deny\", reason = \"x\" }\n");
    refused("lint_name", &project, &["lint"]);
}

#[test]
fn what_nobody_may_relax() {
    let more =
        "[lints.password]\nlevel = \"allow\"\npaths = [\"/etc/shadow\"]\nreason = \"a lab\"\n";
    let (_archive, project) = locked(more);
    refused("lint_forbidden", &project, &["build", "app"]);
}

#[test]
fn a_level_that_a_definition_raises() {
    let more = "[parameters.port]\ntype = \"port\"\ndefault = 80\ndoc = \"The port\"\n\
                [lints.unused-parameter]\nlevel = \"deny\"\nreason = \"dead settings mislead\"\n";
    let (_archive, project) = locked(more);
    for verb in ["check", "lint"] {
        let ended = project.run(&[verb]);
        assert_eq!(ended.code, 1, "{verb}: {}", ended.stderr);
        compare("lint_raised", &project, &ended);
    }
}

#[test]
fn what_definitions_allow_is_told_with_its_reason() {
    let more = "[parameters.token]\ntype = \"string\"\ndefault = \"\"\ndoc = \"The mark of the theme\"\n\
                [lints]\n\
                secret-parameter = { level = \"allow\", names = [\"token\", \"key\"], reason = \"no secret: a word on the page — l’étiquette du thème\" }\n\
                unused-parameter = { level = \"allow\", reason = \"used at sites\" }\n";
    let (_archive, project) = locked(more);
    let output = project.command(&["lint"]).output().unwrap();
    let ended = crate::support::project::Ended::from(output);
    assert_eq!(ended.code, 0, "{}", ended.stderr);
    compare("lint_allowed", &project, &ended);
    let json: Value = serde_json::from_str(&project.succeed(&["lint", "--json"])).unwrap();
    assert_eq!(json["refused"], 0);
    assert_eq!(json["findings"][0]["lint"], "unused-allowance");
    assert_eq!(
        json["allowed"][1]["reason"],
        "no secret: a word on the page — l’étiquette du thème"
    );
    assert_eq!(json["allowed"][1]["lint"], "secret-parameter");
    let not_built = project.command(&["lint", "app"]).output().unwrap();
    assert!(not_built.status.success());
    let told = String::from_utf8_lossy(&not_built.stderr);
    assert!(told.contains("run `imgbuild build app --format lxc`"), "{told}");
    let json: Value = serde_json::from_str(&project.succeed(&["check", "--json"])).unwrap();
    assert_eq!(json["allowed"].as_array().unwrap().len(), 2);
}

#[test]
fn an_image_is_shipped_with_what_its_definition_allows_and_nothing_else() {
    let Some(base) = base() else { return };
    let run = "[[run]]\ncommand = [\"/bin/sh\", \"-c\", \"mkdir -p /var/log/vendor; \
               echo x > /var/log/vendor/installer.log; echo y > /var/log/vendor/other\"]\n";
    let archive = Archive::with_base(base, &[]);
    let project = Project::on_base(base, &archive, run);
    project.succeed(&["lock"]);
    let allow = |paths: &str| {
        let more = format!(
            "{run}[lints.log-file]\nlevel = \"allow\"\npaths = {paths}\n\
             reason = \"the vendor’s daemon reads it once\"\n"
        );
        let head = project.read("images/app/image.toml");
        let head = head.split("[[run]]").next().unwrap().to_owned();
        project.write("images/app/image.toml", &(head + &more));
    };
    refused("lint_denied", &project, &["build", "app"]);
    allow("[\"/var/log/vendor/installer.log\"]");
    let ended = project.run(&["build", "app"]);
    assert!(ended.code == 1 && ended.stderr.contains("vendor/other"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("installer.log"), "{}", ended.stderr);
    refused("lint_built", &project, &["lint", "app"]);

    allow("[\"/var/log/vendor/*\", \"/var/log/gone\"]");
    let built = project.command(&["build", "app"]).output().unwrap();
    let told = String::from_utf8_lossy(&built.stderr).into_owned();
    assert!(built.status.success(), "{told}");
    assert_eq!(told.matches("allowed: /var/log/vendor/").count(), 2, "{told}");
    let name = project.artifacts().into_iter().find(|name| name.ends_with(".json")).unwrap();
    let manifest: Value = serde_json::from_str(&project.read(&format!("out/{name}"))).unwrap();
    assert_eq!(
        manifest["tolerated"][0],
        serde_json::json!({
            "lint": "log-file",
            "path": "/var/log/vendor/installer.log",
            "reason": "the vendor’s daemon reads it once",
            "definition": "images/app/image.toml",
        })
    );
    let json: Value = serde_json::from_str(&project.succeed(&["lint", "app", "--json"])).unwrap();
    assert_eq!(json["images"][0]["tolerated"].as_array().unwrap().len(), 2);
    assert_eq!(
        json["findings"][0]["message"],
        "`log-file` at /var/log/gone is allowed and not found"
    );

    // What was shipped once is refused again as soon as nobody allows it any more.
    allow("[\"/var/log/vendor/installer.log\"]");
    assert_eq!(project.run(&["build", "app"]).code, 1);
}
