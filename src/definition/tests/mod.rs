//! What is wrong with a project, as the operator sees it; and what a sound one comes to.

mod errors;
mod fixture;
mod lints;
mod plans;
mod properties;
mod sites;

pub(crate) use fixture::{Files, report};
