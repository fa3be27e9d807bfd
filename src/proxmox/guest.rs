//! What is done to guests.

use std::net::IpAddr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::client::Client;
use super::config::{ConfigDigest, path};
use super::error::{Error, Method, Reason};
use super::json;
use super::names::{Guest, GuestKind, Vmid};
use super::request::Parameters;
use super::task::Upid;

/// How a guest is this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestStatus {
    /// Whether it runs. Paused and suspended machines run, too.
    pub running: bool,
    /// Whether HA manages it: then starting and stopping only tell HA to, and a task that is done does not mean
    /// that the guest is.
    pub ha_managed: bool,
    /// What holds it.
    pub lock: Option<String>,
    /// Whether it is a template.
    pub template: bool,
}

/// A volume that changes hands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveVolume<'a> {
    /// Whose it is. Must be stopped, on the same node as `to`, of the same kind, without a snapshot that has
    /// the volume.
    pub from: &'a Guest,
    /// Where it is there: `scsi1`, `mp0`.
    pub key: &'a str,
    /// The configuration of `from` that this is based on.
    pub from_digest: &'a ConfigDigest,
    /// Whose it becomes.
    pub to: Vmid,
    /// Where. It must be free.
    pub to_key: &'a str,
    /// The configuration of `to` that this is based on.
    pub to_digest: &'a ConfigDigest,
}

