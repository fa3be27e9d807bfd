//! Whether everything is there that a swap needs: all that is missing, before anything is begun.

use std::collections::{BTreeMap, BTreeSet};

use super::{Proxmox, RoleShape, lease_name, node, vmid};
use crate::definition::{GuestKind, Hostname, ImageName, VolumeName};
use crate::proxmox::{Content, Error, Node, Reason, Storage, StorageName, Version};
use crate::swap::{Difference, GuestId, Known, Standing, Survey, Wanted, differences, obstacles};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finding {
    /// It is as it should be.
    Ok,
    /// A swap works without it, and knows or can do less.
    Warning,
    /// A swap would fail on it.
    Obstacle,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Check {
    /// What: `version`, `privilege`, `storage`, …
    pub check: &'static str,
    /// Where, or of whom: `/pool/imgbuild`, `local on pve1`, `sql1`.
    pub at: String,
    /// What was found.
    pub finding: Finding,
    /// What there is to say about it.
    pub text: String,
    /// How to mend it.
    pub help: Option<String>,
}

impl Check {
    fn ok(check: &'static str, at: impl ToString, text: impl Into<String>) -> Self {
        let (at, text) = (at.to_string(), text.into());
        Self { check, at, finding: Finding::Ok, text, help: None }
    }

    /// Something that a swap would fail on.
    pub fn obstacle(
        check: &'static str,
        at: impl ToString,
        text: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        let finding = Finding::Obstacle;
        Self { finding, help: Some(help.into()), ..Self::ok(check, at, text) }
    }

    fn warning(
        check: &'static str,
        at: impl ToString,
        text: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { finding: Finding::Warning, ..Self::obstacle(check, at, text, help) }
    }
}

/// What a guest would be made on.
type Room<'a> = (Option<&'a Hostname>, &'a StorageName);

/// Storages as each host of the site that is there sees them.
type Storages<'a> = BTreeMap<&'a Hostname, Vec<Storage>>;

impl Proxmox {
    /// Looks at everything that a swap of the whole site needs. Changes nothing.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked at all.
    pub fn preflight(
        &self,
        wanted: &Wanted,
        health: impl FnOnce() -> Known,
    ) -> Result<Vec<Check>, Error> {
        let version = self.client().version()?;
        let mut checks = vec![version_check(&version)];
        checks.extend(self.privileges(&version)?);
        let (hosts, there) = self.host_checks(&self.client().nodes()?);
        checks.extend(hosts);
        checks.extend(self.quorum()?);
        checks.extend(self.pool_check()?);
        let mut storages = Storages::new();
        for host in there {
            let Ok(name) = node(host) else { continue };
            storages.insert(host, self.client().storages(&name, None)?);
        }
        checks.extend(self.storage_checks(&storages));
        match crate::swap::Platform::survey(self) {
            Ok(survey) => {
                checks.extend(self.ids(wanted, &survey)?);
                checks.extend(self.room(wanted, &survey, &storages));
                checks.extend(guest_checks(wanted, &survey, &health()));
            }
            Err(error) => checks.push(Check::obstacle(
                "guests",
                wanted.site(),
                format!("the guests were not looked at: {error}"),
                "mend the others first, then run this again",
            )),
        }
        Ok(checks)
    }

    fn kinds(&self) -> BTreeSet<GuestKind> {
        self.place.nodes.values().map(|node| node.kind).collect()
    }

    fn privileges(&self, version: &Version) -> Result<Vec<Check>, Error> {
        let mut checks = Vec::new();
        for (path, privileges) in self.needed(version) {
            let held = self.client().privileges(&path)?;
            let missing = privileges.iter().filter(|need| !held.contains(need.name));
            let before = checks.len();
            checks.extend(missing.map(|need| need.check(&path)));
            if checks.len() == before {
                checks.push(Check::ok("privilege", &path, format!("all {}", privileges.len())));
            }
        }
        Ok(checks)
    }

    /// The privileges of `docs/proxmox.md`, as far as this site needs them.
    fn needed(&self, version: &Version) -> Vec<(String, Vec<Need>)> {
        let machines = self.kinds().contains(&GuestKind::Machine);
        let mut guests = vec![
            must("VM.Allocate", "make and destroy guests"),
            must("VM.Audit", "see guests"),
            must("VM.PowerMgmt", "start and stop guests"),
            must("VM.Config.Disk", "make and move disks"),
            must("VM.Config.CPU", "make guests"),
            must("VM.Config.Memory", "make guests"),
            must("VM.Config.Network", "make guests"),
            must("VM.Config.HWType", "make machines, also the one that holds the lease"),
            must("VM.Config.Options", "write descriptions and tags"),
        ];
        if machines {
            guests.push(must("VM.Config.Cloudinit", "tell machines who they are"));
            guests.push(must("VM.Config.CDROM", "tell machines who they are"));
            let agent = match version.has_agent_privileges() {
                true => "VM.GuestAgent.Audit",
                false => "VM.Monitor",
            };
            guests.push(should(agent, "machines cannot be asked whether they are up"));
        }
        let path = match &self.place.pool {
            Some(pool) => {
                guests.push(must("Pool.Audit", "see the pool"));
                format!("/pool/{pool}")
            }
            None => "/vms".to_owned(),
        };
        let artifacts = vec![
            must("Datastore.AllocateTemplate", "upload artifacts"),
            must("Datastore.Audit", "see what was uploaded"),
            should("Datastore.Allocate", "secrets cannot be delivered, and old files stay"),
        ];
        let mut all = vec![(path, guests)];
        all.push((format!("/storage/{}", self.place.artifacts), artifacts));
        all.extend(self.guest_storages().into_keys().map(|storage| {
            let disks = vec![
                must("Datastore.AllocateSpace", "make disks"),
                must("Datastore.Audit", "see how much room there is"),
            ];
            (format!("/storage/{storage}"), disks)
        }));
        let bridges: BTreeSet<String> = self.place.roles.values().map(bridge_path).collect();
        all.extend(bridges.into_iter().map(|path| (path, vec![must("SDN.Use", "use the bridge")])));
        all.push((
            "/".to_owned(),
            vec![should("Sys.Audit", "nobody sees whether the cluster has a majority")],
        ));
        let hosts = self.hosts().into_iter();
        all.extend(hosts.map(|host| {
            let need = should("Sys.Audit", "tasks of others on guests are not seen");
            (format!("/nodes/{host}"), vec![need])
        }));
        all
    }

    /// The storages of guests, with the kinds of guests that lie there.
    fn guest_storages(&self) -> BTreeMap<StorageName, BTreeSet<GuestKind>> {
        let mut storages: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (role, shape) in &self.place.roles {
            let Some(kind) = self.kind_of(role) else { continue };
            let volumes = shape.volumes.values().map(|(storage, _)| storage);
            for storage in volumes.chain([&shape.storage]) {
                storages.entry(storage.clone()).or_default().insert(kind);
            }
        }
        storages
    }

    fn kind_of(&self, role: &ImageName) -> Option<GuestKind> {
        let node = self.place.nodes.values().find(|node| node.role == *role);
        node.map(|node| node.kind)
    }

    fn host_checks(&self, nodes: &[Node]) -> (Vec<Check>, Vec<&Hostname>) {
        let mut there = Vec::new();
        let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
        let check = |host| {
            let known = nodes.iter().find(|node| node.name.as_str() == Hostname::as_str(host));
            match known {
                Some(node) if node.online => {
                    there.push(host);
                    Check::ok("host", host, "online")
                }
                Some(_) => Check::obstacle("host", host, "it is offline", "bring it back"),
                None => Check::obstacle(
                    "host",
                    host,
                    "the cluster has no such node",
                    format!("write another `host` in the overlay; it has: {}", names.join(", ")),
                ),
            }
        };
        let checks = self.hosts().into_iter().map(check).collect();
        (checks, there)
    }

    fn quorum(&self) -> Result<Option<Check>, Error> {
        match self.client().cluster_status() {
            Ok(status) if status.quorate => Ok(Some(Check::ok("quorum", "cluster", "quorate"))),
            // The survey says it.
            Ok(_) => Ok(None),
            // That the privilege is missing was said.
            Err(error) if matches!(error.reason(), Reason::Forbidden { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn pool_check(&self) -> Result<Option<Check>, Error> {
        let Some(pool) = &self.place.pool else { return Ok(None) };
        match self.client().pool(pool.as_str()) {
            Ok(Some(_)) => Ok(Some(Check::ok("pool", pool, "there"))),
            Ok(None) => Ok(Some(Check::obstacle(
                "pool",
                pool,
                "there is no such pool",
                format!("`pveum pool add {pool}`"),
            ))),
            Err(error) if matches!(error.reason(), Reason::Forbidden { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn storage_checks(&self, storages: &Storages<'_>) -> Vec<Check> {
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

    /// Whether there are enough numbers for new guests.
    fn ids(&self, wanted: &Wanted, survey: &Survey) -> Result<Vec<Check>, Error> {
        let (first, last) = (self.place.lease, *wanted.ids().end());
        let at = format!("{first}-{last}");
        let mut checks = Vec::new();
        let name = lease_name(&self.place.site);
        let holder = survey.strangers.iter().find(|stranger| stranger.id == first);
        if let Some(other) = holder.filter(|it| it.name.as_ref() != Some(&name)) {
            let whose = other.name.as_deref().unwrap_or("without a name");
            checks.push(Check::obstacle(
                "numbers",
                first.0,
                format!("guest {first} ({whose}) has the number of {name}, which holds the lease"),
                "let `vmids` in the overlay begin with a number that is free",
            ));
        }
        let foreign: Vec<String> = survey
            .strangers
            .iter()
            .filter(|stranger| wanted.ids().contains(&stranger.id))
            .map(|stranger| stranger.id.to_string())
            .collect();
        if !foreign.is_empty() {
            checks.push(Check::warning(
                "numbers",
                &at,
                format!("other guests have numbers of the site: {}", foreign.join(", ")),
                "they are not touched; give them other numbers, or the site another range",
            ));
        }
        let taken: BTreeSet<GuestId> = survey
            .strangers
            .iter()
            .map(|stranger| stranger.id)
            .chain(survey.guests.iter().map(|guest| guest.id))
            .collect();
        let ids = (wanted.ids().start().0..=last.0).map(GuestId);
        let free: Vec<GuestId> = ids.filter(|id| !taken.contains(id)).collect();
        let needed = to_make(wanted, survey).len();
        if free.len() < needed {
            checks.push(Check::obstacle(
                "numbers",
                &at,
                format!("{needed} guests are to be made, and {} numbers are free", free.len()),
                "run `imgbuild prune` to destroy old guests, or widen `vmids` in the overlay",
            ));
            return Ok(checks);
        }
        let mut unseen = Vec::new();
        for id in free.iter().take(needed) {
            if let Ok(number) = vmid(*id)
                && !self.client().is_free(number)?
            {
                unseen.push(id.to_string());
            }
        }
        checks.push(if unseen.is_empty() {
            Check::ok("numbers", &at, format!("{} free, {needed} needed", free.len()))
        } else {
            Check::obstacle(
                "numbers",
                &at,
                format!("guests that the token does not see have: {}", unseen.join(", ")),
                "let the token see them (VM.Audit), or give the site another range of `vmids`",
            )
        });
        Ok(checks)
    }

    /// Whether what would be made and uploaded has room.
    fn room(&self, wanted: &Wanted, survey: &Survey, storages: &Storages<'_>) -> Vec<Check> {
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
            if file.is_some() && !survey.artifacts.contains(&there) {
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

/// A privilege, what for, and whether a swap works without it.
struct Need {
    name: &'static str,
    what_for: &'static str,
    required: bool,
}

fn must(name: &'static str, what_for: &'static str) -> Need {
    Need { name, what_for, required: true }
}

fn should(name: &'static str, what_for: &'static str) -> Need {
    Need { name, what_for, required: false }
}

impl Need {
    fn check(&self, path: &str) -> Check {
        let Self { name, what_for, required } = self;
        let help = format!(
            "give a role with it to the token and to its user: `pveum acl modify {path} …` (docs/proxmox.md)"
        );
        if *required {
            let text = format!("{name} is missing; it is needed to {what_for}");
            Check::obstacle("privilege", path, text, help)
        } else {
            Check::warning("privilege", path, format!("{name} is missing: {what_for}"), help)
        }
    }
}

fn bridge_path(shape: &RoleShape) -> String {
    let vlan = shape.vlan.map(|vlan| format!("/{vlan}")).unwrap_or_default();
    format!("/sdn/zones/localnetwork/{}{vlan}", shape.bridge)
}

fn version_check(version: &Version) -> Check {
    if version.is_supported() {
        return Check::ok("version", "Proxmox VE", version.to_string());
    }
    let text = format!("it is {version}, and 8.4 is the oldest that takes images by its API");
    Check::obstacle("version", "Proxmox VE", text, "upgrade the nodes of the cluster")
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

/// The nodes that a swap makes a guest for.
fn to_make<'a>(wanted: &'a Wanted, survey: &'a Survey) -> Vec<Difference<'a>> {
    let mut all = differences(wanted, survey);
    all.retain(|one| matches!(one.standing, Standing::Missing | Standing::Outdated));
    all
}

/// The volumes that are made with the next guest of a node.
fn fresh<'a>(one: &'a Difference<'_>) -> impl Iterator<Item = (&'a VolumeName, &'a u32)> {
    let guests = one.current.into_iter().chain(one.others.iter().copied());
    let had: BTreeSet<&VolumeName> = guests.flat_map(|guest| guest.volumes.keys()).collect();
    one.role.volumes.iter().filter(move |(name, _)| !had.contains(name))
}

fn guest_checks(wanted: &Wanted, survey: &Survey, known: &Known) -> Vec<Check> {
    let refusals = obstacles(wanted, survey, known);
    if refusals.is_empty() {
        let text = format!("{} of the site, nothing holds them", survey.guests.len());
        return vec![Check::ok("guests", wanted.site(), text)];
    }
    let check = |refusal: &crate::swap::Refusal| {
        let help = miette::Diagnostic::help(refusal).map(|help| help.to_string());
        let name = if *refusal == crate::swap::Refusal::NoQuorum { "quorum" } else { "guests" };
        Check::obstacle(name, wanted.site(), refusal.to_string(), help.unwrap_or_default())
    };
    refusals.iter().map(check).collect()
}
