//! A tree in the sandbox, and how far up the stack it has come.

use std::path::PathBuf;

use super::{Builder, Error, Layer};
use crate::layer::lay::Extent;
use crate::layer::request::{Answer, Report, Request};
use crate::progress::Step;
use crate::sandbox::Worker;
use crate::store::WorkDir;

/// Memory that must stay free beside a tree that is built in memory.
const RESERVE: u64 = 1 << 30;

/// Started when the first layer really has to be built.
pub(super) struct Session<'a, 'b> {
    builder: &'a Builder<'b>,
    extent: Extent,
    /// What the whole tree will take, roughly, in bytes.
    estimate: u64,
    running: Option<Running>,
}

struct Running {
    // Dropped in this order: the worker unmounts before its directory is removed.
    worker: Worker,
    _directory: WorkDir,
    laid: usize,
}

impl<'a, 'b> Session<'a, 'b> {
    pub(super) fn new(builder: &'a Builder<'b>, extent: Extent, estimate: u64) -> Self {
        Self { builder, extent, estimate, running: None }
    }

    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Sends a request to the tree with exactly `layers` in it.
    pub(super) fn request(
        &mut self,
        layers: &[Layer],
        request: &Request,
        label: &str,
    ) -> Result<Answer, Error> {
        self.bring_to(layers)?;
        self.send(request, label)
    }

    /// Notes that the tree now holds one more layer, which was built in it.
    pub(super) fn built_one(&mut self) {
        if let Some(running) = &mut self.running {
            running.laid += 1;
        }
    }

    fn bring_to(&mut self, layers: &[Layer]) -> Result<(), Error> {
        if self.running.is_none() {
            self.start()?;
        }
        let laid = self.running.as_ref().map_or(0, |running| running.laid);
        if laid >= layers.len() {
            return Ok(());
        }
        for layer in &layers[laid..] {
            let request = Request::Lay {
                archive: layer.archive.clone(),
                digest: layer.record.digest,
                extent: self.extent,
            };
            self.expect_done(&request)?;
        }
        if self.extent == Extent::Whole {
            self.expect_done(&Request::Settle)?;
        }
        if let Some(running) = &mut self.running {
            running.laid = layers.len();
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), Error> {
        let directory = self.builder.store.work_dir()?;
        let mut worker = Worker::start(&self.builder.executable)?;
        let memory = available_memory().is_some_and(|free| free >= self.estimate + RESERVE);
        let path: PathBuf = directory.path().to_owned();
        let answer = worker.request::<_, Report, Answer>(
            &Request::Open { directory: path, memory },
            &mut |_| {},
        )?;
        if let Answer::Failed(failure) = answer {
            return Err(Error::from_failure("open the build tree", failure, None));
        }
        self.running = Some(Running { worker, _directory: directory, laid: 0 });
        Ok(())
    }

    fn expect_done(&mut self, request: &Request) -> Result<(), Error> {
        match self.send(request, "")? {
            Answer::Failed(failure) => {
                Err(Error::from_failure("lay the lower layers into a tree", failure, None))
            }
            _ => Ok(()),
        }
    }

    /// Sends a request; what the worker reports of its parts is shown as steps of `label`.
    pub(super) fn send(&mut self, request: &Request, label: &str) -> Result<Answer, Error> {
        let progress = self.builder.progress;
        let Some(running) = &mut self.running else {
            return Err(crate::sandbox::Error::Protocol("no worker".to_owned()).into());
        };
        let mut part: Option<Step<'_>> = None;
        let answer = running.worker.request(request, &mut |Report::Doing(what)| {
            if let Some(done) = part.take() {
                done.finish("");
            }
            part = Some(Step::start(progress, format!("{label}: {what}"), None));
        })?;
        if let Some(done) = part.take() {
            done.finish("");
        }
        Ok(answer)
    }
}

/// `MemAvailable` of /proc/meminfo (proc_meminfo(5)), in bytes.
fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
