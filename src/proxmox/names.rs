//! What guests, nodes and storages are called. Each is checked where it comes in, so that none can be
//! mistaken for a part of a path or of a list.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Text that is no name of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("`{text}` is no {kind}: expected {expected}")]
pub struct NameError {
    text: String,
    kind: &'static str,
    expected: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// As it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { text: text.to_owned(), kind: $kind, expected: $expected })
                }
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A node of a cluster (`pve-node` in `PVE/JSONSchema.pm` of pve-common).
    NodeName, "name of a node", "letters, digits and `-`, not at either end",
    |text| is_name(text, u8::is_ascii_alphanumeric, b"-")
);
name!(
    /// A storage (`pve-storage-id` in `PVE/JSONSchema.pm`).
    StorageName, "name of a storage", "a letter, then letters, digits, `-`, `_` and `.`, at least two, not \
     ending with a sign",
    |text| text.len() > 1 && is_name(text, u8::is_ascii_alphabetic, b"-_.")
);

/// A first character as `first` wants it, a last letter or digit, and letters, digits and `also` between.
fn is_name(text: &str, first: fn(&u8) -> bool, also: &[u8]) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(first)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || also.contains(byte))
}

/// The number of a guest, unique in its cluster: 100 to 999 999 999.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vmid(u32);

impl Vmid {
    /// The VMID `number`. `None` when guests cannot have it.
    pub fn new(number: u32) -> Option<Self> {
        (100..=999_999_999).contains(&number).then_some(Self(number))
    }

    /// Its number.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vmid {
    type Error = NameError;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        Self::new(number).ok_or_else(|| NameError {
            text: number.to_string(),
            kind: "VMID",
            expected: "a number from 100 to 999999999",
        })
    }
}

impl From<Vmid> for u32 {
    fn from(vmid: Vmid) -> Self {
        vmid.0
    }
}

impl fmt::Display for Vmid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
pub enum GuestKind {
    /// A virtual machine.
    #[serde(rename = "qemu")]
    Machine,
    /// A container.
    #[serde(rename = "lxc")]
    Container,
}

impl GuestKind {
    /// Its name in paths.
    pub fn segment(self) -> &'static str {
        match self {
            Self::Machine => "qemu",
            Self::Container => "lxc",
        }
    }
}

/// A guest, and where it is. Guests move between nodes: look it up before use.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Guest {
    /// The node that it is on.
    pub node: NodeName,
    /// What it is.
    pub kind: GuestKind,
    /// Its number.
    pub vmid: Vmid,
}

impl fmt::Display for Guest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            GuestKind::Machine => "VM",
            GuestKind::Container => "CT",
        };
        write!(formatter, "{kind} {} on {}", self.vmid, self.node)
    }
}

/// A volume, `STORAGE:NAME`: a guest's disk, or a file on a storage (`pve-volume-id`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId {
    storage: StorageName,
    name: String,
}

impl VolumeId {
    /// The storage that it is on.
    pub fn storage(&self) -> &StorageName {
        &self.storage
    }

    /// Its name there, `vm-100-disk-0` or `import/x.qcow2`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The guest whose it is, by its name: the owner's removal frees it. Names are `vm-100-…`, `base-100-…`
    /// and `subvol-100-…`, on directories below `100/`, and a linked clone has its base before its own name
    /// (`parse_volname` of the plugins in `PVE/Storage/`).
    pub fn owner(&self) -> Option<Vmid> {
        let own = self.name.rsplit('/').next()?;
        let rest = ["vm-", "base-", "subvol-", "basevol-"]
            .iter()
            .find_map(|prefix| own.strip_prefix(prefix))?;
        let digits = rest.split('-').next()?;
        digits.parse().ok().and_then(Vmid::new)
    }
}

impl FromStr for VolumeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || NameError {
            text: text.to_owned(),
            kind: "volume",
            expected: "`STORAGE:NAME`, without commas, white space or `..`",
        };
        let (storage, name) = text.split_once(':').ok_or_else(error)?;
        let storage = storage.parse().map_err(|_| error())?;
        let plain = |byte: u8| byte.is_ascii_graphic() && !b",;\"\\".contains(&byte);
        let parts = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !parts || !name.bytes().all(plain) {
            return Err(error());
        }
        Ok(Self { storage, name: name.to_owned() })
    }
}

impl TryFrom<String> for VolumeId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<VolumeId> for String {
    fn from(volume: VolumeId) -> Self {
        volume.to_string()
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.storage, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_their_place_in_a_path_are_refused() {
        for text in ["", ".", "..", "a/b", "a b", "-a", "a-", "a\n", "ä", "a%2fb"] {
            assert!(text.parse::<NodeName>().is_err(), "{text:?}");
            assert!(text.parse::<StorageName>().is_err(), "{text:?}");
        }
        for text in ["pve", "pve-1", "1", "a"] {
            assert!(text.parse::<NodeName>().is_ok(), "{text}");
        }
        for text in ["local", "local-lvm", "nfs_1.fast", "b2"] {
            assert!(text.parse::<StorageName>().is_ok(), "{text}");
        }
    }

    #[test]
    fn a_volume_names_its_owner() {
        let cases = [
            ("local-lvm:vm-100-disk-0", Some(100)),
            ("local:100/vm-100-disk-0.qcow2", Some(100)),
            ("zfs:subvol-4711-disk-1", Some(4711)),
            ("zfs:base-100-disk-0/vm-200-disk-0", Some(200)),
            ("local-lvm:vm-100-cloudinit", Some(100)),
            ("local:import/imgbuild-galera-1.qcow2", None),
            ("local:import/vm-x.qcow2", None),
        ];
        for (text, owner) in cases {
            let volume: VolumeId = text.parse().unwrap();
            assert_eq!(volume.owner().map(Vmid::number), owner, "{text}");
            assert_eq!(volume.to_string(), text);
        }
        for text in
            ["", "local", "local:", ":x", "local:a,b", "local:../x", "local:a//b", "local:a b"]
        {
            assert!(text.parse::<VolumeId>().is_err(), "{text}");
        }
    }
}
