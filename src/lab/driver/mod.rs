//! The engine's [`Platform`] on this machine.

mod look;
mod make;
#[cfg(test)]
mod tests;
mod wait;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::boot::PrivateHost;
use crate::boot::container::{Lxc, MountPoint};
use crate::debian::date::Moment;
use crate::definition::{Hostname, VolumeName};
use crate::lab::groups::{Groups, State};
use crate::lab::guest::{Directory, failed, move_directory};
use crate::lab::lease::Leases;
use crate::lab::secrets::LabSecrets;
use crate::lab::{Error, LabSite, Place, Settings};
use crate::swap::health::ask_all;
use crate::swap::{
    CallError, GuestId, Halted, Health, Lease, NewGuest, Node, Platform, Record, Revision, Survey,
    Watch,
};
use wait::{Patient, refused, wait_until, waiting};

/// How long a killed guest may take to die.
const DYING: Duration = Duration::from_secs(30);

/// Directories that are not guests: those that are being made, and those that are being removed.
const MAKING: &str = ".new-";
const REMOVING: &str = ".gone-";

/// A lab.
pub struct Local {
    place: Place,
    settings: Settings,
    site: LabSite,
    host: Option<PrivateHost>,
    groups: Groups,
    secrets: LabSecrets,
    leases: Leases,
}

impl Local {
    /// The lab in `place`, for `site`. `executable` is imgbuild.
    ///
    /// # Errors
    ///
    /// What cannot be read or made there.
    pub fn open(
        place: Place,
        settings: Settings,
        site: LabSite,
        executable: &Path,
    ) -> Result<Self, Error> {
        let held = place.host();
        let host = held.running(executable)?;
        let groups = Groups(held.containers()?);
        let secrets = LabSecrets::make(&place, &site)?;
        let leases = Leases::new(place.clone());
        Ok(Self { place, settings, site, host, groups, secrets, leases })
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The site.
    pub fn site(&self) -> &LabSite {
        &self.site
    }

    /// The host, if it runs.
    pub fn host(&self) -> Option<&PrivateHost> {
        self.host.as_ref()
    }

    /// The container of a guest.
    fn container(&self, name: impl Into<String>) -> Result<Lxc, CallError> {
        let host = self
            .host
            .clone()
            .ok_or_else(|| CallError::Failed(self.place.host_down().to_string()))?;
        Ok(Lxc::new(host, self.place.guests(), name))
    }

    fn lock(&self) -> Result<File, CallError> {
        self.place.lock().map_err(|error| failed("lock", self.place.root(), error))
    }

    fn require(&self, id: GuestId, state: State) -> Result<(), CallError> {
        let is = self.groups.state(id);
        if is == state {
            return Ok(());
        }
        let text = match is {
            State::Stopped => "is stopped",
            State::Running => "runs",
            State::Between => "is being started or put away",
        };
        Err(CallError::Conflict(format!("guest {id} {text}")))
    }

    /// Starts the guests that start with their host, as Proxmox VE does when a host has started.
    ///
    /// # Errors
    ///
    /// What keeps a guest from being started.
    pub fn start_with_host(&self, tell: impl Fn(GuestId, &Record)) -> Result<(), CallError> {
        for guest in Directory::all(&self.place)? {
            let record = guest.record()?;
            let settled = || self.groups.state(guest.id) != State::Between;
            wait_until(&mut Patient, DYING, settled)?;
            if !record.starts_on_boot() || self.groups.state(guest.id) != State::Stopped {
                continue;
            }
            tell(guest.id, &record);
            let revision = guest.revision().map_err(|error| failed("read", &guest.path, error))?;
            self.start(guest.id, &revision, &mut Patient)?;
        }
        Ok(())
    }

    /// Everything that the guest has mounted.
    fn mounts(&self, guest: &Directory) -> Result<Vec<(PathBuf, String)>, CallError> {
        let record = guest.record()?;
        let mut mounts = guest.mounts()?;
        let (node, role) = (record.node.as_str(), record.role.as_str());
        let binds = self.settings.binds.iter().filter(|bind| bind.is_for(node, role));
        mounts.extend(binds.map(|bind| (bind.directory.clone(), bind.path.clone())));
        // What lies below another one is mounted after it.
        mounts.sort_by(|left, right| left.1.cmp(&right.1));
        Ok(mounts)
    }

    /// A directory for something that is not a guest yet, or no longer.
    fn aside(&self, prefix: &str, id: GuestId) -> Directory {
        let name = format!("{prefix}{id}-{}", std::process::id());
        Directory { id, path: self.place.guests().join(name) }
    }
}

/// A guest that runs.
pub struct Running {
    /// Its container.
    pub container: Lxc,
    id: GuestId,
    groups: Groups,
}

impl Running {
    /// The guest of `node` in a lab that runs; none if none does. `executable` is imgbuild.
    ///
    /// # Errors
    ///
    /// [`Error::NoLab`], [`Error::HostDown`], and a guest that cannot be read.
    pub fn find(place: &Place, executable: &Path, node: &str) -> Result<Option<Self>, Error> {
        let host = place.running_host(executable)?;
        let groups = Groups(place.host().containers()?);
        for guest in Directory::all(place).map_err(Error::Guest)? {
            let record = guest.record().map_err(Error::Guest)?;
            let id = guest.id;
            if record.node.as_str().eq_ignore_ascii_case(node) && groups.state(id) == State::Running
            {
                let container = Lxc::new(host, place.guests(), id.to_string());
                return Ok(Some(Self { container, id, groups }));
            }
        }
        Ok(None)
    }

