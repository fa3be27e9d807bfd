//! `ci/run`, with programs that take down how they are called, and with imgbuild itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::recorder::{Recorder, executable};
use crate::support::archive::Archive;
use crate::support::base::base;
use crate::support::package::Package;
use crate::support::project::{Project, STORE_VARIABLE};
use crate::{has, read, root};

/// What decides in a pipeline how the script behaves. None of it may come from where the tests run.
const FORGES: [&str; 13] = [
    "GITHUB_ACTIONS",
    "GITHUB_STEP_SUMMARY",
    "GITLAB_CI",
    "IMGBUILD",
    "IMGBUILD_SITE",
    "IMGBUILD_SIGNING_KEY",
    "IMGBUILD_SIGNING_KEY_TEXT",
    "IMGBUILD_LAYERS_FROM",
    "IMGBUILD_LAYERS_TO",
    "IMGBUILD_REGISTRY",
    "IMGBUILD_REGISTRY_GIVES",
    "IMGBUILD_REGISTRY_PASSWORD",
    "IMGBUILD_REGISTRY_USER",
];

/// The script in `project`, with these arguments.
pub fn script(project: &Path, arguments: &[&str]) -> Command {
    fs::create_dir_all(project.join("ci")).unwrap();
    executable(&project.join("ci/run"), &read("ci/run"));
    let mut command = Command::new(project.join("ci/run"));
    command.args(arguments).env("NO_PROXY", "127.0.0.1");
    for name in FORGES {
        command.env_remove(name);
    }
    command
}

/// The steps that `ci/run help` names.
pub fn steps() -> BTreeSet<String> {
    let output = Command::new(root().join("ci/run")).arg("help").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let help = String::from_utf8(output.stdout).unwrap();
    let lines = help.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

pub fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

#[track_caller]
fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{errors}", output.status);
    output
}

/// What makes a recorder plan as imgbuild does: words for people, and a file for a swap.
const PLANS: &str = r#"echo "lb1: to be replaced"; echo '{"ending": "done"}' >out/plan.json"#;

