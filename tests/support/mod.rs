//! What several tests share.

pub mod template;
