//! Looking into images: arguments that mean nothing, and what revisions of a project are compared by.

use std::process::Command;

use serde_json::Value;

use crate::refused;
use crate::support::archive::Archive;
use crate::support::base::base;
use crate::support::package::Package;
use crate::support::programs::read;
use crate::support::project::Project;

const MORE: &str = "[parameters.port]\ntype = \"port\"\ndefault = 80\ndoc = \"The port\"\n";

/// A locked project with one role, and nothing built.
fn locked() -> (Archive, Project) {
    let archive = Archive::new(&[
        Package::new("web", "1.0").field("Depends", "libweb (>= 0.9)"),
        Package::new("libweb", "1.0"),
        Package::new("libfast", "2.0"),
    ]);
    let project = Project::small(&archive, r#"["web"]"#, MORE);
    project.write("images/app/files/etc/web.conf.hbs", "listen {{port}}\n");
    project.succeed(&["lock"]);
    (archive, project)
}

/// The project's directory as a git repository, everything committed; none if there is no git.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn committed(project: &Project) -> Option<()> {
    let git = |arguments: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(project.path()).args(arguments);
        for (name, value) in [("GIT_CONFIG_GLOBAL", "/dev/null"), ("GIT_CONFIG_NOSYSTEM", "1")] {
            command.env(name, value);
        }
        command.output().is_ok_and(|output| output.status.success())
    };
    if !git(&["--version"]) {
        eprintln!("skipped: there is no git");
        return None;
    }
    assert!(git(&["init", "--quiet"]) && git(&["add", "."]));
    let user = ["-c", "user.name=a", "-c", "user.email=a@example.org"];
    assert!(git(&[&user[..], &["commit", "--quiet", "-m", "One"]].concat()));
    Some(())
}

#[test]
fn a_digest_that_nobody_knows() {
    let (_archive, project) = locked();
    refused("diff_digest", &project, &["diff", "56ca1d545e05"]);
}

#[test]
fn files_that_are_no_artifacts() {
    let (_archive, project) = locked();
    refused("diff_definition", &project, &["diff", "images/app/image.toml"]);
    refused("diff_no_file", &project, &["diff", "none.qcow2", "app"]);
    project.write("a.tar.zst", "");
    refused("diff_no_manifest", &project, &["diff", "a.tar.zst"]);
    project.write("a.manifest.json", "{\"schema\": 99}");
    refused("diff_schema", &project, &["diff", "a.manifest.json"]);
}

#[test]
fn documents_about_what_was_not_built() {
    let (_archive, project) = locked();
    refused("sbom_not_built", &project, &["sbom", "app"]);
    refused("provenance_not_built", &project, &["provenance", "app", "--out", "app.json"]);
    assert!(!project.path().join("app.json").exists());
    refused("sbom_role", &project, &["sbom", "ap"]);
    refused("sbom_digest", &project, &["sbom", "56ca1d545e05"]);
    refused("sbom_revision", &project, &["sbom", "HEAD:app"]);
    refused("provenance_definition", &project, &["provenance", "images/app/image.toml"]);
}

#[test]
fn a_role_that_does_not_exist() {
    let (_archive, project) = locked();
    refused("diff_role", &project, &["diff", "ap", "app"]);
}

#[test]
fn a_revision_that_does_not_exist() {
    let (_archive, project) = locked();
    let Some(()) = committed(&project) else { return };
    refused("diff_revision", &project, &["diff", "v1.0:app"]);
    refused("diff_revision_option", &project, &["diff", "--", "--output=x:app"]);
}

#[test]
fn changes_that_are_not_committed_are_told_without_a_build() {
    let (_archive, project) = locked();
    let Some(()) = committed(&project) else { return };
    let same = project.succeed(&["diff", "HEAD:app"]);
    assert_eq!(same.lines().count(), 2, "{same}");
    let definition = project.read("images/app/image.toml");
    let definition = definition.replace("[\"web\"]", "[\"web\", \"libfast\"]");
    project.write("images/app/image.toml", &definition.replace("default = 80", "default = 81"));
    project.write("images/app/files/etc/more", "text\n");
    project.succeed(&["lock"]);
    let text = project.succeed(&["diff", "HEAD:app", "app"]);
    for line in
        ["  ~ port  80 → 81", "  + libfast  2.0", "-listen 80", "+listen 81", "+++ /etc/more"]
    {
        assert!(text.lines().any(|one| one == line), "{line}:\n{text}");
    }
    let json = read(&project.succeed(&["diff", "HEAD:app", "--json"]));
    assert_eq!(json["schema"], 1);
    assert_eq!(json["compared"], "definitions");
    assert_eq!(json["packages"][0]["name"], "libfast");
    assert_eq!(json["files"][0]["path"], "/etc/more");
    assert_eq!(json["files"][0]["from"], Value::Null);
    assert_eq!(json["old"]["name"], "HEAD:app");
}

#[test]
fn reports_and_graphs_of_nothing() {
    let (_archive, project) = locked();
    refused("report_role", &project, &["report", "ap"]);
    refused("report_site", &project, &["report", "--site", "campus"]);
    refused("report_digest", &project, &["report", "56ca1d545e05"]);
    refused("report_no_file", &project, &["report", "none.qcow2"]);
    refused("report_disk", &project, &["report", "app", "--format", "qcow2"]);
    refused("report_out", &project, &["report", "app", "--out", "none/report.html"]);
    refused("report_out_directory", &project, &["report", "app", "--out", "images"]);
    refused("graph_role", &project, &["graph", "ap"]);
    refused("graph_site", &project, &["graph", "--site", "campus", "--format", "svg"]);
    refused("graph_out", &project, &["graph", "--out", "none/graph.dot"]);
}

