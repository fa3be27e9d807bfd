//! A cluster in memory, with what matters of Proxmox VE's behaviour, that fails on demand and notices
//! everything that must never be.

mod invariants;
mod session;
mod tasks;
mod world;

pub use session::{Counted, Fault, Faults, Session};
pub use world::World;
