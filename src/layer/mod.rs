//! The difference that one build step makes to a file tree.

pub mod entry;