#[test]
fn every_step_calls_verbs_as_they_are() {
    if !has("jq") {
        return;
    }
    let cases: &[(&[&str], &[&str])] = &[
        (&["check"], &["check"]),
        (&["lint"], &["lint"]),
        (&["lint", "haproxy"], &["lint"]),
        (&["updates"], &["lock"]),
        (&["audit"], &["audit"]),
        (&["build", "haproxy", "cache"], &["build"]),
        (&["report", "haproxy"], &["report"]),
        (&["bills", "haproxy"], &["sbom", "provenance"]),
        (&["sign", "haproxy"], &["sign"]),
        (&["push", "haproxy"], &["push"]),
        (&["boot", "haproxy", "any"], &["boot"]),
        (&["boot", "files", "qcow2"], &["boot"]),
        (&["trim"], &["gc"]),
        (&["plan", "campus"], &["plan"]),
        (&["preview", "campus"], &["plan"]),
        (&["swap", "campus"], &["preflight", "swap"]),
    ];
    // These install packages, look for the program, and talk to a forge.
    let others = ["tools", "prepare", "program", "comment"];
    let tried = cases.iter().map(|(arguments, _)| arguments[0]).chain(others);
    assert_eq!(steps(), tried.map(str::to_owned).collect::<BTreeSet<_>>());

    for site in [None, Some("campus")] {
        for (arguments, verbs) in cases {
            let recorder = Recorder::new(&[("imgbuild", r#"{"unlocked": []}"#)]);
            if arguments[0] == "preview" {
                recorder.answers("imgbuild", PLANS);
            }
            let directory = tempfile::tempdir().unwrap();
            let mut step = script(directory.path(), arguments);
            step.env("IMGBUILD", recorder.program("imgbuild"));
            step.env("IMGBUILD_SIGNING_KEY_TEXT", "a key");
            step.env("IMGBUILD_REGISTRY", "registry.example/campus");
            step.env("IMGBUILD_REGISTRY_GIVES", "yes");
            step.env("IMGBUILD_REGISTRY_USER", "ci").env("IMGBUILD_REGISTRY_PASSWORD", "word");
            if let Some(site) = site {
                step.env("IMGBUILD_SITE", site);
            }
            // There are no lines of JSON in the answer of the recorder, and no remarks to be made of it.
            succeed(&mut step);
            let calls = recorder.taken_down();
            for words in &calls {
                let parsed = imgbuild::cli::command().try_get_matches_from(words);
                assert!(parsed.is_ok(), "{words:?}\n{}", parsed.unwrap_err());
            }
            let called: Vec<&str> = calls.iter().map(|words| words[1].as_str()).collect();
            // Which roles are locked is asked before they are built.
            let asked = |verb: &&str| arguments[0] != "check" && *verb == "check";
            let mut called: Vec<&str> = called.into_iter().filter(|it| !asked(it)).collect();
            called.dedup();
            assert_eq!(called, *verbs, "{arguments:?}");
            let told = calls.iter().any(|words| words.contains(&"--site".to_owned()));
            let for_site = ["audit", "build", "report", "bills", "sign", "push", "boot"]
                .contains(&arguments[0])
                || *arguments == ["lint", "haproxy"];
            let named = ["plan", "preview", "swap"].contains(&arguments[0]);
            assert_eq!(told, named || (for_site && site.is_some()), "{arguments:?}: {calls:?}");
        }
    }
}

#[test]
fn what_is_not_a_step_is_refused() {
    for arguments in [&[][..], &["deploy"], &["build"], &["plan"], &["check", "campus"]] {
        let directory = tempfile::tempdir().unwrap();
        let output = script(directory.path(), arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(text(&output.stderr).starts_with("usage: ci/run STEP"), "{output:?}");
    }
}

#[test]
fn keys_sign_from_files_that_nobody_else_can_read_and_that_go_again() {
    if !has("jq") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let open = directory.path().join("open");
    fs::write(&open, "a key\n").unwrap();
    let program = directory.path().join("imgbuild");
    let seen = directory.path().join("seen");
    executable(
        &program,
        &format!(
            "#!/bin/sh\n[ \"$1\" = sign ] || {{ echo '{{\"unlocked\": []}}'; exit; }}\n\
             {{ stat -c %a \"$4\"; cat \"$4\"; echo \"$4\"; env | grep -c KEY_TEXT || true; }} > {}\n",
            seen.display()
        ),
    );
    for (name, value) in
        [("IMGBUILD_SIGNING_KEY", open.to_str().unwrap()), ("IMGBUILD_SIGNING_KEY_TEXT", "a key")]
    {
        let mut step = script(directory.path(), &["sign", "haproxy"]);
        succeed(step.env("IMGBUILD", &program).env(name, value));
        let told = fs::read_to_string(&seen).unwrap();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!((lines[0], lines[1], lines[3]), ("600", "a key", "0"), "{name}: {told}");
        assert!(!Path::new(lines[2]).exists(), "{name}: the key is still there");
    }
    fs::remove_file(&seen).unwrap();
    let output = succeed(script(directory.path(), &["sign", "haproxy"]).env("IMGBUILD", &program));
    assert!(text(&output.stderr).contains("haproxy is not signed: there is no key"), "{output:?}");
    assert!(!seen.exists());
}

#[test]
fn only_who_is_meant_to_gives_layers_and_all_others_take_them_whatever_password_they_have() {
    if !has("jq") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("imgbuild");
    let seen = directory.path().join("seen");
    executable(
        &program,
        &format!(
            "#!/bin/sh\n[ \"$1\" = check ] && {{ echo '{{\"unlocked\": []}}'; exit; }}\n\
             {{ echo \"$IMGBUILD_LAYERS_FROM $IMGBUILD_LAYERS_TO\"; env | grep -c PASSWORD\n\
             [ -z \"$REGISTRY_AUTH_FILE\" ] || {{ stat -c %a \"$REGISTRY_AUTH_FILE\"\n\
             cat \"$REGISTRY_AUTH_FILE\"; echo \"$REGISTRY_AUTH_FILE\"; }}; }} > {}\n",
            seen.display()
        ),
    );
    let run = |step: &str, password: Option<&str>, gives: &str| {
        let mut command = script(directory.path(), &[step, "haproxy"]);
        command.env("IMGBUILD", &program).env("IMGBUILD_REGISTRY", "registry.example:5000/campus");
        command.env("IMGBUILD_REGISTRY_USER", "ci").env_remove("REGISTRY_AUTH_FILE");
        command.env("IMGBUILD_REGISTRY_GIVES", gives);
        if let Some(password) = password {
            command.env("IMGBUILD_REGISTRY_PASSWORD", password);
        }
        let errors = text(&succeed(&mut command).stderr);
        let told = fs::read_to_string(&seen).unwrap_or_default();
        let _ = fs::remove_file(&seen);
        (told, errors)
    };
    // Whoever has no password takes from a registry that asks for none.
    for gives in ["yes", "no"] {
        let (told, _) = run("build", None, gives);
        assert_eq!(told.trim_end(), "registry.example:5000/campus/layers \n0");
    }
    let (from, to) =
        ("registry.example:5000/campus/layers ", " registry.example:5000/campus/layers");
    for (step, gives, place) in
        [("build", "yes", to), ("push", "yes", to), ("build", "no", from), ("build", "", from)]
    {
        let (told, _) = run(step, Some("a \"word\"\\"), gives);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[..3], [place, "0", "600"], "{step}: {gives}");
        let file: Value = serde_json::from_str(&lines[3..lines.len() - 1].concat()).unwrap();
        // `ci:a "word"\`
        let login = "Y2k6YSAid29yZCJc";
        assert_eq!(file["auths"]["registry.example:5000"]["auth"], login, "{step}: {told}");
        assert!(!Path::new(lines[lines.len() - 1]).exists(), "{step}: the login is still there");
    }
    for (password, gives) in [(None, "yes"), (Some("word"), "no"), (Some("word"), "")] {
        let (told, errors) = run("push", password, gives);
        assert!(told.is_empty() && errors.contains("haproxy is not pushed"), "{told}{errors}");
    }
}

#[test]
fn a_role_that_nobody_has_locked_is_named_and_left_out() {
    if !has("jq") {
        return;
    }
    let recorder = Recorder::new(&[("imgbuild", r#"{"unlocked": ["proxysql"]}"#)]);
    let directory = tempfile::tempdir().unwrap();
    let mut step = script(directory.path(), &["build", "proxysql"]);
    let output = succeed(step.env("IMGBUILD", recorder.program("imgbuild")));
    let said = text(&output.stderr);
    assert!(said.contains("proxysql is not in imgbuild.lock, and is not built"), "{said}");
    assert!(recorder.taken_down().iter().all(|words| words[1] == "check"));

    let mut step = script(directory.path(), &["build", "proxysql", "cache"]);
    step.env("GITHUB_ACTIONS", "true").env("IMGBUILD", recorder.program("imgbuild"));
    let output = succeed(&mut step);
    assert!(text(&output.stdout).starts_with("::warning::proxysql is not in"), "{output:?}");
    let last = recorder.taken_down().pop().unwrap();
    assert_eq!(last[1..], ["build", "cache", "--json"]);
}

/// A role on an archive of its own, locked.
fn locked() -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, "[\"web\"]", "");
    project.succeed(&["lock"]);
    (archive, project)
}

/// The script with imgbuild itself.
fn real(project: &Project, arguments: &[&str]) -> Command {
    let mut command = script(&project.path(), arguments);
    command.env("IMGBUILD", env!("CARGO_BIN_EXE_imgbuild")).env(STORE_VARIABLE, &project.store);
    command
}

#[test]
fn a_small_project_is_checked_built_and_reported() {
    let Some(base) = base().filter(|_| has("jq")) else { return };
    let archive = Archive::with_base(base, &[]);
    let project = Project::on_base(base, &archive, "[[run]]\ncommand = [\"true\"]\n");
    project.succeed(&["lock"]);
    succeed(&mut real(&project, &["check"]));
    succeed(&mut real(&project, &["lint"]));
    let built = succeed(&mut real(&project, &["build", "app"]));
    let told: Value = serde_json::from_slice(&built.stdout).unwrap();
    assert_eq!(told["artifacts"][0]["role"], "app");
    assert_eq!(project.read("out/build-app.json"), text(&built.stdout));
    succeed(&mut real(&project, &["report", "app"]));
    assert!(project.read("out/report-app.html").contains("<title>"));
    succeed(&mut real(&project, &["bills", "app"]));
    for (file, field) in
        [("spdx", "spdxVersion"), ("cyclonedx", "specVersion"), ("provenance", "_type")]
    {
        let bill: Value =
            serde_json::from_str(&project.read(&format!("out/app.{file}.json"))).unwrap();
        assert!(bill[field].is_string(), "{file}: {bill}");
    }
}

#[test]
fn a_mistake_becomes_a_remark_at_its_line() {
    if !has("jq") {
        return;
    }
    let (_archive, project) = locked();
    succeed(&mut real(&project, &["check"]));
    assert_eq!(project.read("out/code-quality.json"), "[]\n");
    succeed(&mut real(&project, &["trim"]));
    project.append("images/app/image.toml", "\ncolour = \"red, 100%\"\n");
    let line = project.read("images/app/image.toml").lines().count();
    let output = real(&project, &["check"]).env("GITHUB_ACTIONS", "true").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = text(&output.stdout);
    let remark = format!("::error file=images/app/image.toml,line={line},col=1::");
    assert!(said.contains(&remark), "{said}");
    let quality: Value = serde_json::from_str(&project.read("out/code-quality.json")).unwrap();
    assert_eq!(quality[0]["location"]["path"], "images/app/image.toml");
    assert_eq!(quality[0]["location"]["lines"]["begin"], line);
}

#[test]
fn the_program_is_found_and_kept() {
    let recorder = Recorder::new(&[("imgbuild", "imgbuild 0.1.0\n")]);
    let directory = tempfile::tempdir().unwrap();
    let path = std::env::var("PATH").unwrap();
    let path = format!("{}:{path}", recorder.programs().display());
    for (name, value) in [("IMGBUILD", recorder.program("imgbuild")), ("PATH", path.into())] {
        let _ = fs::remove_dir_all(directory.path().join("target"));
        let output = succeed(script(directory.path(), &["program"]).env(name, value));
        assert_eq!(text(&output.stdout), "imgbuild 0.1.0\n");
    }
    // From then on it is that one, even if its mode was lost on the way.
    let copy = directory.path().join("target/ci/imgbuild");
    fs::set_permissions(&copy, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    recorder.taken_down();
    succeed(&mut script(directory.path(), &["trim"]));
    assert_eq!(recorder.taken_down()[0][1], "gc");
}

#[test]
fn shellcheck_has_nothing_to_say() {
    if has("shellcheck") {
        for script in ["ci/run", "ci/release", "ci/fuzz"] {
            let output = Command::new("shellcheck").arg(root().join(script)).output().unwrap();
            assert!(output.status.success(), "{}", text(&output.stdout));
        }
    }
}
