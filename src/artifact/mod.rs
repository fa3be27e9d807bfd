//! From layers to what Proxmox imports.

pub mod lint;
pub mod template;
