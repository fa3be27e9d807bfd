//! imgbuild turns layered definitions into images for Proxmox VE: locked, built in a hermetic
//! sandbox, bit-for-bit reproducible.
//!
//! Data flows one way, a module per stage, and each knows only the stages before it:
//! [`definition`] → [`lock`] → [`fetch`] → [`layer`] → [`artifact`] → [`swap`].
//! [`inspect`] looks into what came out.

pub mod artifact;
pub mod audit;
pub mod boot;
pub mod build;
pub mod cli;
pub mod compression;
pub mod debian;
pub mod definition;
pub mod digest;
pub mod fetch;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod inspect;
pub mod lab;
pub mod layer;
pub mod lint;
pub mod lock;
pub mod progress;
pub mod proxmox;
pub mod publish;
pub mod registry;
pub mod render;
pub mod sandbox;
pub mod scaffold;
pub mod signature;
pub mod store;
pub mod swap;
pub mod verify;
