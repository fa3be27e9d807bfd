//! From layers to what Proxmox imports.

pub mod template;
