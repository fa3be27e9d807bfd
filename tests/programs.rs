//! What programs are told: with `--json` one object of a published form, with `--progress json` lines of one.

mod support;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use support::archive::Archive;
use support::base::base;
use support::package::Package;
use support::programs::{hold, published, read};
use support::project::Project;

/// Runs imgbuild in `directory` with a store of its own, and returns its output.
fn imgbuild(directory: &Path, arguments: &[&str]) -> String {
    let store = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    command.args(arguments).current_dir(directory).env("IMGBUILD_STORE", store.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `imgbuild schema` knows, from its help.
fn names() -> BTreeSet<String> {
    let help = imgbuild(root(), &["schema", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, values) = help.split_once("[possible values: ").unwrap();
    let (values, _) = values.split_once(']').unwrap();
    values.split(',').map(|name| name.trim().to_owned()).collect()
}

/// The verbs below `verb`, from the help.
fn verbs(verb: &[&str]) -> Vec<String> {
    let help = imgbuild(root(), &[verb, &["--help"]].concat());
    let Some((_, list)) = help.split_once("Commands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| line.starts_with(' '));
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    names.filter(|name| !name.is_empty() && *name != "help").map(str::to_owned).collect()
}

/// With IMGBUILD_WRITE_SCHEMAS=1 it writes them instead.
#[test]
fn published_schemas_are_those_of_this_program() {
    let directory = published("x").parent().unwrap().to_owned();
    let write = env::var_os("IMGBUILD_WRITE_SCHEMAS").is_some();
    if write {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
    }
    let names = names();
    for name in &names {
        let schema = imgbuild(root(), &["schema", name]);
        let path = published(name);
        if write {
            fs::write(&path, &schema).unwrap();
        }
        let told = "IMGBUILD_WRITE_SCHEMAS=1 cargo test --test programs";
        let there = fs::read_to_string(&path).unwrap_or_default();
        assert!(there == schema, "docs/schemas/{name}.json is not up to date; `{told}` renews it");
    }
    for entry in fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned();
        assert!(names.contains(&name), "docs/schemas/{name}.json is of nothing");
    }
}

#[test]
fn every_verb_that_hands_something_over_has_a_schema() {
    // Schemas and documents are JSON in forms of others; the rest hand the terminal to a guest.
    let without = ["schema", "sbom", "provenance", "lab-exec", "lab-shell"];
    let names = names();
    for verb in verbs(&[]) {
        let below = verbs(&[&verb]);
        let all: Vec<String> = match below.is_empty() {
            true => vec![verb],
            false => below.iter().map(|below| format!("{verb}-{below}")).collect(),
        };
        for name in all {
            let expected = !without.contains(&name.as_str());
            assert_eq!(names.contains(&name), expected, "a schema of `{name}`");
        }
    }
}

#[test]
fn verbs_write_what_their_schemas_say() {
    for arguments in [
        &["check"][..],
        &["lint", "haproxy", "--site", "campus"],
        &["lint", "--list"],
        &["explain", "haproxy", "--site", "campus"],
        &["diff", "haproxy", "galera", "--site", "campus"],
        &["why", "haproxy", "/etc/haproxy/imgbuild.cfg"],
        &["report", "--site", "campus"],
        &["graph", "haproxy", "--site", "campus"],
        &["gc"],
        &["completions", "fish"],
        &["man", "lab", "up"],
    ] {
        let told = read(&imgbuild(root(), &[arguments, &["--json"]].concat()));
        assert!(arguments.join(" ").starts_with(told["verb"].as_str().unwrap().trim_start()));
    }
}

/// The lines that a command writes for programs, each held against its schema, and the names of what they tell.
fn lines(project: &Project, arguments: &[&str]) -> (Vec<Value>, Vec<String>) {
    let output = project.command(&[arguments, &["--progress", "json"]].concat()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    lines.iter().for_each(|line| hold(line, "progress"));
    let events = lines.iter().map(|line| line["event"].as_str().unwrap().to_owned());
    let events: Vec<String> = events.collect();
    (lines, events)
}

#[test]
fn lines_tell_programs_what_happens_and_what_is_wrong() {
    let Some(base) = base() else { return };
    let archive = Archive::with_base(base, &[]);
    // The store is shared, and what it has already prints nothing.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let project = Project::on_base(
        base,
        &archive,
        &format!("[[run]]\ncommand = [\"echo\", \"hello from a command\", \"{now}\"]\n"),
    );
    assert_eq!(read(&project.succeed(&["lock", "--json"]))["new"], true);
    let (told, events) = lines(&project, &["build", "app", "--verbose", "--json"]);
    assert_eq!(told[0]["verb"], "build");
    assert_eq!(events[0], "begin");
    for event in ["started", "finished", "detail", "message"] {
        assert!(events.iter().any(|it| it == event), "no {event}: {told:#?}");
    }
    let says = |text: &str| {
        told.iter().any(|line| line["text"].as_str().is_some_and(|it| it.contains(text)))
    };
    assert!(says("hello from a command"), "what a command prints is a detail: {told:#?}");

    let (told, events) = lines(&project, &["build", "app", "--quiet"]);
    assert_eq!(events, ["begin"], "{told:#?}");

    project.append("images/app/image.toml", "\n[pakages]\n");
    let (told, events) = lines(&project, &["check", "--quiet"]);
    assert_eq!(events, ["begin", "error"], "{told:#?}");
    let place = &told[1]["places"][0];
    assert_eq!(place["file"].as_str().unwrap(), "images/app/image.toml");
    assert!(told[1]["help"].as_str().unwrap().contains("packages"), "{told:#?}");
}

#[test]
fn a_verb_ends_with_its_own_code_though_nobody_reads_what_it_prints() {
    let (_archive, project) = small();
    project.succeed(&["lock"]);
    let flaw = "{\"releases\":{\"trixie\":{\"status\":\"open\",\"repositories\":{},\"urgency\":\"high\"}}}";
    project.write("flaws.json", &format!("{{\"web\":{{\"CVE-2026-0001\":{flaw}}}}}"));
    for (arguments, code) in [
        (&["audit", "--data", "flaws.json"][..], 5),
        (&["audit", "--data", "flaws.json", "--json"], 5),
        (&["lint", "--list"], 0),
        (&["check", "--json"], 0),
        (&["schema", "image"], 0),
        (&["completions", "bash"], 0),
        (&["man"], 0),
        (&["man", "--help"], 0),
        (&["graph", "app"], 0),
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let unread = project.command(arguments).stdout(writer).output().unwrap();
        let read = project.command(arguments).output().unwrap();
        let [stderr, expected] =
            [&unread, &read].map(|output| String::from_utf8(output.stderr.clone()).unwrap());
        assert_eq!(unread.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert_eq!(read.status.code(), Some(code), "{arguments:?}: {expected}");
        assert!(!read.stdout.is_empty(), "{arguments:?}");
        assert_eq!(stderr, expected, "{arguments:?}");
    }
}

#[test]
fn details_are_for_those_who_ask() {
    let (archive, project) = small();
    project.succeed(&["lock"]);
    let stderr = |arguments: &[&str]| {
        let output = project.command(arguments).output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let update = ["lock", "--update", "--dry-run"];
    assert!(!stderr(&update).contains("GET "));
    assert!(stderr(&[&update[..], &["-v"]].concat()).contains("GET "));
    let both = project.command(&["check", "-q", "-v"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
    drop(archive);
}

fn small() -> (Archive, Project) {
    let archive = Archive::new(&[Package::new("web", "1.0")]);
    let project = Project::small(&archive, "[\"web\"]", "");
    (archive, project)
}
