//! The documentation says what the program does: links lead somewhere, options and keys are all
//! described and exist, examples can be read and run.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

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

/// A document, split into what is code and what is text.
struct Document {
    path: PathBuf,
    /// Lines outside fenced blocks, with their numbers from 1.
    text: Vec<(usize, String)>,
    blocks: Vec<Block>,
}

struct Block {
    line: usize,
    language: String,
    text: String,
}

impl Document {
    fn read(path: PathBuf) -> Self {
        let content = read(&path);
        let mut document = Self { path, text: Vec::new(), blocks: Vec::new() };
        let mut open: Option<Block> = None;
        for (index, line) in content.lines().enumerate() {
            let fence = line.trim_start().strip_prefix("```");
            match (fence, &mut open) {
                (Some(_), Some(_)) => document.blocks.extend(open.take()),
                (Some(language), None) => {
                    let language = language.trim().to_owned();
                    open = Some(Block { line: index + 1, language, text: String::new() });
                }
                (None, Some(block)) => block.text.extend([line, "\n"]),
                (None, None) => document.text.push((index + 1, line.to_owned())),
            }
        }
        assert!(open.is_none(), "{}: a block is not closed", document.path.display());
        document
    }

    fn headings(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.iter().map(|(_, line)| line.as_str());
        lines.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
    }

    /// The text between the heading `title` and the next one of its level.
    fn section(&self, title: &str) -> Vec<&str> {
        let lines = self.text.iter().map(|(_, line)| line.as_str());
        let mut lines = lines.skip_while(|line| line.trim_start_matches('#').trim() != title);
        let heading = lines.next().unwrap_or_else(|| panic!("no heading `{title}`"));
        let level = heading.bytes().take_while(|byte| *byte == b'#').count();
        let ends = |line: &str| {
            let marks = line.bytes().take_while(|byte| *byte == b'#').count();
            (1..=level).contains(&marks)
        };
        lines.take_while(|line| !ends(line)).collect()
    }

    fn blocks(&self, language: &str) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.language == language)
    }
}

/// Every document of the repository.
fn documents() -> Vec<Document> {
    let skipped = ["target", "out", ".git"];
    let walk = walkdir::WalkDir::new(root()).sort_by_file_name().into_iter();
    let files = walk
        .filter_entry(|entry| {
            !skipped.iter().any(|name| entry.depth() == 1 && entry.file_name() == *name)
        })
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    files.map(|path| Document::read(path.strip_prefix(root()).unwrap().to_owned())).collect()
}

fn document(path: &str) -> Document {
    Document::read(path.into())
}

/// The texts between backticks of `line`.
fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The first cells of the tables in `lines`.
fn first_cells<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let rows = lines.iter().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" | ").next()).collect()
}

/// The anchor that GitHub gives a heading: lower case, blanks become `-`, other signs vanish.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign));
    kept.map(|sign| if sign == ' ' { '-' } else { sign }).collect::<String>().to_lowercase()
}

/// The targets of `[text](target)` in `line`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
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

/// `path` without `..`, as text alone says it.
fn normalised(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path {
        match part.to_str() {
            Some("..") => drop(result.pop()),
            _ => result.push(part),
        }
    }
    result
}

/// What `--help` of a verb, or of imgbuild itself without one, says.
struct Help {
    verbs: BTreeSet<String>,
    arguments: BTreeSet<String>,
    options: BTreeSet<String>,
}

impl Help {
    fn of(verb: Option<&str>) -> Self {
        let text = stdout(&verb.into_iter().chain(["--help"]).collect::<Vec<_>>());
        let mut help =
            Self { verbs: BTreeSet::new(), arguments: BTreeSet::new(), options: BTreeSet::new() };
        let mut part = "";
        for line in text.lines() {
            if let Some(title) = line.strip_suffix(':').filter(|title| !title.starts_with(' ')) {
                part = title;
            }
            // Entries are indented by two to six blanks; their explanation, when it is wrapped, by more.
            let entry = line.trim_start();
            if !(2..=6).contains(&(line.len() - entry.len())) {
                continue;
            }
            let entry = entry.split("  ").next().unwrap_or_default();
            match part {
                "Commands" => drop(help.verbs.insert(entry.to_owned())),
                "Arguments" => {
                    let name = entry.trim_matches(|sign: char| !sign.is_alphanumeric());
                    help.arguments.insert(name.to_owned());
                }
                _ => help.options.extend(option_names(entry)),
            }
        }
        help
    }
}

