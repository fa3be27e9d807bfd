//! How long a run waits, and how often it tries.

use std::time::Duration;

/// How patient a run is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a lease lasts when it is not renewed.
    pub lease: Duration,
    /// How often a gate is looked at.
    pub poll: Duration,
    /// How often everything is surveyed again while a gate is waited for.
    pub survey: Duration,
    /// How long others may take to become ready before one of them is taken down.
    pub others: Duration,
    /// How long a task of someone else may take.
    pub idle: Duration,
    /// How often in a row a call may fail without an answer.
    pub retries: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(120),
            poll: Duration::from_secs(2),
            survey: Duration::from_secs(15),
            others: Duration::from_secs(300),
            idle: Duration::from_secs(900),
            retries: 6,
        }
    }
}
