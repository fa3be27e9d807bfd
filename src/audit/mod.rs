//! Known vulnerabilities of locked packages, by what Debian's security tracker says of their source packages.
//!
//! [`Tracker`] is what the tracker says, as far as it concerns the packages in question; [`Installed`] are the source
//! packages that roles consist of, as the lock tells; [`judge`] brings the two together. Nothing here needs the
//! network but [`data::obtain`], and that only if the data are at a URL.

mod available;
pub mod data;
mod error;
mod find;
mod installed;
mod origin;
#[cfg(test)]
mod tests;
mod tracker;

pub use available::Available;
pub use error::Error;
pub use find::{Accepted, Counted, Finding, Newer, Update, judge};
pub use installed::{Installed, Overlooked, Selection, confirm};
pub use origin::{Certainty, Origins};
pub use tracker::{Issue, NoDsa, Scope, Severity, State, Status, Tracker, Urgency};
