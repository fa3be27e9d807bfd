//! `[proxmox]` and `[guests.ROLE]` of an overlay: where a site's guests live, and how large they are.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use super::document::Item;
use super::error::{Problem, Result};
use super::name::{Hostname, InvalidText, VolumeName, text};
use super::place::Place;
use super::schema;
use crate::proxmox::{Fingerprint, StorageName};

text! {
    /// The name of a resource pool of Proxmox VE (`pve-poolid`, one level of it).
    PoolName,
    "the name of a pool (letters, digits, `-`, `_` and `.`)",
    |text| (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}
text! {
    /// The name of a network bridge of a host (`IFNAMSIZ` of Linux's `if.h`).
    BridgeName,
    "the name of a bridge (letters, digits, `-`, `_` and `.`, at most 15)",
    |text| (1..=15).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// The name of the volume that holds the secrets of a node. State volumes of roles that are hosted must not
/// have it.
pub const SECRETS_VOLUME: &str = "secrets";

/// The identifiers of guests that Proxmox VE takes (`pve-vmid`).
const VMID: RangeInclusive<i64> = 100..=999_999_999;

/// Where the guests of a site live.
#[derive(Clone, Debug)]
pub struct Hosting {
    /// The address of the API: `https://pve1.campus.example:8006`.
    pub url: ApiUrl,
    /// How its certificate is known.
    pub trust: Trust,
    /// The pool that guests are put into.
    pub pool: Option<PoolName>,
    /// The storage for files of images: its content is `import` and `vztmpl`.
    pub artifacts: StorageName,
    /// The storage for disks and volumes of guests.
    pub storage: StorageName,
    /// The identifiers that guests of the site may have. The first one is that of the lease.
    pub vmids: RangeInclusive<u32>,
    /// How many days a replaced guest is kept.
    pub grace_days: u32,
    /// The resolvers that guests are told.
    pub name_servers: Vec<std::net::IpAddr>,
    /// The domain that guests search names in.
    pub search_domain: Option<Hostname>,
    /// Where the table stands.
    pub place: Place,
}

/// How the certificate of Proxmox VE's API is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// By the authorities that the world trusts.
    System,
    /// By an authority whose certificate is a file (PEM) beside the overlay.
    Authority(PathBuf),
    /// By its own SHA-256.
    Fingerprint(Fingerprint),
}

/// What a guest of one role is.
#[derive(Clone, Debug)]
pub struct GuestShape {
    /// A container or a virtual machine.
    pub kind: GuestKind,
    /// The number of its processors.
    pub cores: u32,
    /// Its memory.
    pub memory_mib: u32,
    /// The size of a container's root. A machine's is that of its image.
    pub root_gib: u32,
    /// The bridge that its only network device is on.
    pub bridge: BridgeName,
    /// The VLAN of the device.
    pub vlan: Option<u16>,
    /// Where its root lies, if not where the site's guests do.
    pub storage: Option<StorageName>,
    /// Its state volumes, by name.
    pub volumes: BTreeMap<VolumeName, (VolumeShape, Place)>,
    /// Where the table stands.
    pub place: Place,
}

/// What a state volume is when it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeShape {
    /// Its size.
    pub size_gib: u32,
    /// Where it lies, if not where the guest does.
    pub storage: Option<StorageName>,
}

/// The two kinds of guests of Proxmox VE.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum GuestKind {
    /// `pct`.
    Container,
    /// `qm`.
    Machine,
}

/// `https://HOST[:PORT]`, nothing else: no path, no user, no question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiUrl {
    host: String,
    port: u16,
}

impl fmt::Display for GuestKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Container => "container",
            Self::Machine => "virtual machine",
        })
    }
}

impl ApiUrl {
    /// The port where none is given (`PVE::Service::pveproxy`).
    const PORT: u16 = 8006;

    /// A name or an address, the latter without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for ApiUrl {
    type Err = InvalidText;

    fn from_str(text: &str) -> std::result::Result<Self, InvalidText> {
        let invalid =
            InvalidText("`https://HOST:PORT` of a Proxmox VE node, and nothing behind it");
        let rest = text.strip_prefix("https://").ok_or(invalid)?;
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match rest.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(invalid)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| invalid)?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or(invalid)?)
            }
            None => {
                let (host, port) = rest.split_once(':').unwrap_or((rest, ""));
                let known =
                    host.parse::<std::net::Ipv4Addr>().is_ok() || host.parse::<Hostname>().is_ok();
                known.then_some(()).ok_or(invalid)?;
                (host, port)
            }
        };
        let port = if port.is_empty() { Self::PORT } else { port.parse().map_err(|_| invalid)? };
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for ApiUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(formatter, "https://[{host}]:{port}")
        } else {
            write!(formatter, "https://{host}:{port}")
        }
    }
}

