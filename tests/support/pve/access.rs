//! Who may do what (`PVE/RPCEnvironment.pm` and `PVE/AccessControl.pm` of pve-access-control).

use std::collections::BTreeSet;

use super::Flavour;
use super::cluster::{Acl, Cluster};
use super::wire::Reply;

/// The rights of docs/proxmox.md, and no more.
pub fn minimal(cluster: &mut Cluster) {
    let agent = match cluster.flavour {
        Flavour::V8 => "VM.Monitor",
        Flavour::V9 => "VM.GuestAgent.Audit",
    };
    let guests = format!(
        "VM.Allocate VM.Audit VM.PowerMgmt VM.Config.Disk VM.Config.CPU VM.Config.Memory VM.Config.Network \
         VM.Config.HWType VM.Config.Options VM.Config.Cloudinit VM.Config.CDROM {agent} Pool.Audit"
    );
    let mut grant = |path: &str, privileges: &str, propagate: bool| {
        let privileges = privileges.split_whitespace().map(str::to_owned).collect();
        cluster.acl.push(Acl { path: path.to_owned(), privileges, propagate });
    };
    grant("/", "Sys.Audit", false);
    grant("/pool/imgbuild", &guests, true);
    grant("/storage/local", "Datastore.AllocateTemplate Datastore.Audit Datastore.Allocate", true);
    grant("/storage/local-lvm", "Datastore.AllocateSpace Datastore.Audit", true);
    grant("/sdn/zones/localnetwork/vmbr0", "SDN.Use", true);
    grant("/nodes", "Sys.Audit", true);
}

impl Cluster {
    /// What the token may do on `path`: the rights of the deepest path above it, and of a guest's pool.
    pub fn privileges(&self, path: &str) -> BTreeSet<String> {
        let mut privileges = self.inherited(path);
        let pool = path
            .strip_prefix("/vms/")
            .and_then(|vmid| self.guests.get(&vmid.parse().ok()?)?.pool.clone());
        if let Some(pool) = pool {
            privileges.extend(self.inherited(&format!("/pool/{pool}")));
        }
        privileges
    }

    fn inherited(&self, path: &str) -> BTreeSet<String> {
        let reaches = |acl: &&Acl| {
            acl.path == path
                || acl.propagate && (acl.path == "/" || path.starts_with(&format!("{}/", acl.path)))
        };
        let deepest = self.acl.iter().filter(reaches).max_by_key(|acl| acl.path.len());
        deepest.map(|acl| acl.privileges.clone()).unwrap_or_default()
    }

    /// Refuses unless the token has all of `privileges` on `path`.
    pub fn check(&self, path: &str, privileges: &[&str]) -> Result<(), Reply> {
        let own = self.privileges(path);
        match privileges.iter().find(|privilege| !own.contains(**privilege)) {
            Some(_) => Err(forbidden(path, &privileges.join(", "))),
            None => Ok(()),
        }
    }

    /// Refuses unless the token has one of `privileges` on `path`.
    pub fn check_any(&self, path: &str, privileges: &[&str]) -> Result<(), Reply> {
        let own = self.privileges(path);
        if privileges.iter().any(|privilege| own.contains(*privilege)) {
            Ok(())
        } else {
            Err(forbidden(path, &privileges.join("|")))
        }
    }

    /// As [`Cluster::check`] for a guest that may still have to be put into `pool`.
    pub fn check_guest(&self, vmid: u32, pool: Option<&str>, privilege: &str) -> Result<(), Reply> {
        if let Some(pool) = pool
            && self.inherited(&format!("/pool/{pool}")).contains(privilege)
        {
            return Ok(());
        }
        self.check(&format!("/vms/{vmid}"), &[privilege])
    }

    /// Whether the token may change these keys of a guest.
    pub fn check_keys<'a>(
        &self,
        vmid: u32,
        pool: Option<&str>,
        keys: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<(), Reply> {
        for (key, value) in keys {
            for privilege in needed(key, value) {
                // Tags are checked without regard to the pool that the guest is about to get.
                let pool = if key == "tags" { None } else { pool };
                self.check_guest(vmid, pool, privilege)?;
            }
            if key.starts_with("net")
                && let Some(bridge) = option(value, "bridge")
            {
                let tag = option(value, "tag").map_or(String::new(), |tag| format!("/{tag}"));
                self.check(&format!("/sdn/zones/localnetwork/{bridge}{tag}"), &["SDN.Use"])?;
            }
        }
        Ok(())
    }
}

/// The value of a key of a property string.
pub fn option<'a>(value: &'a str, key: &str) -> Option<&'a str> {
    value
        .split(',')
        .find_map(|part| part.split_once('=').filter(|(name, _)| *name == key))
        .map(|(_, value)| value)
}

/// The privileges that a key needs (`$check_vm_modify_config_perm` in `PVE/API2/Qemu.pm`,
/// `check_ct_modify_config_perm` in `PVE/LXC.pm`).
fn needed(key: &str, value: &str) -> &'static [&'static str] {
    let stem = key.trim_end_matches(|letter: char| letter.is_ascii_digit());
    match (key, stem) {
        _ if value.contains(":cloudinit") => &["VM.Config.Cloudinit", "VM.Config.CDROM"],
        (_, "scsi" | "virtio" | "sata" | "ide" | "efidisk" | "tpmstate" | "mp" | "unused") => {
            &["VM.Config.Disk"]
        }
        ("rootfs" | "boot" | "bootdisk", _) => &["VM.Config.Disk"],
        ("cores" | "cpu" | "sockets" | "cpulimit" | "cpuunits", _) => &["VM.Config.CPU"],
        ("memory" | "balloon" | "swap", _) => &["VM.Config.Memory"],
        ("machine" | "scsihw" | "vga" | "rng0", _) | (_, "serial") => &["VM.Config.HWType"],
        ("nameserver" | "searchdomain" | "hostname", _) | (_, "net" | "ipconfig") => {
            &["VM.Config.Network"]
        }
        ("ciupgrade" | "sshkeys", _) => &["VM.Config.Cloudinit"],
        ("vmid" | "pool" | "ostemplate" | "unprivileged" | "ssh-public-keys" | "node", _) => &[],
        ("digest" | "delete", _) => &[],
        _ => &["VM.Config.Options"],
    }
}

fn forbidden(path: &str, privileges: &str) -> Reply {
    Reply::error(403, format!("Permission check failed ({path}, {privileges})"))
}