/// A network interface as seen from within a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Client {
    /// How a guest is. `GET /nodes/{node}/{qemu|lxc}/{vmid}/status/current`.
    ///
    /// # Errors
    ///
    /// [`Reason::NotFound`], also when the guest is on another node.
    pub fn status(&self, guest: &Guest) -> Result<GuestStatus, Error> {
        #[derive(Deserialize)]
        struct Status {
            status: String,
            #[serde(default)]
            ha: Ha,
            lock: Option<String>,
            #[serde(default, deserialize_with = "json::flag")]
            template: bool,
        }
        #[derive(Deserialize, Default)]
        struct Ha {
            #[serde(default, deserialize_with = "json::flag")]
            managed: bool,
        }
        let status: Status =
            self.get(&path(guest).and("status").and("current"), Parameters::new())?;
        Ok(GuestStatus {
            running: status.status == "running",
            ha_managed: status.ha.managed,
            lock: status.lock.filter(|lock| !lock.is_empty()),
            template: status.template,
        })
    }

    /// Starts a guest. `POST …/status/start`.
    ///
    /// # Errors
    ///
    /// [`Reason::Locked`], and those of the task.
    pub fn start(&self, guest: &Guest) -> Result<Upid, Error> {
        self.power(guest, "start", Parameters::new())
    }

    /// Asks a guest to shut down, and waits `patience` in the task. Then, with `force`, it is stopped;
    /// without, the task fails and the guest goes on. `POST …/status/shutdown`.
    ///
    /// # Errors
    ///
    /// [`Reason::Locked`], and those of the task.
    pub fn shutdown(&self, guest: &Guest, patience: Duration, force: bool) -> Result<Upid, Error> {
        let parameters =
            Parameters::new().with("timeout", patience.as_secs()).with_flag("forceStop", force);
        self.power(guest, "shutdown", parameters)
    }

    /// Stops a guest at once, as if its power were cut. `POST …/status/stop`.
    ///
    /// # Errors
    ///
    /// [`Reason::Locked`], and those of the task.
    pub fn stop(&self, guest: &Guest) -> Result<Upid, Error> {
        self.power(guest, "stop", Parameters::new())
    }

    fn power(&self, guest: &Guest, what: &str, parameters: Parameters) -> Result<Upid, Error> {
        let path = path(guest).and("status").and(what);
        self.change(Method::Post, &path, parameters)
    }

    /// Gives a volume to another guest of the same kind on the same node. It is renamed, not copied: read both
    /// configurations anew afterwards. The options of the drive go with it; it leaves the boot order.
    /// `POST …/move_disk` for machines, `POST …/move_volume` for containers.
    ///
    /// # Errors
    ///
    /// [`Reason::Modified`] when either configuration is another by now; [`Reason::Locked`]; and, in the answer
    /// or from the task, all that Proxmox refuses: a source that runs, a snapshot, a key that is taken.
    pub fn move_volume(&self, volume: &MoveVolume<'_>) -> Result<Upid, Error> {
        let MoveVolume { from, key, from_digest, to, to_key, to_digest } = volume;
        let (call, source, target) = match from.kind {
            GuestKind::Machine => ("move_disk", "disk", "target-disk"),
            GuestKind::Container => ("move_volume", "volume", "target-volume"),
        };
        let parameters = Parameters::new()
            .with(source, key)
            .with("target-vmid", to)
            .with(target, to_key)
            .with("digest", from_digest)
            .with("target-digest", to_digest);
        self.change(Method::Post, &path(from).and(call), parameters)
    }

    /// Destroys a stopped guest, with the volumes that are its own by name and that its configuration refers to
    /// (also unused ones), and takes it out of backup jobs, replication and HA. Its ACL and firewall rules go,
    /// too. `DELETE …?purge=1`; never with `destroy-unreferenced-disks`, which would look for volumes by name
    /// on all storages.
    ///
    /// # Errors
    ///
    /// [`Reason::Locked`], and those of the task: it runs, it is protected.
    pub fn destroy(&self, guest: &Guest) -> Result<Upid, Error> {
        let parameters = Parameters::new().with_flag("purge", true);
        self.change(Method::Delete, &path(guest), parameters)
    }

    /// Whether the guest agent of a machine answers. `POST …/agent/ping`, which needs `VM.GuestAgent.Audit`, or
    /// `VM.Monitor` before PVE 9. Containers have none: they are asked nothing and answer `true` while they run.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked, or the machine has no agent by its configuration.
    pub fn agent_answers(&self, guest: &Guest) -> Result<bool, Error> {
        if guest.kind == GuestKind::Container {
            return Ok(self.status(guest)?.running);
        }
        let path = path(guest).and("agent").and("ping");
        match self.change::<Option<Value>>(Method::Post, &path, Parameters::new()) {
            Ok(_) => Ok(true),
            Err(error) if is_silent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The network interfaces that a running guest has, as it sees them itself: by its agent
    /// (`GET …/agent/network-get-interfaces`), or of a container `GET …/interfaces`. `None` while the guest cannot
    /// tell.
    ///
    /// # Errors
    ///
    /// As [`Client::agent_answers`].
    pub fn interfaces(&self, guest: &Guest) -> Result<Option<Vec<Interface>>, Error> {
        #[derive(Deserialize)]
        struct Item {
            name: String,
            #[serde(default, rename = "hardware-address", alias = "hwaddr")]
            mac: Value,
            #[serde(default, rename = "ip-addresses")]
            addresses: Vec<Address>,
        }
        #[derive(Deserialize)]
        struct Address {
            #[serde(rename = "ip-address")]
            address: Option<String>,
        }
        #[derive(Deserialize)]
        struct Agent {
            result: Vec<Value>,
        }
        let items: Result<Vec<Value>, Error> = match guest.kind {
            GuestKind::Machine => {
                let path = path(guest).and("agent").and("network-get-interfaces");
                self.get::<Agent>(&path, Parameters::new()).map(|agent| agent.result)
            }
            GuestKind::Container => {
                let path = path(guest).and("interfaces");
                self.get::<Option<Vec<Value>>>(&path, Parameters::new())
                    .map(Option::unwrap_or_default)
            }
        };
        let items = match items {
            Err(error) if is_silent(&error) => return Ok(None),
            other => other?,
        };
        // Containers have the MAC address under two names; only one is wanted.
        let interface = |mut item: Value| {
            if let Some(fields) = item.as_object_mut()
                && fields.contains_key("hardware-address")
            {
                fields.remove("hwaddr");
            }
            let item: Item = serde_json::from_value(item).ok()?;
            Some(Interface {
                name: item.name,
                mac: json::text(&item.mac).unwrap_or_default().to_lowercase(),
                addresses: item
                    .addresses
                    .into_iter()
                    .filter_map(|address| address.address?.parse().ok())
                    .collect(),
            })
        };
        Ok(Some(items.into_iter().filter_map(interface).collect()))
    }
}

/// Whether an error only means that the guest is not, or not yet, there to talk (`PVE/QemuServer/Agent.pm`,
/// `PVE/API2/Qemu/Agent.pm`).
fn is_silent(error: &Error) -> bool {
    let says = |text: &str| error.message().contains(text);
    matches!(error.reason(), Reason::Other(_))
        && (says("guest agent is not running")
            || says("is not running")
            || (says("guest-") && says("got timeout")))
}
