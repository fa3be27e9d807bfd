//! Which flaws of the tracker are in what is installed.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::Serialize;

use super::installed::Installed;
use super::origin::Certainty;
use super::tracker::{Issue, NoDsa, Scope, Severity, State, Status, Tracker, Urgency};
use crate::debian::date::Moment;
use crate::debian::version;
use crate::definition::Acceptance;

/// A known vulnerability of something installed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// `CVE-2026-1234`, or `TEMP-…` as long as it has no such number.
    pub id: String,
    /// The source package.
    pub source: String,
    /// The version of the source package that is installed.
    pub version: String,
    /// How well these two are known.
    pub certainty: Certainty,
    /// The code name of the release that it is of.
    pub release: String,
    /// `open`, `resolved` (in a version that is not installed) or `undetermined`.
    pub status: Status,
    /// The first version of the source package without the flaw, if the release has one.
    pub fixed: Option<String>,
    /// How much it matters, in the tracker's words.
    pub urgency: Urgency,
    /// The place of that in the order of severities.
    pub severity: Severity,
    /// That Debian makes no advisory for it by itself.
    pub no_dsa: Option<NoDsa>,
    /// From where it can be used.
    pub scope: Option<Scope>,
    /// What it is.
    pub description: Option<String>,
    /// The packages that were built from the source package.
    pub packages: BTreeSet<String>,
    /// The images whose layers have them, by the names that the lock gives them.
    pub images: BTreeSet<String>,
    /// The roles that have them.
    pub roles: BTreeSet<String>,
    /// What the repositories have now. Only with `--updates`.
    pub update: Option<Update>,
    /// Who accepts it, if anybody does.
    pub accepted: Option<Accepted>,
    /// Whether it counts.
    pub counts: bool,
}

/// What the repositories have instead of something with a flaw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Update {
    /// The version of the source package that `lock --update` would bring; the installed one if there is no other.
    pub version: String,
    /// Whether that is without the flaw, in all images that have it.
    pub brings_fix: bool,
    /// Those of the images that `lock --update` would leave as they are, or without a lock, since a repository that they
    /// need cannot be used.
    pub out_of_reach: BTreeSet<String>,
}

/// What `lock --update` would make of a lock.
#[derive(Clone, Debug, Default)]
pub struct Newer {
    /// What of it roles would consist of.
    pub installed: Vec<Installed>,
    /// The images that it would have.
    pub images: BTreeSet<String>,
    /// The images that are in the lock now and need a repository that cannot be used.
    pub out_of_reach: BTreeSet<String>,
}

/// Who accepts a vulnerability.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Accepted {
    /// Why.
    pub reason: String,
    /// Until the end of which day.
    pub until: String,
    /// Whether that day is over.
    pub expired: bool,
    /// File and line of what says so.
    pub place: String,
}

/// What counts.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    /// Findings of this severity and above.
    pub severity: Severity,
    /// Only those that the release has a fix for.
    pub fixable: bool,
}

/// Whether `version` has the flaw whose state in its release is `state`: if so, how things stand, and the version that
/// has it no more.
///
/// `fixed_version` may be that of another release (the tracker takes the first note that fits), so whatever is as new as
/// the newest version of a release in which the flaw is resolved is without it, too.
pub fn judge(state: &State, version: &str) -> Option<(Status, Option<String>)> {
    if state.status != Status::Resolved {
        return Some((state.status, None));
    }
    let newest = state.versions.iter().max_by(|one, other| version::compare(one, other));
    let fixed = [state.fixed.as_ref(), newest].into_iter().flatten();
    let fixed = fixed.min_by(|one, other| version::compare(one, other));
    match fixed {
        Some(fixed) if version::compare(version, fixed).is_ge() => None,
        Some(fixed) => Some((Status::Resolved, Some(fixed.clone()))),
        // Resolved, and nobody says in what: that the release never had it would be `0`.
        None => Some((Status::Undetermined, None)),
    }
}

