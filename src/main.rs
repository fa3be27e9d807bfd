//! The `imgbuild` command: parses, dispatches, and turns the outcome into an exit code.

use std::process::ExitCode;

use imgbuild::{cli, layer, sandbox};

fn main() -> ExitCode {
    // The sandbox is entered by executing this program again, which must happen before any thread is
    // started.
    let arguments: Vec<_> = std::env::args_os().collect();
    match sandbox::requested_stage(&arguments) {
        Some(stage) => sandbox::run_stage(stage, &arguments, layer::worker::serve),
        None => cli::run(),
    }
}
