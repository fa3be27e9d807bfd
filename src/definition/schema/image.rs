//! The tables of `image.toml`.

use super::Shape::{Any, Boolean, Either, Integer, List, Names, Table, Text, Word};
use super::{Key, Keys, Shape, key, required};

/// One line of text that is not empty.
pub(super) const LINE: Shape = Text(r"^[^\n]*\S[^\n]*$");
/// [`crate::definition::ImageName`] and names like it.
pub(super) const NAMES: &str = "^[a-z][a-z0-9-]*$";
pub(super) const NAME: Shape = Text(NAMES);
/// [`crate::definition::ParameterName`].
pub(super) const PARAMETER_NAMES: &str = "^[a-z][a-z0-9_]*$";
const PARAMETER_NAME: Shape = Text(PARAMETER_NAMES);
const ACCOUNT_NAMES: &str = "^[a-z_][a-z0-9_-]*$";
const PACKAGE_NAME: Shape = Text("^[a-z0-9][a-z0-9+.-]+$");
/// [`crate::definition::AbsolutePath`].
const PATH: Shape = Text("^/.*[^/]$");
const MODE: Shape = Text("^[0-7]{3,4}$");
const URL: Shape = Text("^(https?://|file:///)");
const OWNER: Shape = Text("^[a-z0-9_][a-z0-9_-]*$");
const COMMAND: Shape = List(1, &Text(""));
const PORT: Shape = Either(&[Integer(1, 65535), PARAMETER_NAME]);
const IDENTIFIER: Shape = Integer(100, 64999);
const SECONDS: Shape = Integer(1, 86_400);
const COUNT: Shape = Integer(1, 9999);
/// All that TOML can say.
const NUMBER: Shape = Integer(i64::MIN, i64::MAX);

pub(in crate::definition) static IMAGE: Keys = Keys {
    name: "image",
    described: &["Top level"],
    keys: &[
        required("summary", LINE),
        required("version", Text("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")),
        key("extends", NAME),
        key("role", Boolean),
        key("debian", Table(|| &DEBIAN)),
        key("repositories", List(0, &Table(|| &MORE_REPOSITORY))),
        key("packages", Table(|| &PACKAGES)),
        key("sources", Names(NAMES, &Table(|| &SOURCE))),
        key("users", Names(ACCOUNT_NAMES, &Table(|| &USER))),
        key("groups", Names(ACCOUNT_NAMES, &Table(|| &GROUP))),
        key("parameters", Names(PARAMETER_NAMES, &Table(|| &PARAMETER))),
        key("values", Names(PARAMETER_NAMES, &Any)),
        key("secrets", Names(PARAMETER_NAMES, &Table(|| &SECRET))),
        key("state", List(0, &Table(|| &STATE))),
        key("files", List(0, &Table(|| &FILE))),
        key("units", Table(|| &UNITS)),
        key("run", List(0, &Table(|| &RUN))),
        key("check", List(0, &Table(|| &CHECK))),
        key("health", Table(|| &HEALTH)),
        key("endpoints", Names(NAMES, &Table(|| &ENDPOINT))),
        key("connections", List(0, &Table(|| &CONNECTION))),
        key("cluster", Table(|| &CLUSTER)),
        key("swap", Table(|| &SWAP)),
        key("lints", Names(NAMES, &Table(|| &LINT))),
        key("boot", Table(|| &BOOT)),
        key("machine", Table(|| &MACHINE)),
    ],
};

const DEBIAN_HEADING: &str = "`[debian]`: where packages come from";

pub(in crate::definition) static DEBIAN: Keys = Keys {
    name: "debian",
    described: &[DEBIAN_HEADING],
    keys: &[
        required("architecture", LINE),
        required("repositories", List(1, &Table(|| &REPOSITORY))),
    ],
};

const REPOSITORY_NAME: Key = required("name", LINE);
const REPOSITORY_URL: Key = required("url", URL);
const MIRRORS: Key = key("mirrors", List(0, &URL));
const SNAPSHOT: Key = key("snapshot", URL);
const SUITE: Key = required("suite", LINE);
const COMPONENTS: Key = key("components", List(0, &LINE));
const KEYRING: Key = required("keyring", Either(&[LINE, Table(|| &KEYRING_URL)]));
const SIGNED_BY: Key = required("signed_by", List(1, &Text("^[0-9A-Fa-f ]{40,}$")));

