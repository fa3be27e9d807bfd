//! The JSON of Debian's security tracker: `https://security-tracker.debian.org/tracker/data/json`.
//!
//! Its form is what `_get_json` of `bin/tracker_service.py` in the tracker's own repository writes:
//!
//! ```text
//! { SOURCE: { ISSUE: {
//!     "description": TEXT, "debianbug": NUMBER, "scope": "remote" | "local",
//!     "releases": { RELEASE: {
//!         "status": "open" | "resolved" | "undetermined",
//!         "repositories": { "RELEASE", "RELEASE-security" or "RELEASE-lts": VERSION },
//!         "fixed_version": VERSION, "urgency": WORD,
//!         "nodsa": TEXT, "nodsa_reason": "" | "ignored" | "postponed", "next_point_update": true
//! } } } } }
//! ```
//!
//! ISSUE is `CVE-…` or `TEMP-…`, RELEASE a code name, and what is unknown is absent. `fixed_version` is `0` where the
//! release never had the flaw. The word of `urgency` is one of those in `lib/python/bugs.py`, with `**` behind it where it is
//! that of the NVD. The file has tens of megabytes, in one line: it is read as a stream, and only what concerns
//! the packages in question is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Read;

use schemars::JsonSchema;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::debian::version;

/// More characters of any text are not kept.
const MOST_TEXT: usize = 500;

/// More names of releases than there ever will be.
const MOST_RELEASES: usize = 100;

/// What the tracker says of some source packages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracker {
    /// The issues of each source package that was asked for and has any, by package.
    pub issues: BTreeMap<String, Vec<Issue>>,
    /// The code names of all releases that anything is said of.
    pub releases: BTreeSet<String>,
}

/// One flaw of one source package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// `CVE-2026-1234`, or `TEMP-…` as long as it has no such number.
    pub id: String,
    /// What it is.
    pub description: Option<String>,
    /// From where it can be used.
    pub scope: Option<Scope>,
    /// How things stand, by the code name of the release.
    pub states: BTreeMap<String, State>,
}

/// From where a flaw can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Over the network.
    Remote,
    /// On the machine.
    Local,
}

/// How things stand with a flaw in a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether what the release has now has the flaw.
    pub status: Status,
    /// The first version without it; `0` if there never was one with it.
    pub fixed: Option<String>,
    /// How much it matters.
    pub urgency: Urgency,
    /// That there is no advisory for it, and why.
    pub no_dsa: Option<NoDsa>,
    /// The versions that the suites of the release have.
    pub versions: Vec<String>,
}

/// Whether what a release has now has a flaw.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It has.
    Open,
    /// It has not, or not any more.
    Resolved,
    /// Nobody has found out.
    Undetermined,
}

/// How much a flaw matters, as Debian or else the NVD sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Urgency {
    /// Code of others can be run, and alike.
    High,
    /// The same after somebody has done something, denial of service over the network, and alike.
    Medium,
    /// Mild.
    Low,
    /// Not in Debian's binaries, or no flaw in practice.
    Unimportant,
    /// The package is no longer supported in this release.
    EndOfLife,
    /// Nobody has said.
    NotYetAssigned,
}

/// The order of urgencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Not in Debian's binaries, or no flaw in practice.
    Unimportant,
    /// Mild.
    Low,
    /// Nobody has said, or the package is no longer supported.
    Unassigned,
    /// Between the two.
    Medium,
    /// Code of others can be run, and alike.
    High,
}

impl Urgency {
    fn parse(word: &str) -> Self {
        match word.trim_end_matches('*') {
            "high" => Self::High,
            "medium" => Self::Medium,
            "low" => Self::Low,
            "unimportant" => Self::Unimportant,
            "end-of-life" => Self::EndOfLife,
            // A word that is new means no less than none.
            _ => Self::NotYetAssigned,
        }
    }

    /// Its place in the order. Most flaws are never judged, so one that is not counts for more than one that is
    /// known to be mild.
    pub fn severity(self) -> Severity {
        match self {
            Self::High => Severity::High,
            Self::Medium => Severity::Medium,
            Self::Low => Severity::Low,
            Self::Unimportant => Severity::Unimportant,
            Self::EndOfLife | Self::NotYetAssigned => Severity::Unassigned,
        }
    }
}

impl Severity {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unimportant => "unimportant",
            Self::Low => "low",
            Self::Unassigned => "unassigned",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// That Debian makes no advisory for a flaw by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct NoDsa {
    /// `ignored`: there will be no fix; `postponed`: one will come with others; empty: in a point release, perhaps.
    pub decision: String,
    /// Why, in Debian's words.
    pub reason: String,
}

impl Tracker {
    /// Reads what `reader` has of the source packages `sources` in `releases`.
    ///
    /// # Errors
    /// It is not JSON, or not of the tracker's form. The error knows line and column.
    pub fn read(
        reader: impl Read,
        sources: &BTreeSet<String>,
        releases: &BTreeSet<String>,
    ) -> serde_json::Result<Self> {
        let mut tracker = Self::default();
        let mut deserializer = serde_json::Deserializer::from_reader(reader);
        let whole = Sources { tracker: &mut tracker, sources, releases };
        deserializer.deserialize_map(whole)?;
        deserializer.end()?;
        Ok(tracker)
    }
}