/// The options that `text` names: `-C`, `--project`.
fn option_names(text: &str) -> impl Iterator<Item = String> {
    let words = text.split([' ', ',', '`', '=']);
    words.filter(|word| word.len() > 1 && word.starts_with('-')).map(str::to_owned)
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

/// The commands that code of a document shows: those of fenced blocks and of backticks.
fn shown_commands(document: &Document) -> Vec<String> {
    let fenced = document.blocks.iter().flat_map(|block| block.text.lines());
    let inline = document.text.iter().flat_map(|(_, line)| code_spans(line));
    let lines = fenced.chain(inline).map(|line| line.trim_start_matches("$ "));
    let commands = lines.filter_map(|line| {
        ["imgbuild ", "cargo run --release -- "].iter().find_map(|start| line.strip_prefix(start))
    });
    commands.map(|line| line.split(" #").next().unwrap_or(line).to_owned()).collect()
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
            let used = command.split([' ', '[', ']']);
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

/// What `document` names at the beginning of tables' rows, with headings.
fn described(document: &Document) -> BTreeSet<&str> {
    let lines: Vec<&str> = document.text.iter().map(|(_, line)| line.as_str()).collect();
    let cells = first_cells(&lines);
    let headings = document.headings().flat_map(code_spans);
    cells.into_iter().flat_map(code_spans).chain(headings).collect()
}

fn assert_described(document: &Document, table: &str, keys: &BTreeSet<String>) {
    let described = described(document);
    for key in keys {
        let found = described.iter().any(|text| {
            let name = text.trim_matches(['[', ']']);
            name == key || name.split('.').next() == Some(key)
        });
        assert!(found, "{}: `{key}` of {table} is not described", document.path.display());
    }
}

#[test]
fn every_key_of_an_image_is_described() {
    let document = document("docs/definition.md");
    let tables = [
        ("[packages]", ""),
        ("[users.a]", ""),
        ("[groups.a]", ""),
        ("[parameters.a]", ""),
        ("[secrets.a]", ""),
        ("[[state]]", ""),
        ("[[files]]", ""),
        ("[units]", ""),
        ("[[run]]", ""),
        ("[[check]]", ""),
        ("[health]", ""),
    ];
    let top = Project::with(&format!("{STRANGE}{IMAGE}"), "summary = \"y\"").known_keys();
    assert_described(&document, "image.toml", &top);
    let repository = Project::with(&format!("{IMAGE}{STRANGE}"), "summary = \"y\"").known_keys();
    assert_described(&document, "[[debian.repositories]]", &repository);
    for (table, before) in tables {
        let image = format!("{IMAGE}{table}\n{before}{STRANGE}");
        let keys = Project::with(&image, "summary = \"y\"").known_keys();
        assert_described(&document, table, &keys);
    }
}

#[test]
fn every_key_of_an_overlay_is_described() {
    let document = document("docs/overlay.md");
    let top = Project::with(IMAGE, &format!("{STRANGE}summary = \"y\"")).known_keys();
    assert_described(&document, "overlay.toml", &top);
    let nodes = format!("summary = \"y\"\n[[nodes]]\n{STRANGE}");
    assert_described(&document, "[[nodes]]", &Project::with(IMAGE, &nodes).known_keys());
}

#[test]
fn every_lint_is_described_and_exists() {
    let document = document("docs/lints.md");
    let lines: Vec<&str> = document.text.iter().map(|(_, line)| line.as_str()).collect();
    let described: BTreeSet<&str> = first_cells(&lines).into_iter().flat_map(code_spans).collect();
    let known: BTreeSet<&str> = imgbuild::artifact::lint::all().map(|lint| lint.name).collect();
    assert_eq!(described, known);
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
const RUN: [&str; 3] = ["check", "explain", "gc"];

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
    let shown: Vec<&str> = readme.blocks("sh").flat_map(|block| block.text.lines()).collect();
    let script = read(".ci/run");
    let tests: Vec<&str> = script.lines().filter(|line| line.starts_with("cargo test")).collect();
    assert!(!tests.is_empty(), ".ci/run runs no tests");
    for test in tests {
        assert!(shown.contains(&test), "README.md does not show `{test}`");
    }
}
