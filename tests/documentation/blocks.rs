//! Every block of shell in the documentation is of a class, which says how it is held against what it speaks of:
//! docs/contributing.md has the table.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clap::ArgMatches;
use regex::Regex;
use walkdir::WalkDir;

use crate::markdown::{Block, Document, code_spans, documents};
use crate::{node, read, root, shell};

/// A class: what follows `sh,`, and the programs that a block of it may call. For the class without a name: any.
const CLASSES: &[(&str, &[&str])] = &[
    ("", &[]),
    (
        "build",
        &[
            "imgbuild",
            "cargo",
            "git",
            "sed",
            "cp",
            "zstd",
            "wc",
            "jq",
            "dot",
            "time",
            "ci/run",
            "ssh-keygen",
            "ssh-add",
            "sha256sum",
            "cat",
        ],
    ),
    ("lab", &["imgbuild", "cargo", "git", "sed", "mkdir", "cat", "sleep", "cd"]),
    ("site", &["imgbuild", "install", "head", "base64"]),
    ("node", &["qm", "pct", "pvesm", "pveum", "scp", "install", "genisoimage", "shred"]),
    ("host", &["apt", "usermod", "grep", "unshare", "cat", "apparmor_parser", "gpg", "tar", "ln"]),
    (
        "heavy",
        &[
            "cargo",
            "git",
            "cd",
            "pip",
            "python3",
            "mdbook",
            "nix",
            ".ci/run",
            "ci/fuzz",
            "ci/release",
            "sha256sum",
        ],
    ),
    ("guest", &["cd", "cut", "mariadb", "mount", "runuser", "socat"]),
];

/// The blocks of a class, with where they stand.
fn blocks(class: &str) -> Vec<(Document, Vec<(String, Block)>)> {
    let mut found = Vec::new();
    for mut document in documents() {
        let blocks = std::mem::take(&mut document.blocks);
        let of_class: Vec<_> = blocks
            .into_iter()
            .filter(|block| block.class() == Some(class))
            .map(|block| (format!("{}:{}", document.path.display(), block.line), block))
            .collect();
        if !of_class.is_empty() {
            found.push((document, of_class));
        }
    }
    found
}

