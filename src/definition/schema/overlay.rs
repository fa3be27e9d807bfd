//! The tables of `overlay.toml`.

use super::Shape::{Any, Integer, List, Names, Table, Text, Word};
use super::image::{LINE, LINT, NAME, NAMES, PARAMETER_NAMES};
use super::{Keys, Shape, key, required};

const HOST_NAMES: &str = "^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$";
const HOST_NAME: Shape = Text(HOST_NAMES);
const ADDRESS: Shape = Text("^[0-9A-Fa-f.:]+$");
const NETWORK: Shape = Text("^[0-9A-Fa-f.:]+/[0-9]+$");

const KEYS_HEADING: &str = "Keys";

pub(in crate::definition) static OVERLAY: Keys = Keys {
    name: "overlay",
    described: &[KEYS_HEADING],
    keys: &[
        required("summary", LINE),
        key("extends", NAME),
        key("images", Names(NAMES, &Names(PARAMETER_NAMES, &Any))),
        key("nodes", List(0, &Table(|| &NODE))),
        key("names", Names(HOST_NAMES, &ADDRESS)),
        key("operators", Table(|| &OPERATORS)),
        key("proxmox", Table(|| &HOSTING)),
        key("guests", Names(NAMES, &Table(|| &GUEST))),
        key("lints", Names(NAMES, &Table(|| &LINT))),
    ],
};

pub(in crate::definition) static OPERATORS: Keys =
    Keys { name: "operators", described: &[], keys: &[required("networks", List(0, &NETWORK))] };

pub(in crate::definition) static NODE: Keys = Keys {
    name: "node",
    described: &[KEYS_HEADING],
    keys: &[
        required("name", HOST_NAME),
        required("image", NAME),
        required("address", NETWORK),
        key("gateway", ADDRESS),
        key("number", Integer(1, 9999)),
        key("host", HOST_NAME),
    ],
};

pub(in crate::definition) static HOSTING: Keys = Keys {
    name: "proxmox",
    described: &["| key of `[proxmox]`"],
    keys: &[
        required("url", Text("^https://")),
        key("ca", LINE),
        key("fingerprint", LINE),
        key("pool", LINE),
        required("artifacts", LINE),
        required("storage", LINE),
        required("vmids", List(2, &Integer(100, 999_999_999))),
        key("grace_days", Integer(0, 3650)),
        key("name_servers", List(0, &ADDRESS)),
        key("search_domain", HOST_NAME),
    ],
};

pub(in crate::definition) static GUEST: Keys = Keys {
    name: "guest",
    described: &["| key of `[guests.ROLE]`"],
    keys: &[
        required("kind", Word(&["container", "machine"])),
        required("cores", Integer(1, 512)),
        required("memory_mib", Integer(128, 4_194_304)),
        key("root_gib", Integer(1, 1024)),
        required("bridge", LINE),
        key("vlan", Integer(1, 4094)),
        key("storage", LINE),
        key("volumes", Names(NAMES, &Table(|| &VOLUME))),
    ],
};

pub(in crate::definition) static VOLUME: Keys = Keys {
    name: "volume",
    described: &[],
    keys: &[required("size_gib", Integer(1, 131_072)), key("storage", LINE)],
};
