//! The difference that one build step makes to a file tree.

pub mod accounts;
pub mod archive;
pub mod entry;
pub mod failure;
pub mod index;
pub mod lay;
pub mod normalise;
pub mod order;
pub mod request;
mod script;
pub mod source;
pub mod tree;
pub mod worker;
