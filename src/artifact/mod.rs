//! From layers to what Proxmox imports.

pub mod lint;
pub mod manifest;
pub mod name;
pub mod template;
