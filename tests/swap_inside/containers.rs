//! Containers of the lab behind the guests of the fake: what a swap does is done to something that runs.

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::pve::access::option;
use super::pve::backing::{Backing, Mounted};
use super::pve::cluster::Config;
use super::support::lab::Lab;

/// How long what was seen of a container is believed: asking takes a process.
const FRESH: Duration = Duration::from_millis(500);

/// What was seen of containers: number, when, whether it runs.
type Seen = Vec<(u32, Instant, bool)>;

/// The containers of one lab.
pub struct Containers {
    lab: Arc<Lab>,
    seen: Mutex<Seen>,
}

impl Containers {
    pub fn new(lab: Arc<Lab>) -> Self {
        fs::create_dir_all(lab.directory().join("files")).unwrap();
        Self { lab, seen: Mutex::default() }
    }

    fn volumes(&self, volumes: &[Mounted]) -> Vec<String> {
        let directory = |(identity, path): &Mounted| {
            format!("{}:{path}", self.lab.volume(&identity.to_string()).display())
        };
        volumes.iter().map(directory).collect()
    }

    fn forget(&self, vmid: u32) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(other, ..)| *other != vmid);
    }

    fn state(&self, vmid: u32) -> String {
        self.lab.attempt("state", &vmid.to_string(), &[""; 0]).unwrap_or_default()
    }
}

impl Backing for Containers {
    fn file(&self, identity: u64) -> PathBuf {
        self.lab.directory().join("files").join(identity.to_string())
    }

    fn unpack(&self, vmid: u32, template: u64, volumes: &[Mounted]) -> Result<(), String> {
        let mut arguments = vec![self.file(template).display().to_string()];
        arguments.extend(self.volumes(volumes));
        let name = vmid.to_string();
        self.lab.note(&name);
        self.lab.attempt("unpack", &name, &arguments).map(drop)
    }

    fn start(&self, vmid: u32, config: &Config, volumes: &[Mounted]) -> Result<(), String> {
        let card = config.get("net0").ok_or("the fake's containers have a card")?;
        let of = |key| option(card, key).map(str::to_owned).ok_or(format!("net0 has no {key}"));
        let hostname = config.get("hostname").ok_or("no hostname")?.clone();
        let mut arguments = vec![hostname, of("hwaddr")?, of("ip")?, of("gw")?];
        arguments.extend(self.volumes(volumes));
        let name = vmid.to_string();
        self.lab.attempt("configure", &name, &arguments)?;
        self.lab.attempt("start", &name, &[""; 0])?;
        self.forget(vmid);
        Ok(())
    }

    fn shutdown(&self, vmid: u32, timeout: Duration) -> Result<(), String> {
        let asked =
            self.lab.attempt("shutdown", &vmid.to_string(), &[timeout.as_secs().to_string()]);
        self.forget(vmid);
        // lxc-stop says the same of one that was stopped by somebody else meanwhile.
        match self.state(vmid).as_str() {
            "STOPPED" => Ok(()),
            state => Err(format!("container is {state} after {timeout:?}: {asked:?}")),
        }
    }

    fn stop(&self, vmid: u32) -> Result<(), String> {
        let done = self.lab.attempt("kill", &vmid.to_string(), &[""; 0]).map(drop);
        self.forget(vmid);
        done
    }

    fn destroy(&self, vmid: u32) -> Result<(), String> {
        self.lab.attempt("destroy", &vmid.to_string(), &[""; 0]).map(drop)
    }

    fn free(&self, volume: u64) {
        let _ = fs::remove_dir_all(self.lab.volume(&volume.to_string()));
    }

    fn runs(&self, vmid: u32) -> bool {
        let known = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let fresh = seen.iter().find(|(other, at, _)| *other == vmid && at.elapsed() < FRESH);
            fresh.map(|(_, _, runs)| *runs)
        };
        known.unwrap_or_else(|| {
            let runs = self.state(vmid) != "STOPPED";
            self.forget(vmid);
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.push((vmid, Instant::now(), runs));
            runs
        })
    }
}
