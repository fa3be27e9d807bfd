//! Whether everything is there that a swap needs: all that is missing, before anything is begun.

mod privileges;
mod storages;

use std::collections::{BTreeMap, BTreeSet};

use super::{Proxmox, lease_name, node, vmid};
use crate::definition::{GuestKind, Hostname, ImageName};
use crate::proxmox::{Error, Node, Reason, Storage, StorageName, Version};
use crate::swap::{Difference, GuestId, Known, Standing, Survey, Wanted, differences, obstacles};

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
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
    /// Something that is as it should be.
    pub fn ok(check: &'static str, at: impl ToString, text: impl Into<String>) -> Self {
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

/// The guests of a site, and what they say of their health.
pub type Seen = (Survey, Known);

/// Storages as each host of the site that is there sees them.
type Storages<'a> = BTreeMap<&'a Hostname, Vec<Storage>>;

impl Proxmox {
    /// Looks at everything that a swap of the whole site needs. Changes nothing. With the checks goes what was seen of
    /// the guests, if it could be.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked at all.
    pub fn preflight(
        &self,
        wanted: &Wanted,
        health: impl FnOnce() -> Known,
    ) -> Result<(Vec<Check>, Option<Seen>), Error> {
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
        let seen = match crate::swap::Platform::survey(self) {
            Ok(survey) => {
                let known = health();
                checks.extend(self.ids(wanted, &survey)?);
                checks.extend(self.room(wanted, &survey, &storages));
                checks.extend(guest_checks(wanted, &survey, &known));
                Some((survey, known))
            }
            Err(error) => {
                checks.push(Check::obstacle(
                    "guests",
                    wanted.site(),
                    format!("the guests were not looked at: {error}"),
                    "mend the others first, then run this again",
                ));
                None
            }
        };
        Ok((checks, seen))
    }

    fn kinds(&self) -> BTreeSet<GuestKind> {
        self.place.nodes.values().map(|node| node.kind).collect()
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
}

fn version_check(version: &Version) -> Check {
    if version.is_supported() {
        return Check::ok("version", "Proxmox VE", version.to_string());
    }
    let text = format!("it is {version}, and 8.4 is the oldest that takes images by its API");
    Check::obstacle("version", "Proxmox VE", text, "upgrade the nodes of the cluster")
}

/// The nodes that a swap makes a guest for.
fn to_make<'a>(wanted: &'a Wanted, survey: &'a Survey) -> Vec<Difference<'a>> {
    let mut all = differences(wanted, survey);
    all.retain(|one| matches!(one.standing, Standing::Missing | Standing::Outdated));
    all
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
