//! The pipelines for forges, against the script that they call and the project that they are for.

use std::collections::{BTreeMap, BTreeSet};

use imgbuild::definition::{Image, Pin, Project};
use regex::Regex;
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value};

use crate::script::steps;
use crate::{read, root};

const GITLAB: &str = "ci/gitlab.yml";
const ACTIONS: [&str; 2] = ["ci/github.yml", "ci/forgejo.yml"];

/// A pipeline, as JSON.
fn pipeline(path: &str) -> Value {
    let text = read(path);
    let documents = Yaml::load_from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
    assert_eq!(documents.len(), 1, "{path}");
    json(&documents[0])
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(value)) => Value::Bool(*value),
        Yaml::Value(Scalar::Integer(value)) => (*value).into(),
        Yaml::Value(Scalar::String(value)) => Value::String(value.to_string()),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (&Yaml<'_>, &Yaml<'_>)| {
                (key.as_str().expect("a key is a text").to_owned(), json(value))
            };
            Value::Object(entries.iter().map(entry).collect::<Map<_, _>>())
        }
        other => panic!("pipelines need no {other:?}"),
    }
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().unwrap_or_else(|| panic!("no list: {value}"));
    items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// The jobs of a workflow.
fn jobs(workflow: &Value) -> impl Iterator<Item = (&String, &Value)> {
    workflow["jobs"].as_object().unwrap().iter()
}

/// The steps of all jobs of a workflow.
fn all_steps(workflow: &Value) -> Vec<&Value> {
    jobs(workflow).flat_map(|(_, job)| job["steps"].as_array().unwrap()).collect()
}

/// The lines of shell in a pipeline.
fn lines(path: &str) -> Vec<String> {
    let pipeline = pipeline(path);
    if path != GITLAB {
        let commands = all_steps(&pipeline).into_iter().filter_map(|step| step["run"].as_str());
        return commands.map(str::to_owned).collect();
    }
    let jobs = pipeline.as_object().unwrap().values().filter(|job| job["script"].is_array());
    jobs.flat_map(|job| strings(&job["script"])).collect()
}

fn paths() -> impl Iterator<Item = &'static str> {
    std::iter::once(GITLAB).chain(ACTIONS)
}

