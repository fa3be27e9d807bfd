//! The documentation says what the program does: links lead somewhere, options and keys are all
//! described and exist, examples can be read and run.

mod blocks;
mod book;
mod claims;
mod help;
mod markdown;
mod node;
/// What Proxmox's own description of its API says.
#[path = "../support/pve"]
#[allow(dead_code, clippy::print_stderr, reason = "others use more of it; what is skipped is said")]
mod pve {
    pub mod format;
    pub mod schema;

    pub use schema::Flavour;
}
mod reference;
mod shell;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use help::{Help, option_names};
use imgbuild::lint::{Group, Lint};
use markdown::{
    Block, anchor, code_spans, document, documents, first_cells, keys, links, normalised,
    shown_commands, table_name,
};
use tempfile::TempDir;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Runs imgbuild in the project, with a store of its own.
fn imgbuild(arguments: &[&str]) -> Output {
    let store = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_imgbuild"))
        .args(arguments)
        .current_dir(root())
        .env("IMGBUILD_STORE", store.path())
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

fn stdout(arguments: &[&str]) -> String {
    let output = imgbuild(arguments);
    assert!(output.status.success(), "imgbuild {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn links_lead_somewhere() {
    let documents = documents();
    let anchors: BTreeMap<PathBuf, BTreeSet<String>> = documents
        .iter()
        .map(|document| (document.path.clone(), document.headings().map(anchor).collect()))
        .collect();
    let mut broken = Vec::new();
    for document in &documents {
        let directory = document.path.parent().unwrap();
        for (number, line) in &document.text {
            for link in links(line).filter(|link| !link.contains("://")) {
                let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
                let target = match path {
                    "" => document.path.clone(),
                    path => normalised(&directory.join(path)),
                };
                let found = root().join(&target).exists()
                    && (fragment.is_empty() || anchors[&target].contains(fragment));
                if !found {
                    broken.push(format!("{}:{number}: {link}", document.path.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "broken links:\n{}", broken.join("\n"));
}

#[test]
fn every_verb_and_option_is_described_and_exists() {
    let document = document("docs/verbs.md");
    let all = Help::of(None);
    let titles: BTreeSet<String> = document
        .headings()
        .filter_map(|title| title.strip_prefix("imgbuild "))
        .map(str::to_owned)
        .collect();
    assert_eq!(titles, all.verbs, "sections of docs/verbs.md and verbs of imgbuild");

    let global = document.section("Options of every verb");
    let global: BTreeSet<String> =
        first_cells(&global).into_iter().flat_map(option_names).collect();
    assert_eq!(global, all.options, "options of every verb in docs/verbs.md and in --help");

    for verb in &all.verbs {
        let help = Help::of(Some(verb));
        let section = document.section(&format!("imgbuild {verb}"));
        let cells = first_cells(&section);
        let described: BTreeSet<String> = cells.iter().copied().flat_map(option_names).collect();
        let own: BTreeSet<String> = help.options.difference(&all.options).cloned().collect();
        assert_eq!(described, own, "options of `{verb}` in docs/verbs.md and in --help");
        for argument in &help.arguments {
            let named = |cell: &&str| cell.trim_matches('`').starts_with(argument.as_str());
            assert!(
                cells.iter().any(named),
                "`{verb}` takes {argument}: docs/verbs.md does not say so"
            );
        }
    }
}

/// The text of a manual page: without the requests and escapes of groff_man(7).
fn plain(page: &str) -> String {
    let plain = page.replace("\\-", "-").replace("\\&", "");
    ["\\fB", "\\fI", "\\fR"].iter().fold(plain, |text, font| text.replace(font, ""))
}

#[test]
fn manual_pages_and_completions_name_every_verb_and_option() {
    let all = Help::of(None);
    let directory = tempfile::tempdir().unwrap();
    let written = stdout(&["man", "--dir", directory.path().to_str().unwrap()]);
    let page = |name: &str| {
        let path = directory.path().join(format!("{name}.1"));
        plain(&fs::read_to_string(&path).unwrap_or_else(|_| panic!("no {name}.1:\n{written}")))
    };
    let main = page("imgbuild");
    assert_eq!(main.trim_end(), plain(&stdout(&["man"])).trim_end());
    for verb in &all.verbs {
        assert!(main.contains(&format!("imgbuild-{verb}(1)")), "imgbuild.1 does not name {verb}");
        let help = Help::of(Some(verb));
        let mut text = page(&format!("imgbuild-{verb}"));
        for below in help.verbs.iter().filter(|below| *below != "help") {
            text += &page(&format!("imgbuild-{verb}-{below}"));
        }
        let text: BTreeSet<String> = option_names(&text.replace(['[', ']', '\n'], " ")).collect();
        let missing: Vec<&String> = help.options.difference(&text).collect();
        assert!(missing.is_empty(), "imgbuild-{verb}.1 does not name {missing:?}");
    }
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = stdout(&["completions", shell]);
        for verb in &all.verbs {
            assert!(script.contains(verb.as_str()), "{shell} does not complete {verb}");
        }
        assert!(script.contains("keep-days"), "{shell} does not complete the options of verbs");
    }
}

#[test]
fn every_key_of_what_is_compared_and_asked_is_described() {
    let path = "/etc/haproxy/imgbuild.cfg";
    for (arguments, document) in [
        (["diff", "haproxy", "haproxy", "--site", "campus", "--json"], "docs/diff.md"),
        (["why", "haproxy", path, "--site", "campus", "--json"], "docs/why.md"),
    ] {
        let text = read(document);
        let json: serde_json::Value = serde_json::from_str(&stdout(&arguments)).unwrap();
        let mut values = vec![&json];
        while let Some(value) = values.pop() {
            values.extend(value.as_array().into_iter().flatten());
            for (key, value) in value.as_object().into_iter().flatten() {
                assert!(text.contains(&format!("`{key}`")), "{document} does not describe {key}");
                values.push(value);
            }
        }
    }
}

#[test]
fn commands_that_are_shown_have_the_options_they_use() {
    let all = Help::of(None);
    let verbs: BTreeMap<&String, Help> =
        all.verbs.iter().map(|verb| (verb, Help::of(Some(verb)))).collect();
    for document in documents() {
        for command in shown_commands(&document) {
            let shown = format!("{}: imgbuild {command}", document.path.display());
            let verb = command.split_whitespace().find(|word| all.verbs.contains(*word));
            let known = verb.map_or(&all.options, |verb| &verbs[&verb.to_owned()].options);
            // What follows a pipe is another program's.
            let own = command.split(" | ").next().unwrap_or_default();
            let used = own.split([' ', '[', ']']).take_while(|word| *word != "--");
            for option in used.filter(|word| word.starts_with('-') && word.len() > 1) {
                assert!(known.contains(option), "{shown}: there is no {option}");
            }
        }
    }
}

/// A project of one root image, to whose files a test adds a line.
struct Project(TempDir);

const IMAGE: &str = r#"summary = "x"
version = "1"
[debian]
architecture = "amd64"
[[debian.repositories]]
name = "x"
url = "http://x.invalid"
suite = "x"
components = []
keyring = "keys"
signed_by = ["0000000000000000000000000000000000000000"]
"#;

impl Project {
    fn with(image: &str, overlay: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("images/x/image.toml", image),
            ("images/x/keys", "x"),
            ("overlays/y/overlay.toml", overlay),
        ] {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(directory)
    }

    /// The keys that the reader says are known, when it meets one that it does not know.
    fn known_keys(&self) -> BTreeSet<String> {
        let output = imgbuild(&["-C", self.0.path().to_str().unwrap(), "check"]);
        let errors = String::from_utf8(output.stderr).unwrap();
        let known = errors.split("known keys: ").nth(1).unwrap_or_else(|| panic!("{errors}"));
        known.lines().next().unwrap().split(", ").map(|key| key.trim().to_owned()).collect()
    }
}

/// A key that resembles no other, so that the reader lists them all.
const STRANGE: &str = "qqqqqqqqqqqqqqqqqqqqqqqq = 1\n";

/// Each section of docs/definition.md that describes tables, and those tables.
const SECTIONS: [(&str, &[&str]); 20] = [
    ("`[packages]`", &["[packages]"]),
    ("`[sources.NAME]`", &["[sources.a]"]),
    ("`[users.NAME]` and `[groups.NAME]`", &["[users.a]", "[groups.a]"]),
    ("`[parameters.NAME]`", &["[parameters.a]"]),
    ("`[secrets.NAME]`", &["[secrets.a]"]),
    ("`[[state]]`", &["[[state]]"]),
    ("`[[files]]`", &["[[files]]"]),
    ("`[units]`", &["[units]"]),
    ("`[[run]]`", &["[[run]]"]),
    ("`[[check]]`", &["[[check]]"]),
    ("`[health]`", &["[health]"]),
    ("`[endpoints.NAME]`", &["[endpoints.a]"]),
    ("`[[connections]]`", &["[[connections]]"]),
    ("`[cluster]`", &["[cluster]"]),
    ("`[swap]`", &["[swap]"]),
    ("`[lints]`", &["[lints.cache]"]),
    ("`[machine]`", &["[machine]"]),
    ("`[boot]`", &["[boot]"]),
    ("`[values]`", &[]),
    ("Files and templates", &[]),
];

#[test]
fn every_key_of_an_image_is_described_and_exists() {
    let document = document("docs/definition.md");
    let site = "summary = \"y\"\n";
    let known = |image: String| Project::with(&image, site).known_keys();

    let top = known(format!("{STRANGE}{IMAGE}"));
    let headings = document.headings().flat_map(code_spans).filter(|text| text.starts_with('['));
    let described: BTreeSet<String> =
        keys(&document.section("Top level")).into_iter().chain(headings.map(table_name)).collect();
    assert_eq!(described, top, "keys of image.toml in docs/definition.md and in the reader");

    let debian = known(IMAGE.replace("[debian]\n", &format!("[debian]\n{STRANGE}")));
    let repository = known(format!("{IMAGE}{STRANGE}"));
    let described = keys(&document.section("`[debian]`: where packages come from"));
    assert_eq!(described, &debian | &repository, "keys of [debian]");

    let above =
        format!("summary = \"x\"\nversion = \"1\"\nextends = \"x\"\n[[repositories]]\n{STRANGE}");
    let described = keys(&document.section("`[[repositories]]`: further repositories"));
    assert_eq!(described, &known(above) - &repository, "keys of [[repositories]]");

    for (title, tables) in SECTIONS {
        let read = tables.iter().map(|table| known(format!("{IMAGE}{table}\n{STRANGE}")));
        let read: BTreeSet<String> = read.flatten().collect();
        assert_eq!(keys(&document.section(title)), read, "keys in the section {title}");
    }
}

#[test]
fn every_key_of_an_overlay_is_described_and_exists() {
    let document = document("docs/overlay.md");
    let top = Project::with(IMAGE, &format!("{STRANGE}summary = \"y\"")).known_keys();
    let nodes = format!("summary = \"y\"\n[[nodes]]\n{STRANGE}");
    let nodes = Project::with(IMAGE, &nodes).known_keys();
    assert_eq!(keys(&document.section("Keys")), &top | &nodes);

    let known = |table: &str| {
        Project::with(IMAGE, &format!("summary = \"y\"\n{table}\n{STRANGE}")).known_keys()
    };
    let hosting = known("[proxmox]");
    let guests = known("[guests.x]");
    assert_eq!(keys(&document.section("Where guests live")), &hosting | &guests);
}

#[test]
fn every_key_of_an_audit_is_described_and_exists() {
    let project = Project::with(IMAGE, "summary = \"y\"\n");
    fs::write(project.0.path().join("audit.toml"), format!("[[accept]]\n{STRANGE}")).unwrap();
    let described = keys(&document("docs/audit.md").section("Accepting one"));
    assert_eq!(described, project.known_keys(), "keys of audit.toml");
}

#[test]
fn every_lint_is_described_and_exists() {
    let document = document("docs/lints.md");
    let lines: Vec<&str> = document.text.iter().map(|(_, line)| line.as_str()).collect();
    // Each by the heading above it, with its level.
    let mut described = BTreeSet::new();
    let mut heading = String::new();
    for line in lines {
        if let Some(title) = line.strip_prefix("## ") {
            heading = title.to_lowercase();
        }
        let mut cells = line.strip_prefix("| `").unwrap_or_default().split(" | ");
        if let (Some(name), Some(level), Some(_)) = (cells.next(), cells.next(), cells.next()) {
            let group = heading.split(' ').next_back().unwrap_or_default();
            let name = name.trim_matches('`');
            described.insert(format!("{group}: {name} {level}"));
        }
    }
    let group = |lint: &Lint| match lint.group {
        Group::Needs => "find",
        group => group.word(),
    };
    let known: BTreeSet<String> = imgbuild::lint::all()
        .map(|lint| format!("{}: {} {}", group(lint), lint.name, lint.level()))
        .collect();
    assert_eq!(described, known, "lints of docs/lints.md and of the registry");
    let listed: serde_json::Value =
        serde_json::from_str(&stdout(&["lint", "--list", "--json"])).unwrap();
    let table = stdout(&["lint", "--list"]);
    assert_eq!(listed["lints"].as_array().unwrap().len(), known.len());
    for lint in imgbuild::lint::all() {
        assert!(table.contains(&format!("  {} ", lint.name)), "--list does not show {}", lint.name);
    }
}

#[test]
fn examples_in_toml_and_json_can_be_read() {
    for document in documents() {
        let place = |block: &Block| format!("{}:{}", document.path.display(), block.line);
        for block in document.blocks("toml") {
            let read = block.text.parse::<toml::Table>();
            assert!(read.is_ok(), "{}: {}", place(block), read.unwrap_err());
        }
        for block in document.blocks("json") {
            let read = serde_json::from_str::<serde_json::Value>(&block.text);
            assert!(read.is_ok(), "{}: {}", place(block), read.unwrap_err());
        }
    }
}

/// Verbs that need neither network nor a build, in the project as it is.
const RUN: [&str; 4] = ["check", "explain", "gc", "graph"];

#[test]
fn commands_of_console_examples_succeed() {
    let mut run = 0;
    for document in documents() {
        let lines = document.blocks("console").flat_map(|block| block.text.lines());
        for command in lines.filter_map(|line| line.strip_prefix("$ imgbuild ")) {
            let words: Vec<&str> = command.split_whitespace().collect();
            let verb = words.first().copied().unwrap_or_default();
            assert!(
                RUN.contains(&verb),
                "{}: cannot be run here: {command}",
                document.path.display()
            );
            stdout(&words);
            run += 1;
        }
    }
    assert!(run > 0, "no example was run");
}

#[test]
fn the_readme_tests_as_ci_does() {
    let readme = document("README.md");
    let shell = readme.blocks.iter().filter(|block| block.class().is_some());
    let shown: Vec<&str> = shell.flat_map(|block| block.text.lines()).collect();
    let script = read(".ci/run");
    let tests: Vec<&str> = script.lines().filter(|line| line.starts_with("cargo test")).collect();
    assert!(!tests.is_empty(), ".ci/run runs no tests");
    for test in tests {
        assert!(shown.contains(&test), "README.md does not show `{test}`");
    }
}

/// The texts that imgbuild and its images can write: their source, with continued lines joined.
fn sources() -> String {
    let mut text = String::new();
    for directory in ["src", "images"] {
        for entry in walkdir::WalkDir::new(root().join(directory)) {
            let path = entry.unwrap().into_path();
            text.push_str(&fs::read_to_string(&path).unwrap_or_default());
        }
    }
    let mut joined = String::new();
    for (index, part) in text.split("\\\n").enumerate() {
        joined.push_str(if index == 0 { part } else { part.trim_start() });
    }
    joined
}

#[test]
fn messages_with_a_remedy_still_exist() {
    let sources = sources();
    let document = document("docs/troubleshooting.md");
    let titles = document.text.iter().flat_map(|(_, line)| line.split("**`").skip(1));
    let mut count = 0;
    for title in titles.filter_map(|rest| rest.split('`').next()) {
        for part in title.split('…').map(|part| part.trim_matches([' ', ':'])) {
            assert!(sources.contains(part), "nothing writes `{part}` (`{title}`)");
        }
        count += 1;
    }
    assert!(count > 15, "only {count} messages are explained");
}
