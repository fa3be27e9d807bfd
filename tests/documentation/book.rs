//! The documentation is a book, too: `docs/SUMMARY.md` is its table of contents.

use std::collections::BTreeSet;
use std::path::Path;

use crate::markdown::{document, documents, links, normalised};
use crate::read;

const SUMMARY: &str = "docs/SUMMARY.md";

#[test]
fn the_table_of_contents_names_every_page_once() {
    let listed: Vec<String> = document(SUMMARY)
        .text
        .iter()
        .flat_map(|(_, line)| links(line).map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let once: BTreeSet<&String> = listed.iter().collect();
    assert_eq!(once.len(), listed.len(), "{SUMMARY} names a page twice");
    let pages: BTreeSet<String> = documents()
        .iter()
        .filter_map(|document| document.path.strip_prefix("docs").ok())
        .map(|page| page.display().to_string())
        .filter(|page| page != "SUMMARY.md")
        .collect();
    assert_eq!(once.into_iter().cloned().collect::<BTreeSet<_>>(), pages);
}

#[test]
fn the_parts_are_those_that_readers_look_for() {
    let summary = document(SUMMARY);
    let parts: Vec<&str> = summary.headings().skip(1).collect();
    assert_eq!(parts, ["Tutorial", "How to", "Reference", "Explanation"]);
}

#[test]
fn the_book_can_be_made() {
    let book: toml::Table = read("docs/book.toml").parse().unwrap();
    assert_eq!(book["book"]["src"].as_str(), Some("."));
    assert_eq!(book["build"]["create-missing"].as_bool(), Some(false));
}

/// What is outside of `docs` is not in the book. Nor is what GitHub draws and mdBook does not.
#[test]
fn pages_of_the_book_stay_in_the_book() {
    let mut wrong = Vec::new();
    for page in documents().iter().filter(|page| page.path.starts_with("docs")) {
        let directory = page.path.parent().unwrap();
        for (number, line) in &page.text {
            for link in links(line).filter(|link| !link.contains("://")) {
                let target = normalised(&directory.join(link.split('#').next().unwrap()));
                if !target.starts_with(Path::new("docs")) && !link.starts_with('#') {
                    wrong.push(format!("{}:{number}: {link}", page.path.display()));
                }
            }
        }
        let drawn = page.blocks("mermaid").map(|block| block.line);
        wrong.extend(drawn.map(|line| format!("{}:{line}: mermaid", page.path.display())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
