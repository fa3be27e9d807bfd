//! A site on this machine: its nodes as containers on one private host, looked after by the same engine as on
//! Proxmox VE, with a driver ([`Local`]) in place of the API.
//!
//! Everything that a lab is lies in one directory ([`Place`]), and what runs is seen in one control group, so
//! nothing needs to be remembered: whoever looks, after whatever interruption, sees what there is.
//!
//! | what | here |
//! |---|---|
//! | guest | `guests/ID/` |
//! | record | `guests/ID/record`, replaced as a whole |
//! | revision | the digest of the record and of the names of the volumes |
//! | state volume | `guests/ID/volumes/NAME/`, moved from guest to guest by renaming |
//! | lease | `lease`, and a locked file `operators/TOKEN` as long as its holder lives |
//! | running | a process in the control groups `lxc.payload.ID` and `lxc.monitor.ID` |
//!
//! Every change is made while `lock` is locked (flock(2)), and only if the guest is what it was when it was
//! decided on.

mod driver;
mod error;
mod groups;
mod guest;
mod lease;
mod limits;
mod operator;
mod place;
mod secrets;
mod settings;
mod site;

pub use driver::{Local, Running};
pub use error::Error;
pub use place::Place;
pub use settings::{Bind, Settings};
pub use site::{LabSite, roles};

/// Why there can be no lab here.
///
/// # Errors
///
/// [`Error::NotRoot`], or programs that are missing.
pub fn available() -> Result<(), Error> {
    if !rustix::process::geteuid().is_root() {
        return Err(Error::NotRoot);
    }
    Ok(crate::boot::container::available()?)
}
