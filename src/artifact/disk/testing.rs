//! What tests of disks share.

use std::process::{Command, Output};

/// Bytes that do not compress, different for every seed.
pub fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Runs another program that knows a format; nothing, after saying so, if it is not installed.
pub fn oracle(program: &str, arguments: &[&str]) -> Option<Output> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .env("LC_ALL", "C.UTF-8")
        .output();
    match output {
        Ok(output) => Some(output),
        Err(error) => {
            skipped(&format!("{program} does not run here ({error})"));
            None
        }
    }
}

/// Says that a test could not ask somebody else, and why.
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
pub fn skipped(reason: &str) {
    eprintln!("skipped: {reason}");
}

/// Something like GRUB's `boot.img`.
pub fn boot_image() -> Vec<u8> {
    let mut image = noise(1, 512);
    image[510..].copy_from_slice(&[0x55, 0xaa]);
    image
}

/// Something like GRUB's `core.img`, of `size` bytes.
pub fn core_image(size: usize) -> Vec<u8> {
    let mut image = noise(2, size);
    image[488..512].fill(0);
    image[500] = 2;
    image[508..512].copy_from_slice(&[9, 0, 0x20, 8]);
    image
}