#[test]
fn every_line_of_shell_is_a_step_of_the_script() {
    // No expression of the forge among them: what somebody calls a branch would be executed.
    let line = Regex::new(
        r#"^(if \[ "\$BOOT" != no \]; then )?ci/run ([a-z]+)(( "\$[A-Z_]+")+| out/plan\.md| > updates\.json)?(; fi)?$"#,
    )
    .unwrap();
    let release = |name: &str| format!(r#"ci/release --tools --tag "${name}""#);
    let releases = [release("CI_COMMIT_TAG"), release("GITHUB_REF_NAME")];
    let steps = steps();
    for path in paths() {
        let mut called = BTreeSet::new();
        let (made, lines): (Vec<_>, Vec<_>) =
            lines(path).into_iter().partition(|line| releases.contains(line));
        assert_eq!(made.len(), 1, "{path}: a tag makes a release");
        for text in lines {
            let found = line.captures(&text).unwrap_or_else(|| panic!("{path}: {text}"));
            assert!(steps.contains(&found[2]), "{path}: ci/run has no step {}", &found[2]);
            called.insert(found[2].to_owned());
        }
        let left: Vec<&String> = steps.difference(&called).collect();
        assert!(left.is_empty(), "{path} never calls {left:?}");
    }
}

#[test]
fn every_role_is_built_everywhere() {
    let project = Project::load(root()).unwrap();
    // One whose source nobody has verified cannot be built but with what somebody gives.
    let is_pinned = |image: &Image| {
        image.sources.values().all(|source| !matches!(source.pin, Pin::Unverified(_)))
    };
    let roles: BTreeSet<String> =
        project.roles().filter(|role| is_pinned(role)).map(|role| role.name.to_string()).collect();
    // Each with the format in which it is booted.
    let gitlab = pipeline(GITLAB);
    for job in ["build", "build-request"] {
        assert_eq!(gitlab[job]["extends"], ".build", "{GITLAB}");
        assert!(gitlab[job].get("parallel").is_none(), "{GITLAB}");
    }
    let matrix = gitlab[".build"]["parallel"]["matrix"].as_array().unwrap();
    let mut built = Vec::new();
    for entry in matrix {
        let roles = match &entry["ROLE"] {
            Value::String(role) => vec![role.clone()],
            roles => strings(roles),
        };
        built.extend(roles.into_iter().map(|role| (role, entry["BOOT"].clone())));
    }
    assert_eq!(built.len(), roles.len(), "{GITLAB}");
    let built: BTreeMap<String, Value> = built.into_iter().collect();
    assert_eq!(built.keys().cloned().collect::<BTreeSet<_>>(), roles, "{GITLAB}");
    for format in built.values() {
        assert!(["any", "lxc", "qcow2", "no"].contains(&format.as_str().unwrap()), "{format}");
    }
    for path in ACTIONS {
        let workflow = pipeline(path);
        let entries =
            workflow["jobs"]["build"]["strategy"]["matrix"]["include"].as_array().unwrap();
        let role =
            |entry: &Value| (entry["role"].as_str().unwrap().to_owned(), entry["boot"].clone());
        assert_eq!(entries.len(), roles.len(), "{path}");
        assert_eq!(entries.iter().map(role).collect::<BTreeMap<_, _>>(), built, "{path}");
    }
}

#[test]
fn sites_are_those_of_the_project() {
    let exists = |site: &str| root().join("overlays").join(site).is_dir();
    assert!(exists(pipeline(GITLAB)["variables"]["IMGBUILD_SITE"].as_str().unwrap()));
    let default = Regex::new(r"inputs\.site \|\| '([a-z]+)'").unwrap();
    for path in ACTIONS {
        let workflow = pipeline(path);
        let site = &workflow["on"]["workflow_dispatch"]["inputs"]["site"]["options"];
        let told = workflow["env"]["IMGBUILD_SITE"].as_str().unwrap().to_owned();
        let default = default.captures(&told).unwrap()[1].to_owned();
        for site in strings(site).into_iter().chain([default]) {
            assert!(exists(&site), "{path}: there is no site {site}");
        }
    }
}

#[test]
fn only_a_tag_makes_a_release() {
    let release = &pipeline(GITLAB)["release"];
    assert_eq!(release["rules"], serde_json::json!([{ "if": "$CI_COMMIT_TAG =~ /^v/" }]));
    assert_eq!(release["artifacts"]["expire_in"], "never");
    for path in ACTIONS {
        let workflow = pipeline(path);
        assert_eq!(workflow["on"]["push"]["tags"], serde_json::json!(["v*"]), "{path}");
        let when = &workflow["jobs"]["release"]["if"];
        assert_eq!(when, "startsWith(github.ref, 'refs/tags/v')", "{path}");
        let steps = workflow["jobs"]["release"]["steps"].as_array().unwrap();
        assert_eq!(steps.last().unwrap()["with"]["retention-days"], 90, "{path}");
    }
}

#[test]
fn actions_of_others_are_pinned_by_their_commit() {
    let pinned =
        Regex::new(r"uses: (https://[\w./-]+/)?[\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d").unwrap();
    for path in ACTIONS {
        for line in read(path).lines().filter(|line| line.contains("uses:")) {
            assert!(pinned.is_match(line), "{path}: {line}");
        }
        // Nor does anything that is checked out keep the token of the run.
        for step in all_steps(&pipeline(path)) {
            if step["uses"].as_str().is_some_and(|uses| uses.contains("/checkout@")) {
                assert_eq!(step["with"]["persist-credentials"], false, "{path}: {step}");
            }
        }
    }
}

#[test]
fn few_steps_are_given_a_secret_and_none_of_a_fork() {
    for path in ACTIONS {
        let workflow = pipeline(path);
        for (name, job) in jobs(&workflow) {
            let secret = |step: &&Value| {
                let text = step.to_string();
                text.contains("secrets.") || text.contains("github.token")
            };
            let told: Vec<&str> = job["steps"]
                .as_array()
                .unwrap()
                .iter()
                .filter(secret)
                .map(|step| step["run"].as_str().unwrap_or("an action"))
                .collect();
            let wanted: &[&str] = match name.as_str() {
                "plan" => &[r#"ci/run plan "$IMGBUILD_SITE""#, "ci/run comment out/plan.md"],
                "preview" => &[r#"ci/run preview "$IMGBUILD_SITE""#],
                // Forgejo keeps no secret from a branch, so there layers are only taken.
                "build" if path == "ci/forgejo.yml" => {
                    &[r#"ci/run sign "$ROLE""#, r#"ci/run push "$ROLE""#]
                }
                "build" => {
                    &[r#"ci/run build "$ROLE""#, r#"ci/run sign "$ROLE""#, r#"ci/run push "$ROLE""#]
                }
                "swap" => &[r#"ci/run swap "$IMGBUILD_SITE""#],
                _ => &[],
            };
            assert_eq!(told, wanted, "{path}: {name}");
        }
        let build = workflow["jobs"]["build"]["steps"].as_array().unwrap();
        for run in [r#"ci/run sign "$ROLE""#, r#"ci/run push "$ROLE""#] {
            let mut steps = build.iter().filter(|step| step["run"] == run);
            assert_eq!(steps.next().unwrap()["if"], "github.ref == 'refs/heads/main'", "{path}");
        }
        let plan = workflow["jobs"]["plan"]["if"].as_str().unwrap();
        assert!(plan.contains("head.repo.full_name == github.repository"), "{path}: {plan}");
        assert!(workflow["on"].get("pull_request_target").is_none(), "{path}");
    }
    // GitLab gives variables to environments, and protected ones to whatever is protected: tags, too.
    let gitlab = pipeline(GITLAB);
    let plan = gitlab["plan"]["rules"][0]["if"].as_str().unwrap();
    assert!(plan.contains("$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_PROJECT_ID"), "{plan}");
    let jobs = gitlab.as_object().unwrap().iter().filter(|(_, job)| job["script"].is_array());
    for (name, job) in jobs {
        let script = strings(&job["script"]);
        let gives =
            script.iter().any(|line| line.contains("run sign") || line.contains("run push"));
        let environment = job["environment"]["name"].as_str().unwrap_or_default();
        let wanted = match name.as_str() {
            "build" => "$IMGBUILD_SITE/sign",
            "plan" | "preview" => "$IMGBUILD_SITE/plan",
            "swap" => "$IMGBUILD_SITE/swap",
            _ => "",
        };
        assert_eq!(environment, wanted, "{name}");
        let meant_to = job["variables"]["IMGBUILD_REGISTRY_GIVES"] == "yes";
        assert_eq!((gives, meant_to), (name == "build", name == "build"), "{name}");
        if ["build", "preview", "swap"].contains(&name.as_str()) {
            let rules = job["rules"].as_array().unwrap();
            let when = rules[0]["if"].as_str().unwrap();
            assert_eq!(rules.len(), 1, "{name}");
            assert!(when.starts_with("$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"), "{name}: {when}");
            assert!(!when.contains("||"), "{name}: {when}");
        }
    }
}

#[test]
fn what_is_deployed_takes_no_cache_that_a_request_or_a_branch_can_write() {
    let gitlab = pipeline(GITLAB);
    for part in [&gitlab, &gitlab["default"], &gitlab[".build"], &gitlab["build"]] {
        assert!(part.get("cache").is_none(), "{part}");
    }
    let key = gitlab["build-request"]["cache"]["key"].as_str().unwrap();
    assert!(key.contains("$CI_COMMIT_REF_PROTECTED"), "{key}");
    // GitHub keeps caches of branches apart, Forgejo only those of pull requests.
    let forgejo = pipeline("ci/forgejo.yml");
    let cache = |step: &&Value| step["uses"].as_str().is_some_and(|it| it.contains("/cache@"));
    for step in all_steps(&forgejo).into_iter().filter(cache) {
        assert_eq!(step["if"], "github.event_name == 'pull_request'");
    }
    // And nothing runs for the default branch on what others bring.
    for path in ACTIONS {
        let events: Vec<String> =
            pipeline(path)["on"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(events, ["push", "pull_request", "schedule", "workflow_dispatch"], "{path}");
    }
}

#[test]
fn a_plan_is_there_to_be_seen_before_anybody_approves_the_swap() {
    let gitlab = pipeline(GITLAB);
    assert!(strings(&gitlab["swap"]["needs"]).contains(&"preview".to_owned()));
    let kept = strings(&gitlab["preview"]["artifacts"]["paths"]);
    assert_eq!(kept, ["out/plan.json", "out/plan.md"]);
    assert_eq!(gitlab["preview"]["rules"][0]["if"], gitlab["swap"]["rules"][0]["if"]);
    for path in ACTIONS {
        let workflow = pipeline(path);
        let (preview, swap) = (&workflow["jobs"]["preview"], &workflow["jobs"]["swap"]);
        assert!(strings(&swap["needs"]).contains(&"preview".to_owned()), "{path}");
        assert_eq!(preview["if"], swap["if"], "{path}");
        // Not by the token that may replace guests.
        if path == "ci/forgejo.yml" {
            assert!(preview.to_string().contains("secrets.IMGBUILD_PROXMOX_AUDIT_TOKEN"));
            assert!(!preview.to_string().contains("secrets.IMGBUILD_PROXMOX_TOKEN"));
        } else {
            assert_eq!(preview["environment"], "plan", "{path}");
        }
        let with = |job: &Value, action: &str| {
            let steps = job["steps"].as_array().unwrap();
            let uses = |step: &&Value| step["uses"].as_str().is_some_and(|it| it.contains(action));
            steps.iter().filter(uses).map(|step| step["with"].clone()).collect::<Vec<_>>()
        };
        let given = with(preview, "/upload-artifact@");
        assert_eq!(
            given,
            [serde_json::json!({
                "name": "plan", "path": "out/plan.json\nout/plan.md\n"
            })],
            "{path}"
        );
        let taken = serde_json::json!({ "name": "plan", "path": "out" });
        // Last, so that nothing that was built lies over it.
        assert_eq!(with(swap, "/download-artifact@").last(), Some(&taken), "{path}");
    }
}

#[test]
fn nothing_of_a_branch_runs_where_a_swap_gets_its_token() {
    let gitlab = pipeline(GITLAB);
    let swap = &gitlab["swap"]["tags"];
    let on_it = |job: &Value| job["tags"] == *swap;
    assert!(swap.is_array(), "{GITLAB}");
    let jobs_on_it = gitlab.as_object().unwrap().iter().filter(|(_, job)| on_it(job));
    assert_eq!(jobs_on_it.map(|(name, _)| name).collect::<Vec<_>>(), ["swap"], "{GITLAB}");
    for path in ACTIONS {
        let workflow = pipeline(path);
        let swap = &workflow["jobs"]["swap"]["runs-on"];
        let jobs_on_it = jobs(&workflow).filter(|(_, job)| job["runs-on"] == *swap);
        assert_eq!(jobs_on_it.map(|(name, _)| name).collect::<Vec<_>>(), ["swap"], "{path}");
    }
}

#[test]
fn jobs_have_no_more_rights_than_they_use() {
    let workflow = pipeline("ci/github.yml");
    assert_eq!(workflow["permissions"], Value::Object(Map::new()));
    for (name, job) in jobs(&workflow) {
        let writes: Vec<&String> = job["permissions"]
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, level)| *level != "read")
            .map(|(scope, _)| scope)
            .collect();
        let wanted: &[&str] = if name == "plan" { &["pull-requests"] } else { &[] };
        assert_eq!(writes, wanted, "{name}");
    }
}

#[test]
fn a_swap_is_started_by_hand_and_never_twice_at_once() {
    let swap = &pipeline(GITLAB)["swap"];
    assert_eq!(swap["rules"][0]["when"], "manual");
    assert_eq!(swap["interruptible"], false);
    assert!(swap["resource_group"].is_string());
    assert!(swap["environment"]["name"].is_string());
    for path in ACTIONS {
        let workflow = pipeline(path);
        let swap = &workflow["jobs"]["swap"];
        let when = swap["if"].as_str().unwrap();
        assert!(when.contains("github.event_name == 'workflow_dispatch'"), "{path}: {when}");
        assert!(when.contains("github.ref == 'refs/heads/main'"), "{path}: {when}");
        // Runs of the same event, branch and site wait for each other, and for no others. Forgejo does not look at groups of jobs.
        assert!(swap.get("concurrency").is_none(), "{path}");
        let group = workflow["concurrency"]["group"].as_str().unwrap();
        assert_eq!(
            group, "imgbuild-${{ github.event_name }}-${{ github.ref }}-${{ inputs.site }}",
            "{path}"
        );
        // A push would otherwise end the run that swaps.
        let cancels = workflow["concurrency"]["cancel-in-progress"].as_str().unwrap();
        assert_eq!(cancels, "${{ github.event_name == 'pull_request' }}", "{path}");
    }
    assert!(pipeline("ci/github.yml")["jobs"]["swap"]["environment"].is_string());
    // A push ends requests, and nothing else.
    let workflow = &pipeline(GITLAB)["workflow"];
    assert_eq!(workflow["auto_cancel"]["on_new_commit"], "none");
    let ended: Vec<&Value> = workflow["rules"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|rule| rule.get("auto_cancel").is_some())
        .map(|rule| &rule["if"])
        .collect();
    assert_eq!(ended, [r#"$CI_PIPELINE_SOURCE == "merge_request_event""#]);
}

#[test]
fn every_variable_is_described() {
    let page = read("docs/ci.md");
    let variable = Regex::new(r"\bIMGBUILD(_[A-Z]+)*\b|\$\{(CI|GITHUB)_[A-Z0-9_]+").unwrap();
    for path in paths().chain(["ci/run"]) {
        for found in variable.find_iter(&read(path)) {
            let name = found.as_str().trim_start_matches("${");
            // What the forge sets by itself needs no description; that it is used does not surprise.
            let ours = name.starts_with("IMGBUILD");
            assert!(!ours || page.contains(&format!("`{name}`")), "{path}: {name}");
        }
    }
}
