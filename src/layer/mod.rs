//! The difference that one build step makes to a file tree.

pub mod archive;
pub mod entry;
pub mod index;