impl Hosting {
    /// Reads `[proxmox]`.
    pub(super) fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::HOSTING.names())?;
        let trust = match (table.get("ca"), table.get("fingerprint")) {
            (Some(_), Some(item)) => {
                let text =
                    "`ca` and `fingerprint` are two ways to know the same certificate".to_owned();
                let help = Some("keep one of them".to_owned());
                return Err(item.place.error_with_help(Problem::Contradiction(text), help));
            }
            (Some(item), None) => Trust::Authority(file_beside(item)?),
            (None, Some(item)) => Trust::Fingerprint(item.parse()?),
            (None, None) => Trust::System,
        };
        Ok(Self {
            url: table.require("url")?.parse()?,
            trust,
            pool: table.optional("pool", Item::parse)?,
            artifacts: table.require("artifacts")?.parse()?,
            storage: table.require("storage")?.parse()?,
            vmids: vmids(table.require("vmids")?)?,
            grace_days: table
                .optional("grace_days", |item| {
                    item.integer_in(0..=3650, "a number of days from 0 to 3650")
                })?
                .unwrap_or(7),
            name_servers: table.list("name_servers", |item| {
                item.string()?.parse().map_err(|_| item.unexpected("an address"))
            })?,
            search_domain: table.optional("search_domain", Item::parse)?,
            place: item.place.clone(),
        })
    }
}

/// A path below the directory of the overlay.
fn file_beside(item: &Item) -> Result<PathBuf> {
    let path = Path::new(item.string()?);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !inside || path.as_os_str().is_empty() {
        return Err(
            item.unexpected("the path of a file below the overlay's directory, without `..`")
        );
    }
    Ok(path.to_owned())
}

/// `[first, last]`.
fn vmids(item: &Item) -> Result<RangeInclusive<u32>> {
    const EXPECTED: &str = "`[first, last]`, from 100 to 999999999, with room for three: the lease, a guest, and the one that replaces it";
    let numbers = item
        .each(|item| item.integer_in::<u32>(VMID, EXPECTED))
        .map_err(|_| item.unexpected(EXPECTED))?;
    match numbers[..] {
        // One for the lease, one for a guest and one for what replaces it.
        [first, last] if last >= first.saturating_add(2) => Ok(first..=last),
        _ => Err(item.unexpected(EXPECTED)),
    }
}

impl GuestShape {
    /// Reads `[guests.ROLE]`.
    pub(super) fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::GUEST.names())?;
        let kind = table.require("kind")?;
        let kind = match kind.string()? {
            "container" => GuestKind::Container,
            "machine" => GuestKind::Machine,
            _ => return Err(kind.unexpected("`container` or `machine`")),
        };
        let root = |item: &Item| {
            if kind == GuestKind::Machine {
                let text = "a machine's root has the size of its image".to_owned();
                let help =
                    Some("remove `root_gib`; what is written lies on state volumes".to_owned());
                return Err(item.place.error_with_help(Problem::Contradiction(text), help));
            }
            item.integer_in(1..=1024, "a number of GiB from 1 to 1024")
        };
        Ok(Self {
            kind,
            cores: table.require("cores")?.integer_in(1..=512, "a number from 1 to 512")?,
            memory_mib: table
                .require("memory_mib")?
                .integer_in(128..=4_194_304, "a number of MiB from 128 to 4194304")?,
            root_gib: table.optional("root_gib", root)?.unwrap_or(4),
            bridge: table.require("bridge")?.parse()?,
            vlan: table
                .optional("vlan", |item| item.integer_in(1..=4094, "a number from 1 to 4094"))?,
            storage: table.optional("storage", Item::parse)?,
            volumes: table
                .map("volumes", |_, place, item| Ok((VolumeShape::read(item)?, place.clone())))?,
            place: item.place.clone(),
        })
    }
}

impl VolumeShape {
    fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::VOLUME.names())?;
        Ok(Self {
            size_gib: table
                .require("size_gib")?
                .integer_in(1..=131_072, "a number of GiB from 1 to 131072")?,
            storage: table.optional("storage", Item::parse)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_api_is_a_host_and_a_port_and_nothing_else() {
        for (text, expected) in [
            ("https://pve1.campus.example:8006", Some("https://pve1.campus.example:8006")),
            ("https://pve1", Some("https://pve1:8006")),
            ("https://10.20.10.2/", Some("https://10.20.10.2:8006")),
            ("https://[fd00::2]:443", Some("https://[fd00::2]:443")),
            ("https://[fd00::2]", Some("https://[fd00::2]:8006")),
            ("http://pve1:8006", None),
            ("https://root@pve1", None),
            ("https://pve1/api2", None),
            ("https://pve1:x", None),
            ("https://pve1:65536", None),
            ("https://[pve1]", None),
            ("https://[::1]8006", None),
            ("https://", None),
        ] {
            let parsed: Option<ApiUrl> = text.parse().ok();
            assert_eq!(parsed.map(|url| url.to_string()).as_deref(), expected, "{text}");
        }
    }
}
