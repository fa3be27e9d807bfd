//! What there is: one list of all guests, then the configuration of each that may be ours.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use rayon::prelude::*;

use super::volumes::Role;
use super::{Proxmox, failed, node};
use crate::debian::date::Moment;
use crate::definition::{GuestKind, Hostname, VolumeName};
use crate::proxmox::{self, Config, Content, Error, GuestSummary, Reason};
use crate::swap::{
    CallError, Guest, GuestId, Reading, Record, Revision, Status, Strangeness, Stranger, Survey,
    Volume,
};

/// Configurations that are read at a time. Proxmox's proxy answers three requests at once by default
/// (`max_workers` of pveproxy).
const AT_A_TIME: usize = 6;

/// Tasks that last as long as somebody looks at a console, and change nothing.
const CONSOLES: [&str; 5] = ["vncproxy", "vncshell", "termproxy", "spiceproxy", "spiceshell"];

impl Proxmox {
    pub(super) fn look(&self) -> Result<Survey, CallError> {
        let away = self.away()?;
        // Before the guests: what ends in between is then seen as what it made, and not as nothing.
        let tasks = self.tasks(&away)?;
        let summaries = self.client.guests().map_err(|error| failed(&error))?;
        let looked = self.in_parallel(&summaries, |summary| {
            match away.iter().any(|host| host.as_str() == summary.guest.node.as_str()) {
                true => Ok(Some(Looked::Foreign(self.unseen(summary)))),
                false => self.look_at(summary),
            }
        })?;
        let mut guests = Vec::new();
        let mut strangers = Vec::new();
        for one in looked.into_iter().flatten() {
            match one {
                Looked::Ours(guest) => guests.push(*guest),
                Looked::Foreign(stranger) => strangers.push(stranger),
            }
        }
        guests.sort_by_key(|guest| guest.id);
        for guest in &mut guests {
            guest.busy = tasks.get(&guest.id).cloned();
        }
        for stranger in &mut strangers {
            stranger.busy = stranger.busy.take().or_else(|| tasks.get(&stranger.id).cloned());
        }
        Ok(Survey {
            now: self.now()?,
            quorate: self.is_quorate()?,
            guests,
            strangers,
            artifacts: self.artifacts_but(&away)?,
            away,
        })
    }

    /// The hosts of which the cluster says that they are not there. One that is there and does not answer is an
    /// error like others, and tried again.
    pub(super) fn away(&self) -> Result<BTreeSet<Hostname>, CallError> {
        let nodes = self.client.nodes().map_err(|error| failed(&error))?;
        nodes.iter().filter(|node| node.offline).map(|node| hostname(&node.name)).collect()
    }

    /// A guest on a host that is not there. Proxmox still has its tags, and its name for some minutes
    /// (`resources` in `PVE/API2/Cluster.pm`). Without tags it was never started.
    fn unseen(&self, summary: &GuestSummary) -> Stranger {
        let tag = |prefix: &str| summary.tags.iter().find_map(|tag| tag.strip_prefix(prefix));
        let own = |site: &str| site.eq_ignore_ascii_case(self.place.site.as_str());
        let named = |name: &str| {
            let same = |node: &&Hostname| node.as_str().eq_ignore_ascii_case(name);
            self.place.nodes.keys().find(same).cloned().or_else(|| name.parse().ok())
        };
        let why = match tag("imgbuild-site-") {
            Some(site) if own(site) => {
                let name = tag("imgbuild-node-").unwrap_or(&summary.name);
                Strangeness::Unseen(named(name))
            }
            _ => Strangeness::NoRecord,
        };
        stranger(summary, why)
    }

