//! Shows what runs: bars on a terminal, lines elsewhere. Everything goes to stderr.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::fetch::{FILE_LABEL, TOTAL_LABEL};
use crate::progress::{Event, Progress, StepId};

/// A step that runs longer than this is announced where there are no bars, so that a log shows
/// what it is waiting for.
const SLOW: Duration = Duration::from_secs(2);

/// The watcher that fits: only warnings if `quiet`, bars if stderr is a terminal that can move its
/// cursor, lines otherwise.
pub fn watcher(quiet: bool) -> Box<dyn Progress> {
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    if quiet {
        Box::new(Quiet)
    } else if io::stderr().is_terminal() && !dumb {
        Box::new(Bars::new(ProgressDrawTarget::stderr(), io::stderr()))
    } else {
        Box::new(Lines::new(io::stderr()))
    }
}

/// Shows warnings only.
struct Quiet;

impl Progress for Quiet {
    fn event(&self, event: Event) {
        if let Event::Warning(text) = event {
            write_line(&mut io::stderr(), &warning(&text));
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

/// Progress as lines: one when a step has ended, and one before if it is slow.
struct Lines<W: Write + Send + 'static> {
    shared: Arc<Shared<W>>,
    announcer: Option<JoinHandle<()>>,
}

struct Shared<W> {
    state: Mutex<LinesState<W>>,
    closed: Condvar,
}

struct LinesState<W> {
    output: W,
    running: BTreeMap<StepId, Running>,
    closed: bool,
}

impl<W: Write + Send + 'static> Lines<W> {
    fn new(output: W) -> Self {
        let state = LinesState { output, running: BTreeMap::new(), closed: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), closed: Condvar::new() });
        let announcer = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || shared.announce_slow_steps()
        });
        Self { shared, announcer: Some(announcer) }
    }
}

impl<W: Write> Shared<W> {
    fn state(&self) -> MutexGuard<'_, LinesState<W>> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn announce_slow_steps(&self) {
        let mut state = self.state();
        while !state.closed {
            state = match self.closed.wait_timeout(state, SLOW / 4) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
            let LinesState { output, running, .. } = &mut *state;
            for step in running.values_mut() {
                let due = !step.announced && step.since.elapsed() >= SLOW;
                if due && !step.label.starts_with(FILE_LABEL) {
                    step.announced = true;
                    write_line(output, &format!("{} …", step.label));
                }
            }
        }
    }
}

impl<W: Write + Send + 'static> Progress for Lines<W> {
    fn event(&self, event: Event) {
        let mut state = self.shared.state();
        match event {
            Event::Started { step, label, total } => {
                state.running.insert(step, Running::new(&label, total));
            }
            Event::Advanced { .. } => {}
            Event::Finished { step, detail } => {
                let line = state.running.remove(&step).and_then(|step| step.summary(&detail));
                if let Some(line) = line {
                    write_line(&mut state.output, &line);
                }
            }
            Event::Warning(text) => write_line(&mut state.output, &warning(&text)),
        }
    }
}

impl<W: Write + Send + 'static> Drop for Lines<W> {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.closed.notify_all();
        if let Some(announcer) = self.announcer.take() {
            // It only fails if it panicked, and then there is nothing to announce any more.
            let _ = announcer.join();
        }
    }
}

/// Progress as bars: one line for each running step, the sum of all downloads at the bottom.
struct Bars {
    screen: MultiProgress,
    output: Mutex<Box<dyn Write + Send>>,
    state: Mutex<BarsState>,
}

#[derive(Default)]
struct BarsState {
    running: BTreeMap<StepId, (Running, ProgressBar)>,
    bottom: Option<StepId>,
}

impl Bars {
    /// Draws bars on `target` and writes lines to `output`, which must be the same terminal.
    fn new(target: ProgressDrawTarget, output: impl Write + Send + 'static) -> Self {
        let screen = MultiProgress::with_draw_target(target);
        Self { screen, output: Mutex::new(Box::new(output)), state: Mutex::default() }
    }

    fn start(&self, state: &mut BarsState, step: StepId, label: &str, total: Option<u64>) {
        let running = Running::new(label, total);
        let bar = match total {
            Some(total) => ProgressBar::new(total).with_style(style(BYTES)),
            None => ProgressBar::new_spinner().with_style(style(SPINNER)),
        };
        let bar = bar.with_message(running.label.clone());
        let bottom = state.bottom.and_then(|step| state.running.get(&step));
        let bar = match bottom {
            Some((_, bottom)) => self.screen.insert_before(bottom, bar),
            None => self.screen.add(bar),
        };
        if total.is_none() {
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        if label.starts_with(TOTAL_LABEL) {
            state.bottom = Some(step);
        }
        state.running.insert(step, (running, bar));
    }

    fn finish(&self, state: &mut BarsState, step: StepId, detail: &str) {
        let Some((running, bar)) = state.running.remove(&step) else { return };
        state.bottom = state.bottom.filter(|bottom| *bottom != step);
        bar.finish_and_clear();
        self.screen.remove(&bar);
        if let Some(line) = running.summary(detail) {
            self.print(&line);
        }
    }

    /// Writes a line above the bars.
    fn print(&self, line: &str) {
        let mut output = self.output.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Not indicatif's own `println`: that leaves the cursor behind the line.
        self.screen.suspend(|| write_line(&mut *output, line));
    }
}

impl Progress for Bars {
    fn event(&self, event: Event) {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match event {
            Event::Started { step, label, total } => self.start(&mut state, step, &label, total),
            Event::Advanced { step, bytes } => {
                if let Some((_, bar)) = state.running.get(&step) {
                    bar.inc(bytes);
                }
            }
            Event::Finished { step, detail } => self.finish(&mut state, step, &detail),
            Event::Warning(text) => self.print(&warning(&text)),
        }
    }
}

/// A step that moves bytes.
const BYTES: &str =
    "{wide_msg} {bar:20} {binary_bytes:>10}/{binary_total_bytes:<10} {binary_bytes_per_sec:>12}";

/// A step of unknown length.
const SPINNER: &str = "{wide_msg} {spinner} {elapsed:>4}";

/// A style; should indicatif refuse the template, its default bar is good enough.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;
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
