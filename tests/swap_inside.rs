//! A swap as it is seen from the inside: the fake Proxmox VE makes real containers of the project's own images, and
//! `imgbuild swap` works on them. Needs root, Debian's `lxc` and, to build the images, the network; without root or
//! `lxc` every test here says so and passes.
#![expect(clippy::print_stderr, reason = "a test that is skipped has to say so")]

#[path = "swap_inside/cache.rs"]
mod cache;
#[path = "swap_inside/containers.rs"]
mod containers;
#[path = "swap_inside/galera.rs"]
mod galera;
#[path = "support/pve/mod.rs"]
mod pve;
#[path = "swap_inside/site.rs"]
mod site;
mod support;