    fn in_parallel<T: Sync, R: Send>(
        &self,
        items: &[T],
        work: impl Fn(&T) -> Result<R, CallError> + Sync + Send,
    ) -> Result<Vec<R>, CallError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(AT_A_TIME).build();
        let pool = pool.map_err(|error| CallError::Failed(error.to_string()))?;
        pool.install(|| items.par_iter().map(work).collect())
    }

    pub(super) fn now(&self) -> Result<Moment, CallError> {
        let time = self.client.server_time().map_err(|error| failed(&error))?;
        let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Moment::from_unix(seconds))
    }

    /// A token without `Sys.Audit` cannot ask; then the first change says it.
    fn is_quorate(&self) -> Result<bool, CallError> {
        match self.client.cluster_status() {
            Ok(status) => Ok(status.quorate),
            Err(error) if matches!(error.reason(), Reason::Forbidden { .. }) => Ok(true),
            Err(error) => Err(failed(&error)),
        }
    }

    /// What is at work on guests on the hosts of the site, as far as the token may see it: its own tasks, and
    /// with `Sys.Audit` those of everybody.
    fn tasks(&self, away: &BTreeSet<Hostname>) -> Result<BTreeMap<GuestId, String>, CallError> {
        let hosts: Vec<&Hostname> =
            self.hosts().into_iter().filter(|host| !away.contains(*host)).collect();
        let running = self.in_parallel(&hosts, |host| {
            self.client.running_tasks(&node(host)?).map_err(|error| failed(&error))
        })?;
        let tasks = running.iter().flatten().filter(|task| !CONSOLES.contains(&task.kind()));
        Ok(tasks
            .filter_map(|task| Some((GuestId(task.vmid()?.number()), task.kind().to_owned())))
            .collect())
    }

    /// The hosts that the site's nodes lie on.
    pub(super) fn hosts(&self) -> BTreeSet<&Hostname> {
        self.place.nodes.values().map(|address| &address.host).collect()
    }

    /// The site's artifacts that are on the storages of the hosts of its nodes, as far as those are there.
    pub(super) fn artifacts(&self) -> Result<BTreeMap<(Hostname, String), u64>, CallError> {
        self.artifacts_but(&self.away()?)
    }

    fn artifacts_but(
        &self,
        away: &BTreeSet<Hostname>,
    ) -> Result<BTreeMap<(Hostname, String), u64>, CallError> {
        let asked: Vec<(&Hostname, Content)> = self
            .hosts()
            .into_iter()
            .filter(|host| !away.contains(*host))
            .flat_map(|host| [Content::Import, Content::Template].map(|content| (host, content)))
            .collect();
        let found = self.in_parallel(&asked, |(host, content)| {
            let volumes = self.client.content(&node(host)?, &self.place.artifacts, *content);
            match volumes {
                Ok(volumes) => Ok(volumes
                    .iter()
                    .filter_map(|volume| Some((volume.id.name().rsplit('/').next()?, volume)))
                    .filter(|(name, volume)| self.has_length_of(name, volume.size_bytes))
                    .map(|(name, volume)| {
                        (((*host).clone(), name.to_owned()), volume.size_bytes.unwrap_or(0))
                    })
                    .collect()),
                // The storage may have one of the two contents only; an upload says what is missing.
                Err(error) if is_other_content(&error) => Ok(Vec::new()),
                Err(error) => Err(failed(&error)),
            }
        })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Whether a file on a storage may be the artifact of its name. One of another length is not seen, so that
    /// the step which would upload it finds it, and says so.
    fn has_length_of(&self, name: &str, found: Option<u64>) -> bool {
        let expected = self.place.files.get(name).map(|file| file.size_bytes);
        match (found, expected) {
            (Some(found), Some(expected)) => found == expected,
            _ => true,
        }
    }

    /// None for a guest that is gone again.
    fn look_at(&self, summary: &GuestSummary) -> Result<Option<Looked>, CallError> {
        let id = GuestId(summary.guest.vmid.number());
        if id == self.place.lease || !self.may_be_ours(summary) {
            return Ok(Some(Looked::Foreign(stranger(summary, Strangeness::NoRecord))));
        }
        let config = match self.client.config(&summary.guest) {
            Ok(config) => config,
            Err(error) if *error.reason() == Reason::NotFound => return Ok(None),
            Err(error) if matches!(error.reason(), Reason::Forbidden { .. }) => {
                return Ok(Some(Looked::Foreign(stranger(summary, Strangeness::NoRecord))));
            }
            Err(error) => return Err(failed(&error)),
        };
        match Record::read(config.description()) {
            Reading::None => Ok(Some(Looked::Foreign(stranger(summary, Strangeness::NoRecord)))),
            Reading::Unreadable(error, site) => {
                let why = match site {
                    Some(site) if site != self.place.site => Strangeness::OtherSite(site),
                    _ => Strangeness::Unreadable(error),
                };
                Ok(Some(Looked::Foreign(stranger(summary, why))))
            }
            Reading::Record(record) if record.site != self.place.site => {
                let why = Strangeness::OtherSite(record.site.clone());
                Ok(Some(Looked::Foreign(stranger(summary, why))))
            }
            Reading::Record(record) => self.ours(summary, *record, &config),
        }
    }

    /// Tags tell quickly, but they come a moment after the guest. One without any may be being made.
    fn may_be_ours(&self, summary: &GuestSummary) -> bool {
        let in_range = self.place.ids.contains(&GuestId(summary.guest.vmid.number()));
        in_range
            || summary.tags.iter().any(|tag| tag == "imgbuild")
            || self.place.nodes.keys().any(|node| node.as_str().eq_ignore_ascii_case(&summary.name))
    }

    fn ours(
        &self,
        summary: &GuestSummary,
        record: Record,
        config: &Config,
    ) -> Result<Option<Looked>, CallError> {
        let status = match self.client.status(&summary.guest) {
            Ok(status) => status,
            Err(error) if *error.reason() == Reason::NotFound => return Ok(None),
            Err(error) => return Err(failed(&error)),
        };
        let kind = match summary.guest.kind {
            proxmox::GuestKind::Machine => GuestKind::Machine,
            proxmox::GuestKind::Container => GuestKind::Container,
        };
        let (volumes, other_disks) = self.volumes(summary, &record, config)?;
        let drives = self.drives(summary.guest.kind, &record.role, config);
        let root = drives.iter().find(|(drive, role)| {
            matches!(role, Role::Own) && matches!(drive.key.as_str(), "rootfs" | "scsi0")
        });
        let root_gib = root.and_then(|(drive, _)| drive.size_bytes()).map(gib);
        Ok(Some(Looked::Ours(Box::new(Guest {
            id: GuestId(summary.guest.vmid.number()),
            host: hostname(&summary.guest.node)?,
            kind,
            status: if status.running { Status::Running } else { Status::Stopped },
            revision: revision(config),
            record,
            root_gib,
            volumes,
            other_disks,
            lock: status.lock.or_else(|| summary.lock.clone()),
            busy: None,
            managed: status.ha_managed,
            protected: config.flag("protection"),
        }))))
    }

    fn volumes(
        &self,
        summary: &GuestSummary,
        record: &Record,
        config: &Config,
    ) -> Result<(BTreeMap<VolumeName, Volume>, Vec<String>), CallError> {
        let mut volumes = BTreeMap::new();
        let mut others = Vec::new();
        for (drive, role) in self.drives(summary.guest.kind, &record.role, config) {
            match role {
                Role::State(name) => {
                    let size_gib = drive.size_bytes().map_or(0, gib);
                    volumes.insert(name, (drive, Volume { size_gib, snapshots: Vec::new() }));
                }
                Role::Own => {}
                Role::Other => others.push(drive.key.clone()),
            }
        }
        if !volumes.is_empty() {
            let snapshots =
                self.client.snapshots(&summary.guest).map_err(|error| failed(&error))?;
            for snapshot in snapshots {
                let held = self
                    .client
                    .snapshot_config(&summary.guest, &snapshot)
                    .map_err(|error| failed(&error))?;
                let held: BTreeSet<_> =
                    held.drives().into_iter().filter_map(|drive| drive.volume).collect();
                for (drive, volume) in volumes.values_mut() {
                    if drive.volume.as_ref().is_some_and(|id| held.contains(id)) {
                        volume.snapshots.push(snapshot.name.clone());
                    }
                }
            }
        }
        Ok((volumes.into_iter().map(|(name, (_, volume))| (name, volume)).collect(), others))
    }
}

enum Looked {
    Ours(Box<Guest>),
    Foreign(Stranger),
}

fn stranger(summary: &GuestSummary, why: Strangeness) -> Stranger {
    Stranger {
        id: GuestId(summary.guest.vmid.number()),
        name: (!summary.name.is_empty()).then(|| summary.name.clone()),
        host: hostname(&summary.guest.node).ok(),
        busy: summary.lock.as_deref().filter(|lock| *lock == "create").map(|lock| {
            format!("`{lock}` (if no task makes this guest any more, remove it on its host)")
        }),
        why,
    }
}

pub(super) fn revision(config: &Config) -> Revision {
    Revision(config.digest.to_string())
}

fn hostname(node: &proxmox::NodeName) -> Result<Hostname, CallError> {
    node.as_str().parse().map_err(|error| CallError::Failed(format!("{node}: {error}")))
}

fn is_other_content(error: &Error) -> bool {
    error.message().contains("does not support") || error.message().contains("is not available")
}

/// As whole GiB, rounded up.
fn gib(bytes: u64) -> u32 {
    bytes.div_ceil(1 << 30).try_into().unwrap_or(u32::MAX)
}
