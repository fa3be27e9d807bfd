//! The record in a guest's description: what the guest is, and how far its swap has got.
//!
//! # Format, schema 1
//!
//! ```text
//! galera1 of campus: imgbuild wrote what follows, change nothing in it.
//!
//! ~~~toml
//! # imgbuild record
//! schema = 1
//! site = "campus"
//! …
//! # end of record
//! ~~~
//! ```
//!
//! Only the lines between the two comments count; all others belong to people, and stay. The same record
//! always gives the same bytes.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::notes::{Found, LIMIT, Marks};
use super::platform::GuestId;
use crate::debian::date::Moment;
use crate::definition::{Hostname, ImageName, SiteName, VolumeName};
use crate::digest::Digest;

/// The version of the format that this program writes and reads.
const SCHEMA: u32 = 1;
const MARKS: Marks = Marks { begin: "# imgbuild record", end: "# end of record" };

/// The longest reason that is kept, in characters.
const REASON_LIMIT: usize = 300;

/// How far a guest has got.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Made, not yet proven.
    New,
    /// Proven, serving.
    Current,
    /// Given up; stopped, or being stopped.
    Failed,
    /// Replaced, kept for a while.
    Old,
}

/// What has made a guest take its node.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A swap made it.
    Swap,
    /// A rollback brought it back.
    Rollback,
}

/// Whose place a guest takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// The guest.
    pub guest: GuestId,
    /// The image that it runs.
    pub image: Digest,
}

/// What is known of a guest, wherever it is looked at from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The site it belongs to.
    pub site: SiteName,
    /// The node that it is or was.
    pub node: Hostname,
    /// The role it runs.
    pub role: ImageName,
    /// The digest in the manifest of its artifact.
    pub image: Digest,
    /// The file name of its artifact.
    pub artifact: String,
    /// Counts the guests that had the node. Of two that claim it, the higher counts.
    pub generation: u32,
    /// How far it has got.
    pub phase: Phase,
    /// When the phase began, by the cluster's clock.
    pub since: Moment,
    /// What has made it take the node.
    pub origin: Origin,
    /// The state volumes that it has while the node is its.
    pub volumes: BTreeSet<VolumeName>,
    /// Whose place it takes; none for the first guest of a node.
    pub replaces: Option<Replaced>,
    /// The guest that it is making room for. It is then not started with its host.
    pub successor: Option<GuestId>,
    /// Why it was given up, in one line.
    pub reason: Option<String>,
}

/// What a description says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// There is no record in it.
    None,
    /// A record.
    Record(Box<Record>),
    /// A record that cannot be read; its site, where that much could be made out.
    Unreadable(RecordError, Option<SiteName>),
}

/// A record that cannot be read or written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It is of a later format.
    #[error("the record has schema {0}, this imgbuild knows schema {SCHEMA}")]
    Newer(u32),
    /// Somebody has changed it.
    #[error("the record is damaged: {0}")]
    Damaged(String),
    /// The description would become too long.
    #[error("with the record the description has {0} characters, {LIMIT} are allowed")]
    TooLong(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    schema: u32,
    site: String,
    node: String,
    role: String,
    image: Digest,
    artifact: String,
    generation: u32,
    phase: Phase,
    since: Moment,
    origin: Origin,
    volumes: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    successor: Option<GuestId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<GuestId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces_image: Option<Digest>,
}

impl Record {
    /// Whether the guest is to be started with its host: only the one that has the node and is not about
    /// to lose it, so that never two of a node start.
    pub fn starts_on_boot(&self) -> bool {
        self.phase == Phase::Current && self.successor.is_none()
    }

    /// The tags that make the guest easy to find in lists, sorted. Nothing is done because of them; but while its
    /// host is not there, they are all that tells whose it is.
    pub fn tags(&self) -> Vec<String> {
        let mut tags = vec![
            "imgbuild".to_owned(),
            format!("imgbuild-site-{}", self.site),
            format!("imgbuild-node-{}", self.node.as_str().to_ascii_lowercase()),
            format!("img-{}", self.image.short()),
        ];
        match self.phase {
            Phase::Current => {}
            Phase::New => tags.push("imgbuild-new".to_owned()),
            Phase::Failed => tags.push("imgbuild-failed".to_owned()),
            Phase::Old => tags.push("imgbuild-old".to_owned()),
        }
        tags.sort_unstable();
        tags
    }

