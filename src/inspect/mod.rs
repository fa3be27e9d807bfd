//! What is in an image: how two images differ, and why something is in one.
//!
//! An [`Image`] is looked at through its manifest and its layers in the store, and, where it was not built
//! yet, through what the definitions and the lock say of it. Nothing is built, fetched or run.

pub mod compare;
mod error;
mod image;
mod ownership;
mod revision;
pub mod tree;
pub mod why;

pub use compare::{Comparison, compare};
pub use error::Error;
pub use image::{Facts, Image, Inspector, Layer, is_digest};
pub use ownership::Ownership;
pub use revision::Checkout;
