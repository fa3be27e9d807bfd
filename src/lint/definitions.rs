//! Likely mistakes in definitions and overlays.

use super::{Group, Lint, Stance, Subject};

/// A reference to an image that is not there.
pub static UNKNOWN_IMAGE: Lint = Lint {
    name: "unknown-image",
    group: Group::Definitions,
    subject: Subject::Definition,
    stance: Stance::Warn,
    reason: "an endpoint, a connection or a cluster names an image that does not exist, so the \
                 firewall lets in nobody for it",
    remedy: "correct the name, add the image, or take the name out",
};

/// A source whose hash nobody has verified.
pub static UNVERIFIED_SOURCE: Lint = Lint {
    name: "unverified-source",
    group: Group::Definitions,
    subject: Subject::Definition,
    stance: Stance::Warn,
    reason: "nobody has verified the hash of what would become part of the image; nothing is \
                 built of it, whatever its level",
    remedy: "verify it in the way that `unverified` says, and write `sha256` and `published`",
};

/// A package that a lower image asks for already.
pub static DUPLICATE_PACKAGE: Lint = Lint {
    name: "duplicate-package",
    group: Group::Definitions,
    subject: Subject::Definition,
    stance: Stance::Warn,
    reason: "a lower image of the stack asks for the package in the same words, so this line \
                 changes nothing",
    remedy: "remove one of the two",
};

/// A parameter that no template uses.
pub static UNUSED_PARAMETER: Lint = Lint {
    name: "unused-parameter",
    group: Group::Definitions,
    subject: Subject::Definition,
    stance: Stance::Warn,
    reason: "no template uses the parameter, so its value changes nothing",
    remedy: "use it or remove it",
};

/// An allowance for what is no longer found.
pub static UNUSED_ALLOWANCE: Lint = Lint {
    name: "unused-allowance",
    group: Group::Definitions,
    subject: Subject::Value,
    stance: Stance::Warn,
    reason: "[lints] allows what is not found any more, and would silently allow it when it comes \
                 back",
    remedy: "remove the allowance",
};

pub(super) static ALL: &[&Lint] =
    &[&UNKNOWN_IMAGE, &UNVERIFIED_SOURCE, &DUPLICATE_PACKAGE, &UNUSED_PARAMETER, &UNUSED_ALLOWANCE];
