//! The `imgbuild` command: parses, dispatches, and turns the outcome into an exit code.

use std::process::ExitCode;

use imgbuild::{boot, cli, layer, sandbox};

fn main() -> ExitCode {
    // The sandbox and the places of guests are entered by executing this program again, which must happen
    // before any thread is started.
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(stage) = boot::requested_stage(&arguments) {
        return boot::run_stage(stage, &arguments);
    }
    match sandbox::requested_stage(&arguments) {
        Some(stage) => sandbox::run_stage(stage, &arguments, layer::worker::serve),
        None => cli::run(),
    }
}
