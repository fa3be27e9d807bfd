//! The deb822 format of control files, `Packages` and `Release`: paragraphs of `Name: value`
//! fields, separated by empty lines (deb822(5)).
//!
//! The readers borrow from the text and allocate nothing per field, because a `Packages` file
//! has two million lines.

use memchr::{memchr, memmem};

/// The paragraphs of `text`, each without the empty lines around it.
pub fn paragraphs(text: &str) -> Paragraphs<'_> {
    Paragraphs { rest: text }
}

/// Iterator of [`paragraphs`].
#[derive(Clone, Debug)]
pub struct Paragraphs<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        self.rest = self.rest.trim_start_matches('\n');
        if self.rest.is_empty() {
            return None;
        }
        let end = memmem::find(self.rest.as_bytes(), b"\n\n").unwrap_or(self.rest.len());
        let (paragraph, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(paragraph.trim_end_matches('\n'))
    }
}

/// What follows the first line of `text`.
fn skip_line(text: &str) -> &str {
    match memchr(b'\n', text.as_bytes()) {
        Some(end) => &text[end + 1..],
        None => "",
    }
}

/// A line that is neither a field nor the continuation of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the paragraph is not `Name: value`: `{text}`")]
pub struct MalformedLine {
    /// The line, counted from 1 within its paragraph.
    pub line: usize,
    /// The line itself, at most 80 characters of it.
    pub text: String,
}

/// The fields of one paragraph, in order: the name as written, and the value without the blanks
/// around it. Continuation lines are part of the value, with their newlines and leading blanks.
pub fn fields(paragraph: &str) -> Fields<'_> {
    Fields { rest: paragraph, line: 1 }
}

/// Iterator of [`fields`].
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(&'a str, &'a str), MalformedLine>;

    fn next(&mut self) -> Option<Self::Item> {
        // Comments are allowed between fields (deb822(5)).
        while self.rest.starts_with('#') {
            self.rest = skip_line(self.rest);
            self.line += 1;
        }
        if self.rest.is_empty() {
            return None;
        }
        let bytes = self.rest.as_bytes();
        let mut end = memchr(b'\n', bytes).unwrap_or(bytes.len());
        let first_line = &self.rest[..end];
        let line = self.line;
        self.line += 1;
        while matches!(bytes.get(end + 1), Some(b' ' | b'\t')) {
            let length = memchr(b'\n', &bytes[end + 1..]).unwrap_or(bytes.len() - end - 1);
            end += 1 + length;
            self.line += 1;
        }
        let field = &self.rest[..end];
        self.rest = self.rest.get(end + 1..).unwrap_or("");
        Some(match first_line.find(':').filter(|&colon| is_field_name(&first_line[..colon])) {
            Some(colon) => Ok((&field[..colon], field[colon + 1..].trim_ascii())),
            None => Err(MalformedLine { line, text: first_line.chars().take(80).collect() }),
        })
    }
}

/// deb822(5): printable US-ASCII without blanks and `:`, not starting with `#` or `-`.
fn is_field_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['#', '-'])
        && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The value of the field `name`, whose case does not matter, in a small paragraph.
///
/// # Errors
///
/// A malformed line before the field was found.
pub fn field<'a>(paragraph: &'a str, name: &str) -> Result<Option<&'a str>, MalformedLine> {
    for field in fields(paragraph) {
        let (found, value) = field?;
        if found.eq_ignore_ascii_case(name) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The source package of `package`, and its version, by its field `Source`: `NAME`, or `NAME (VERSION)` if its version
/// is another (deb-control(5)).
pub fn source(field: Option<&str>, package: &str, version: &str) -> (String, String) {
    let field = field.unwrap_or(package);
    match field.split_once(' ') {
        Some((name, version)) => {
            (name.to_owned(), version.trim().trim_matches(['(', ')']).to_owned())
        }
        None => (field.to_owned(), version.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_end_at_empty_lines() {
        let text = "\n\nPackage: a\nVersion: 1\n\n\nPackage: b\n\nPackage: c\n";
        let found: Vec<_> = paragraphs(text).collect();
        assert_eq!(found, ["Package: a\nVersion: 1", "Package: b", "Package: c"]);
        assert_eq!(paragraphs("").count(), 0);
        assert_eq!(paragraphs("\n\n").count(), 0);
    }

    #[test]
    fn continuation_lines_belong_to_the_field_before_them() {
        let paragraph = "Package: a\n# a comment\nDescription: short\n long\n .\n longer\nTag:x";
        let found: Vec<_> = fields(paragraph).map(Result::unwrap).collect();
        assert_eq!(
            found,
            [("Package", "a"), ("Description", "short\n long\n .\n longer"), ("Tag", "x")]
        );
        assert_eq!(field(paragraph, "tag"), Ok(Some("x")));
        assert_eq!(field(paragraph, "Depends"), Ok(None));
    }

    #[test]
    fn malformed_lines_are_named() {
        for (paragraph, line) in [
            ("Package: a\nnonsense", 2),
            (" leading", 1),
            (": empty", 1),
            ("A b: c", 1),
            ("-a: b", 1),
        ] {
            let error = fields(paragraph).find_map(Result::err).unwrap();
            assert_eq!(error.line, line, "{paragraph:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(?s)[ \t\r\nA#:é-]{0,60}") {
            for paragraph in paragraphs(&text) {
                let _ = fields(paragraph).count();
            }
        }
    }
}