pub(in crate::definition) static REPOSITORY: Keys = Keys {
    name: "repository",
    described: &[DEBIAN_HEADING],
    keys: &[
        REPOSITORY_NAME,
        REPOSITORY_URL,
        MIRRORS,
        SNAPSHOT,
        SUITE,
        COMPONENTS,
        KEYRING,
        SIGNED_BY,
    ],
};

pub(in crate::definition) static MORE_REPOSITORY: Keys = Keys {
    name: "further-repository",
    described: &[DEBIAN_HEADING, "`[[repositories]]`: further repositories"],
    keys: &[
        REPOSITORY_NAME,
        REPOSITORY_URL,
        MIRRORS,
        SNAPSHOT,
        SUITE,
        COMPONENTS,
        KEYRING,
        SIGNED_BY,
        required("packages", List(1, &Text("^[A-Za-z0-9][a-z0-9+.*-]*$"))),
    ],
};

pub(in crate::definition) static KEYRING_URL: Keys =
    Keys { name: "keyring", described: &[], keys: &[required("url", URL)] };

pub(in crate::definition) static PACKAGES: Keys = Keys {
    name: "packages",
    described: &["`[packages]`"],
    keys: &[
        key("essential", Boolean),
        key("install", List(0, &LINE)),
        key("exclude", List(0, &PACKAGE_NAME)),
    ],
};

/// Of a source of whatever type: which keys go with which type says the reader.
pub(in crate::definition) static SOURCE: Keys = Keys {
    name: "source",
    described: &["`[sources.NAME]`"],
    keys: &[
        required("type", Word(&["archive", "file", "git", "oci", "package"])),
        key("published", LINE),
        key("doc", LINE),
        key("urls", List(1, &URL)),
        key("into", PATH),
        key("sha256", Text("^[0-9a-fA-F]{64}$")),
        key("unverified", LINE),
        key("commit", Text("^([0-9a-f]{40}|[0-9a-f]{64})$")),
        key("strip", Integer(0, 64)),
        key("mode", MODE),
        key("image", LINE),
        key("digest", Text("^sha256:[0-9a-fA-F]{64}$")),
        key("path", PATH),
    ],
};

pub(in crate::definition) static USER: Keys = Keys {
    name: "user",
    described: &["| key of `[users.NAME]`"],
    keys: &[
        required("uid", IDENTIFIER),
        key("gid", IDENTIFIER),
        key("home", PATH),
        key("shell", PATH),
        key("comment", Text("^[^:\n]*$")),
    ],
};

pub(in crate::definition) static GROUP: Keys = Keys {
    name: "group",
    described: &["| key of `[groups.NAME]`"],
    keys: &[required("gid", IDENTIFIER)],
};

/// The types of parameters.
pub(in crate::definition) const TYPES: [&str; 10] = [
    "string", "boolean", "integer", "port", "address", "network", "hostname", "path", "list",
    "record",
];

const PARAMETERS_HEADING: &str = "`[parameters.NAME]`";
const TYPE: Key = required("type", Word(&TYPES));
const VALUES: Key = key("values", List(1, &Text("")));
const MINIMUM: Key = key("minimum", NUMBER);
const MAXIMUM: Key = key("maximum", NUMBER);
const ITEMS: Key = key("items", Table(|| &ITEM));
const FIELDS: Key = key("fields", Names(PARAMETER_NAMES, &Table(|| &FIELD)));
const DEFAULT: Key = key("default", Any);

/// What describes a type.
pub(in crate::definition) static ITEM: Keys = Keys {
    name: "type",
    described: &[PARAMETERS_HEADING],
    keys: &[TYPE, VALUES, MINIMUM, MAXIMUM, ITEMS, FIELDS],
};

pub(in crate::definition) static FIELD: Keys = Keys {
    name: "field",
    described: &[PARAMETERS_HEADING],
    keys: &[TYPE, VALUES, MINIMUM, MAXIMUM, ITEMS, FIELDS, DEFAULT, key("doc", LINE)],
};

