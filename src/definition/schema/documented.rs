//! What keys are for, in the words of the documentation, so that it is said once.

use super::File;

const DEFINITION: &str = include_str!("../../../docs/definition.md");
const OVERLAY: &str = include_str!("../../../docs/overlay.md");
const POLICY: &str = include_str!("../../../docs/policy.md");

/// What the documentation says of a key: the last cell of its row in a table below `start`, which is a
/// heading, or how the first row of the table begins.
///
/// A table that both files have is described for one of them.
pub(super) fn description(file: File, start: &str, key: &str) -> Option<String> {
    let (own, other) = match file {
        File::Image => (DEFINITION, OVERLAY),
        File::Overlay => (OVERLAY, DEFINITION),
        File::Policy => (POLICY, POLICY),
    };
    described(own, start, key).or_else(|| described(other, start, key))
}

fn described(text: &str, start: &str, key: &str) -> Option<String> {
    let is_heading = |line: &str| {
        line.strip_prefix('#').is_some_and(|line| line.trim_start_matches('#').trim() == start)
    };
    let is_row = |line: &str| start.starts_with('|') && line.starts_with(start);
    let mut lines = text.lines().skip_while(|line| !is_heading(line) && !is_row(line));
    lines.next()?;
    let row = lines
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .find(|row| row.split(" | ").next().is_some_and(|cell| names(cell, key)))?;
    let cell = row.rsplit(" | ").next()?;
    Some(plain(&cell.replace("\\|", "|")))
}

/// Whether the first cell of a row is about `key`: `` `minimum`, `maximum` ``, `` `[images.NAME]` ``.
fn names(cell: &str, key: &str) -> bool {
    let mut names = cell.split('`').skip(1).step_by(2).map(|name| name.trim_matches(['[', ']']));
    names.any(|name| name.split('.').next() == Some(key))
}

/// A cell without the marks of Markdown: links are only their text.
fn plain(cell: &str) -> String {
    let mut text = String::new();
    let mut rest = cell;
    while let Some((before, after)) = rest.split_once('[') {
        let link = after.split_once("](").and_then(|(shown, tail)| {
            let (_, tail) = tail.split_once(')')?;
            let is_code = shown.len() > 2 && shown.starts_with('`') && shown.ends_with('`');
            (is_code || !shown.contains(['[', ']'])).then_some((shown, tail))
        });
        text.push_str(before);
        match link {
            Some((shown, tail)) => {
                text.push_str(shown);
                rest = tail;
            }
            None => {
                text.push('[');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    text.replace('`', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_code_become_text() {
        for (cell, text) in [
            ("The [source](#a), `x`", "The source, x"),
            ("`[first, last]` of [b](c) and [d](e)", "[first, last] of b and d"),
            ("in [`[operators]`](a.md#b), `[users]`", "in [operators], [users]"),
            ("plain", "plain"),
        ] {
            assert_eq!(plain(cell), text);
        }
    }
}