/// Reads the whole.
struct Sources<'a> {
    tracker: &'a mut Tracker,
    sources: &'a BTreeSet<String>,
    releases: &'a BTreeSet<String>,
}

impl<'de> Visitor<'de> for Sources<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of source packages")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let kept = match self.sources.contains(&name) {
                true => Some(self.tracker.issues.entry(name).or_default()),
                false => None,
            };
            let known = &mut self.tracker.releases;
            map.next_value_seed(Issues { kept, known, releases: self.releases })?;
        }
        self.tracker.issues.retain(|_, issues| !issues.is_empty());
        Ok(())
    }
}

/// Reads the issues of a package.
struct Issues<'a> {
    /// Where they are kept, if they are.
    kept: Option<&'a mut Vec<Issue>>,
    known: &'a mut BTreeSet<String>,
    releases: &'a BTreeSet<String>,
}

impl<'de> DeserializeSeed<'de> for Issues<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Issues<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of issues")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(id) = map.next_key::<String>()? {
            let known = &mut *self.known;
            let Some(kept) = &mut self.kept else {
                map.next_value_seed(OneIssue { kept: None, known, releases: self.releases })?;
                continue;
            };
            if !is_issue(&id) {
                let message = format!("`{}` is not the name of an issue", plain(&id));
                return Err(A::Error::custom(message));
            }
            let mut issue = Issue { id, description: None, scope: None, states: BTreeMap::new() };
            let kept_issue = Some(&mut issue);
            map.next_value_seed(OneIssue { kept: kept_issue, known, releases: self.releases })?;
            if !issue.states.is_empty() {
                kept.push(issue);
            }
        }
        Ok(())
    }
}

/// Whether `id` can be shown to anybody and copied into a URL: `CVE-2026-1234`, `TEMP-0000000-12AB3C`.
fn is_issue(id: &str) -> bool {
    let known = id.starts_with("CVE-") || id.starts_with("TEMP-");
    known && id.len() <= 64 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Reads an issue, or only which releases it speaks of.
struct OneIssue<'a> {
    kept: Option<&'a mut Issue>,
    known: &'a mut BTreeSet<String>,
    releases: &'a BTreeSet<String>,
}

impl<'de> DeserializeSeed<'de> for OneIssue<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneIssue<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object that describes an issue")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match (key.as_str(), &mut self.kept) {
                ("releases", kept) => {
                    let states = kept.as_mut().map(|issue| &mut issue.states);
                    let (known, releases) = (&mut *self.known, self.releases);
                    map.next_value_seed(Releases { states, known, releases })?;
                }
                ("description", Some(issue)) => {
                    issue.description = map.next_value::<Option<String>>()?.map(|it| plain(&it));
                }
                ("scope", Some(issue)) => {
                    issue.scope = match map.next_value::<Option<String>>()?.as_deref() {
                        Some("remote") => Some(Scope::Remote),
                        Some("local") => Some(Scope::Local),
                        _ => None,
                    };
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// Reads how things stand in releases, or only which they are.
struct Releases<'a> {
    states: Option<&'a mut BTreeMap<String, State>>,
    known: &'a mut BTreeSet<String>,
    releases: &'a BTreeSet<String>,
}

impl<'de> DeserializeSeed<'de> for Releases<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Releases<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of releases")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if self.known.len() < MOST_RELEASES && !self.known.contains(&name) {
                self.known.insert(name.clone());
            }
            match &mut self.states {
                Some(states) if self.releases.contains(&name) => {
                    let written: Written = map.next_value()?;
                    states.insert(name, written.into());
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// How things stand in a release, as it is written.
#[derive(Deserialize)]
struct Written {
    status: Status,
    #[serde(default)]
    repositories: BTreeMap<String, String>,
    fixed_version: Option<String>,
    urgency: Option<String>,
    nodsa: Option<String>,
    nodsa_reason: Option<String>,
}

impl From<Written> for State {
    fn from(written: Written) -> Self {
        let Written { status, repositories, fixed_version, urgency, nodsa, nodsa_reason } = written;
        let no_dsa = (nodsa.is_some() || nodsa_reason.is_some()).then(|| NoDsa {
            decision: plain(nodsa_reason.as_deref().unwrap_or_default()),
            reason: plain(nodsa.as_deref().unwrap_or_default()),
        });
        Self {
            status,
            fixed: fixed_version.filter(|it| version::validate(it).is_ok()),
            urgency: Urgency::parse(urgency.as_deref().unwrap_or_default()),
            no_dsa,
            versions: repositories
                .into_values()
                .filter(|it| version::validate(it).is_ok())
                .collect(),
        }
    }
}

/// Text of others as one line for a terminal: nothing in it moves a cursor or turns the line round, and it is not
/// endless.
fn plain(text: &str) -> String {
    let turns = |it: char| matches!(it, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let words = text.split(|it: char| it.is_whitespace() || it.is_control() || turns(it));
    let mut line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(MOST_TEXT) {
        line.truncate(end);
        line.push('…');
    }
    line
}
