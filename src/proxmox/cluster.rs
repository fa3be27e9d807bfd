//! What is known of a cluster as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Deserialize;

use super::client::Client;
use super::error::{Error, Method, Reason};
use super::json;
use super::names::{Guest, GuestKind, NodeName, Vmid};
use super::request::{Parameters, Path};
use super::trust::Fingerprint;

/// The version of the server that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Version {
    /// In full, `9.2.11`.
    pub version: String,
    /// Only its first two numbers, `9.2`.
    pub release: String,
}

impl Version {
    /// Its first two numbers.
    pub fn numbers(&self) -> Option<(u32, u32)> {
        let mut parts = self.version.split(['.', '-']).map(|part| part.parse().ok());
        Some((parts.next()??, parts.next()??))
    }

    /// Whether it is 8.4 or newer. Older ones take no disk image by the API: upload of qcow2 came with
    /// libpve-storage-perl 8.3.6.
    pub fn is_supported(&self) -> bool {
        self.numbers().is_some_and(|numbers| numbers >= (8, 4))
    }

    /// Whether the guest agent has privileges of its own (PVE 9); before it was `VM.Monitor`.
    pub fn has_agent_privileges(&self) -> bool {
        self.numbers().is_some_and(|numbers| numbers >= (9, 0))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.version)
    }
}

/// A node as the cluster sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// Whether it is there.
    pub online: bool,
    /// Whether the cluster is sure that it is not. Of one that has just started nobody knows.
    pub offline: bool,
    /// The certificate of its server.
    pub fingerprint: Option<Fingerprint>,
}

/// Whether a cluster can act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterStatus {
    /// Its name. `None` for a node that is in no cluster.
    pub name: Option<String>,
    /// Whether a majority of its nodes is there. A node alone always is.
    pub quorate: bool,
    /// The node that answered.
    pub asked: Option<NodeName>,
    /// All nodes, and whether they are there.
    pub nodes: Vec<(NodeName, bool)>,
}

/// A guest in the list of all resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestSummary {
    /// Which, and where.
    pub guest: Guest,
    /// Its name; a container's is its host name.
    pub name: String,
    /// Whether it runs, as of some seconds ago; before acting ask [`Client::status`]. `None` when nobody knows,
    /// because its node is not there.
    pub running: Option<bool>,
    /// Its tags, in order.
    pub tags: Vec<String>,
    /// The key `lock` of its configuration.
    pub lock: Option<String>,
    /// The pool that it is in.
    pub pool: Option<String>,
    /// What HA makes of it, if HA manages it.
    pub ha_state: Option<String>,
    /// Whether it is a template.
    pub template: bool,
}

/// A pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The guests in it that the token may see.
    pub guests: Vec<Vmid>,
}

/// A guest that HA manages.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct HaResource {
    /// `vm:100` or `ct:100`.
    pub sid: String,
    /// What HA shall make of it: `started`, `stopped`, `ignored`, …
    #[serde(default)]
    pub state: Option<String>,
}

impl HaResource {
    /// The guest that it is about.
    pub fn vmid(&self) -> Option<Vmid> {
        let (_, number) = self.sid.split_once(':')?;
        number.parse().ok().and_then(Vmid::new)
    }
}

/// Splits a list of tags. Proxmox writes `;` and reads commas and spaces, too.
pub(super) fn tags(text: &str) -> Vec<String> {
    text.split([';', ',', ' ']).filter(|tag| !tag.is_empty()).map(str::to_owned).collect()
}