    /// The description of a guest with this record, whose description was `before`. Lines of people stay.
    ///
    /// # Errors
    ///
    /// When it becomes longer than is allowed.
    pub fn describe(&self, before: &str) -> Result<String, RecordError> {
        let text = MARKS.write(&format!("{} of {}", self.node, self.site), &self.table(), before);
        match text.chars().count() {
            length if length > LIMIT => Err(RecordError::TooLong(length)),
            _ => Ok(text),
        }
    }

    /// The record in a description.
    pub fn read(description: &str) -> Reading {
        match MARKS.read(description) {
            Found::Nothing => Reading::None,
            Found::Broken(why, lines) => {
                Reading::Unreadable(RecordError::Damaged(why), site_in(lines.into_iter()))
            }
            Found::Block(text) => match parse(&text) {
                Ok(record) => Reading::Record(Box::new(record)),
                Err(error) => Reading::Unreadable(error, site_in(text.lines())),
            },
        }
    }

    fn table(&self) -> String {
        let table = Table {
            schema: SCHEMA,
            site: self.site.to_string(),
            node: self.node.to_string(),
            role: self.role.to_string(),
            image: self.image,
            artifact: self.artifact.clone(),
            generation: self.generation,
            phase: self.phase,
            since: self.since,
            origin: self.origin,
            volumes: self.volumes.iter().map(VolumeName::to_string).collect(),
            successor: self.successor,
            reason: self.reason.as_deref().map(one_line),
            replaces: self.replaces.as_ref().map(|replaced| replaced.guest),
            replaces_image: self.replaces.as_ref().map(|replaced| replaced.image),
        };
        toml::to_string(&table).expect("text, numbers and lists of text are TOML")
    }
}

/// `text` as it can stand in a record: one line without control characters, not too long.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|sign: char| sign.is_whitespace() || sign.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    line.chars().take(REASON_LIMIT).collect::<String>().trim_end().to_owned()
}

/// The tags of a guest that had `before`, with those of `record` instead of older ones of ours. Sorted.
pub fn merge_tags(before: &[String], record: &Record) -> Vec<String> {
    let ours = |tag: &str| {
        tag == "imgbuild"
            || tag.starts_with("imgbuild-site-")
            || tag.starts_with("imgbuild-node-")
            || ["imgbuild-new", "imgbuild-failed", "imgbuild-old"].contains(&tag)
            || tag.strip_prefix("img-").is_some_and(|rest| {
                rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
            })
    };
    let kept = before.iter().filter(|tag| !ours(tag)).cloned();
    kept.chain(record.tags()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn site_in<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<SiteName> {
    let value = lines.find_map(|line| line.trim_start().strip_prefix("site = "))?;
    value.trim_matches('"').parse().ok()
}

fn parse(text: &str) -> Result<Record, RecordError> {
    let damaged = |text: String| RecordError::Damaged(text);
    let table: toml::Table =
        toml::from_str(text).map_err(|error| damaged(one_line(error.message())))?;
    match table.get("schema").and_then(toml::Value::as_integer) {
        Some(schema) if schema == i64::from(SCHEMA) => {}
        Some(schema) if schema > i64::from(SCHEMA) => {
            return Err(RecordError::Newer(schema.try_into().unwrap_or(u32::MAX)));
        }
        _ => return Err(damaged("it has no schema that there ever was".to_owned())),
    }
    let table: Table =
        table.try_into().map_err(|error: toml::de::Error| damaged(one_line(error.message())))?;
    let invalid = |what: &str, text: &str, expected: &dyn std::fmt::Display| {
        damaged(format!("{what} `{}` is not {expected}", one_line(text)))
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if table.artifact.is_empty() || !table.artifact.bytes().all(plain) {
        return Err(invalid("the artifact", &table.artifact, &"a file name"));
    }
    let mut volumes = BTreeSet::new();
    for name in &table.volumes {
        volumes.insert(name.parse().map_err(|error| invalid("the volume", name, &error))?);
    }
    let replaces = match (table.replaces, table.replaces_image) {
        (Some(guest), Some(image)) => Some(Replaced { guest, image }),
        (None, None) => None,
        _ => {
            let text = "`replaces` and `replaces_image` belong together";
            return Err(damaged(text.to_owned()));
        }
    };
    Ok(Record {
        site: table.site.parse().map_err(|error| invalid("the site", &table.site, &error))?,
        node: table.node.parse().map_err(|error| invalid("the node", &table.node, &error))?,
        role: table.role.parse().map_err(|error| invalid("the role", &table.role, &error))?,
        image: table.image,
        artifact: table.artifact,
        generation: table.generation,
        phase: table.phase,
        since: table.since,
        origin: table.origin,
        volumes,
        replaces,
        successor: table.successor,
        reason: table.reason,
    })
}