    /// Ends it as if its power were cut, and waits until nothing of it is left.
    ///
    /// # Errors
    ///
    /// When it does not die.
    pub fn kill(&self) -> Result<(), Error> {
        end(&self.container, self.id, &self.groups, &mut Patient).map_err(Error::Guest)
    }
}

/// Ends a guest at once.
fn end(
    container: &Lxc,
    id: GuestId,
    groups: &Groups,
    watch: &mut dyn Watch,
) -> Result<(), CallError> {
    let asked = container.kill();
    // One that lxc does not know any more may still run.
    groups.kill(id);
    match (wait_until(watch, DYING, || groups.state(id) == State::Stopped)?, asked) {
        (true, _) => Ok(()),
        (false, Err(error)) => Err(refused(&error)),
        (false, Ok(())) => Err(CallError::Failed("its processes do not die".to_owned())),
    }
}

impl Platform for Local {
    fn tidy(&self) -> Result<(), CallError> {
        self.leases.tidy();
        let path = self.place.guests();
        let entries = fs::read_dir(&path).map_err(|error| failed("read", &path, error))?;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(MAKING) || name.starts_with(REMOVING) {
                let path = entry.path();
                fs::remove_dir_all(&path).map_err(|error| failed("remove", &path, error))?;
            }
        }
        Ok(())
    }

    fn survey(&self) -> Result<Survey, CallError> {
        self.look()
    }

    fn server_time(&self) -> Result<Moment, CallError> {
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(Moment::from_unix(time.as_secs()))
    }

    fn ensure_artifact(
        &self,
        _: &Hostname,
        artifact: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        self.bring(artifact, watch)
    }

