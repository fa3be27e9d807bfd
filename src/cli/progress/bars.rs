//! Progress as bars, for terminals.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Running, detail, warning, write_line};
use crate::fetch::TOTAL_LABEL;
use crate::progress::{Event, Progress, StepId};

/// Progress as bars: one line for each running step, the sum of all downloads at the bottom.
pub(super) struct Bars {
    screen: MultiProgress,
    output: Mutex<Box<dyn Write + Send>>,
    pub(super) state: Mutex<BarsState>,
}

#[derive(Default)]
pub(super) struct BarsState {
    pub(super) running: BTreeMap<StepId, (Running, ProgressBar)>,
    pub(super) bottom: Option<StepId>,
}

impl Bars {
    /// Draws bars on `target` and writes lines to `output`, which must be the same terminal.
    pub(super) fn new(target: ProgressDrawTarget, output: impl Write + Send + 'static) -> Self {
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
            Event::Detail(text) => self.print(&detail(&text)),
            Event::Warning(text) => self.print(&warning(&text)),
        }
    }
}

/// A step that moves bytes.
pub(super) const BYTES: &str =
    "{wide_msg} {bar:20} {binary_bytes:>10}/{binary_total_bytes:<10} {binary_bytes_per_sec:>12}";

/// A step of unknown length.
pub(super) const SPINNER: &str = "{wide_msg} {spinner} {elapsed:>4}";

/// A style; should indicatif refuse the template, its default bar is good enough.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
