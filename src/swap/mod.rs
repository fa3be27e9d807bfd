//! Replaces running guests by guests made from new images, one node at a time, so that every
//! interruption leaves the site in a state from which the next run goes on or goes back.
//!
//! The engine knows no hypervisor. It is a loop: [`Platform::survey`] → [`decide`] → one [`Step`] →
//! survey again. [`decide`] is pure and has no memory, so what it needs to know about a swap that was
//! interrupted stands on the guests: in their [`Record`]s, in who runs, and in who has the state volumes.
//! [`plan`] runs the same function on a predicted survey. `docs/swap.md` describes the procedure.
//!
//! [`Wanted`] → [`decide`] → [`plan`] or [`Operator::run`].

mod clock;
mod decide;
mod execute;
mod goal;
pub(crate) mod health;
mod lease;
mod node;
mod notes;
mod obstacles;
mod outcome;
mod plan;
mod platform;
pub mod proxmox;
mod record;
mod refusal;
pub mod secrets;
mod settings;
mod sight;
pub mod site;
mod step;
#[cfg(test)]
mod tests;
mod view;
mod wanted;

pub use clock::{Clock, SystemClock};
pub use decide::decide;
pub use execute::{Admit, Operator, admit_all};
pub use goal::{Decision, Gate, Goal, Known, PauseAfter, Purpose, Scope};
pub use lease::{Holder, Lease, LeaseError};
pub use obstacles::obstacles;
pub use outcome::{Event, Interruption, Outcome, Stop, Stuck};
pub use plan::{Difference, Ending, Plan, Planned, Standing, differences, orphans, plan, remains};
pub use platform::{
    CallError, Guest, GuestId, Halted, Health, NewGuest, Platform, Revision, Status, Strangeness,
    Stranger, Survey, Volume, Watch,
};
pub use record::{Origin, Phase, Reading, Record, RecordError, Replaced, merge_tags};
pub use refusal::{At, Refusal};
pub use settings::Settings;
pub use step::{Change, Step};
pub use wanted::{Node, Role, Wanted, WantedError};
