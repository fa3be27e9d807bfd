//! What a running stage tells whoever watches it. Stages never print; the command line turns
//! these events into progress bars or plain lines.

/// Identifies one running step between its first and its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId(pub u64);

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A step has started. `total` is in bytes where the step moves bytes of a known number.
    Started {
        /// The step, to recognise its later events.
        step: StepId,
        /// What it does, as shown to the user: `download haproxy 3.0.11-1+deb13u3`.
        label: String,
        /// Bytes to move, where known.
        total: Option<u64>,
    },
    /// A step has moved `bytes` more bytes.
    Advanced {
        /// The step.
        step: StepId,
        /// Bytes since its last event.
        bytes: u64,
    },
    /// A step has come to its end; `detail` says how (`reused`, `263 MiB in 2.1 s`).
    Finished {
        /// The step.
        step: StepId,
        /// The outcome in a few words.
        detail: String,
    },
    /// Something only those want to know who ask for everything.
    Detail(String),
    /// Something the user should know that is not an error.
    Warning(String),
}

/// Receives events, from any thread.
pub trait Progress: Sync {
    /// Takes one event.
    fn event(&self, event: Event);
}

/// Nobody watches.
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _event: Event) {}
}

/// A running step. Dropping it without [`Step::finish`] reports it as given up.
pub struct Step<'a> {
    progress: &'a dyn Progress,
    id: StepId,
    finished: bool,
}

impl<'a> Step<'a> {
    /// Reports the start of a step.
    pub fn start(progress: &'a dyn Progress, label: impl Into<String>, total: Option<u64>) -> Self {
        use std::sync::atomic::{AtomicU64, Ordering};
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = StepId(NEXT.fetch_add(1, Ordering::Relaxed));
        progress.event(Event::Started { step: id, label: label.into(), total });
        Self { progress, id, finished: false }
    }

    /// Reports that `bytes` more bytes were moved.
    pub fn advance(&self, bytes: u64) {
        self.progress.event(Event::Advanced { step: self.id, bytes });
    }

    /// Reports the end of the step.
    pub fn finish(mut self, detail: impl Into<String>) {
        self.finished = true;
        self.progress.event(Event::Finished { step: self.id, detail: detail.into() });
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.progress.event(Event::Finished { step: self.id, detail: "stopped".to_owned() });
        }
    }
}
