//! What `ci/run` says to a forge and asks it: the comment below a request, and which commit is the newest.

use std::fs;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::has;
use crate::recorder::Recorder;
use crate::script::{script, text};

/// A token that is easy to find again.
const TOKEN: &str = "glpat-not-for-everybody";

const GITLAB: [(&str, &str); 4] = [
    ("GITLAB_CI", "true"),
    ("CI_API_V4_URL", "https://git.example/api/v4"),
    ("CI_PROJECT_ID", "7"),
    ("CI_MERGE_REQUEST_IID", "12"),
];

/// Forgejo has the same.
const GITHUB: [(&str, &str); 4] = [
    ("GITHUB_ACTIONS", "true"),
    ("GITHUB_API_URL", "https://api.github.example"),
    ("GITHUB_REPOSITORY", "anna/campus"),
    ("IMGBUILD_REQUEST", "12"),
];

const NOTES: &str = "https://git.example/api/v4/projects/7/merge_requests/12/notes";
const COMMENTS: &str = "https://api.github.example/repos/anna/campus/issues";

/// What everybody can begin a comment with.
const PLAN: &str = "<!-- imgbuild -->\nold";

/// A comment of GitLab's, by the user 9 if it is by the token's.
fn note(id: u32, author: u32, body: &str) -> Value {
    json!({ "id": id, "author": { "id": author }, "body": body })
}

/// A comment of GitHub's or Forgejo's.
fn remark(id: u32, (login, user): (&str, i64), body: &str) -> Value {
    json!({ "id": id, "user": { "login": login, "id": user }, "body": body })
}

/// The methods and addresses of what was changed, or meant to be.
type Changes = Vec<(String, String)>;

/// Says something below a request of a forge, where there are these pages of comments already.
fn comment(forge: &[(&str, &str)], pages: &[Value]) -> Changes {
    let (output, changes) = attempt(forge, pages, "");
    assert!(output.status.success(), "{}", text(&output.stderr));
    changes
}

/// The same, with a forge that refuses requests of which the words are like the pattern `refused`.
fn attempt(forge: &[(&str, &str)], pages: &[Value], refused: &str) -> (Output, Changes) {
    let recorder = Recorder::new(&[]);
    let directory: TempDir = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("out")).unwrap();
    fs::write(directory.path().join("out/plan.md"), "lb1: replace\n").unwrap();
    for (number, page) in (1..).zip(pages) {
        fs::write(directory.path().join(format!("page{number}")), page.to_string()).unwrap();
    }
    let refused = if refused.is_empty() { String::new() } else { format!("{refused}) exit 22 ;;") };
    recorder.answers(
        "curl",
        &format!(
            "url=${{!#}}\n\
             case \"$*\" in\n\
             {refused}\n\
             */user) echo '{{\"id\": 9}}' ;;\n\
             *\\?per_page=100*) cat page\"${{url##*page=}}\" 2>/dev/null || echo '[]' ;;\n\
             esac"
        ),
    );
    let mut step = script(directory.path(), &["comment", "out/plan.md"]);
    step.env("PATH", recorder.before_others());
    step.env("IMGBUILD_COMMENT_TOKEN", TOKEN).envs(forge.iter().copied());
    let output = step.output().unwrap();
    let calls = recorder.taken_down();
    for words in &calls {
        assert!(words.iter().all(|word| !word.contains(TOKEN)), "{words:?}");
        assert!(words.windows(2).any(|pair| pair == ["--config", "-"]), "{words:?}");
    }
    assert_eq!(recorder.input().matches(TOKEN).count(), calls.len());
    if output.status.success() {
        let said = fs::read_to_string(directory.path().join("out/comment.json")).unwrap();
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["body"], "<!-- imgbuild -->\nlb1: replace\n");
    }
    let changes = calls.into_iter().filter_map(|words| {
        let method = words.iter().position(|word| word == "--request")? + 1;
        Some((words[method].clone(), words.last().unwrap().clone()))
    });
    let changes = changes.collect();
    (output, changes)
}