pub(in crate::definition) static PARAMETER: Keys = Keys {
    name: "parameter",
    described: &[PARAMETERS_HEADING],
    keys: &[
        TYPE,
        VALUES,
        MINIMUM,
        MAXIMUM,
        ITEMS,
        FIELDS,
        DEFAULT,
        required("doc", LINE),
        key("public_name", NAME),
    ],
};

pub(in crate::definition) static SECRET: Keys = Keys {
    name: "secret",
    described: &["`[secrets.NAME]`"],
    keys: &[
        required("path", PATH),
        required("doc", LINE),
        key("required", Boolean),
        key("trial", LINE),
    ],
};

pub(in crate::definition) static STATE: Keys = Keys {
    name: "state",
    described: &["`[[state]]`"],
    keys: &[
        key("name", Text("^[a-z][a-z0-9-]{0,9}$")),
        required("path", PATH),
        key("owner", OWNER),
        key("group", OWNER),
        key("mode", MODE),
        required("doc", LINE),
    ],
};

pub(in crate::definition) static FILE: Keys = Keys {
    name: "file",
    described: &["`[[files]]`"],
    keys: &[
        required("path", PATH),
        key("mode", MODE),
        key("owner", OWNER),
        key("group", OWNER),
        key("replaces", PACKAGE_NAME),
    ],
};

pub(in crate::definition) static UNITS: Keys = Keys {
    name: "units",
    described: &["`[units]`"],
    keys: &[key("mask", List(0, &Text(r"^[A-Za-z0-9:_.\\@-]+\.[a-z]+$")))],
};

pub(in crate::definition) static RUN: Keys =
    Keys { name: "run", described: &["`[[run]]`"], keys: &[required("command", COMMAND)] };

pub(in crate::definition) static CHECK: Keys = Keys {
    name: "check",
    described: &["`[[check]]`"],
    keys: &[required("command", COMMAND), key("covers", List(0, &PATH))],
};

pub(in crate::definition) static HEALTH: Keys = Keys {
    name: "health",
    described: &["`[health]`"],
    keys: &[key("live", COMMAND), key("ready", COMMAND)],
};

pub(in crate::definition) static ENDPOINT: Keys = Keys {
    name: "endpoint",
    described: &["`[endpoints.NAME]`"],
    keys: &[
        key("port", PORT),
        key("range", Integer(1, 65535)),
        key("protocol", Word(&["tcp", "udp", "vrrp"])),
        required("clients", Either(&[Word(&["any"]), List(0, &NAME)])),
        key("when", PARAMETER_NAME),
        required("doc", LINE),
    ],
};

pub(in crate::definition) static CONNECTION: Keys = Keys {
    name: "connection",
    described: &["`[[connections]]`"],
    keys: &[
        required("to", NAME),
        required("endpoint", NAME),
        required("addresses", PARAMETER_NAME),
        required("port", PORT),
        key("when", PARAMETER_NAME),
    ],
};

pub(in crate::definition) static CLUSTER: Keys = Keys {
    name: "cluster",
    described: &["`[cluster]`"],
    keys: &[
        key("minimum", COUNT),
        key("exactly", COUNT),
        key("odd", Boolean),
        key("arbitrator", NAME),
        key("spread", Boolean),
    ],
};

pub(in crate::definition) static SWAP: Keys = Keys {
    name: "swap",
    described: &["`[swap]`"],
    keys: &[
        required("order", Integer(0, 9999)),
        key("drain", COMMAND),
        key("drained", COMMAND),
        key("leads", COMMAND),
        key("patience", SECONDS),
        key("ready_within", SECONDS),
    ],
};

pub(in crate::definition) static LINT: Keys = Keys {
    name: "lint",
    described: &["`[lints]`"],
    keys: &[
        required("level", Word(&["allow", "warn", "deny", "forbid"])),
        required("reason", LINE),
        key("paths", List(1, &Text("^/[^*/]+(/.+)?$"))),
        key("names", List(1, &LINE)),
    ],
};

pub(in crate::definition) static BOOT: Keys =
    Keys { name: "boot", described: &["`[boot]`"], keys: &[required("command", COMMAND)] };

pub(in crate::definition) static MACHINE: Keys =
    Keys { name: "machine", described: &["`[machine]`"], keys: &[required("boot", NAME)] };
