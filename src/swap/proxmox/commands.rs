//! What an operator would type on the Proxmox nodes for each step: to understand it, or to do it by hand.

use super::calls::content_of;
use super::{Proxmox, SECRETS, volumes};
use crate::artifact::name::Format;
use crate::definition::GuestKind;
use crate::swap::platform::NewGuest;
use crate::swap::{GuestId, Record, Step};

impl Proxmox {
    /// The commands for `step`. What is only known when it is done stands in capitals.
    pub fn commands(&self, step: &Step) -> Vec<String> {
        let on = |command: String| vec![command];
        match step {
            Step::Upload { host, artifact, .. } => {
                // The directories of a storage of the type `dir` (PVE::Storage::Plugin::get_subdir).
                let below = if artifact.ends_with(Format::Qcow2.extension()) {
                    "import"
                } else {
                    "template/cache"
                };
                on(format!(
                    "scp {} root@{host}:/PATH-OF-{}/{below}/",
                    quoted(artifact),
                    self.place.artifacts
                ))
            }
            Step::Create(new) => self.create_commands(new),
            Step::Write { guest, record, .. } => on(self.record_command(*guest, record)),
            Step::Halt { guest, patience, force, node, .. } => on(format!(
                "{} shutdown {guest} --timeout {}{}",
                self.tool(node),
                patience.as_secs(),
                if *force { " --forceStop 1" } else { "" }
            )),
            Step::Move { volume, from, to, node } => on(match self.kind(node) {
                Some(GuestKind::Container) => format!(
                    "pct move-volume {} MP-OF-{volume} --target-vmid {} --target-volume MP",
                    from.0, to.0
                ),
                _ => format!(
                    "qm disk move {} SCSI-OF-{} --target-vmid {} --target-disk SCSI",
                    from.0,
                    volumes::serial(volume),
                    to.0
                ),
            }),
            Step::Start { guest, node, .. } => on(format!("{} start {guest}", self.tool(node))),
            Step::Discard { host, artifact, .. } => {
                let content = content_of(artifact).name();
                on(format!(
                    "ssh root@{host} pvesm free {}:{content}/{}",
                    self.place.artifacts,
                    quoted(artifact)
                ))
            }
            Step::Destroy { guest, node, .. } => {
                on(format!("{} destroy {guest} --purge 1", self.tool(node)))
            }
        }
    }

    fn kind(&self, node: &crate::definition::Hostname) -> Option<GuestKind> {
        self.place.nodes.get(node).map(|node| node.kind)
    }

    fn tool(&self, node: &crate::definition::Hostname) -> &'static str {
        match self.kind(node) {
            Some(GuestKind::Container) => "pct",
            _ => "qm",
        }
    }

    fn create_commands(&self, new: &NewGuest) -> Vec<String> {
        let (Some(shape), Some(node)) =
            (self.place.roles.get(&new.record.role), self.place.nodes.get(&new.record.node))
        else {
            return Vec::new();
        };
        let id = new.id;
        let name = &new.record.node;
        let storage = &shape.storage;
        let artifacts = &self.place.artifacts;
        let vlan = shape.vlan.map(|vlan| format!(",tag={vlan}")).unwrap_or_default();
        let gateway = node.gateway.map(|gateway| format!(",gw={gateway}")).unwrap_or_default();
        let mac = self.mac(name, node);
        let network = format!("ip={}{gateway}", node.address);
        let mut words = match new.kind {
            GuestKind::Machine => vec![
                format!(
                    "qm create {id} --name {name} --ostype l26 --machine q35 --bios seabios --cpu x86-64-v2-AES"
                ),
                format!(
                    "--cores {} --memory {} --balloon 0 --scsihw virtio-scsi-single",
                    shape.cores, shape.memory_mib
                ),
                format!(
                    "--scsi0 {storage}:0,import-from={artifacts}:import/{},discard=on,ssd=1,iothread=1",
                    new.artifact
                ),
                format!("--ide2 {storage}:cloudinit --ciupgrade 0 --ipconfig0 {network}"),
                format!(
                    "--net0 virtio={mac},bridge={}{vlan} --boot order=scsi0 --serial0 socket --agent enabled=1",
                    shape.bridge
                ),
            ],
            GuestKind::Container => vec![
                format!(
                    "pct create {id} {artifacts}:vztmpl/{} --hostname {name} --unprivileged 1 --features nesting=1",
                    new.artifact
                ),
                format!(
                    "--cores {} --memory {} --swap 0 --rootfs {storage}:{}",
                    shape.cores, shape.memory_mib, shape.root_gib
                ),
                format!("--net0 name=eth0,bridge={}{vlan},hwaddr={mac},{network}", shape.bridge),
            ],
        };
        let first = if new.kind == GuestKind::Machine { 1 } else { 0 };
        for (number, (name, size)) in (first..).zip(&new.fresh) {
            let known = shape.volumes.get(name);
            let storage = known.map_or(storage, |(storage, _)| storage);
            words.push(match new.kind {
                GuestKind::Machine => format!(
                    "--scsi{number} {storage}:{size},serial={},discard=on,iothread=1",
                    volumes::serial(name)
                ),
                GuestKind::Container => {
                    let path = match known {
                        Some((_, path)) => path.as_str(),
                        None => super::SECRETS_DIRECTORY,
                    };
                    format!(
                        "--mp{number} {storage}:{size},mp={path},backup={}",
                        u8::from(name.as_str() != SECRETS)
                    )
                }
            });
        }
        if let Some(pool) = &self.place.pool {
            words.push(format!("--pool {pool}"));
        }
        vec![words.join(" "), self.record_command(id, &new.record)]
    }

    /// The description is too long to be typed: it is copied from the one before.
    fn record_command(&self, guest: GuestId, record: &Record) -> String {
        format!(
            "{} set {guest} --onboot {} --tags {} --description 'RECORD: phase = \"{}\", generation = {}'",
            self.tool(&record.node),
            u8::from(record.starts_on_boot()),
            quoted(&record.tags().join(";")),
            phase(record),
            record.generation,
        )
    }
}

fn phase(record: &Record) -> &'static str {
    match record.phase {
        crate::swap::Phase::New => "new",
        crate::swap::Phase::Current => "current",
        crate::swap::Phase::Failed => "failed",
        crate::swap::Phase::Old => "old",
    }
}

/// As a shell takes it as one word.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}
