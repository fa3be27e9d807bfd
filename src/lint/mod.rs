//! The registry of lints: everything that imgbuild objects to, whether it looks at a definition or at a
//! finished image, each once.
//!
//! Here stands what each lint is called, why it exists, what to do about what it finds, and how severe that
//! is by itself. What finds it is [`crate::definition::lint`], [`crate::render::check`] and
//! [`crate::artifact::lint`]; definitions and overlays change levels ([`crate::definition::lint::Rule`]).

mod definitions;
mod identity;
mod needs;
mod residues;
mod secrets;

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::Serialize;

pub use definitions::*;
pub use identity::*;
pub use needs::*;
pub use residues::*;
pub use secrets::*;

/// A rule that definitions or images are held against.
#[derive(Debug)]
pub struct Lint {
    /// Its name in messages and in `[lints]`: lower case, words joined by dashes. Unique.
    pub name: &'static str,
    /// What it is about.
    pub group: Group,
    /// What it looks at.
    pub subject: Subject,
    /// How severe a finding is if nobody says anything else.
    pub stance: Stance,
    /// Why nothing should be like that.
    pub reason: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
}

/// What lints are about. The documentation has a section for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Likely mistakes in definitions and overlays.
    Definitions,
    /// What only one person or service may know.
    Secrets,
    /// What makes a guest this one and no other.
    Identity,
    /// What a build leaves behind.
    Residues,
    /// What Proxmox and systemd need to find.
    Needs,
}

/// What a lint looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// A definition, `image.toml`, with its templates.
    Definition,
    /// A value, in a definition or in an overlay.
    Value,
    /// Each layer by itself: what must not even be in a layer that a higher one hides, since every layer is
    /// shipped whole in a disk.
    Layer,
    /// What the layers of an image make together.
    Image,
}

/// How severe a finding is by itself, and whether a definition can change that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stance {
    /// It is shown.
    Warn,
    /// It stops, and can be relaxed where it is named.
    Deny,
    /// It stops and cannot be relaxed, for this reason.
    Forbid(&'static str),
}

/// What a finding leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Nothing; only that it was allowed is told.
    Allow,
    /// It is shown.
    Warn,
    /// It is shown, and stops.
    Deny,
    /// As [`Level::Deny`], and nobody further up may relax it.
    Forbid,
}

impl Level {
    /// All of them, from the mildest on.
    pub const ALL: [Self; 4] = [Self::Allow, Self::Warn, Self::Deny, Self::Forbid];

    /// What it is called in definitions.
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
            Self::Forbid => "forbid",
        }
    }

    /// Whether what is found at this level stops.
    pub fn stops(self) -> bool {
        self >= Self::Deny
    }
}

impl fmt::Display for Level {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.word())
    }
}

/// A word that is no level.
#[derive(Debug, thiserror::Error)]
#[error("`allow`, `warn`, `deny` or `forbid`")]
pub struct NotALevel;

impl FromStr for Level {
    type Err = NotALevel;

    fn from_str(text: &str) -> Result<Self, NotALevel> {
        Self::ALL.into_iter().find(|level| level.word() == text).ok_or(NotALevel)
    }
}

impl Lint {
    /// The level of a finding if nobody says anything else.
    pub fn level(&self) -> Level {
        match self.stance {
            Stance::Warn => Level::Warn,
            Stance::Deny => Level::Deny,
            Stance::Forbid(_) => Level::Forbid,
        }
    }

    /// Whether it looks at what was built, so that what it finds has a path there.
    pub fn looks_at_images(&self) -> bool {
        matches!(self.subject, Subject::Layer | Subject::Image)
    }

    /// Whether an overlay has anything that it looks at.
    pub fn concerns_sites(&self) -> bool {
        self.subject != Subject::Definition
    }
}

impl Group {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Definitions => "definitions",
            Self::Secrets => "secrets",
            Self::Identity => "identity",
            Self::Residues => "residues",
            Self::Needs => "needs",
        }
    }
}

impl Subject {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Definition => "definition",
            Self::Value => "value",
            Self::Layer => "layer",
            Self::Image => "image",
        }
    }
}

/// Every lint there is, by group.
pub fn all() -> impl Iterator<Item = &'static Lint> {
    let groups: [&[&Lint]; 5] =
        [definitions::ALL, secrets::ALL, identity::ALL, residues::ALL, needs::ALL];
    groups.into_iter().flatten().copied()
}

/// The lint called `name`.
pub fn find(name: &str) -> Option<&'static Lint> {
    all().find(|lint| lint.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_every_lint_says_what_to_do() {
        let names: BTreeSet<_> = all().map(|lint| lint.name).collect();
        assert_eq!(names.len(), all().count());
        for lint in all() {
            let why = match lint.stance {
                Stance::Forbid(why) => why,
                _ => "relaxed",
            };
            for text in [lint.reason, lint.remedy, why] {
                assert!(!text.is_empty() && !text.ends_with('.'), "{}: {text}", lint.name);
            }
            assert!(lint.name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
            assert!(std::ptr::eq(find(lint.name).unwrap(), lint));
        }
    }

    #[test]
    fn groups_are_together() {
        let groups: Vec<Group> = all().map(|lint| lint.group).collect();
        assert!(groups.is_sorted());
    }

    #[test]
    fn levels_are_read_as_they_are_written() {
        for level in Level::ALL {
            assert_eq!(level.word().parse::<Level>().unwrap(), level);
        }
        assert!("denied".parse::<Level>().is_err());
    }
}