#[test]
fn a_comment_is_made_once_and_then_kept_up_to_date() {
    if !has("jq") {
        return;
    }
    let (bot, actions) = (("github-actions[bot]", 41_898_282), ("forgejo-actions", -2));
    let well = ("anna", 7);
    let cases = [
        (&GITLAB, json!([note(3, 7, "well done")]), "POST", NOTES.to_owned()),
        (&GITLAB, json!([note(3, 7, "no"), note(5, 9, PLAN)]), "PUT", format!("{NOTES}/5")),
        (&GITLAB, json!([note(5, 9, PLAN), note(4, 9, PLAN)]), "PUT", format!("{NOTES}/5")),
        (&GITHUB, json!([remark(3, well, "well")]), "POST", format!("{COMMENTS}/12/comments")),
        (&GITHUB, json!([remark(5, bot, PLAN)]), "PATCH", format!("{COMMENTS}/comments/5")),
        (&GITHUB, json!([remark(5, actions, PLAN)]), "PATCH", format!("{COMMENTS}/comments/5")),
        // Others of the same bot are none of ours.
        (&GITHUB, json!([remark(5, bot, "well")]), "POST", format!("{COMMENTS}/12/comments")),
        (&GITHUB, json!([]), "POST", format!("{COMMENTS}/12/comments")),
    ];
    for (forge, comments, method, url) in cases {
        let changes = comment(forge, std::slice::from_ref(&comments));
        assert_eq!(changes, [(method.to_owned(), url)], "{comments}");
    }
}

#[test]
fn nobody_else_takes_over_the_comment_or_keeps_it_from_being_made() {
    if !has("jq") {
        return;
    }
    // Whoever can comment begins a comment as ours does, before and after it.
    let ours = ("github-actions[bot]", 41_898_282);
    for mallory in [("mallory", 8), ("github-actions", 8), ("forgejo-actions", 8)] {
        let made = comment(&GITHUB, &[json!([remark(3, mallory, PLAN)])]);
        assert_eq!(made, [("POST".to_owned(), format!("{COMMENTS}/12/comments"))], "{mallory:?}");
        let beside = [remark(3, mallory, PLAN), remark(4, ours, PLAN), remark(5, mallory, PLAN)];
        let changed = comment(&GITHUB, &[json!(beside)]);
        assert_eq!(changed, [("PATCH".to_owned(), format!("{COMMENTS}/comments/4"))]);
    }
    let made = comment(&GITLAB, &[json!([note(3, 8, PLAN)])]);
    assert_eq!(made, [("POST".to_owned(), NOTES.to_owned())]);
    // Or fills a page.
    let noise: Vec<Value> = (100..200).map(|id| note(id, 8, "well")).collect();
    let changed = comment(&GITLAB, &[json!(noise), json!([note(5, 9, PLAN)])]);
    assert_eq!(changed, [("PUT".to_owned(), format!("{NOTES}/5"))]);
    // Forgejo answers with all comments at once, whatever page is asked for.
    let noise = (100..300).map(|id| remark(id, ("anna", 7), "well"));
    let all: Vec<Value> = noise.chain([remark(300, ("forgejo-actions", -2), PLAN)]).collect();
    let changed = comment(&GITHUB, &[json!(all), json!(all)]);
    assert_eq!(changed, [("PATCH".to_owned(), format!("{COMMENTS}/comments/300"))]);
    // What may not be changed is said anew.
    let (output, calls) = attempt(&GITLAB, &[json!([note(5, 9, PLAN)])], "*PUT*");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let [refused, made] = <[(String, String); 2]>::try_from(calls).unwrap();
    assert_eq!((refused.0.as_str(), made), ("PUT", ("POST".to_owned(), NOTES.to_owned())));
    // What cannot be read is not said twice.
    for unread in ["*page=*", "*/user"] {
        let (output, calls) = attempt(&GITLAB, &[], unread);
        assert!(!output.status.success() && calls.is_empty(), "{unread}: {calls:?}");
    }
}

/// The commit that a run is of.
const COMMIT: &str = "5745c2c0000000000000000000000000000000aa";