impl Finding {
    /// Everything that `tracker` says of `installed`, the worst first.
    pub fn all(
        tracker: &Tracker,
        installed: &[Installed],
        newer: Option<&Newer>,
        (accepted, now): (&[Acceptance], Moment),
        counted: Counted,
    ) -> Vec<Self> {
        let mut findings = Vec::new();
        for one in installed {
            for issue in tracker.issues.get(&one.source).into_iter().flatten() {
                let Some(state) = issue.states.get(&one.release) else { continue };
                let Some(verdict) = judge(state, &one.version) else { continue };
                let mut finding = Self::new(issue, state, verdict, one);
                finding.update = newer.map(|newer| update(state, one, newer));
                let accepting = accepted.iter().find(|it| it.accepts(&issue.id, &one.source));
                finding.accepted = accepting.map(|it| Accepted {
                    reason: it.reason.clone(),
                    until: it.until.clone(),
                    expired: it.is_over(now),
                    place: it.place.to_string(),
                });
                finding.counts = finding.is_counted(counted);
                findings.push(finding);
            }
        }
        findings.sort_by_cached_key(|it| {
            let known = it.status != Status::Undetermined;
            let name = (it.source.clone(), number(&it.id), it.id.clone(), it.version.clone());
            (Reverse((it.counts, it.severity, it.fixed.is_some(), known)), name)
        });
        findings
    }

    fn new(
        issue: &Issue,
        state: &State,
        (status, fixed): (Status, Option<String>),
        installed: &Installed,
    ) -> Self {
        let Installed { source, version, certainty, release, packages, images, roles } =
            installed.clone();
        Self {
            id: issue.id.clone(),
            source,
            version,
            certainty,
            release,
            status,
            fixed,
            urgency: state.urgency,
            severity: state.urgency.severity(),
            no_dsa: state.no_dsa.clone(),
            scope: issue.scope,
            description: issue.description.clone(),
            packages,
            images,
            roles,
            update: None,
            accepted: None,
            counts: false,
        }
    }

    fn is_counted(&self, counted: Counted) -> bool {
        self.status != Status::Undetermined
            && self.severity >= counted.severity
            && (!counted.fixable || self.fixed.is_some())
            && self.accepted.as_ref().is_none_or(|it| it.expired)
    }

    /// Whether `lock --update` would bring a version without the flaw.
    pub fn is_brought(&self) -> bool {
        self.update.as_ref().is_some_and(|update| update.brings_fix)
    }

    /// Whether a fix may be in a repository that cannot be used.
    pub fn is_out_of_reach(&self) -> bool {
        self.update
            .as_ref()
            .is_some_and(|update| !update.brings_fix && !update.out_of_reach.is_empty())
    }
}

/// What `newer` has in the place of `installed`.
fn update(state: &State, installed: &Installed, newer: &Newer) -> Update {
    let Newer { installed: newer, images, out_of_reach } = newer;
    let same = |it: &&Installed| {
        it.source == installed.source
            && it.release == installed.release
            && !it.images.is_disjoint(&installed.images)
    };
    let newer: Vec<&Installed> = newer.iter().filter(same).collect();
    let version = newer.iter().map(|it| &it.version);
    let version = version.max_by(|one, other| version::compare(one, other));
    Update {
        version: version.unwrap_or(&installed.version).clone(),
        // Images without any of its packages are without the flaw as well; those that leave the lock are not mended.
        brings_fix: installed.images.is_subset(images)
            && newer.iter().all(|it| judge(state, &it.version).is_none()),
        out_of_reach: installed.images.intersection(out_of_reach).cloned().collect(),
    }
}

/// What an issue is ordered by: `CVE-2026-900` comes before `CVE-2026-1000`.
fn number(id: &str) -> Vec<u64> {
    id.split('-').filter_map(|part| part.parse().ok()).collect()
}
