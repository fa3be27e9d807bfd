//! What the fake keeps: nodes, storages, guests, volumes, tasks. Tests look at it and change it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use imgbuild::digest::Digest;

use super::Flavour;
use super::backing::{Backing, Beside};
use super::fault::Spoil;

/// A storage.
#[derive(Clone, Debug)]
pub struct Storage {
    /// `dir` or `lvmthin`.
    pub kind: String,
    pub content: BTreeSet<String>,
    pub shared: bool,
    /// Whether it is there at the moment.
    pub active: bool,
    pub total: u64,
    /// Of what the test does not care about.
    pub used: u64,
    /// Volumes of these kinds cannot be given to another guest.
    pub can_rename: bool,
}

/// A volume: a guest's, or an uploaded file.
#[derive(Clone, Debug)]
pub struct Volume {
    /// `None` on shared storages.
    pub node: Option<String>,
    pub size: u64,
    /// What it was made as; it stays the same when the volume is renamed.
    pub identity: u64,
    /// Of an uploaded file.
    pub digest: Option<Digest>,
}

/// What a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Qemu,
    Lxc,
}

impl Kind {
    pub fn segment(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Lxc => "lxc",
        }
    }

    /// As messages have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Qemu => "VM",
            Self::Lxc => "CT",
        }
    }
}

/// Keys and values of a configuration.
pub type Config = BTreeMap<String, String>;

/// A guest.
#[derive(Clone, Debug)]
pub struct Guest {
    pub node: String,
    pub kind: Kind,
    pub config: Config,
    /// Changes that wait for a restart: a value, or that the key goes.
    pub pending: BTreeMap<String, Option<String>>,
    pub snapshots: BTreeMap<String, Config>,
    pub running: bool,
    pub pool: Option<String>,
    /// Whether its agent answers while it runs.
    pub agent: bool,
    /// Does not listen when it shall shut down.
    pub stubborn: bool,
    pub addresses: Vec<String>,
    /// How often it was started.
    pub starts: u32,
}

impl Guest {
    pub fn new(node: &str, kind: Kind) -> Self {
        Self {
            node: node.to_owned(),
            kind,
            config: Config::new(),
            pending: BTreeMap::new(),
            snapshots: BTreeMap::new(),
            running: false,
            pool: None,
            agent: true,
            stubborn: false,
            addresses: Vec::new(),
            starts: 0,
        }
    }

    /// The digest of its configuration, 40 digits like SHA-1.
    pub fn digest(&self) -> String {
        let text = format!("{:?}{:?}{:?}", self.config, self.pending, self.snapshots);
        Digest::of(text).to_string()[..40].to_owned()
    }

    /// The volume of a key.
    pub fn volume(&self, key: &str) -> Option<String> {
        self.config.get(key).and_then(|value| volume_of(value))
    }
}

/// The volume in the value of a drive.
pub fn volume_of(value: &str) -> Option<String> {
    let first = value.split(',').next()?;
    let first = first.strip_prefix("file=").or(first.strip_prefix("volume=")).unwrap_or(first);
    (first.contains(':') && !first.starts_with('/')).then(|| first.to_owned())
}

/// Whether a key holds a drive.
pub fn is_drive(key: &str) -> bool {
    let stem = key.trim_end_matches(|letter: char| letter.is_ascii_digit());
    key == "rootfs"
        || (stem != key
            && matches!(
                stem,
                "scsi" | "virtio" | "sata" | "ide" | "mp" | "unused" | "efidisk" | "tpmstate"
            ))
}

/// The guest that owns a volume, by its name.
pub fn owner_of(volume: &str) -> Option<u32> {
    let own = volume.rsplit([':', '/']).next()?;
    let rest = own.strip_prefix("vm-").or(own.strip_prefix("subvol-"))?;
    rest.split('-').next()?.parse().ok()
}

/// What a task does at its end: lines of its log, of which `WARN: …` are warnings.
pub type Work = Box<dyn FnOnce(&mut Cluster) -> Result<Vec<String>, String> + Send>;

/// A task.
pub struct Task {
    pub upid: String,
    pub node: String,
    pub kind: String,
    pub user: String,
    pub due: Instant,
    pub work: Option<Work>,
    /// What it has begun and waits for.
    pub beside: Option<Beside>,
    pub log: Vec<String>,
    /// `None` while it runs.
    pub exit: Option<String>,
}

