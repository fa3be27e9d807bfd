//! What several integration tests share. Each test binary uses only a part of it.
#![allow(dead_code)]

pub mod http;
