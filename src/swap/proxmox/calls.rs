//! The calls of the engine, one by one.

use std::fs::File;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::survey::revision;
use super::{Proxmox, failed, node, vmid, volumes};
use crate::debian::date::Moment;
use crate::definition::{Hostname, VolumeName};
use crate::proxmox::{self, Config, ConfigChange, Content, MoveVolume, Reason, Upid, Upload};
use crate::swap::health::ask_all;
use crate::swap::wanted::Node;
use crate::swap::{
    CallError, GuestId, Halted, Health, Lease, NewGuest, Platform, Record, Revision, Survey, Watch,
    merge_tags,
};

/// How long a task may take before it is called unreachable. What it does goes on.
const TASK_PATIENCE: Duration = Duration::from_secs(3600);

/// What Proxmox itself needs to stop a guest whose own time is over.
const MARGIN: Duration = Duration::from_secs(60);

/// How often a guest is asked whether it has stopped.
const POLL: Duration = Duration::from_secs(1);

impl Platform for Proxmox {
    fn tidy(&self) -> Result<(), CallError> {
        self.remove_leftovers()
    }

    fn survey(&self) -> Result<Survey, CallError> {
        self.look()
    }

    fn server_time(&self) -> Result<Moment, CallError> {
        self.now()
    }

    fn discard_artifact(&self, host: &Hostname, artifact: &str) -> Result<(), CallError> {
        let content = content_of(artifact).name();
        self.remove_file(host, &self.stored(&format!("{content}/{artifact}"))?)
    }

    fn ensure_artifact(
        &self,
        host: &Hostname,
        artifact: &str,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let content = content_of(artifact);
        let host = node(host)?;
        let storage = &self.place.artifacts;
        let there = self.client.content(&host, storage, content).map_err(|error| failed(&error))?;
        let file = self.place.files.get(artifact).ok_or_else(|| {
            CallError::Failed(format!("the file {artifact} is not among the artifacts given"))
        })?;
        let same_name = |name: &str| name.rsplit('/').next() == Some(artifact);
        if let Some(found) = there.iter().find(|volume| same_name(volume.id.name())) {
            return check_size(artifact, found.size_bytes, file.size_bytes);
        }
        let mut source = File::open(&file.path).map_err(|error| {
            CallError::Failed(format!("cannot read {}: {error}", file.path.display()))
        })?;
        let upload = Upload {
            node: &host,
            storage,
            content,
            name: artifact,
            size_bytes: file.size_bytes,
            digest: file.sha256,
        };
        let total = megabytes(file.size_bytes);
        let mut told = Instant::now();
        let mut abandoned = false;
        let task = self.client.upload(&upload, &mut source, &mut |sent| {
            if told.elapsed() < POLL {
                return ControlFlow::Continue(());
            }
            told = Instant::now();
            let step = watch.tick(&format!("{} of {total}", megabytes(sent)));
            abandoned = step.is_break();
            step
        });
        match task {
            Ok(task) => self.wait(&task, watch),
            Err(_) if abandoned => Err(CallError::Abandoned),
            Err(error) => Err(failed(&error)),
        }
    }

    fn create(&self, guest: &NewGuest, watch: &mut dyn Watch) -> Result<(), CallError> {
        self.make(guest, watch)
    }

    fn write_record(
        &self,
        guest: GuestId,
        seen: &Revision,
        record: &Record,
    ) -> Result<(), CallError> {
        let (guest, config) = self.seen(guest, seen)?;
        let text = record.describe(config.description());
        let text = text.map_err(|error| CallError::Failed(error.to_string()))?;
        let tags = merge_tags(&config.tags(), record);
        let change = ConfigChange::new()
            .description(&text)
            .tags(tags.iter().map(String::as_str))
            .onboot(record.starts_on_boot());
        self.client.configure(&guest, &change, &config.digest).map_err(|error| failed(&error))
    }

    fn start(
        &self,
        guest: GuestId,
        seen: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let (guest, _) = self.seen(guest, seen)?;
        let task = self.client.start(&guest).map_err(|error| failed(&error))?;
        self.wait(&task, watch)
    }

    fn shutdown(
        &self,
        guest: GuestId,
        seen: &Revision,
        patience: Duration,
        watch: &mut dyn Watch,
    ) -> Result<Halted, CallError> {
        let (guest, _) = self.seen(guest, seen)?;
        let task = self.client.shutdown(&guest, patience, false).map_err(|error| failed(&error))?;
        match self.wait_for(&task, patience + MARGIN, watch) {
            Ok(()) | Err(CallError::Failed(_)) => {}
            Err(other) => return Err(other),
        }
        // A task that is done does not mean that the guest is: HA only takes note. One that failed has mostly
        // run out of time.
        let deadline = Instant::now() + MARGIN;
        loop {
            let status = self.client.status(&guest).map_err(|error| failed(&error))?;
            if !status.running {
                return Ok(Halted::Stopped);
            }
            if !status.ha_managed || Instant::now() > deadline {
                return Ok(Halted::StillRunning);
            }
            if watch.tick("HA stops it").is_break() {
                return Err(CallError::Abandoned);
            }
            std::thread::sleep(POLL);
        }
    }

    fn stop(
        &self,
        guest: GuestId,
        seen: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let (guest, _) = self.seen(guest, seen)?;
        let task = self.client.stop(&guest).map_err(|error| failed(&error))?;
        self.wait(&task, watch)
    }

