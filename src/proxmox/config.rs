//! The configuration of a guest.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::client::Client;
use super::cluster::tags;
use super::drive::{Drive, is_drive};
use super::error::{Error, Lock, Method, Reason};
use super::json;
use super::names::{Guest, GuestKind, Vmid, VolumeId};
use super::property::Properties;
use super::request::{Parameters, Path};

/// The longest description (`maxLength` in the API's schema), in characters.
pub const DESCRIPTION_LIMIT: usize = 8192;

/// The digest of a configuration: it is another one after every change, so a change that names the one it
/// is based on cannot undo somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct ConfigDigest(String);

impl ConfigDigest {
    /// The digest that was written down as `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ConfigDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// What a guest is made of, as its configuration says at the moment: changes that wait for a restart are not
/// in it ([`Client::pending`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its digest.
    pub digest: ConfigDigest,
    values: BTreeMap<String, String>,
}

impl Config {
    /// The value of `key`, as it is written.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// All keys with their values.
    pub fn values(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The description, without the line end that Proxmox adds.
    pub fn description(&self) -> &str {
        self.get("description").unwrap_or_default().trim_end_matches('\n')
    }

    /// The name; a container's is its host name.
    pub fn name(&self) -> Option<&str> {
        self.get("name").or_else(|| self.get("hostname"))
    }

    /// The tags, sorted.
    pub fn tags(&self) -> Vec<String> {
        let mut tags = tags(self.get("tags").unwrap_or_default());
        tags.sort();
        tags
    }

    /// What holds the guest.
    pub fn lock(&self) -> Option<Lock> {
        self.get("lock").map(|kind| Lock::Config(kind.to_owned()))
    }

    /// Whether `key` is there and not `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value, "0" | ""))
    }

    /// All drives, by key.
    pub fn drives(&self) -> Vec<Drive> {
        let drive = |(key, value): (&str, &str)| {
            let options: Properties = value.parse().unwrap_or_default();
            let first = options.first().or_else(|| options.get("file")).or(options.get("volume"));
            let volume = first.and_then(|text| text.parse().ok());
            Drive { key: key.to_owned(), volume, options }
        };
        self.values().filter(|(key, _)| is_drive(key)).map(drive).collect()
    }

    /// The drive of `key`.
    pub fn drive(&self, key: &str) -> Option<Drive> {
        self.drives().into_iter().find(|drive| drive.key == key)
    }
}

/// A change that waits for a restart of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// Which key.
    pub key: String,
    /// What it will be. `None`: it will be gone.
    pub value: Option<String>,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its name.
    pub name: String,
}

/// Changes to a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfigChange {
    set: BTreeMap<String, String>,
    delete: Vec<String>,
}

impl ConfigChange {
    /// No change.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets `key`.
    pub fn set(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.set.insert(key.to_owned(), value.to_string());
        self
    }

    /// Sets the description, of at most [`DESCRIPTION_LIMIT`] characters.
    pub fn description(self, text: &str) -> Self {
        self.set("description", text)
    }

    /// Sets the tags, all of them. Proxmox sorts them and makes them small.
    pub fn tags<'a>(self, tags: impl IntoIterator<Item = &'a str>) -> Self {
        let tags: Vec<_> = tags.into_iter().collect();
        self.set("tags", tags.join(";"))
    }

    /// Sets whether the guest starts with its node.
    pub fn onboot(self, onboot: bool) -> Self {
        self.set("onboot", u8::from(onboot))
    }

    /// Takes `key` away. A drive becomes unused and is kept; that of an unused one is refused by
    /// [`Client::configure`], because it would be destroyed.
    pub fn delete(mut self, key: &str) -> Self {
        self.delete.push(key.to_owned());
        self
    }
}

