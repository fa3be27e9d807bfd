//! The lock: which file of which package makes up each image.
//!
//! [`resolve()`] turns the [`Wishes`] of all images into a [`Lock`], the only thing that a build
//! may take packages from. The lock file is committed; it changes only when somebody asks for
//! that, and [`difference`] says how.

mod check;
mod difference;
mod error;
mod file;
mod package;
mod project;
mod resolve;
mod session;
mod source;
#[cfg(test)]
mod tests;
mod wishes;

pub use check::{OutOfDate, Unlocked};
pub use difference::{Change, difference};
pub use error::Error;
pub use file::{Lock, LockedImage, LockedPackage, LockedRepository};
pub use package::{FileProblem, PackageFile, PackageFiles};
pub use project::{machine_key, needed_by, repository, wishes};
pub use resolve::{LeftOut, Resolution, Update, resolve};
pub use source::LockedSource;
pub use wishes::{DebianSettings, Wanted, WantedFile, Wishes, wants_digest, wants_digests};

pub use crate::debian::repository::Repository;