impl Client {
    /// The server's version. `GET /version`.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub fn version(&self) -> Result<Version, Error> {
        self.get(&Path::new(["version"]), Parameters::new())
    }

    /// What the token may do on `path`, such as `/vms/100`, `/storage/local`, `/pool/imgbuild` or `/`: its own
    /// rights and its user's together, with what is inherited. `GET /access/permissions`.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub fn privileges(&self, path: &str) -> Result<BTreeSet<String>, Error> {
        let parameters = Parameters::new().with("path", path);
        let paths: BTreeMap<String, BTreeMap<String, serde_json::Value>> =
            self.get(&Path::new(["access", "permissions"]), parameters)?;
        Ok(paths.get(path).into_iter().flat_map(|privileges| privileges.keys().cloned()).collect())
    }

    /// The nodes of the cluster. `GET /nodes`.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        #[derive(Deserialize)]
        struct Item {
            node: NodeName,
            #[serde(default)]
            status: String,
            ssl_fingerprint: Option<String>,
        }
        let items: Vec<Item> = self.get(&Path::new(["nodes"]), Parameters::new())?;
        let node = |item: Item| Node {
            name: item.node,
            online: item.status == "online",
            offline: item.status == "offline",
            fingerprint: item.ssl_fingerprint.and_then(|text| text.parse().ok()),
        };
        Ok(items.into_iter().map(node).collect())
    }

    /// Whether the cluster can act. `GET /cluster/status`, which needs `Sys.Audit` on `/`.
    ///
    /// # Errors
    ///
    /// [`Reason::Forbidden`] without that privilege.
    pub fn cluster_status(&self) -> Result<ClusterStatus, Error> {
        #[derive(Deserialize)]
        struct Item {
            #[serde(rename = "type")]
            kind: String,
            name: String,
            #[serde(default, deserialize_with = "json::flag")]
            quorate: bool,
            #[serde(default, deserialize_with = "json::flag")]
            online: bool,
            #[serde(default, deserialize_with = "json::flag")]
            local: bool,
        }
        let path = Path::new(["cluster", "status"]);
        let items: Vec<Item> = self.get(&path, Parameters::new())?;
        let mut status =
            ClusterStatus { name: None, quorate: true, asked: None, nodes: Vec::new() };
        for item in items {
            if item.kind == "cluster" {
                status.name = Some(item.name);
                status.quorate = item.quorate;
            } else if let Ok(name) = item.name.parse::<NodeName>() {
                if item.local {
                    status.asked = Some(name.clone());
                }
                status.nodes.push((name, item.online));
            }
        }
        Ok(status)
    }

    /// All guests that the token may see. `GET /cluster/resources?type=vm`: guests without `VM.Audit` are left
    /// out without a word, and whether they run is as old as the last look of their node, some seconds.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub fn guests(&self) -> Result<Vec<GuestSummary>, Error> {
        #[derive(Deserialize)]
        struct Item {
            #[serde(rename = "type")]
            kind: GuestKind,
            node: NodeName,
            #[serde(deserialize_with = "json::vmid")]
            vmid: Vmid,
            #[serde(default)]
            name: String,
            #[serde(default)]
            status: String,
            #[serde(default)]
            tags: String,
            lock: Option<String>,
            pool: Option<String>,
            hastate: Option<String>,
            #[serde(default, deserialize_with = "json::flag")]
            template: bool,
        }
        let parameters = Parameters::new().with("type", "vm");
        let items: Vec<Item> = self.get(&Path::new(["cluster", "resources"]), parameters)?;
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let summary = |item: Item| GuestSummary {
            guest: Guest { node: item.node, kind: item.kind, vmid: item.vmid },
            name: item.name,
            running: match item.status.as_str() {
                "running" => Some(true),
                "stopped" => Some(false),
                _ => None,
            },
            tags: tags(&item.tags),
            lock: some(item.lock),
            pool: some(item.pool),
            ha_state: some(item.hastate),
            template: item.template,
        };
        Ok(items.into_iter().map(summary).collect())
    }

    /// Whether no guest of the cluster has this VMID, seen or unseen. It is not reserved: making the guest may
    /// still end with [`Reason::AlreadyExists`]. `GET /cluster/nextid?vmid=`.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked.
    pub fn is_free(&self, vmid: Vmid) -> Result<bool, Error> {
        let path = Path::new(["cluster", "nextid"]);
        match self.call(Method::Get, &path, Parameters::new().with("vmid", vmid)) {
            Ok(_) => Ok(true),
            Err(error) => match error.reason() {
                Reason::Parameters(errors)
                    if errors.get("vmid").is_some_and(|why| why.contains("already exists")) =>
                {
                    Ok(false)
                }
                Reason::AlreadyExists => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// The guests that HA manages. `GET /cluster/ha/resources`, which needs `Sys.Audit` on `/`; without it,
    /// [`Client::status`] says the same of one guest.
    ///
    /// # Errors
    ///
    /// [`Reason::Forbidden`] without that privilege.
    pub fn ha_resources(&self) -> Result<Vec<HaResource>, Error> {
        self.get(&Path::new(["cluster", "ha", "resources"]), Parameters::new())
    }

    /// A pool. `GET /pools?poolid=`. `None` when there is none of that name.
    ///
    /// # Errors
    ///
    /// When the server cannot be asked, or [`Reason::Forbidden`] without `Pool.Audit`.
    pub fn pool(&self, name: &str) -> Result<Option<Pool>, Error> {
        #[derive(Deserialize)]
        struct Item {
            poolid: String,
            #[serde(default)]
            members: Vec<Member>,
        }
        #[derive(Deserialize)]
        struct Member {
            #[serde(default, deserialize_with = "json::some_vmid")]
            vmid: Option<Vmid>,
        }
        let path = Path::new(["pools"]);
        let items: Result<Vec<Item>, _> = self.get(&path, Parameters::new().with("poolid", name));
        let items = match items {
            Err(error) if error.message().contains("does not exist") => return Ok(None),
            other => other?,
        };
        let pool = items.into_iter().find(|item| item.poolid == name);
        Ok(pool.map(|item| Pool {
            name: item.poolid,
            guests: item.members.into_iter().filter_map(|member| member.vmid).collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (text, supported, agent) in [
            ("9.2.11", true, true),
            ("8.4.5", true, false),
            ("8.4-1", true, false),
            ("8.3.9", false, false),
            ("7.4-16", false, false),
            ("10.0", true, true),
            ("x", false, false),
        ] {
            let version = Version { version: text.to_owned(), release: String::new() };
            assert_eq!(version.is_supported(), supported, "{text}");
            assert_eq!(version.has_agent_privileges(), agent, "{text}");
        }
    }

    #[test]
    fn tags_are_split_however_they_are_written() {
        assert_eq!(tags("a;b,c d;;"), ["a", "b", "c", "d"]);
        assert!(tags("").is_empty());
    }
}
