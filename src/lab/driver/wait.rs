//! Waiting, while somebody is told that it goes on.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::boot;
use crate::swap::{CallError, Watch};

/// How often what is waited for is looked at.
const POLL: Duration = Duration::from_millis(50);

/// How often somebody is told that waiting goes on.
const TICK: Duration = Duration::from_secs(1);

/// What a failure means for the engine. The help belongs to the message.
pub(super) fn refused(error: &dyn miette::Diagnostic) -> CallError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    if let Some(help) = error.help() {
        text = format!("{text}\n  {help}");
    }
    CallError::Failed(text)
}

/// Somebody who waits as long as it takes.
pub(super) struct Patient;

impl Watch for Patient {
    fn tick(&mut self, _: &str) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// Does `work` while `watch` is told that it goes on. Abandoned work is gone on with until this process ends.
pub(super) fn waiting(
    watch: &mut dyn Watch,
    work: impl FnOnce() -> Result<(), boot::Error> + Send + 'static,
) -> Result<(), CallError> {
    let worker = std::thread::spawn(work);
    let mut told = Instant::now();
    while !worker.is_finished() {
        std::thread::sleep(POLL);
        if told.elapsed() >= TICK {
            told = Instant::now();
            if watch.tick("").is_break() {
                return Err(CallError::Abandoned);
            }
        }
    }
    match worker.join() {
        Ok(done) => done.map_err(|error| refused(&error)),
        Err(_) => Err(CallError::Failed("it went wrong in a way nobody has thought of".to_owned())),
    }
}

/// Waits until `is_so`; false if it is not within `patience`.
pub(super) fn wait_until(
    watch: &mut dyn Watch,
    patience: Duration,
    is_so: impl Fn() -> bool,
) -> Result<bool, CallError> {
    let start = Instant::now();
    let mut told = start;
    while !is_so() {
        if start.elapsed() >= patience {
            return Ok(false);
        }
        std::thread::sleep(POLL);
        if told.elapsed() >= TICK {
            told = Instant::now();
            if watch.tick("").is_break() {
                return Err(CallError::Abandoned);
            }
        }
    }
    Ok(true)
}
