//! From layers to what Proxmox imports.

pub mod disk;
pub mod lint;
pub mod manifest;
pub mod name;
pub mod template;
