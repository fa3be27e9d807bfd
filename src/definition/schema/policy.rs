//! The tables of `policy.toml`.

use super::Shape::{Boolean, Integer, List, Table, Text, Word};
use super::image::LINE;
use super::{Keys, key, required};

pub(in crate::definition) static POLICY: Keys = Keys {
    name: "policy",
    described: &["Keys"],
    keys: &[
        key("signatures", Table(|| &SIGNATURES)),
        key("documents", Table(|| &DOCUMENTS)),
        key("sources", Table(|| &SOURCES)),
        key("age", Table(|| &AGE)),
        key("forbidden", List(0, &Table(|| &FORBIDDEN))),
    ],
};

pub(in crate::definition) static SIGNATURES: Keys = Keys {
    name: "signatures",
    described: &["| key of `[signatures]`"],
    keys: &[
        key("required", Boolean),
        key("allowed_signers", LINE),
        key("signers", List(1, &LINE)),
        key("revoked", LINE),
    ],
};

pub(in crate::definition) static DOCUMENTS: Keys = Keys {
    name: "documents",
    described: &["| key of `[documents]`"],
    keys: &[key("sbom", Boolean), key("provenance", Boolean)],
};

pub(in crate::definition) static SOURCES: Keys = Keys {
    name: "trusted_sources",
    described: &["| key of `[sources]`"],
    keys: &[required("unpinned", Word(&["refuse", "allow"]))],
};

pub(in crate::definition) static AGE: Keys = Keys {
    name: "age",
    described: &["| key of `[age]`"],
    keys: &[required("maximum_days", Integer(1, 3650))],
};

pub(in crate::definition) static FORBIDDEN: Keys = Keys {
    name: "forbidden",
    described: &["| key of `[[forbidden]]`"],
    keys: &[required("package", Text("^[a-z0-9*][a-z0-9+.*-]*$")), required("reason", LINE)],
};
