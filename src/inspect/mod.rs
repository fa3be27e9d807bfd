//! What is in an image: how two images differ, why something is in one, what one is made of, and how images and
//! the roles of a site hang together.
//!
//! An [`Image`] is looked at through its manifest and its layers in the store, and, where it was not built
//! yet, through what the definitions and the lock say of it. Nothing is built, fetched or run.

pub mod bill;
pub mod compare;
mod error;
pub mod graph;
mod image;
pub mod lint;
mod markup;
mod ownership;
pub mod provenance;
pub mod report;
mod revision;
pub mod tree;
pub mod why;

pub use compare::{Comparison, compare};
pub use error::Error;
pub use image::{Facts, Image, Inspector, Layer, is_digest};
pub use ownership::Ownership;
pub use revision::Checkout;

/// The text of a document that other programs read.
pub fn document(document: &impl serde::Serialize) -> String {
    let mut text = serde_json::to_string_pretty(document).expect("all keys are strings");
    text.push('\n');
    text
}

/// Bytes for people.
pub fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}
