//! What stages note besides their progress, for those who want to know it all.

use std::sync::Arc;

use log::{LevelFilter, Log, Metadata, Record};

use crate::progress::{Event, Progress};

/// Hands what this program notes to a watcher. What libraries note stays unsaid: nobody here answers for what
/// they write, a password in a URL for example.
struct Details(Arc<dyn Progress + Send>);

impl Log for Details {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().split("::").next() == Some(env!("CARGO_PKG_NAME"))
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.event(Event::Detail(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// From now on `watcher` is told details.
pub(in crate::cli) fn tell_details(watcher: Arc<dyn Progress + Send>) {
    if log::set_boxed_logger(Box::new(Details(watcher))).is_ok() {
        log::set_max_level(LevelFilter::Debug);
    }
}
