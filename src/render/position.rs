//! Where in a template something stands.
//!
//! `handlebars` keeps the line and column of every element, but not of the names inside it. The
//! checker visits names in the order of the text, so a cursor that is moved to each element and
//! past each name finds them again.

use handlebars::template::TemplateMapping;

use crate::definition::{Place, Source};

/// A position in the text of a template.
pub(super) struct Cursor<'a> {
    source: &'a Source,
    /// The byte offset of the beginning of each line.
    lines: Vec<usize>,
    offset: usize,
    /// Where the last name that was passed begins.
    passed: Vec<(String, usize)>,
}

impl<'a> Cursor<'a> {
    /// The beginning of `source`.
    pub(super) fn new(source: &'a Source) -> Self {
        Self { source, lines: line_starts(source.inner()), offset: 0, passed: Vec::new() }
    }

    fn text(&self) -> &'a str {
        self.source.inner()
    }

    /// Moves to the beginning of an element.
    pub(super) fn move_to(&mut self, mapping: &TemplateMapping) {
        self.offset = offset(self.text(), &self.lines, mapping.0, mapping.1);
        self.passed.clear();
    }

    /// Moves to the next `{{else HELPER … WORD …}}`.
    pub(super) fn move_to_else(&mut self, helper: &str, word: &str) {
        let text = self.text();
        let mut from = self.offset;
        while let Some(start) = text[from..].find("{{").map(|found| found + from) {
            from = start + 2;
            let end = text[from..].find("}}").map_or(text.len(), |found| found + from);
            let tag = text[from..end].trim_start_matches(['~', ' ', '\t', '\r', '\n']);
            let inside = tag.strip_prefix("else").or_else(|| tag.strip_prefix('^'));
            let inside = inside.map(str::trim_start).and_then(|tag| tag.strip_prefix(helper));
            if inside.is_some_and(|tag| find_word(tag, word).is_some()) {
                self.offset = start;
                self.passed.clear();
                return;
            }
        }
    }

    /// Moves past the next occurrence of `word`.
    pub(super) fn pass(&mut self, word: &str) {
        if let Some(start) = self.find(word) {
            self.offset = start + word.len();
            self.passed.push((word.to_owned(), start));
        }
    }

    /// The next occurrence of `word`, or else the tag at the cursor.
    pub(super) fn next(&self, word: &str) -> Place {
        match self.find(word) {
            Some(start) => self.place(start, word.len()),
            None => self.tag(),
        }
    }

    /// The last occurrence of `word` that was passed since the element began.
    pub(super) fn previous(&self, word: &str) -> Place {
        match self.passed.iter().rev().find(|(passed, _)| passed == word) {
            Some((_, start)) => self.place(*start, word.len()),
            None => self.tag(),
        }
    }

    fn find(&self, word: &str) -> Option<usize> {
        find_word(&self.text()[self.offset..], word).map(|found| found + self.offset)
    }

    fn tag(&self) -> Place {
        let rest = &self.text()[self.offset..];
        let length = rest.find("}}").map_or(0, |end| end + 2);
        self.place(self.offset, length.min(rest.find('\n').unwrap_or(length)))
    }

    fn place(&self, start: usize, length: usize) -> Place {
        Place::new(self.source.clone(), start..start + length)
    }
}

/// Where `word` stands in `text` with nothing before or after it that would make it longer.
fn find_word(text: &str, word: &str) -> Option<usize> {
    if word.is_empty() {
        return None;
    }
    let part = |letter: char| letter.is_alphanumeric() || "-_$:./@[]".contains(letter);
    text.match_indices(word).map(|(start, _)| start).find(|start| {
        !text[..*start].ends_with(part) && !text[start + word.len()..].starts_with(part)
    })
}

/// The byte offset of the beginning of each line of `text`.
pub(super) fn line_starts(text: &str) -> Vec<usize> {
    let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
    std::iter::once(0).chain(breaks.map(|(index, _)| index + 1)).collect()
}

/// The byte offset of a line and column, both from 1; columns count letters, as pest does.
pub(super) fn offset(text: &str, lines: &[usize], line: usize, column: usize) -> usize {
    let Some(start) = line.checked_sub(1).and_then(|line| lines.get(line)) else {
        return text.len();
    };
    let mut letters = text[*start..].char_indices();
    letters.nth(column.saturating_sub(1)).map_or(text.len(), |(index, _)| start + index)
}
