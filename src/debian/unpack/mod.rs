//! Unpacking packages as `dpkg --unpack` does, but many at a time.
//!
//! [`install`] takes a set of package files to the state in which `dpkg --configure --pending`
//! makes a working system of it. It plans ([`plan`]) which packages are unpacked together, when
//! `preinst` scripts run, and what must be configured before them; running programs is left to
//! a [`Runner`].
//!
//! A batch of packages is unpacked in parallel: every package's archive is read once, and what
//! it holds is written at once, straight to its final name (configuration files to
//! `NAME.dpkg-new`, where `dpkg --configure` expects them). The result does not depend on which
//! thread is faster:
//!
//! - Nothing that is there is replaced in the parallel phase, neither what another package of the
//!   batch has written nor what was there before. Paths that several packages claim are settled
//!   afterwards, in the order of packages, by the rules of dpkg; then the files that could not be
//!   written at first are extracted again.
//! - Symbolic and hard links are made after all files, package by package. Hence no path is
//!   looked up through a link of the same batch.
//! - A new directory gets its owner, mode and time at the end, from the first package (in order)
//!   that ships it.
//!
//! Differences to dpkg, on purpose: new directories keep the time that the archive gives them
//! instead of the time of unpacking; files of the database have the times of the package's
//! control archive; parent directories that no package ships are made; device nodes and named
//! pipes are refused; nothing is ever upgraded, removed or replaced by a file of another kind.

mod batch;
mod claims;
mod conffile;
mod error;
mod extract;
mod files;
mod install;
mod package;
pub mod plan;
mod record;
mod relations;
mod settle;

pub use error::Error;
pub use install::{Installation, Maintainer, Runner, install};
pub use package::Package;

#[cfg(test)]
mod tests;
