//! The role's own daemons judge their rendered configuration, in the sandbox, on the finished tree.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layers::BuiltTree;
use super::session::Session;
use super::{Builder, Check, Error, Layer};
use crate::digest::{Digest, Hasher};
use crate::layer::lay::Extent;
use crate::layer::request::{Answer, Request};
use crate::progress::Step;
use crate::render::{RenderedKind, RenderedLayer};
use crate::store::KeyKind;

/// Checks that have passed, by tree and command.
const CHECK: KeyKind = KeyKind::new("check");

/// Lines of output shown when a check fails.
const SHOWN: usize = 40;

/// A check that has passed.
#[derive(Debug, Serialize, Deserialize)]
struct Passed {
    command: Vec<String>,
}

impl Builder<'_> {
    /// Runs those of `checks` that have not passed on exactly these layers, whose rendered files are
    /// `rendered`. `tree` is the one that layers were built in; it is used again if it was needed.
    ///
    /// # Errors
    /// [`Error::Check`] with the output of the command and the templates it complains of.
    pub fn run_checks(
        &self,
        checks: &[Check],
        rendered: &[RenderedLayer],
        layers: &[Layer],
        tree: BuiltTree<'_, '_>,
    ) -> Result<(), Error> {
        let pending: Vec<(&Check, Digest)> = checks
            .iter()
            .map(|check| (check, key(check, layers)))
            .filter(|(_, key)| self.store.get_key::<Passed>(CHECK, key).is_none())
            .collect();
        if pending.is_empty() {
            return Ok(());
        }
        let mut session = if tree.session.is_running() {
            tree.session
        } else {
            Session::new(self, Extent::Runnable, layers.iter().map(|layer| layer.record.size).sum())
        };
        let epoch = layers.last().map_or(0, |layer| layer.record.epoch);
        for (check, key) in pending {
            let shown = check.command.join(" ");
            let step = Step::start(self.progress, format!("{} check: {shown}", self.role), None);
            let request = Request::Check { command: check.command.clone(), epoch };
            match session.request(layers, &request, "")? {
                Answer::Ended { status: 0, .. } => step.finish("passed"),
                Answer::Ended { output, .. } => return Err(self.refused(rendered, check, &output)),
                Answer::Failed(failure) => {
                    let help = failure.help.is_none();
                    let help = help.then(|| format!("correct the check in {}", check.place));
                    let action = format!("run the check `{shown}`");
                    return Err(Error::from_failure(action, failure, help));
                }
                _ => return Err(crate::sandbox::Error::Protocol("no status".to_owned()).into()),
            }
            self.store.put_key(CHECK, &key, &Passed { command: check.command.clone() })?;
        }
        Ok(())
    }

    fn refused(&self, rendered: &[RenderedLayer], check: &Check, output: &str) -> Error {
        let lines: Vec<&str> = output.lines().collect();
        let last = &lines[lines.len().saturating_sub(SHOWN)..];
        Error::Check {
            image: self.role.clone(),
            command: format!("`{}`", check.command.join(" ")),
            output: last.join("\n"),
            templates: templates(rendered, check, output),
            help: "mend the template or the value; the artifact was not written".to_owned(),
        }
    }
}

fn key(check: &Check, layers: &[Layer]) -> Digest {
    let mut hasher = Hasher::new();
    for layer in layers {
        hasher.field(layer.record.digest.to_string());
    }
    for word in &check.command {
        hasher.field(word);
    }
    hasher.finish()
}

/// The places in templates that the output of a daemon complains of: `FILE:LINE` of a covered file
/// is mapped back. Without any, the covered templates themselves.
fn templates(rendered: &[RenderedLayer], check: &Check, output: &str) -> Vec<String> {
    let mut exact = Vec::new();
    let mut all = Vec::new();
    for path in &check.covers {
        let mut entries = rendered.iter().rev().flat_map(|layer| &layer.entries);
        let Some(entry) = entries.find(|entry| entry.path == *path) else { continue };
        let source = entry.source.display();
        all.push(source.to_string());
        let RenderedKind::File { content } = &entry.kind else { continue };
        let text = String::from_utf8_lossy(content);
        for number in lines_named(output, path) {
            let line = entry.source_line(number).unwrap_or(number);
            let shown = text.lines().nth(number.saturating_sub(1)).unwrap_or("").trim();
            exact.push(format!("{source}:{line}: {shown}"));
        }
    }
    exact.dedup();
    if exact.is_empty() { all } else { exact }
}

/// The line numbers that `output` names after the file's name: `FILE:12`, `[FILE:12]`,
/// `FILE, line 12`, `FILE at line 12`, `line 12 of FILE`.
fn lines_named(output: &str, path: &Path) -> Vec<usize> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let mut numbers = Vec::new();
    for line in output.lines().filter(|line| line.contains(name)) {
        let after = line.split_once(name).map_or("", |(_, after)| after);
        let after = after.trim_start_matches([':', ',', ' ', '\'', '"', '(']);
        let after = after.trim_start_matches("at ").trim_start_matches("line ");
        let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
        let before = line.split_once("line ").map_or("", |(_, rest)| rest);
        let other: String = before.chars().take_while(char::is_ascii_digit).collect();
        if let Ok(number) = digits.parse().or_else(|_| other.parse()) {
            numbers.push(number);
        }
    }
    numbers.dedup();
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_numbers_are_found_in_what_daemons_write() {
        let cases = [
            ("[ALERT] (8) : config : parsing [/etc/haproxy/imgbuild.cfg:27] : unknown keyword", 27),
            ("nginx: [emerg] unknown directive in imgbuild.cfg:12", 12),
            ("Syntax error on line 7 of /etc/x/imgbuild.cfg:", 7),
            ("(Line 3) imgbuild.cfg, line 3: Unknown keyword", 3),
        ];
        for (output, line) in cases {
            assert_eq!(
                lines_named(output, Path::new("etc/haproxy/imgbuild.cfg")),
                [line],
                "{output}"
            );
        }
        assert!(lines_named("all is well", Path::new("imgbuild.cfg")).is_empty());
    }
}
