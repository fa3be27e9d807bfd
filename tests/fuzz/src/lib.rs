//! Runs one of imgbuild's readers of foreign bytes under libFuzzer: see docs/contributing.md.

use std::sync::OnceLock;
use std::time::Duration;

use imgbuild::fuzzing::{self, Target};
use rustix::time::{ClockId, clock_gettime};

pub use libfuzzer_sys;

/// Most processor time that one input may take. A reader that is compiled for fuzzing needs five to ten times as long.
const MOST: Duration = Duration::from_secs(10);

static TARGET: OnceLock<&'static Target> = OnceLock::new();

/// Finds the target and writes its seeds to the directory that `cargo fuzz` takes its inputs from.
pub fn start(name: &str) {
    let target = fuzzing::target(name).expect("there is such a target");
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    std::fs::create_dir_all(&directory).expect("the directory of inputs can be made");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(directory.join(format!("seed-{number}")), seed).expect("a seed can be written");
    }
    TARGET.get_or_init(|| target);
}

/// Gives `bytes` to the target.
pub fn run(bytes: &[u8]) {
    let target = TARGET.get().expect("it was started");
    let before = used();
    (target.run)(bytes);
    let time = used() - before;
    assert!(time < MOST, "{} bytes take {time:?}", bytes.len());
}

/// The processor time of this process.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The target `name` as a program.
#[macro_export]
macro_rules! fuzz {
    ($name:literal) => {
        $crate::libfuzzer_sys::fuzz_target!(init: $crate::start($name), |bytes: &[u8]| $crate::run(bytes));
    };
}
