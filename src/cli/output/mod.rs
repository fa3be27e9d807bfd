//! What verbs hand to programs: with `--json` one object on standard output.
//!
//! Every object begins with `verb`, the verb that wrote it, and `schema`, the version of its form. Within a
//! version fields may be added, and none changes its meaning or goes. [`schema`] describes each form; it is
//! made of the types that the objects are made of.

mod schema;
mod site;

use schemars::JsonSchema;
use serde::Serialize;

pub(super) use schema::{names, schema};
pub(super) use site::{
    DoneStep, Ended, Killed, NodeSecrets, NodeStanding, NodeStatus, OtherGuest, PlannedStep,
    Reason, Removed, RunReport, RunningGuest, SitePlan, SiteStatus, Word, told,
};

/// The version of the form of every object.
pub(super) const SCHEMA: u32 = 1;

/// What some verbs hand to programs.
pub(super) trait Output: Serialize + JsonSchema {
    /// Those verbs, as they are typed.
    const VERBS: &'static [&'static str];
}

/// An object as it is written.
#[derive(Serialize)]
pub(super) struct Envelope<'a, T> {
    verb: &'a str,
    schema: u32,
    #[serde(flatten)]
    body: &'a T,
}

impl<'a, T: Output> Envelope<'a, T> {
    pub(super) fn new(verb: &'a str, body: &'a T) -> Self {
        debug_assert!(T::VERBS.contains(&verb), "`{verb}` hands over what it does not declare");
        Self { verb, schema: SCHEMA, body }
    }
}
