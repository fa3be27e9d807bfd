//! The lease of the site: the description of a machine that has no disks and is never started. Proxmox
//! changes a description only for someone who knows the digest of the configuration, which is all that a
//! lease needs.

use super::calls::is_taken;
use super::survey::revision;
use super::{Proxmox, failed, lease_name, vmid};
use crate::proxmox::{self, Config, ConfigChange, NewMachine, Reason};
use crate::swap::{CallError, Lease, Revision};

/// Enough for a machine that is never started (the least that Proxmox takes is 16).
const MEMORY_MIB: u32 = 16;

impl Proxmox {
    pub(super) fn lease(&self) -> Result<(Option<Lease>, Revision), CallError> {
        let (_, config) = self.lease_machine()?;
        let lease = Lease::read(config.description()).map_err(|error| {
            let mut text = error.to_string();
            if let Some(help) = miette::Diagnostic::help(&error) {
                text = format!("{text}\n  {help}");
            }
            CallError::Failed(text)
        })?;
        Ok((lease, revision(&config)))
    }

    pub(super) fn set_lease(
        &self,
        lease: Option<&Lease>,
        seen: &Revision,
    ) -> Result<(), CallError> {
        let (guest, config) = self.lease_machine()?;
        if revision(&config) != *seen {
            return Err(CallError::Conflict("the lease was changed a moment ago".to_owned()));
        }
        let text = Lease::describe(lease, config.description());
        let change = ConfigChange::new().description(&text);
        self.client.configure(&guest, &change, &config.digest).map_err(|error| failed(&error))
    }

    /// The machine that holds the lease; made if it is not there.
    fn lease_machine(&self) -> Result<(proxmox::Guest, Config), CallError> {
        let wanted = vmid(self.place.lease)?;
        let name = lease_name(&self.place.site);
        let find = || -> Result<Option<proxmox::GuestSummary>, CallError> {
            let guests = self.client.guests().map_err(|error| failed(&error))?;
            Ok(guests.into_iter().find(|summary| summary.guest.vmid == wanted))
        };
        let found = match find()? {
            Some(found) => found,
            None => {
                self.make_lease_machine(&name)?;
                find()?.ok_or_else(|| CallError::Unreachable(format!("{name} is not there yet")))?
            }
        };
        let config = self.client.config(&found.guest).map_err(|error| match error.reason() {
            Reason::NodeUnreachable(_) => {
                let host = &found.guest.node;
                CallError::Unreachable(format!(
                    "{name} (guest {wanted}), which says who may change the site, is on {host}, which does not \
                     answer\n  bring it back; if it stays away: the guest has no disks, so it may be moved \
                     (`mv /etc/pve/nodes/{host}/qemu-server/{wanted}.conf /etc/pve/qemu-server/` on another host)"
                ))
            }
            _ => failed(&error),
        })?;
        // The list has no name of a guest that was made just now, or whose host has just come back.
        let called = config.get("name").unwrap_or(&found.name);
        if called != name {
            return Err(CallError::Failed(format!(
                "guest {wanted} ({called}) is not {name}, which holds the lease of the site\n  \
                 imgbuild does not touch it: let `vmids` of the overlay begin with a number that is free"
            )));
        }
        Ok((found.guest, config))
    }

    fn make_lease_machine(&self, name: &str) -> Result<(), CallError> {
        let away = self.away()?;
        let host = self.hosts().into_iter().find(|host| !away.contains(*host));
        let host = host.ok_or_else(|| CallError::Failed("the site has no host".to_owned()))?;
        let machine = NewMachine {
            vmid: vmid(self.place.lease)?,
            name: name.to_owned(),
            description: Lease::describe(None, "Who may change the site. Never start it."),
            cores: 1,
            memory_mib: MEMORY_MIB,
            root: None,
            uefi: None,
            volumes: Vec::new(),
            card: None,
            cloud_init: None,
            pool: self.place.pool.as_ref().map(ToString::to_string),
            onboot: false,
        };
        match self.client.create_machine(&super::node(host)?, &machine) {
            Ok(task) => self
                .client
                .wait::<proxmox::Error>(&task, std::time::Duration::from_secs(60), &mut || Ok(()))
                .map(drop)
                .or_else(
                    |error| if is_taken(error.reason()) { Ok(()) } else { Err(failed(&error)) },
                ),
            // Somebody else was faster.
            Err(error) if is_taken(error.reason()) => Ok(()),
            Err(error) => Err(failed(&error)),
        }
    }
}
