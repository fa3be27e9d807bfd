//! What imgbuild knows about Debian: versions, control files and relations, signed repositories,
//! and which packages a set of wishes needs.
//!
//! Nothing here touches the network or the file system. A repository is read through
//! [`repository::Transport`]; everything that comes from it is verified before it is parsed.

pub mod control;
pub mod database;
pub mod date;
pub mod deb;
pub mod openpgp;
pub mod packages;
pub mod relation;
pub mod release;
pub mod repository;
pub mod resolve;
#[cfg(any(test, fuzzing))]
#[cfg_attr(not(test), allow(dead_code, reason = "targets of a fuzzer need but a part"))]
pub(crate) mod testing;
pub mod unpack;
pub mod version;
