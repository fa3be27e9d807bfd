//! What several integration tests share. Each test binary uses only a part of it.
#![allow(dead_code, unused_imports)]

pub mod bench;
pub mod disk;
pub mod http;
pub mod lab;
pub mod template;
