//! What several integration tests share. Each test binary uses only a part of it.
#![allow(dead_code, unused_imports, clippy::print_stderr)]

pub mod archive;
pub mod base;
pub mod bench;
pub mod browser;
pub mod chromium;
pub mod debian;
pub mod disk;
pub mod finished;
pub mod harm;
pub mod http;
pub mod images;
pub mod lab;
pub mod libconfig;
pub mod machine;
pub mod meetings;
pub mod oci;
pub mod package;
pub mod page;
pub mod programs;
pub mod project;
pub mod registry;
pub mod signer;
pub mod template;
pub mod web;