impl Client {
    /// The configuration of a guest. `GET /nodes/{node}/{qemu|lxc}/{vmid}/config?current=1`.
    ///
    /// # Errors
    ///
    /// [`Reason::NotFound`], also when the guest is on another node.
    pub fn config(&self, guest: &Guest) -> Result<Config, Error> {
        self.read_config(guest, Parameters::new().with_flag("current", true))
    }

    /// The configuration that a snapshot keeps: its volumes cannot be moved to another guest.
    ///
    /// # Errors
    ///
    /// As [`Client::config`], or when there is no such snapshot.
    pub fn snapshot_config(&self, guest: &Guest, snapshot: &Snapshot) -> Result<Config, Error> {
        self.read_config(guest, Parameters::new().with("snapshot", &snapshot.name))
    }

    fn read_config(&self, guest: &Guest, parameters: Parameters) -> Result<Config, Error> {
        let path = path(guest).and("config");
        let mut values: BTreeMap<String, Value> = self.get(&path, parameters)?;
        let digest = values.remove("digest").as_ref().and_then(json::text).unwrap_or_default();
        let texts = values
            .into_iter()
            .filter_map(|(key, value)| json::text(&value).map(|text| (key, text)))
            .collect();
        Ok(Config { digest: ConfigDigest(digest), values: texts })
    }

    /// Changes the configuration of a guest, if it still has `digest`. Done when it returns.
    /// `PUT /nodes/{node}/{qemu|lxc}/{vmid}/config`.
    ///
    /// # Errors
    ///
    /// [`Reason::Modified`] when somebody else was faster; [`Reason::Locked`]; [`Reason::Parameters`].
    /// Deleting an `unusedN` and setting `rootfs` are refused without asking.
    pub fn configure(
        &self,
        guest: &Guest,
        change: &ConfigChange,
        digest: &ConfigDigest,
    ) -> Result<(), Error> {
        let path = path(guest).and("config");
        let refuse = |name: &str, why: &str| {
            let reason = Reason::Parameters([(name.to_owned(), why.to_owned())].into());
            self.error(Method::Put, &path, reason, "this change is not made")
        };
        if change.delete.iter().any(|key| key.starts_with("unused")) {
            return Err(refuse("delete", "the volume of an unused drive would be destroyed"));
        }
        // Proxmox drops the volume that was there without keeping it as an unused one
        // (`PVE/LXC/Config.pm` of pve-container).
        if change.set.contains_key("rootfs") {
            return Err(refuse("rootfs", "the volume that is there would be lost"));
        }
        if change
            .set
            .get("description")
            .is_some_and(|text| text.chars().count() > DESCRIPTION_LIMIT)
        {
            let why = format!("it is longer than {DESCRIPTION_LIMIT} characters");
            return Err(refuse("description", &why));
        }
        let mut parameters = Parameters::new();
        for (key, value) in &change.set {
            parameters = parameters.with(key, value);
        }
        if !change.delete.is_empty() {
            parameters = parameters.with("delete", change.delete.join(","));
        }
        parameters = parameters.with("digest", digest);
        self.change::<Option<Value>>(Method::Put, &path, parameters).map(drop)
    }

    /// The changes that wait for a restart. `GET /nodes/{node}/{qemu|lxc}/{vmid}/pending`.
    ///
    /// # Errors
    ///
    /// As [`Client::config`].
    pub fn pending(&self, guest: &Guest) -> Result<Vec<Pending>, Error> {
        #[derive(Deserialize)]
        struct Item {
            key: String,
            pending: Option<Value>,
            #[serde(default, deserialize_with = "json::number")]
            delete: Option<u64>,
        }
        let items: Vec<Item> = self.get(&path(guest).and("pending"), Parameters::new())?;
        let pending = |item: Item| match (item.pending, item.delete.unwrap_or(0)) {
            (Some(value), _) => Some(Pending { key: item.key, value: json::text(&value) }),
            (None, 0) => None,
            (None, _) => Some(Pending { key: item.key, value: None }),
        };
        Ok(items.into_iter().filter_map(pending).collect())
    }

