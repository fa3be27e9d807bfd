//! The `imgbuild` command: parses, dispatches, and turns the outcome into an exit code.
fn main() {}
