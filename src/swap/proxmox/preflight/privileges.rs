//! What the token may do, and what a swap needs.

use std::collections::BTreeSet;

use super::{Check, Proxmox};
use crate::definition::GuestKind;
use crate::proxmox::{Error, Version};
use crate::swap::proxmox::RoleShape;

impl Proxmox {
    pub(super) fn privileges(&self, version: &Version) -> Result<Vec<Check>, Error> {
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