/// What a path allows.
#[derive(Clone, Debug)]
pub struct Acl {
    pub path: String,
    pub privileges: BTreeSet<String>,
    /// Whether it holds below the path, too.
    pub propagate: bool,
}

/// All of it.
pub struct Cluster {
    pub flavour: Flavour,
    /// What it says of its version, if not what its flavour has.
    pub version: Option<String>,
    /// Name, and whether it is there.
    pub nodes: BTreeMap<String, bool>,
    /// Whether the nodes are a cluster; otherwise one node alone.
    pub clustered: bool,
    pub quorate: bool,
    pub storages: BTreeMap<String, Storage>,
    /// Of guests, by name, which has the owner's number.
    pub volumes: BTreeMap<String, Volume>,
    /// Uploaded files, by node and name. Of shared storages the node is empty.
    pub files: BTreeMap<(String, String), Volume>,
    pub guests: BTreeMap<u32, Guest>,
    pub pools: BTreeSet<String>,
    /// Managed guests and the state that HA shall give them.
    pub ha: BTreeMap<u32, String>,
    pub acl: Vec<Acl>,
    pub token: String,
    pub tasks: Vec<Task>,
    /// How long tasks take, by type.
    pub durations: BTreeMap<String, Duration>,
    /// What happened, in order: `start 100`, `move A B`, `destroy 100`, …
    pub history: Vec<String>,
    /// What becomes of the next task, if not what it is for.
    pub spoil: Option<Spoil>,
    /// What is behind the containers, if anything.
    pub backing: Option<Arc<dyn Backing>>,
    /// What the work of a task has just begun.
    pub beside: Option<Beside>,
    next: u64,
}

const GIB: u64 = 1 << 30;

impl Cluster {
    /// A node `pve1` with `local` and `local-lvm`, and a token that has what docs/proxmox.md lists.
    pub fn new(flavour: Flavour, token: &str) -> Self {
        let storage = |kind: &str, content: &[&str]| Storage {
            kind: kind.to_owned(),
            content: content.iter().map(|name| (*name).to_owned()).collect(),
            shared: false,
            active: true,
            total: 1000 * GIB,
            used: 10 * GIB,
            can_rename: true,
        };
        let mut cluster = Self {
            flavour,
            version: None,
            nodes: BTreeMap::from([("pve1".to_owned(), true)]),
            clustered: false,
            quorate: true,
            storages: BTreeMap::from([
                ("local".to_owned(), storage("dir", &["backup", "vztmpl", "iso", "import"])),
                ("local-lvm".to_owned(), storage("lvmthin", &["images", "rootdir"])),
            ]),
            volumes: BTreeMap::new(),
            files: BTreeMap::new(),
            guests: BTreeMap::new(),
            pools: BTreeSet::from(["imgbuild".to_owned()]),
            ha: BTreeMap::new(),
            acl: Vec::new(),
            token: token.to_owned(),
            tasks: Vec::new(),
            durations: BTreeMap::new(),
            history: Vec::new(),
            spoil: None,
            backing: None,
            beside: None,
            next: 1,
        };
        super::access::minimal(&mut cluster);
        cluster
    }

    /// A number that was never used.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Whether a node sees a volume.
    pub fn sees(&self, node: &str, volume: &str) -> bool {
        let own = self.volumes.get(volume);
        own.is_some_and(|found| found.node.as_deref().is_none_or(|own| own == node))
            || self.file(node, volume).is_some()
    }

    /// An uploaded file, as a node sees it.
    pub fn file(&self, node: &str, volume: &str) -> Option<&Volume> {
        self.files.get(&self.file_key(node, volume))
    }

    /// Where an uploaded file is kept.
    pub fn file_key(&self, node: &str, volume: &str) -> (String, String) {
        let storage = volume.split(':').next().unwrap_or_default();
        let shared = self.storages.get(storage).is_some_and(|storage| storage.shared);
        (if shared { String::new() } else { node.to_owned() }, volume.to_owned())
    }

    /// The node that is talked to.
    pub fn local(&self) -> String {
        self.nodes.keys().next().cloned().unwrap_or_default()
    }

