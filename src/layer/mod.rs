//! The difference that one build step makes to a file tree.

pub mod accounts;
pub mod entry;
pub mod lay;
pub mod normalise;
pub mod tree;
