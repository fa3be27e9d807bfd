//! What several integration tests share.

pub mod lab;
pub mod web;