    /// The snapshots of a guest. `GET /nodes/{node}/{qemu|lxc}/{vmid}/snapshot`.
    ///
    /// # Errors
    ///
    /// As [`Client::config`].
    pub fn snapshots(&self, guest: &Guest) -> Result<Vec<Snapshot>, Error> {
        #[derive(Deserialize)]
        struct Item {
            name: String,
        }
        let items: Vec<Item> = self.get(&path(guest).and("snapshot"), Parameters::new())?;
        // `current` is what the guest is now.
        let names = items.into_iter().map(|item| item.name).filter(|name| name != "current");
        Ok(names.map(|name| Snapshot { name }).collect())
    }
}

/// The path of a guest.
pub(super) fn path(guest: &Guest) -> Path {
    of(guest.node.as_str(), guest.kind).and(&guest.vmid.to_string())
}

/// The path of the guests of a kind on a node.
pub(super) fn of(node: &str, kind: GuestKind) -> Path {
    Path::new(["nodes", node, kind.segment()])
}

/// The drives of `config` that hold a volume which `vmid` owns.
pub fn owned(config: &Config, vmid: Vmid) -> Vec<Drive> {
    let own = |drive: &Drive| drive.volume.as_ref().and_then(VolumeId::owner) == Some(vmid);
    config.drives().into_iter().filter(own).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(values: &[(&str, &str)]) -> Config {
        let values = values.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config { digest: ConfigDigest("d".to_owned()), values: values.collect() }
    }

    #[test]
    fn drives_are_told_from_other_keys() {
        let config = config(&[
            ("scsi0", "local-lvm:vm-100-disk-0,discard=on,size=8G"),
            ("scsi1", "file=local-lvm:vm-101-disk-1,serial=state-mysql,size=100G"),
            ("scsihw", "virtio-scsi-single"),
            ("ide2", "none,media=cdrom"),
            ("virtio0", "/dev/disk/by-id/x,size=1G"),
            ("unused0", "local-lvm:vm-100-disk-7"),
            ("mp0", "local-lvm:vm-100-disk-2,mp=/var/lib/mysql,backup=1,size=8G"),
            ("rootfs", "local-lvm:vm-100-disk-3,size=8G"),
            ("memory", "2048"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
        ]);
        let drives = config.drives();
        let keys: Vec<_> = drives.iter().map(|drive| drive.key.as_str()).collect();
        assert_eq!(keys, ["ide2", "mp0", "rootfs", "scsi0", "scsi1", "unused0", "virtio0"]);
        let volume = |key: &str| config.drive(key).unwrap().volume.map(|volume| volume.to_string());
        assert_eq!(volume("scsi1").as_deref(), Some("local-lvm:vm-101-disk-1"));
        assert_eq!(volume("ide2"), None);
        assert_eq!(volume("virtio0"), None);
        assert_eq!(config.drive("mp0").unwrap().options.get("mp"), Some("/var/lib/mysql"));
        let size = |key: &str| config.drive(key).unwrap().size_bytes();
        assert_eq!(size("scsi0"), Some(8 << 30));
        assert_eq!(size("unused0"), None);
        let own: Vec<_> =
            owned(&config, Vmid::new(100).unwrap()).into_iter().map(|d| d.key).collect();
        assert_eq!(own, ["mp0", "rootfs", "scsi0", "unused0"]);
    }

    #[test]
    fn what_proxmox_adds_to_texts_is_taken_off() {
        let config = config(&[
            ("description", "a\nb\n"),
            ("tags", "b;a"),
            ("onboot", "0"),
            ("lock", "backup"),
        ]);
        assert_eq!(config.description(), "a\nb");
        assert_eq!(config.tags(), ["a", "b"]);
        assert!(!config.flag("onboot"));
        assert_eq!(config.lock(), Some(Lock::Config("backup".to_owned())));
    }
}
