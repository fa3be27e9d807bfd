//! `audit.toml`: known vulnerabilities that somebody accepts, why, and until when.

use std::collections::BTreeMap;
use std::path::Path;

use super::document::{Content, Item, parse};
use super::error::{Problem, Result};
use super::place::{Place, read_text};
use crate::debian::date::Moment;

/// The file, at the root of a project.
const FILE: &str = "audit.toml";

/// The keys of the file, and of each entry.
const KEYS: [&str; 1] = ["accept"];
const ENTRY_KEYS: [&str; 4] = ["cve", "package", "reason", "until"];

const HELP: &str = "each `[[accept]]` has `cve = \"CVE-2026-1234\"`, `reason = \"…\"` and `until = \"2026-12-31\"`, and \
                    `package = \"…\"` if it is about one source package alone";

/// A known vulnerability that somebody accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    /// `CVE-2026-1234`
    pub cve: String,
    /// The source package; none is all that have it.
    pub package: Option<String>,
    /// Why.
    pub reason: String,
    /// The last day on which it holds, in UTC: `2026-12-31`.
    pub until: String,
    end: Moment,
    /// Where the entry stands.
    pub place: Place,
}

impl Acceptance {
    /// The entries of the file of the project at `root`; none if there is no file.
    ///
    /// # Errors
    /// Whatever is wrong with the file, at its place.
    pub fn read_all(root: &Path) -> Result<Vec<Self>> {
        if root.join(FILE).symlink_metadata().is_err() {
            return Ok(Vec::new());
        }
        let read =
            || parse(&read_text(root, Path::new(FILE))?)?.table(&KEYS)?.list("accept", Self::read);
        let entries = read().map_err(|error| error.or_help(|| HELP.to_owned()))?;
        let mut known: BTreeMap<(&str, &Option<String>), &Place> = BTreeMap::new();
        for entry in &entries {
            if let Some(other) = known.insert((&entry.cve, &entry.package), &entry.place) {
                let what = format!("`{}`", entry.cve);
                let taken = format!("accepted at {other}");
                let help = Some("keep one of the two".to_owned());
                return Err(entry.place.error_with_help(Problem::Duplicate { what, taken }, help));
            }
        }
        Ok(entries)
    }

    fn read(item: &Item) -> Result<Self> {
        let table = item.table(&ENTRY_KEYS)?;
        let cve = table.require("cve")?;
        let id = cve.string()?;
        let is_id = |text: &str| {
            let known = text.starts_with("CVE-") || text.starts_with("TEMP-");
            known && text.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-')
        };
        if !is_id(id) {
            return Err(cve.unexpected("the name of an issue, like CVE-2026-1234"));
        }
        let item = table.require("until")?;
        let until = match &item.value {
            Content::String(text) => text,
            // Dates need no quotation marks in TOML.
            Content::Other("a date", text) => text,
            _ => return Err(item.unexpected("a day, like \"2026-12-31\"")),
        };
        let end = Moment::parse_rfc3339(&format!("{until}T23:59:59Z"))
            .ok_or_else(|| item.unexpected("a day, like \"2026-12-31\""))?;
        Ok(Self {
            cve: id.to_owned(),
            package: table.optional("package", Item::line)?,
            reason: table.require("reason")?.line()?,
            until: until.clone(),
            end,
            place: cve.place.clone(),
        })
    }

    /// Whether it is about the issue `id` of the source package `source`.
    pub fn accepts(&self, id: &str, source: &str) -> bool {
        self.cve == id && self.package.as_deref().is_none_or(|package| package == source)
    }

    /// Whether its last day is over.
    pub fn is_over(&self, now: Moment) -> bool {
        now > self.end
    }
}
