//! Everything that decides what a layer is, by name. Its digest is the layer's key; two sets of inputs tell
//! why a layer was built again.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::digest::{Digest, Hasher};

/// Part of every key: raise it when the same inputs no longer give the same bytes.
const RECIPE: &str = "2";

/// What a layer is made of: names (`package haproxy`, `file /etc/hosts`) and values (versions, digests).
/// No time, host name, path of the host, user, locale or umask is among them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Inputs(BTreeMap<String, String>);

/// What differs between the inputs of two builds of one layer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// An input that was not there before.
    Added {
        /// Its name.
        name: String,
    },
    /// An input that is no longer there.
    Removed {
        /// Its name.
        name: String,
    },
    /// An input with another value.
    Changed {
        /// Its name.
        name: String,
        /// The value before.
        from: String,
        /// The value now.
        to: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { name } => write!(formatter, "{name} is new"),
            Self::Removed { name } => write!(formatter, "{name} is gone"),
            Self::Changed { name, from, to } => {
                let (from, to) = (short(from), short(to));
                write!(formatter, "{name}: {from} → {to}")
            }
        }
    }
}

/// Digests are shown by their first digits.
fn short(value: &str) -> String {
    let word = |word: &str| match word.parse::<Digest>() {
        Ok(digest) => digest.short(),
        Err(_) => word.to_owned(),
    };
    value.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

impl Inputs {
    /// The inputs common to all layers: the kind of layer and the one below it.
    pub fn new(kind: &str, below: Option<&Digest>) -> Self {
        let mut inputs = Self::default();
        inputs.add("kind", kind);
        inputs.add("recipe", RECIPE);
        if let Some(digest) = below {
            inputs.add("layer below", digest.to_string());
        }
        inputs
    }

    /// Adds an input.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), value.into());
    }

    /// The key of the layer that these inputs make.
    pub fn key(&self) -> Digest {
        let mut hasher = Hasher::new();
        for (name, value) in &self.0 {
            hasher.field(name);
            hasher.field(value);
        }
        hasher.finish()
    }

    /// What has changed since `before`, in the order of names.
    pub fn changes_since(&self, before: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        for (name, to) in &self.0 {
            match before.0.get(name) {
                None => changes.push(Change::Added { name: name.clone() }),
                Some(from) if from != to => changes.push(Change::Changed {
                    name: name.clone(),
                    from: from.clone(),
                    to: to.clone(),
                }),
                Some(_) => {}
            }
        }
        let gone = before.0.keys().filter(|name| !self.0.contains_key(*name));
        changes.extend(gone.map(|name| Change::Removed { name: name.clone() }));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_given_inputs_never_changes() {
        let mut inputs = Inputs::new("packages", Some(&Digest::of("below")));
        inputs.add("package haproxy", "3.0.11-1+deb13u3 amd64 0000");
        assert_eq!(
            inputs.key().to_string(),
            "a64164f7378bbd16d67e70c850abf90e111be219b76136e357c39e611d245f6b",
            "on-disk keys changed: raise RECIPE instead"
        );
    }

    #[test]
    fn neighbouring_inputs_are_not_mistaken_for_one_another() {
        let key = |name: &str, value: &str| {
            let mut inputs = Inputs::default();
            inputs.add(name, value);
            inputs.key()
        };
        assert_ne!(key("ab", "c"), key("a", "bc"));
    }

    #[test]
    fn changes_name_what_was_added_removed_and_changed() {
        let mut before = Inputs::default();
        before.add("package a", "1");
        before.add("package b", "1");
        let mut now = Inputs::default();
        now.add("package b", "2");
        now.add("package c", "1");
        let shown: Vec<String> = now.changes_since(&before).iter().map(Change::to_string).collect();
        assert_eq!(shown, ["package b: 1 → 2", "package c is new", "package a is gone"]);
        assert!(now.changes_since(&now).is_empty());
    }
}