    /// Makes a volume for a guest, with the first free number; gives its name.
    pub fn allocate(
        &mut self,
        node: &str,
        storage: &str,
        vmid: u32,
        suffix: &str,
        size: u64,
    ) -> Result<String, String> {
        let found =
            self.storages.get(storage).ok_or(format!("storage '{storage}' does not exist"))?;
        if self.used(node, storage) + size > found.total {
            return Err(format!("storage '{storage}': not enough free space"));
        }
        let shared = found.shared;
        let directory = found.kind == "dir";
        let name = |suffix: &str| {
            if directory {
                format!("{storage}:{vmid}/vm-{vmid}-{suffix}.raw")
            } else {
                format!("{storage}:vm-{vmid}-{suffix}")
            }
        };
        let volume = if suffix.is_empty() {
            (0..)
                .map(|number| name(&format!("disk-{number}")))
                .find(|name| !self.volumes.contains_key(name))
                .ok_or("no name")?
        } else {
            name(suffix)
        };
        let identity = self.number();
        let node = (!shared).then(|| node.to_owned());
        self.volumes.insert(volume.clone(), Volume { node, size, identity, digest: None });
        Ok(volume)
    }

    /// Bytes in use, as a node sees it.
    pub fn used(&self, node: &str, storage: &str) -> u64 {
        let prefix = format!("{storage}:");
        let on_node = |volume: &&Volume| volume.node.as_deref().is_none_or(|own| own == node);
        let disks = self.volumes.iter();
        let files = self.files.iter().map(|((_, name), volume)| (name, volume));
        let own = disks.chain(files).filter(|(name, _)| name.starts_with(&prefix));
        self.storages[storage].used
            + own.map(|(_, volume)| volume).filter(on_node).map(|volume| volume.size).sum::<u64>()
    }

    /// Starts a task, which has its effect when its time is over.
    pub fn task(&mut self, node: &str, kind: &str, id: &str, work: Work) -> String {
        let spoil = self.spoil.take();
        let work = match spoil {
            Some(spoil) => spoiled(spoil, work),
            None => work,
        };
        let number = self.number();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let user = self.token.clone();
        let upid =
            format!("UPID:{node}:{number:08X}:{:08X}:{now:08X}:{kind}:{id}:{user}:", number * 100);
        let duration = self.durations.get(kind).copied().unwrap_or_default();
        self.tasks.push(Task {
            upid: upid.clone(),
            node: node.to_owned(),
            kind: kind.to_owned(),
            user,
            due: Instant::now() + duration,
            work: Some(work),
            beside: None,
            log: Vec::new(),
            exit: None,
        });
        upid
    }

    /// Ends the tasks whose time is over.
    pub fn advance(&mut self) {
        let now = Instant::now();
        let ends = |task: &Task| {
            let waits = task.beside.as_ref().is_some_and(|(job, _)| !job.is_finished());
            task.exit.is_none() && task.due <= now && !waits
        };
        while let Some(index) = self.tasks.iter().position(ends) {
            let result = match (self.tasks[index].work.take(), self.tasks[index].beside.take()) {
                (Some(work), _) => work(self),
                (None, Some((job, then))) => {
                    let done = job.join().unwrap_or_else(|_| Err("it panicked".to_owned()));
                    then(self, done)
                }
                (None, None) => Ok(Vec::new()),
            };
            let beside = self.beside.take();
            let task = &mut self.tasks[index];
            if beside.is_some() && result.is_ok() {
                task.beside = beside;
                continue;
            }
            match result {
                Ok(lines) => {
                    let warnings = lines.iter().filter(|line| line.starts_with("WARN")).count();
                    task.log.extend(lines);
                    task.log.push(if warnings == 0 {
                        "TASK OK".to_owned()
                    } else {
                        format!("TASK WARNINGS: {warnings}")
                    });
                    task.exit = Some(if warnings == 0 {
                        "OK".to_owned()
                    } else {
                        format!("WARNINGS: {warnings}")
                    });
                }
                Err(error) => {
                    task.log.push(format!("TASK ERROR: {error}"));
                    // Only the first line gets into the list of tasks.
                    task.exit = Some(error.lines().next().unwrap_or_default().to_owned());
                }
            }
        }
    }
}

/// What becomes of `work` when `spoil` is what happens.
fn spoiled(spoil: Spoil, work: Work) -> Work {
    Box::new(move |cluster| match spoil {
        Spoil::Fails(error) => Err(error.to_owned()),
        Spoil::Killed => Err("unexpected status".to_owned()),
        Spoil::FailsAfter(error) => {
            work(cluster)?;
            Err(error.to_owned())
        }
        Spoil::Warns(warning) => {
            let mut lines = work(cluster)?;
            lines.push(format!("WARN: {warning}"));
            Ok(lines)
        }
    })
}