    fn discard_artifact(&self, _: &Hostname, artifact: &str) -> Result<(), CallError> {
        let path = self.place.artifacts().join(artifact);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    fn create(&self, guest: &NewGuest, watch: &mut dyn Watch) -> Result<(), CallError> {
        self.make(guest, watch)
    }

    fn write_record(
        &self,
        guest: GuestId,
        revision: &Revision,
        record: &Record,
    ) -> Result<(), CallError> {
        let _lock = self.lock()?;
        let guest = Directory::new(&self.place, guest);
        guest.check(revision)?;
        guest.write_record(record)
    }

    fn start(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let container = self.container(guest.to_string())?;
        let _lock = self.lock()?;
        let directory = Directory::new(&self.place, guest);
        directory.check(revision)?;
        self.require(guest, State::Stopped)?;
        let identity = directory.identity()?;
        let mounts = self.mounts(&directory)?;
        let names = self.site.names();
        waiting(watch, move || {
            let mounts: Vec<MountPoint<'_>> = mounts
                .iter()
                .map(|(source, target)| MountPoint { source, target, read_only: false })
                .collect();
            container.configure(&identity, &mounts, &names)?;
            container.start()
        })
    }

    fn shutdown(
        &self,
        guest: GuestId,
        revision: &Revision,
        patience: Duration,
        watch: &mut dyn Watch,
    ) -> Result<Halted, CallError> {
        let container = self.container(guest.to_string())?;
        {
            let _lock = self.lock()?;
            Directory::new(&self.place, guest).check(revision)?;
        }
        if let Err(error) = container.ask_to_stop()
            && self.groups.state(guest) == State::Running
        {
            return Err(refused(&error));
        }
        let stopped = || self.groups.state(guest) == State::Stopped;
        match wait_until(watch, patience, stopped)? {
            true => Ok(Halted::Stopped),
            false => Ok(Halted::StillRunning),
        }
    }

    fn stop(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let container = self.container(guest.to_string())?;
        {
            let _lock = self.lock()?;
            Directory::new(&self.place, guest).check(revision)?;
        }
        end(&container, guest, &self.groups, watch)
    }

    fn move_volume(
        &self,
        volume: &VolumeName,
        from: (GuestId, &Revision),
        to: (GuestId, &Revision),
        _: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let _lock = self.lock()?;
        let (source, target) =
            (Directory::new(&self.place, from.0), Directory::new(&self.place, to.0));
        source.check(from.1)?;
        target.check(to.1)?;
        self.require(from.0, State::Stopped)?;
        self.require(to.0, State::Stopped)?;
        source.give(volume, &target)
    }

    fn destroy(
        &self,
        guest: GuestId,
        revision: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let gone = self.aside(REMOVING, guest);
        {
            let _lock = self.lock()?;
            let directory = Directory::new(&self.place, guest);
            directory.check(revision)?;
            self.require(guest, State::Stopped)?;
            // The engine has looked. This is the last moment, and what is destroyed is gone.
            let volumes = directory.volumes();
            let volumes = volumes.map_err(|error| failed("read", &directory.path, error))?;
            if let Some(volume) = volumes.first() {
                let text = format!("guest {guest} still has the volume {volume}");
                return Err(CallError::Failed(text));
            }
            move_directory(&directory.path, &gone.path)
                .map_err(|error| failed("remove", &directory.path, error))?;
        }
        waiting(watch, move || {
            let path = gone.path;
            fs::remove_dir_all(&path).map_err(|source| crate::boot::Error::Io {
                action: "remove",
                path,
                source,
            })
        })
    }

    fn health(&self, nodes: &[&Node]) -> Vec<Health> {
        let silent = |why: &str| vec![Health::Silent(why.to_owned()); nodes.len()];
        let Some(host) = &self.host else { return silent("the lab's host does not run") };
        let targets: Vec<_> =
            nodes.iter().map(|node| self.site.health_address(&node.name)).collect();
        let asked = on_network(host, || ask_all(&targets));
        asked.unwrap_or_else(|error| silent(&format!("the lab's network: {error}")))
    }

    fn read_lease(&self) -> Result<(Option<Lease>, Revision), CallError> {
        self.leases.read()
    }

    fn write_lease(&self, lease: Option<&Lease>, revision: &Revision) -> Result<(), CallError> {
        self.leases.write(lease, revision)
    }
}

/// Does `work` in the network of the lab: in a thread of its own, and whatever threads that starts.
fn on_network<T: Send>(host: &PrivateHost, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let network = File::open(format!("/proc/{}/ns/net", host.pid()))?;
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || -> io::Result<T> {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        worker.join().unwrap_or_else(|_| Err(io::Error::other("nobody has asked")))
    })
}