#[test]
fn reports_of_a_project_without_a_lock() {
    let (_archive, project) = locked();
    std::fs::remove_file(project.path().join("imgbuild.lock")).unwrap();
    refused("report_lock", &project, &["report", "app"]);
    project.succeed(&["graph"]);
}

#[test]
fn packages_and_paths_that_an_image_has_not() {
    let (_archive, project) = locked();
    refused("why_package", &project, &["why", "app", "wep"]);
    refused("why_not_built", &project, &["why", "app", "libweb"]);
    refused("why_path_not_built", &project, &["why", "app", "/usr/bin/web"]);
}

#[test]
fn files_of_definitions_are_known_before_a_build() {
    let (_archive, project) = locked();
    let text = project.succeed(&["why", "app", "/etc/web.conf"]);
    assert!(text.contains("  app files: template images/app/files/etc/web.conf.hbs\n"), "{text}");
    let json = read(&project.succeed(&["why", "app", "/etc/web.conf", "--json"]));
    assert_eq!(json["built"], false);
    assert_eq!(json["claims"][0]["source"]["template"], true);
}

#[test]
fn what_was_built_is_known_to_the_last_path() {
    let Some(base) = base() else { return };
    let packages = [
        Package::new("web", "1.0")
            .field("Depends", "libweb")
            .file("usr/share/web/page", "one")
            .script("postinst", "echo made > /etc/made"),
        Package::new("libweb", "1.0").file("usr/share/libweb/data", "d"),
    ];
    let archive = Archive::with_base(base, &packages);
    let definition = "[packages]\ninstall = [\"web\"]\n";
    let project = Project::on_base(base, &archive, definition);
    project.write("images/app/files/etc/app.conf", "one\n");
    project.succeed(&["lock"]);
    let first = project.succeed(&["build", "app", "--format", "lxc"]);
    let why = |subject: &str| project.succeed(&["why", "app", subject]);
    for (subject, line) in [
        ("libweb", "    web needs libweb"),
        ("libweb", "libweb 1.0 is in templates and disks: app packages"),
        ("/usr/share/web/page", "  app packages: package web"),
        ("/etc/made", "  app packages: a script of one of its packages: no package ships it"),
        ("/etc/app.conf", "  app files: file images/app/files/etc/app.conf"),
    ] {
        let text = why(subject);
        assert!(text.lines().any(|one| one == line), "{line}:\n{text}");
    }
    assert!(why("libweb").contains(":7 asks for `web`"), "{}", why("libweb"));
    refused_after_build("why_path", &project, &["why", "app", "/usr/share/web/pag"]);
    project.write("images/app/files/etc/app.conf", "two\n");
    let digest = |path: &str| {
        let name = path.trim_end().trim_end_matches(".tar.zst");
        name.rsplit('-').next().unwrap_or_default().to_owned()
    };
    let old = digest(&first);
    documents(&project, first.trim_end(), &old);
    let text = project.succeed(&["diff", &old]);
    assert!(text.contains("-one\n+two\n"), "{text}");
    let second = project.succeed(&["build", "app", "--format", "lxc"]);
    let json = project.succeed(&["diff", &old, second.trim_end(), "--json"]);
    let json = read(&json);
    assert_eq!(json["compared"], "all");
    assert_eq!(json["files"].as_array().unwrap().len(), 1, "{json}");
    assert_eq!(json["files"][0]["path"], "/etc/app.conf");
    assert_eq!(json["layers"][0]["name"], "app files");
    assert_eq!(json["old"]["digest"].as_str().unwrap()[..12], old);
}

/// Documents about the template at `path`, whose digest is `digest`.
fn documents(project: &Project, path: &str, digest: &str) {
    let whole = project.succeed(&["sbom", path]);
    let spdx: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(spdx["spdxVersion"], "SPDX-2.3");
    let file =
        spdx["files"].as_array().unwrap().iter().find(|it| it["fileName"] == "./etc/app.conf");
    assert!(file.is_some(), "{whole}");
    assert_eq!(project.succeed(&["sbom", digest]), whole);
    assert_eq!(project.succeed(&["sbom", path, "--out", "app.spdx.json"]), "app.spdx.json\n");
    assert_eq!(project.read("app.spdx.json"), whole);
    refused_after_build("sbom_out", project, &["sbom", path, "--out", "none/app.json"]);
    refused_after_build("sbom_site", project, &["sbom", path, "--site", "campus"]);
    let cyclonedx = project.succeed(&["sbom", digest, "--format", "cyclonedx"]);
    let cyclonedx: Value = serde_json::from_str(&cyclonedx).unwrap();
    assert_eq!(cyclonedx["specVersion"], "1.6");
    let statement = project.succeed(&["provenance", path]);
    let statement: Value = serde_json::from_str(&statement).unwrap();
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
}

/// As [`refused`], in a project that has artifacts already.
fn refused_after_build(name: &str, project: &Project, arguments: &[&str]) {
    let ended = project.run(arguments);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{}", ended.stderr);
    crate::compare(name, project, &ended);
}