/// Judges each command of the blocks of a class.
#[track_caller]
fn judge(class: &str, mut verdict: impl FnMut(&Document, &[String]) -> Result<(), String>) {
    let (_, programs) = CLASSES.iter().find(|known| known.0 == class).unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for (document, blocks) in blocks(class) {
        for (place, block) in blocks {
            let commands = match shell::commands(&block.text) {
                Ok(commands) => commands,
                Err(error) => {
                    wrong.push(format!("{place}: {error}"));
                    continue;
                }
            };
            for words in commands {
                count += 1;
                let ours = ["/usr/lib/imgbuild/", "benches/", "tests/"];
                let ours = ours.iter().any(|place| words[0].starts_with(place));
                let verdict = match ours || programs.contains(&words[0].as_str()) {
                    true => verdict(&document, &words),
                    false => Err("blocks of this class do not call it".to_owned()),
                };
                if let Err(why) = verdict {
                    wrong.push(format!("{place}: {}\n    {why}", words.join(" ")));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 0, "no block is of the class {class}");
}

#[test]
fn every_block_of_shell_is_of_a_class() {
    let known: Vec<&str> = CLASSES.iter().map(|(class, _)| *class).collect();
    let mut wrong = Vec::new();
    for document in documents() {
        for block in &document.blocks {
            let shell = ["sh", "bash", "shell", "zsh"];
            let language = block.language.split([',', ' ']).next().unwrap_or_default();
            let good = match block.class() {
                Some(class) => known.contains(&class),
                // A block without a language says nothing of what becomes of it.
                None => !language.is_empty() && !shell.contains(&language),
            };
            // What is printed may show the command that printed it, after a prompt.
            let hidden = language == "text"
                && block.text.lines().any(|line| line.trim_start().starts_with("imgbuild "));
            if !good || hidden {
                let place = format!("{}:{}", document.path.display(), block.line);
                wrong.push(format!(
                    "{place}: `{}` is no class; known: sh, sh,{}",
                    block.language,
                    known[1..].join(", sh,")
                ));
            }
        }
        let mut before = "";
        for (number, line) in &document.text {
            // In a list, what is indented goes on with the item.
            let indented = line.starts_with("    ") && before.is_empty();
            if indented && !line.trim_start().starts_with(['|', '-']) {
                wrong
                    .push(format!("{}:{number}: give this block a fence", document.path.display()));
            }
            before = line.trim();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn plain_blocks_run() {
    let copy = shell::Copy::new();
    for (_, blocks) in blocks("") {
        copy.renew();
        for (place, block) in blocks {
            let output = copy.run(&block.text);
            let printed = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{place}:\n{}\n{printed}", block.text);
        }
    }
}

#[test]
fn commands_of_imgbuild_are_understood() {
    for class in ["build", "lab", "site"] {
        judge(class, understood);
    }
}

/// Whether imgbuild understands a command, and has what it names.
fn understood(document: &Document, words: &[String]) -> Result<(), String> {
    // To ssh-keygen it is the purpose of a signature.
    let called = words.iter().position(|word| word == "imgbuild");
    let words = match called.filter(|_| words[0] != "ssh-keygen") {
        Some(at) => words[at..].to_vec(),
        None => match words.join(" ").strip_prefix("cargo run --release -- ") {
            Some(rest) => {
                std::iter::once("imgbuild").chain(rest.split(' ')).map(str::to_owned).collect()
            }
            None => return Ok(()),
        },
    };
    let matches =
        imgbuild::cli::command().try_get_matches_from(words).map_err(|error| error.to_string())?;
    let mut deepest = &matches;
    while let Some((_, below)) = deepest.subcommand() {
        deepest = below;
    }
    let page = read(&document.path);
    let exists = |directory: &str, name: &str| {
        let path = format!("{directory}/{name}");
        // Pages for users may begin with a file of their own; those of tests have other roles.
        root().join(&path).exists() || page.contains(&path) || name == "app"
    };
    for site in raw(deepest, "site") {
        if !exists("overlays", &site) {
            return Err(format!("there is no site {site}, and the page makes none"));
        }
    }
    for role in raw(deepest, "role").into_iter().chain(raw(deepest, "roles")) {
        if !exists("images", &role) {
            return Err(format!("there is no role {role}, and the page makes none"));
        }
    }
    Ok(())
}

/// The values of an argument, if there is one of that name.
fn raw(matches: &ArgMatches, id: &str) -> Vec<String> {
    let values = matches.try_get_raw(id).ok().flatten();
    values.into_iter().flatten().map(|value| value.to_string_lossy().into_owned()).collect()
}

#[test]
fn commands_for_a_node_are_calls_of_its_api() {
    if node::can_judge() {
        judge("node", |_, words| node::judge(words));
    }
}

/// Commands in the middle of a sentence, with names in capitals for what differs.
#[test]
fn commands_for_a_node_in_a_sentence_are_calls_of_its_api() {
    if !node::can_judge() {
        return;
    }
    let mut wrong = Vec::new();
    for document in documents() {
        for (number, line) in &document.text {
            for span in code_spans(line) {
                let whole =
                    ["qm ", "pct ", "pvesm ", "pveum "].iter().any(|it| span.starts_with(it));
                if !whole || span.split(' ').count() < 4 || span.contains('…') {
                    continue;
                }
                let words = span.replace("VMID", "301").replace("STORAGE", "local-lvm");
                let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
                if let Err(why) = node::judge(&words) {
                    wrong.push(format!("{}:{number}: {span}\n    {why}", document.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tests_and_benchmarks_that_are_shown_exist() {
    let sources = sources();
    judge("heavy", |_, words| match words[0].as_str() {
        "cargo" => cargo(&sources, &words[1..]),
        program if program.contains('/') => exists(program),
        _ => Ok(()),
    });
    let mut wrong = Vec::new();
    for document in documents() {
        for (number, line) in &document.text {
            for span in code_spans(line).filter(|span| span.contains("cargo test")) {
                let words: Vec<String> = span.split(' ').map(str::to_owned).collect();
                let at = words.iter().position(|word| word == "cargo").unwrap();
                if let Err(why) = cargo(&sources, &words[at + 1..]) {
                    wrong.push(format!("{}:{number}: {span}: {why}", document.path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Everything in which a test may be, or be told by a variable what to do.
fn sources() -> String {
    let mut text = String::new();
    for directory in ["src", "tests", "benches", "ci"] {
        for entry in WalkDir::new(root().join(directory)) {
            let path = entry.unwrap().into_path();
            if path.extension().is_none_or(|extension| extension != "md") {
                text.push_str(&fs::read_to_string(&path).unwrap_or_default());
            }
        }
    }
    text
}

fn exists(path: &str) -> Result<(), String> {
    if root().join(path).exists() { Ok(()) } else { Err(format!("there is no {path}")) }
}

/// Whether cargo finds what it is asked for.
fn cargo(sources: &str, words: &[String]) -> Result<(), String> {
    let [verb, words @ ..] = words else { return Err("cargo VERB".to_owned()) };
    if verb != "test" {
        let known = ["+nightly", "build", "run", "deny", "doc", "install"];
        return if known.contains(&verb.as_str()) { Ok(()) } else { Err(format!("cargo {verb}")) };
    }
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--test" => {
                let name = words.next().unwrap_or_default();
                let target = format!("tests/{name}.rs");
                exists(&target).or_else(|_| exists(&format!("tests/{name}/main.rs")))?;
            }
            "--lib" | "--locked" | "--release" | "--" | "--ignored" | "--nocapture" => {}
            path if path.contains("::") => {
                let file = path.split("::").collect::<Vec<_>>().join("/");
                let file = format!("src/{file}");
                exists(&format!("{file}.rs")).or_else(|_| exists(&file))?;
            }
            option if option.starts_with('-') => return Err(format!("cargo test {option}")),
            name if sources.contains(&format!("fn {name}")) => {}
            name => return Err(format!("no test is called {name}…")),
        }
    }
    Ok(())
}

#[test]
fn variables_of_the_environment_that_are_shown_exist() {
    let sources = sources();
    let variable = Regex::new(r"\bIMGBUILD_[A-Z_]+\b").unwrap();
    let mut wrong = Vec::new();
    for document in documents() {
        let unknown = variable
            .find_iter(&read(&document.path))
            .map(|it| it.as_str().to_owned())
            .filter(|name| {
                ["\"{}\"", "{{}", "vars.{}", "secrets.{}"]
                    .iter()
                    .all(|form| !sources.contains(&form.replace("{}", name)))
            })
            .collect::<BTreeSet<_>>();
        wrong.extend(unknown.iter().map(|name| format!("{}: {name}", document.path.display())));
    }
    assert!(wrong.is_empty(), "nothing reads these:\n{}", wrong.join("\n"));
}

#[test]
fn packages_of_debian_that_are_shown_exist() {
    let mut packages = BTreeSet::new();
    judge("host", |_, words| {
        packages.extend(packages_of(words));
        Ok(())
    });
    for document in documents() {
        for (_, line) in &document.text {
            for span in code_spans(line).filter(|span| span.starts_with("apt install ")) {
                let words: Vec<String> = span.split(' ').map(str::to_owned).collect();
                packages.extend(packages_of(&words));
            }
        }
    }
    assert!(packages.len() > 4, "{packages:?}");
    // Without apt, or with lists that were never fetched, nothing can be told.
    let Ok(output) = Command::new("apt-cache").arg("policy").args(&packages).output() else {
        return;
    };
    let known = candidates(&String::from_utf8_lossy(&output.stdout));
    if known.contains("lxc") {
        let unknown: Vec<&String> = packages.iter().filter(|name| !known.contains(*name)).collect();
        assert!(unknown.is_empty(), "Debian has no {unknown:?}");
    }
}

/// The packages of which `apt-cache policy` has a version to offer.
fn candidates(policy: &str) -> BTreeSet<String> {
    let mut name = "";
    let mut known = BTreeSet::new();
    for line in policy.lines() {
        match line.trim().strip_prefix("Candidate: ") {
            Some("(none)") => {}
            Some(_) => drop(known.insert(name.to_owned())),
            None if !line.starts_with(' ') => name = line.trim_end_matches(':'),
            None => {}
        }
    }
    known
}

/// What `apt install` is asked for.
fn packages_of(words: &[String]) -> Vec<String> {
    if words.len() < 2 || words[0] != "apt" || words[1] != "install" {
        return Vec::new();
    }
    let mut packages = Vec::new();
    let mut words = words[2..].iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "-t" => drop(words.next()),
            option if option.starts_with('-') => {}
            // Those that a release consists of are in no archive.
            file if file.contains('/') => {}
            package => packages.push(package.to_owned()),
        }
    }
    packages
}

#[test]
fn programs_of_guests_that_are_shown_are_in_their_images() {
    judge("guest", |_, words| {
        let Some(path) = words[0].strip_prefix('/') else { return Ok(()) };
        let shipped = fs::read_dir(root().join("images")).unwrap().any(|image| {
            let file = image.unwrap().path().join("files").join(path);
            file.exists() || file.with_extension("hbs").exists()
        });
        if shipped { Ok(()) } else { Err(format!("no image has /{path}")) }
    });
}
