//! What is behind the containers of the fake, when a test wants it: real ones. Machines never are.

use std::path::PathBuf;
use std::time::Duration;

use super::cluster::{Cluster, Config, Kind, is_drive, volume_of};

/// A volume where a container sees it: what it was made as ([`super::cluster::Volume::identity`]), and the
/// directory in the container.
pub type Mounted = (u64, String);

/// Does what the API says was done. Errors are those of tasks.
pub trait Backing: Send + Sync {
    /// Where the bytes of an uploaded file are.
    fn file(&self, identity: u64) -> PathBuf;

    /// Makes the root of a container of an uploaded template, with new volumes.
    fn unpack(&self, vmid: u32, template: u64, volumes: &[Mounted]) -> Result<(), String>;

    /// Starts a container as its configuration says.
    fn start(&self, vmid: u32, config: &Config, volumes: &[Mounted]) -> Result<(), String>;

    /// Asks a container to shut down; fails if it still runs when the time is over.
    fn shutdown(&self, vmid: u32, timeout: Duration) -> Result<(), String>;

    /// Ends a container at once.
    fn stop(&self, vmid: u32) -> Result<(), String>;

    /// Removes a container's root.
    fn destroy(&self, vmid: u32) -> Result<(), String>;

    /// Removes what is kept of a volume.
    fn free(&self, volume: u64);

    /// Whether a container runs.
    fn runs(&self, vmid: u32) -> bool;
}

/// What follows from the result of something that took its time.
pub type Then =
    Box<dyn FnOnce(&mut Cluster, Result<(), String>) -> Result<Vec<String>, String> + Send>;

/// Something that takes its time, and what follows.
pub type Beside = (std::thread::JoinHandle<Result<(), String>>, Then);

impl Cluster {
    /// Does `job` to the container `vmid` beside everything else, and then `then`; that at once where nothing is
    /// behind the guest. Only for the work of a task, which lasts until then.
    pub fn beside(
        &mut self,
        vmid: u32,
        job: impl FnOnce(&dyn Backing) -> Result<(), String> + Send + 'static,
        then: Then,
    ) -> Result<Vec<String>, String> {
        let container = self.guests.get(&vmid).is_some_and(|guest| guest.kind == Kind::Lxc);
        let Some(backing) = self.backing.clone().filter(|_| container) else {
            return then(self, Ok(()));
        };
        self.beside = Some((std::thread::spawn(move || job(&*backing)), then));
        Ok(Vec::new())
    }

    /// The mount points of a container.
    pub fn mounted(&self, config: &Config) -> Vec<Mounted> {
        let drives = config.iter().filter(|(key, _)| is_drive(key) && key.starts_with("mp"));
        drives
            .filter_map(|(_, value)| {
                let volume = self.volumes.get(&volume_of(value)?)?;
                let path = super::access::option(value, "mp")?;
                Some((volume.identity, path.to_owned()))
            })
            .collect()
    }

    /// Notes which containers have stopped by themselves.
    pub fn look(&mut self) {
        let Some(backing) = self.backing.clone() else { return };
        for (vmid, guest) in &mut self.guests {
            if guest.kind == Kind::Lxc && guest.running && !backing.runs(*vmid) {
                guest.running = false;
                self.history.push(format!("stopped {vmid}"));
            }
        }
    }
}
