//! Markdown, as far as the tests need it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::{read, root};

/// A document, split into what is code and what is text.
pub struct Document {
    pub path: PathBuf,
    /// Lines outside fenced blocks, with their numbers from 1.
    pub text: Vec<(usize, String)>,
    pub blocks: Vec<Block>,
}

pub struct Block {
    pub line: usize,
    pub language: String,
    pub text: String,
}

impl Block {
    /// What class of shell it is: `node` for a block that begins with three backticks and `sh,node`.
    pub fn class(&self) -> Option<&str> {
        match self.language.split_once(',') {
            None => (self.language == "sh").then_some(""),
            Some((language, class)) => (language == "sh").then_some(class),
        }
    }
}

impl Document {
    pub fn read(path: PathBuf) -> Self {
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

    pub fn headings(&self) -> impl Iterator<Item = &str> {
        let lines = self.text.iter().map(|(_, line)| line.as_str());
        lines.filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim())
    }

    /// The text between the heading `title` and the next one of its level.
    pub fn section(&self, title: &str) -> Vec<&str> {
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

    pub fn blocks(&self, language: &str) -> impl Iterator<Item = &Block> {
        self.blocks.iter().filter(move |block| block.language == language)
    }
}

/// Every document of the repository.
pub fn documents() -> Vec<Document> {
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

pub fn document(path: &str) -> Document {
    Document::read(path.into())
}

/// The texts between backticks of `line`.
pub fn code_spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The first cells of the tables in `lines`.
pub fn first_cells<'a>(lines: &[&'a str]) -> Vec<&'a str> {
    let rows = lines.iter().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| row.split(" | ").next()).collect()
}

/// The anchor that GitHub gives a heading: lower case, blanks become `-`, other signs vanish.
pub fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|sign| sign.is_alphanumeric() || " -_".contains(*sign));
    kept.map(|sign| if sign == ' ' { '-' } else { sign }).collect::<String>().to_lowercase()
}

/// The targets of `[text](target)` in `line`.
pub fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// `path` without `..`, as text alone says it.
pub fn normalised(path: &Path) -> PathBuf {
    let mut result = PathBuf::new();
    for part in path {
        match part.to_str() {
            Some("..") => drop(result.pop()),
            _ => result.push(part),
        }
    }
    result
}

/// The keys that `lines` describe: the names in the first column of tables headed "key".
pub fn keys(lines: &[&str]) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut inside = false;
    let mut previous = "";
    for line in lines {
        if !previous.starts_with('|') {
            inside = line.starts_with("| key");
        } else if inside {
            let cell = line.split(" | ").next().unwrap_or_default();
            keys.extend(code_spans(cell).map(table_name));
        }
        previous = line;
    }
    keys
}

/// The key that `[name]`, `[name.NAME]` or `[[name]]` stands for.
pub fn table_name(text: &str) -> String {
    let name = text.trim_matches(['[', ']']);
    name.split('.').next().unwrap_or(name).to_owned()
}

/// The commands that a document shows beside those of its blocks of shell: after a prompt, and in backticks.
pub fn shown_commands(document: &Document) -> Vec<String> {
    let printed = document.blocks.iter().filter(|block| block.class().is_none());
    let fenced = printed.flat_map(|block| block.text.lines());
    let inline = document.text.iter().flat_map(|(_, line)| code_spans(line));
    let lines = fenced.chain(inline).map(|line| line.trim_start_matches("$ "));
    let commands = lines.filter_map(|line| {
        ["imgbuild ", "cargo run --release -- "].iter().find_map(|start| line.strip_prefix(start))
    });
    commands.map(|line| line.split(" #").next().unwrap_or(line).to_owned()).collect()
}
