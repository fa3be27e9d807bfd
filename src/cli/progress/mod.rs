//! Shows what runs: bars on a terminal, lines elsewhere. Everything goes to stderr.

mod bars;
mod json;
mod lines;
mod verbose;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressDrawTarget};

use bars::Bars;
use lines::Lines;

pub(super) use json::{Json, Line};
pub(super) use verbose::tell_details;

use crate::fetch::FILE_LABEL;
use crate::progress::{Event, Progress};

/// A step that runs longer than this is announced where there are no bars, so that a log shows
/// what it is waiting for.
const SLOW: Duration = Duration::from_secs(2);

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Form {
    /// As bars on a terminal that can move its cursor, elsewhere as lines
    #[default]
    Auto,
    /// As bars
    Bars,
    /// As lines
    Lines,
    /// As JSON, an object a line: progress, and everything else that is said on standard error
    Json,
    /// Not at all
    None,
}

impl Form {
    /// What people are shown progress by; of [`Form::Json`], by lines.
    pub(super) fn watcher(self) -> Arc<dyn Progress + Send> {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        match self {
            Self::None => Arc::new(Quiet),
            Self::Auto if !io::stderr().is_terminal() || dumb => Arc::new(Lines::new(io::stderr())),
            Self::Auto | Self::Bars => {
                Arc::new(Bars::new(ProgressDrawTarget::stderr(), io::stderr()))
            }
            Self::Lines | Self::Json => Arc::new(Lines::new(io::stderr())),
        }
    }
}

/// Shows no steps.
struct Quiet;

impl Progress for Quiet {
    fn event(&self, event: Event) {
        match event {
            Event::Warning(text) => write_line(&mut io::stderr(), &warning(&text)),
            Event::Detail(text) => write_line(&mut io::stderr(), &detail(&text)),
            _ => {}
        }
    }
}

/// Writes a line. If stderr is closed there is nobody to tell.
fn write_line(output: &mut impl Write, line: &str) {
    let _ = writeln!(output, "{line}");
}

fn warning(text: &str) -> String {
    format!("warning: {}", printable(text))
}

/// What only those read who want to know it all.
fn detail(text: &str) -> String {
    let lines: Vec<String> = printable(text).lines().map(|line| format!("    {line}")).collect();
    lines.join("\n")
}

/// `text` without control characters: names that come from a mirror must not steer the terminal.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// The line that stays when a step has ended, if it is worth one: single downloads are told by
/// their sum, and a quick step without an outcome to speak of by nothing.
fn summary(label: &str, detail: &str, total: Option<u64>, elapsed: Duration) -> Option<String> {
    if label.starts_with(FILE_LABEL) {
        return None;
    }
    let seconds = elapsed.as_secs_f64();
    match (detail, total) {
        ("", Some(total)) => Some(format!("{label}: {} in {seconds:.1} s", HumanBytes(total))),
        ("", None) if elapsed < SLOW => None,
        ("", None) => Some(format!("{label}: {seconds:.1} s")),
        (detail, _) => Some(format!("{label}: {}", printable(detail))),
    }
}

/// A step that runs.
struct Running {
    label: String,
    total: Option<u64>,
    since: Instant,
    announced: bool,
}

impl Running {
    fn new(label: &str, total: Option<u64>) -> Self {
        Self { label: printable(label), total, since: Instant::now(), announced: false }
    }

    fn summary(&self, detail: &str) -> Option<String> {
        summary(&self.label, detail, self.total, self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use indicatif::ProgressStyle;

    use super::bars::{BYTES, SPINNER};
    use super::*;
    use crate::fetch::TOTAL_LABEL;
    use crate::progress::Step;

    /// Output that a test can read while it is written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn lines_tell_outcomes_and_warnings_but_no_single_download() {
        let page = Page::default();
        let lines = Lines::new(page.clone());
        let total = Step::start(&lines, format!("{TOTAL_LABEL}2 files"), Some(2048));
        for name in ["a", "b"] {
            let file = Step::start(&lines, format!("{FILE_LABEL}{name}"), Some(1024));
            file.advance(1024);
            total.advance(1024);
            file.finish("");
        }
        lines.event(Event::Warning("odd\x1b[2J".to_owned()));
        Step::start(&lines, "layer base.packages", None).finish("reused");
        Step::start(&lines, "quick", None).finish("");
        drop(Step::start(&lines, "layer node.run", None));
        total.finish("142 files");
        drop(lines);
        assert_eq!(
            page.text(),
            "warning: odd\u{fffd}[2J\nlayer base.packages: reused\nlayer node.run: stopped\n\
             downloads: 2 files: 142 files\n"
        );
    }

    #[test]
    fn summaries_give_size_and_time_where_the_step_does_not() {
        let second = Duration::from_secs(1);
        let line = |detail, total, elapsed| summary("x", detail, total, elapsed);
        assert_eq!(line("", Some(1 << 20), second).unwrap(), "x: 1.00 MiB in 1.0 s");
        assert_eq!(line("", None, 3 * second).unwrap(), "x: 3.0 s");
        assert_eq!(line("", None, second), None);
        assert_eq!(line("reused", Some(5), second).unwrap(), "x: reused");
    }

    #[test]
    fn bars_leave_only_their_summaries_behind() {
        let page = Page::default();
        let bars = Bars::new(ProgressDrawTarget::hidden(), page.clone());
        let total = Step::start(&bars, format!("{TOTAL_LABEL}1 file"), Some(10));
        let file = Step::start(&bars, format!("{FILE_LABEL}a"), Some(10));
        let other = Step::start(&bars, "layer", None);
        file.advance(10);
        file.finish("");
        bars.event(Event::Warning("careful".to_owned()));
        total.finish("done");
        drop(other);
        assert_eq!(page.text(), "warning: careful\ndownloads: 1 file: done\nlayer: stopped\n");
        let state = bars.state.lock().unwrap();
        assert!(state.running.is_empty() && state.bottom.is_none());
    }

    #[test]
    fn templates_are_understood_by_indicatif() {
        for template in [BYTES, SPINNER] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }
}