#[test]
fn a_commit_that_is_no_longer_the_newest_is_not_swapped() {
    let gitlab = [
        ("GITLAB_CI", "true"),
        ("CI_PROJECT_URL", "https://git.example/anna/campus"),
        ("CI_DEFAULT_BRANCH", "main"),
        ("CI_COMMIT_SHA", COMMIT),
        ("CI_JOB_TOKEN", TOKEN),
    ];
    let github = [
        ("GITHUB_ACTIONS", "true"),
        ("GITHUB_SERVER_URL", "https://git.example"),
        ("GITHUB_REPOSITORY", "anna/campus"),
        ("GITHUB_REF_NAME", "main"),
        ("GITHUB_SHA", COMMIT),
        ("IMGBUILD_REPOSITORY_TOKEN", TOKEN),
    ];
    for forge in [&gitlab[..], &github[..]] {
        for (head, swaps) in [(COMMIT, true), (&COMMIT.replace('a', "b"), false), ("", false)] {
            let recorder = Recorder::new(&[("imgbuild", "{}")]);
            // As git: with another exit code if there is no such branch, and first with branches whose names end like it.
            // That one is at the commit of the run, whatever the run is of.
            let answer = match head {
                "" => "exit 2".to_owned(),
                _ => format!(
                    "echo -e \"{COMMIT}\\trefs/heads/a/refs/heads/main\"\necho -e \"$HEAD\\trefs/heads/main\""
                ),
            };
            let seen = format!("env >{}\n{answer}", recorder.programs().join("seen").display());
            recorder.answers("git", &seen);
            let directory = tempfile::tempdir().unwrap();
            let mut step = script(directory.path(), &["swap", "campus"]);
            step.env("PATH", recorder.before_others()).env("HEAD", head);
            step.env("IMGBUILD", recorder.program("imgbuild")).envs(forge.iter().copied());
            let output = step.output().unwrap();
            let errors = text(&output.stderr);
            assert_eq!(output.status.success(), swaps, "{head}: {errors}");
            let mut calls = recorder.taken_down();
            let asked = calls.remove(0);
            let url = "https://git.example/anna/campus.git";
            assert_eq!(asked[..2], ["git", "ls-remote"], "{asked:?}");
            assert_eq!(asked[asked.len() - 2..], [url, "refs/heads/main"]);
            assert!(asked.iter().all(|word| !word.contains(TOKEN)), "{asked:?}");
            // The login goes to that place and to no other.
            let seen = fs::read_to_string(recorder.programs().join("seen")).unwrap();
            let key = format!("GIT_CONFIG_KEY_0=http.{url}.extraHeader\n");
            assert!(seen.contains(&key) && seen.contains("Authorization: Basic "), "{seen}");
            let verbs: Vec<&str> = calls.iter().map(|words| words[1].as_str()).collect();
            let wanted: &[&str] = if swaps { &["preflight", "swap"] } else { &[] };
            assert_eq!(verbs, wanted, "{head}: {errors}");
            if !swaps && !head.is_empty() {
                assert!(errors.contains(&format!("main is at {head} by now")), "{errors}");
            }
        }
    }
}

#[test]
fn a_swap_is_held_to_the_plan_that_was_seen_and_a_plan_that_is_refused_ends_before() {
    if !has("jq") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(&[]);
    let run = |step: &str, lines: &str| {
        recorder.answers("imgbuild", lines);
        let mut step = script(directory.path(), &[step, "campus"]);
        step.env("IMGBUILD", recorder.program("imgbuild"));
        step.env("GITHUB_STEP_SUMMARY", directory.path().join("summary")).output().unwrap()
    };
    let plans = |ending: &str, code: u8| {
        format!(
            "echo \"lb1: to be replaced\"; echo '{{\"ending\": \"{ending}\"}}' >out/plan.json; exit {code}"
        )
    };
    assert!(run("preview", &plans("done", 0)).status.success());
    let call = recorder.taken_down().remove(0);
    assert!(call.windows(2).any(|pair| pair == ["--out", "out/plan.json"]), "{call:?}");
    let summary = fs::read_to_string(directory.path().join("summary")).unwrap();
    assert!(summary.contains("lb1: to be replaced"), "{summary}");
    // Below a request it is told what is refused; nobody is asked to approve it.
    assert!(run("plan", &plans("refused", 1)).status.success());
    assert!(!run("preview", &plans("refused", 1)).status.success());
    recorder.taken_down();
    assert!(run("swap", "true").status.success());
    let call = recorder.taken_down().pop().unwrap();
    assert!(call.windows(2).any(|pair| pair == ["--expect", "out/plan.json"]), "{call:?}");
}