    fn move_volume(
        &self,
        volume: &VolumeName,
        from: (GuestId, &Revision),
        to: (GuestId, &Revision),
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let (source, source_config) = self.seen(from.0, from.1)?;
        let (target, target_config) = self.seen(to.0, to.1)?;
        let role = role_of(&source_config, from.0)?;
        let drive = self.drive_of(source.kind, &role, &source_config, volume).ok_or_else(|| {
            CallError::Conflict(format!("guest {} has no volume {volume} any more", from.0))
        })?;
        let to_key = volumes::free_key(target.kind, &target_config)
            .ok_or_else(|| CallError::Failed(format!("guest {} has no room for a disk", to.0)))?;
        let task = self
            .client
            .move_volume(&MoveVolume {
                from: &source,
                key: &drive.key,
                from_digest: &source_config.digest,
                to: target.vmid,
                to_key: &to_key,
                to_digest: &target_config.digest,
            })
            .map_err(|error| failed(&error))?;
        self.wait(&task, watch)
    }

    fn destroy(
        &self,
        guest: GuestId,
        seen: &Revision,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let (found, config) = self.seen(guest, seen)?;
        // The engine has looked. This is the last moment, and what is destroyed is gone.
        let role = role_of(&config, guest)?;
        let drives = self.drives(found.kind, &role, &config);
        if let Some((drive, _)) = drives.iter().find(|(_, it)| !matches!(it, volumes::Role::Own)) {
            return Err(CallError::Failed(format!(
                "guest {guest} still has the disk {}, which would be destroyed with it",
                drive.key
            )));
        }
        let task = self.client.destroy(&found).map_err(|error| failed(&error))?;
        self.wait(&task, watch)
    }

    fn health(&self, nodes: &[&Node]) -> Vec<Health> {
        let target = |node: &&Node| {
            let place = self.place.nodes.get(&node.name)?;
            Some((place.address.address(), place.health_port).into())
        };
        let targets: Vec<_> = nodes.iter().map(target).collect();
        ask_all(&targets)
    }

    fn read_lease(&self) -> Result<(Option<Lease>, Revision), CallError> {
        self.lease()
    }

    fn write_lease(&self, lease: Option<&Lease>, revision: &Revision) -> Result<(), CallError> {
        self.set_lease(lease, revision)
    }
}

impl Proxmox {
    /// Where a guest is this moment: guests move between hosts.
    pub(super) fn find(&self, id: GuestId) -> Result<proxmox::Guest, CallError> {
        let wanted = vmid(id)?;
        let guests = self.client.guests().map_err(|error| failed(&error))?;
        let found = guests.into_iter().find(|summary| summary.guest.vmid == wanted);
        found
            .map(|summary| summary.guest)
            .ok_or_else(|| CallError::Conflict(format!("guest {id} is gone")))
    }

    /// A guest with its configuration, if that is the one that was seen.
    fn seen(&self, id: GuestId, seen: &Revision) -> Result<(proxmox::Guest, Config), CallError> {
        let guest = self.find(id)?;
        let config = self.client.config(&guest).map_err(|error| failed(&error))?;
        if revision(&config) != *seen {
            let text = format!("the configuration of {guest} was changed a moment ago");
            return Err(CallError::Conflict(text));
        }
        Ok((guest, config))
    }

    pub(super) fn wait(&self, task: &Upid, watch: &mut dyn Watch) -> Result<(), CallError> {
        self.wait_for(task, TASK_PATIENCE, watch)
    }

    /// Warnings of a task are told, and do no harm.
    fn wait_for(
        &self,
        task: &Upid,
        patience: Duration,
        watch: &mut dyn Watch,
    ) -> Result<(), CallError> {
        let waited = self.client.wait::<Waiting>(task, patience, &mut || match watch.tick("") {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Waiting::Abandoned),
        });
        match waited {
            Ok(warnings) => {
                for warning in &warnings {
                    // Whether to stop is asked again soon.
                    let _ = watch.tick(warning);
                }
                Ok(())
            }
            Err(Waiting::Abandoned) => Err(CallError::Abandoned),
            Err(Waiting::Failed(error)) => Err(failed(&error)),
        }
    }
}

fn megabytes(count: u64) -> String {
    format!("{} MiB", count >> 20)
}

/// Why waiting for a task has ended.
enum Waiting {
    Abandoned,
    Failed(proxmox::Error),
}

impl From<proxmox::Error> for Waiting {
    fn from(error: proxmox::Error) -> Self {
        Self::Failed(error)
    }
}

/// The role of a guest, as its record says.
fn role_of(config: &Config, id: GuestId) -> Result<crate::definition::ImageName, CallError> {
    match Record::read(config.description()) {
        crate::swap::Reading::Record(record) => Ok(record.role),
        _ => Err(CallError::Conflict(format!("guest {id} has no record any more"))),
    }
}

pub(super) fn content_of(artifact: &str) -> Content {
    if artifact.ends_with(crate::artifact::name::Format::Qcow2.extension()) {
        Content::Import
    } else {
        Content::Template
    }
}

/// A name tells the content, so a file of that name and another size was cut off, or is something else. The list
/// has the lengths of files, of disks to import, too (`get_subdir_files` in `PVE/Storage/Plugin.pm`).
fn check_size(artifact: &str, found: Option<u64>, expected: u64) -> Result<(), CallError> {
    match found {
        Some(found) if found != expected => Err(CallError::Failed(format!(
            "the storage has a file {artifact} of {found} bytes, and the artifact has {expected}\n  \
             it was not uploaded whole, or is something else: remove it there (`pvesm free`), then run the same again"
        ))),
        _ => Ok(()),
    }
}

/// Whether the lease machine is there already.
pub(super) fn is_taken(reason: &Reason) -> bool {
    *reason == Reason::AlreadyExists
}
