//! A guest as it lies in the lab.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::{Deserialize, Serialize};

use super::place::{Place, make_directory, replace, sync_directory};
use crate::boot::{Identity, Secrets, container};
use crate::definition::VolumeName;
use crate::digest::Digest;
use crate::swap::proxmox::SECRETS;
use crate::swap::{CallError, GuestId, Reading, Record, Revision};

/// Who the guest is in the network. It stays that, as it would on Proxmox VE.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Network {
    name: String,
    role: String,
    address: String,
    gateway: Option<String>,
    number: u32,
}

/// A guest's directory.
#[derive(Clone, Debug)]
pub(super) struct Directory {
    pub(super) id: GuestId,
    pub(super) path: PathBuf,
}

/// What a call fails with that could not read or write `path`.
pub(super) fn failed(action: &str, path: &Path, error: impl std::fmt::Display) -> CallError {
    CallError::Failed(format!("cannot {action} {}: {error}", path.display()))
}

impl Directory {
    pub(super) fn new(place: &Place, id: GuestId) -> Self {
        Self { id, path: place.guest(id) }
    }

    /// All guests, by number.
    pub(super) fn all(place: &Place) -> Result<Vec<Self>, CallError> {
        let path = place.guests();
        let entries = fs::read_dir(&path).map_err(|error| failed("read", &path, error))?;
        let numbers =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let mut guests: Vec<Self> = numbers.map(|id| Self::new(place, GuestId(id))).collect();
        guests.sort_by_key(|guest| guest.id);
        Ok(guests)
    }

    fn record_path(&self) -> PathBuf {
        self.path.join("record")
    }

    fn volumes_path(&self) -> PathBuf {
        self.path.join("volumes")
    }

    pub(super) fn description(&self) -> io::Result<String> {
        fs::read_to_string(self.record_path())
    }

    /// The record, which every guest has from the beginning.
    pub(super) fn record(&self) -> Result<Record, CallError> {
        let path = self.record_path();
        let text = self.description().map_err(|error| failed("read", &path, error))?;
        match Record::read(&text) {
            Reading::Record(record) => Ok(*record),
            Reading::None => Err(failed("read", &path, "there is no record in it")),
            Reading::Unreadable(error, _) => Err(failed("read", &path, error)),
        }
    }

