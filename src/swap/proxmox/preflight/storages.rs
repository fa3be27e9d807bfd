//! Whether the storages are there, take what they should, and have room for it.

use std::collections::{BTreeMap, BTreeSet};

use super::{Check, Proxmox, Storages, to_make};
use crate::definition::{GuestKind, Hostname, VolumeName};
use crate::proxmox::{Content, Storage, StorageName};
use crate::swap::{Difference, Survey, Wanted};

/// What a guest would be made on.
type Room<'a> = (Option<&'a Hostname>, &'a StorageName);

impl Proxmox {
    pub(super) fn storage_checks(&self, storages: &Storages<'_>) -> Vec<Check> {
        let mut wanted: BTreeMap<StorageName, Vec<Content>> = BTreeMap::new();
        for (storage, kinds) in self.guest_storages() {
            let contents = kinds.into_iter().map(|kind| match kind {
                GuestKind::Machine => Content::Images,
                GuestKind::Container => Content::Root,
            });
            wanted.entry(storage).or_default().extend(contents);
        }
        let contents = self.kinds().into_iter().map(|kind| match kind {
            GuestKind::Machine => Content::Import,
            GuestKind::Container => Content::Template,
        });
        wanted.entry(self.place.artifacts.clone()).or_default().extend(contents);
        let mut checks = Vec::new();
        for (host, seen) in storages {
            for (name, contents) in &wanted {
                let found = seen.iter().find(|storage| storage.name == *name);
                checks.extend(storage_check(host, name, found, contents));
            }
        }
        checks
    }

    /// Whether what would be made and uploaded has room.
    pub(super) fn room(
        &self,
        wanted: &Wanted,
        survey: &Survey,
        storages: &Storages<'_>,
    ) -> Vec<Check> {
        let find = |host: &Hostname, name: &StorageName| {
            storages.get(host)?.iter().find(|storage| storage.name == *name)
        };
        // What guests are made of, and all that they may come to fill.
        let mut needs: BTreeMap<Room<'_>, (u64, u64)> = BTreeMap::new();
        let mut uploads: BTreeSet<(Room<'_>, &str)> = BTreeSet::new();
        let differences = to_make(wanted, survey);
        for one in &differences {
            let host = &one.node.host;
            let Some(shape) = self.place.roles.get(&one.role.name) else { continue };
            let place = |name| {
                let shared = find(host, name).is_some_and(|storage| storage.shared);
                ((!shared).then_some(host), name)
            };
            let file = self.place.files.get(&one.role.artifact);
            let root = match one.role.kind {
                GuestKind::Container => u64::from(shape.root_gib) << 30,
                GuestKind::Machine => file.and_then(|file| file.disk_bytes).unwrap_or(0),
            };
            let need = needs.entry(place(&shape.storage)).or_default();
            *need = (need.0 + root, need.1 + root);
            for (name, size) in fresh(one) {
                let storage =
                    shape.volumes.get(name).map_or(&shape.storage, |(storage, _)| storage);
                needs.entry(place(storage)).or_default().1 += u64::from(*size) << 30;
            }
            let there = (host.clone(), one.role.artifact.clone());
            if file.is_some() && !survey.artifacts.contains_key(&there) {
                uploads.insert((place(&self.place.artifacts), &one.role.artifact));
            }
        }
        for (place, artifact) in uploads {
            let size = self.place.files.get(artifact).map_or(0, |file| file.size_bytes);
            let need = needs.entry(place).or_default();
            *need = (need.0 + size, need.1 + size);
        }
        let mut checks = Vec::new();
        for ((host, name), (least, all)) in needs {
            let mut hosts = host.into_iter().chain(storages.keys().copied());
            let Some(storage) = hosts.find_map(|host| find(host, name)) else { continue };
            checks.extend(room_check(host, storage, least, all));
        }
        checks
    }
}

fn storage_check(
    host: &Hostname,
    name: &StorageName,
    found: Option<&Storage>,
    contents: &[Content],
) -> Vec<Check> {
    let at = format!("{name} on {host}");
    let Some(storage) = found else {
        return vec![Check::obstacle(
            "storage",
            at,
            format!("{host} has no such storage, or it is disabled, or the token may not see it"),
            "`pvesm status` on the node lists those there are",
        )];
    };
    let mut checks = Vec::new();
    if !storage.active {
        checks.push(Check::obstacle(
            "storage",
            &at,
            "it is not active",
            format!("`pvesm status` on {host} says more"),
        ));
    }
    let missing = contents.iter().filter(|content| !storage.takes(**content));
    let missing: Vec<&str> = missing.map(|content| content.name()).collect();
    if !missing.is_empty() {
        let all = storage.content.iter().map(String::as_str).chain(missing.iter().copied());
        let all: Vec<&str> = all.filter(|name| !name.is_empty() && *name != "none").collect();
        checks.push(Check::obstacle(
            "storage",
            &at,
            format!("it does not take {}", missing.join(" and ")),
            format!("`pvesm set {name} --content {}`", all.join(",")),
        ));
    }
    if checks.is_empty() {
        let names: Vec<&str> = contents.iter().map(|content| content.name()).collect();
        checks.push(Check::ok("storage", at, format!("active, takes {}", names.join(", "))));
    }
    checks
}

/// `least` is written at once, `all` may come to be. Most storages give space only when something is written.
fn room_check(host: Option<&Hostname>, storage: &Storage, least: u64, all: u64) -> Option<Check> {
    let free = storage.free_bytes?;
    let at = match host {
        Some(host) => format!("{} on {host}", storage.name),
        None => storage.name.to_string(),
    };
    let thick = storage.kind == "lvm";
    let needed = if thick || free < least { if thick { all } else { least } } else { all };
    let text = format!("{} is needed, and {} is free", gib(needed), gib(free));
    Some(if needed <= free {
        Check::ok("room", at, format!("{} free, {} needed", gib(free), gib(needed)))
    } else if thick || free < least {
        Check::obstacle("room", at, text, "remove what nobody needs, or use another storage")
    } else {
        let help = "it is taken only as guests write; see that it does not run full";
        Check::warning("room", at, text, help)
    })
}

fn gib(bytes: u64) -> String {
    let tenths = bytes.saturating_mul(10).div_ceil(1 << 30);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

/// The volumes that are made with the next guest of a node.
fn fresh<'a>(one: &'a Difference<'_>) -> impl Iterator<Item = (&'a VolumeName, &'a u32)> {
    let guests = one.current.into_iter().chain(one.others.iter().copied());
    let had: BTreeSet<&VolumeName> = guests.flat_map(|guest| guest.volumes.keys()).collect();
    one.role.volumes.iter().filter(move |(name, _)| !had.contains(name))
}
