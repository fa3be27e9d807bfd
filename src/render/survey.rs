//! A look over the tags of a template before it is parsed.
//!
//! The parser of `handlebars` calls itself for each block and parenthesis it enters, so a template
//! could exhaust the stack. This survey follows the same grammar (`grammar.pest`) without
//! recursion, bounds the depth, and refuses the forms that imgbuild leaves out of the language.

use super::error::TemplateProblem;

/// The most blocks, or parentheses in a tag, inside each other.
const DEPTH_LIMIT: usize = 50;

/// A problem and the byte it is at.
type Failure = (TemplateProblem, usize);

/// Checks the depth of `text` and the forms it uses.
pub(super) fn survey(text: &str) -> Result<(), Failure> {
    let mut blocks = 0_usize;
    let mut from = 0;
    while let Some(start) = text[from..].find("{{").map(|found| found + from) {
        let before = text[from..start].bytes().rev().take_while(|byte| *byte == b'\\').count();
        // One backslash makes the braces plain text, two or more stand for themselves.
        from = match before {
            1 => start + if text[start + 2..].starts_with("{{") { 4 } else { 2 },
            _ => tag(text, start, &mut blocks)?,
        };
    }
    Ok(())
}

/// Looks over the tag at `start`; the result is its end.
fn tag(text: &str, start: usize, blocks: &mut usize) -> Result<usize, Failure> {
    let refuse = |what| Err((TemplateProblem::Unsupported(what), start));
    let inside = &text[start + 2..];
    if inside.starts_with("{{") {
        return refuse("raw blocks (`{{{{…}}}}`)");
    }
    if let Some(comment) = inside.strip_prefix('!') {
        let long = comment.strip_prefix("--").and_then(|long| long.find("--}}"));
        let end = long.map(|end| end + 4).or_else(|| comment.find("}}"));
        return Ok(end.map_or(text.len(), |end| start + 3 + end + 2));
    }
    let blank: &[char] = &['~', ' ', '\t', '\r', '\n'];
    let body = inside.trim_start_matches(blank);
    let sigil = body.trim_start_matches(['#', '/']).trim_start_matches(blank);
    match (body.bytes().next(), sigil.bytes().next()) {
        (_, Some(b'>')) => return refuse("partials (`{{> …}}`)"),
        (_, Some(b'*')) => return refuse("decorators (`{{*…}}`)"),
        (Some(b'#'), _) => *blocks += 1,
        (Some(b'/'), _) => *blocks = blocks.saturating_sub(1),
        _ => {}
    }
    if *blocks > DEPTH_LIMIT {
        return Err((TemplateProblem::TooDeep(DEPTH_LIMIT), start));
    }
    // `{{{value}}}` is the same as `{{value}}` here.
    let body = body.strip_prefix('{').unwrap_or(body);
    words(text, text.len() - body.len())
}

/// Looks over what a tag holds from `from` on; the result is the end of the tag.
fn words(text: &str, from: usize) -> Result<usize, Failure> {
    let bytes = text.as_bytes();
    let mut parentheses = 0_usize;
    let mut index = from;
    while let Some(byte) = bytes.get(index) {
        let past = |end: Option<usize>| end.map_or(bytes.len(), |end| index + 1 + end + 1);
        let rest = &bytes[index + 1..];
        index = match byte {
            b'}' if rest.starts_with(b"}") => return Ok(index + 2),
            b'"' | b'\'' => past(closing_quote(rest, *byte)),
            b'[' if index > from && matches!(bytes[index - 1], b'.' | b'/') => {
                past(memchr::memchr(b']', rest))
            }
            b'[' | b'{' => {
                let what = "lists and records written out in a tag";
                return Err((TemplateProblem::Unsupported(what), index));
            }
            b'(' if parentheses == DEPTH_LIMIT => {
                return Err((TemplateProblem::TooDeep(DEPTH_LIMIT), index));
            }
            b'(' => {
                parentheses += 1;
                index + 1
            }
            b')' => {
                parentheses = parentheses.saturating_sub(1);
                index + 1
            }
            _ => index + 1,
        };
    }
    Ok(text.len())
}

/// Where the text that `quote` opened before `rest` ends.
fn closing_quote(rest: &[u8], quote: u8) -> Option<usize> {
    let mut escaped = false;
    rest.iter().position(|byte| {
        let closes = *byte == quote && !escaped;
        escaped = *byte == b'\\' && !escaped;
        closes
    })
}
