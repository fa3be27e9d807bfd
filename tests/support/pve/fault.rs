//! What goes wrong on demand.

use super::Cluster;
use super::wire::Reply;

/// When something goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// At the so-manieth request of all, from 1.
    Request(usize),
    /// At the so-manieth request that is no GET, from 1.
    Change(usize),
    /// At the next request with this verb whose path contains this.
    Next(&'static str, &'static str),
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Answers with this status and message, and does nothing.
    Refuse(u16, &'static str),
    /// Does it, and answers with this status and message.
    RefuseAfter(u16, &'static str),
    /// Closes the connection instead of doing it.
    Cut,
    /// Does it, and closes the connection without an answer.
    CutAfter,
    /// Answers with these bytes.
    Garbage(&'static str),
    /// Waits so long before it reads the content of an upload.
    Slow(std::time::Duration),
    /// Does it, after somebody else has done this.
    After(fn(&mut Cluster)),
    /// What becomes of the task that the call starts.
    Task(Spoil),
}

/// What becomes of a task.
#[derive(Clone, Debug)]
pub enum Spoil {
    /// It ends with this, and has no effect.
    Fails(&'static str),
    /// It has its effect, and ends with this all the same.
    FailsAfter(&'static str),
    /// It has its effect, and warns of this.
    Warns(&'static str),
    /// It is killed: `unexpected status`.
    Killed,
}

/// The faults that are still to come, and what was counted so far.
#[derive(Default)]
pub struct Faults {
    planned: Vec<(When, Fault)>,
    requests: usize,
    changes: usize,
}

impl Faults {
    pub fn plan(&mut self, when: When, fault: Fault) {
        self.planned.push((when, fault));
    }

    /// How many faults have not happened.
    pub fn left(&self) -> usize {
        self.planned.len()
    }

    /// Starts counting anew.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// How many requests and how many changes came.
    pub fn counted(&self) -> (usize, usize) {
        (self.requests, self.changes)
    }

    /// Counts a request; says what goes wrong with it.
    pub fn next(&mut self, method: &str, path: &str) -> Option<Fault> {
        self.requests += 1;
        if method != "GET" {
            self.changes += 1;
        }
        let due = self.planned.iter().position(|(when, _)| match when {
            When::Request(number) => *number == self.requests,
            When::Change(number) => method != "GET" && *number == self.changes,
            When::Next(verb, part) => *verb == method && path.contains(part),
        })?;
        Some(self.planned.remove(due).1)
    }
}

impl Fault {
    /// What is answered, for those that answer.
    pub fn reply(&self) -> Option<Reply> {
        match self {
            Self::Refuse(status, message) | Self::RefuseAfter(status, message) => {
                Some(Reply::error(*status, *message))
            }
            _ => None,
        }
    }
}
