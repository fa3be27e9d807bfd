//! Progress as lines, for logs.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use super::{Running, SLOW, detail, warning, write_line};
use crate::fetch::FILE_LABEL;
use crate::progress::{Event, Progress, StepId};

/// Progress as lines: one when a step has ended, and one before if it is slow.
pub(super) struct Lines<W: Write + Send + 'static> {
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
    pub(super) fn new(output: W) -> Self {
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
            Event::Detail(text) => write_line(&mut state.output, &detail(&text)),
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
