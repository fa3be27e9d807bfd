//! Builds a locked plan: layer by layer, then the artifact.

mod inputs;

pub use inputs::{Change, Inputs};