    /// The names of its volumes.
    pub(super) fn volumes(&self) -> io::Result<Vec<VolumeName>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.volumes_path())? {
            names.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        names.sort();
        Ok(names)
    }

    /// What it is now: its record, and which volumes it has.
    pub(super) fn revision(&self) -> io::Result<Revision> {
        let mut text = self.description()?;
        for name in self.volumes()? {
            text.push('\0');
            text.push_str(name.as_str());
        }
        Ok(Revision(Digest::of(text).to_string()))
    }

    /// Whether it is what was seen.
    pub(super) fn check(&self, seen: &Revision) -> Result<(), CallError> {
        match self.revision() {
            Ok(revision) if revision == *seen => Ok(()),
            Ok(_) => {
                Err(CallError::Conflict(format!("guest {} was changed a moment ago", self.id)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(CallError::Conflict(format!("guest {} is gone", self.id)))
            }
            Err(error) => Err(failed("read", &self.path, error)),
        }
    }

    /// Writes what the guest is from the beginning.
    pub(super) fn fill(&self, identity: &Identity, record: &Record) -> Result<(), CallError> {
        make_directory(&self.volumes_path(), 0o711)
            .map_err(|error| CallError::Failed(error.to_string()))?;
        let network = Network {
            name: identity.name.to_string(),
            role: identity.role.clone(),
            address: identity.address.to_string(),
            gateway: identity.gateway.map(|gateway| gateway.to_string()),
            number: identity.number,
        };
        let path = self.path.join("network");
        let text = serde_json::to_string_pretty(&network).map_err(io::Error::from);
        text.and_then(|text| replace(&path, &(text + "\n")))
            .map_err(|error| failed("write", &path, error))?;
        self.write_record(record)
    }

    pub(super) fn write_record(&self, record: &Record) -> Result<(), CallError> {
        let before = self.description().unwrap_or_default();
        let text = record.describe(&before);
        let text = text.map_err(|error| CallError::Failed(error.to_string()))?;
        let path = self.record_path();
        replace(&path, &text).map_err(|error| failed("write", &path, error))
    }

    /// Who it is.
    pub(super) fn identity(&self) -> Result<Identity, CallError> {
        let path = self.path.join("network");
        let damaged = |error: &dyn std::fmt::Display| failed("read", &path, error);
        let text = fs::read_to_string(&path).map_err(|error| damaged(&error))?;
        let network: Network = serde_json::from_str(&text).map_err(|error| damaged(&error))?;
        let gateway = network.gateway.map(|gateway| gateway.parse()).transpose();
        Ok(Identity {
            name: network.name.parse().map_err(|error| damaged(&error))?,
            role: network.role,
            address: network.address.parse().map_err(|error| damaged(&error))?,
            gateway: gateway.map_err(|error: std::net::AddrParseError| damaged(&error))?,
            number: network.number,
            stranger: false,
        })
    }

    /// Makes a new, empty volume that guests have at `path`; one of secrets with these files.
    pub(super) fn make_volume(
        &self,
        name: &VolumeName,
        path: &str,
        secrets: &Secrets,
    ) -> Result<(), CallError> {
        let volume = self.volumes_path().join(name.as_str());
        let fault = |error: &dyn std::fmt::Display| failed("make", &volume, error);
        make_directory(&volume, 0o711).map_err(|error| fault(&error))?;
        let target = volume.join("path");
        replace(&target, path).map_err(|error| failed("write", &target, error))?;
        let data = volume.join("data");
        match name.as_str() {
            SECRETS => container::make_secrets(&data, secrets),
            _ => container::make_volume(&data),
        }
        .map_err(|error| fault(&error))
    }

    /// The directories that are its volumes, and where it has them.
    pub(super) fn mounts(&self) -> Result<Vec<(PathBuf, String)>, CallError> {
        let names = self.volumes().map_err(|error| failed("read", &self.path, error))?;
        let mount = |name: &VolumeName| {
            let volume = self.volumes_path().join(name.as_str());
            let path = volume.join("path");
            let target = fs::read_to_string(&path).map_err(|error| failed("read", &path, error))?;
            Ok((volume.join("data"), target))
        };
        names.iter().map(mount).collect()
    }

    /// Gives a volume to another guest. It is in one of the two at any time, and never in both.
    pub(super) fn give(&self, volume: &VolumeName, to: &Self) -> Result<(), CallError> {
        let from = self.volumes_path().join(volume.as_str());
        let target = to.volumes_path().join(volume.as_str());
        move_directory(&from, &target).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                CallError::Conflict(format!("guest {} has no volume {volume} any more", self.id))
            }
            io::ErrorKind::AlreadyExists => {
                CallError::Conflict(format!("guest {} has a volume {volume} already", to.id))
            }
            _ => failed("move", &from, error),
        })
    }

    /// The lists by which it is counted among the others.
    pub(super) fn table(&self) -> BTreeMap<VolumeName, crate::swap::Volume> {
        // A directory is as large as what is in it.
        let volume = || crate::swap::Volume { size_gib: 0, snapshots: Vec::new() };
        let names = self.volumes().unwrap_or_default();
        names.into_iter().map(|name| (name, volume())).collect()
    }
}

/// Renames a directory to a place where nothing is, for good.
pub(super) fn move_directory(from: &Path, to: &Path) -> io::Result<()> {
    renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?;
    let parents = [to.parent(), from.parent()];
    parents.into_iter().flatten().try_for_each(sync_directory)
}
