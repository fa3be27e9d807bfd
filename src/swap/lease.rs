//! Who may change the site: one operator at a time.
//!
//! A lease is a note with an end, kept where the platform can compare and set. Who dies lets it run out;
//! who is delayed finds out that it is another's before the next step.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use super::notes::{Found, Marks};
use super::platform::{CallError, Platform, Revision};
use crate::debian::date::Moment;

const SCHEMA: u32 = 1;
const MARKS: Marks = Marks { begin: "# imgbuild lease", end: "# end of lease" };

/// How much the clocks of two hosts of the cluster may differ.
const SKEW: Duration = Duration::from_secs(15);

/// How often a change that meets another one is tried again.
const ATTEMPTS: u32 = 5;

/// A process that changes the site, or wants to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Who runs it and where: `jane@admin1`.
    pub who: String,
    /// Its number there.
    pub process: u32,
    /// Tells it from all others.
    pub token: String,
}

impl Holder {
    /// This process, run by `who`.
    pub fn new(who: impl Into<String>) -> Self {
        // Its keys are random; it need not be hard to guess, only different.
        let part = || RandomState::new().build_hasher().finish();
        let token = format!("{:016x}{:016x}", part(), part());
        Self { who: who.into(), process: std::process::id(), token }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} (process {})", self.who, self.process)
    }
}

/// The right to change the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose it is.
    pub holder: Holder,
    /// What for: `swap galera`.
    pub purpose: String,
    /// Since when, by the cluster's clock.
    pub since: Moment,
    /// Until when, unless it is renewed.
    pub expires: Moment,
}

impl fmt::Display for Lease {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { holder, purpose, since, expires } = self;
        write!(formatter, "{holder}: {purpose}, since {since}, until {expires} unless renewed")
    }
}

/// A lease that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum LeaseError {
    /// It is of a later format.
    #[error("the lease has schema {0}, this imgbuild knows schema {SCHEMA}")]
    #[diagnostic(help("use the imgbuild that wrote it, or a later one"))]
    Newer(u32),
    /// Somebody has changed it.
    #[error("the lease is damaged: {0}")]
    #[diagnostic(help(
        "make sure that nobody is swapping; then empty the notes of the guest that holds the lease"
    ))]
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    schema: u32,
    who: String,
    process: u32,
    token: String,
    purpose: String,
    since: Moment,
    expires: Moment,
}

impl Lease {
    /// The description of the guest that holds the lease of the site, which was `before`.
    pub fn describe(lease: Option<&Self>, before: &str) -> String {
        let table = lease.map_or_else(String::new, |lease| {
            let table = Table {
                schema: SCHEMA,
                who: lease.holder.who.clone(),
                process: lease.holder.process,
                token: lease.holder.token.clone(),
                purpose: lease.purpose.clone(),
                since: lease.since,
                expires: lease.expires,
            };
            toml::to_string(&table).expect("text and numbers are TOML")
        });
        MARKS.write("the lease of the site", &table, before)
    }

    /// The lease in a description; none if nobody has it.
    ///
    /// # Errors
    ///
    /// When it cannot be read. Nobody may change the site then.
    pub fn read(description: &str) -> Result<Option<Self>, LeaseError> {
        let text = match MARKS.read(description) {
            Found::Nothing => return Ok(None),
            Found::Block(text) if text.trim().is_empty() => return Ok(None),
            Found::Block(text) => text,
            Found::Broken(why, _) => return Err(LeaseError::Damaged(why)),
        };
        let damaged =
            |error: toml::de::Error| LeaseError::Damaged(super::record::one_line(error.message()));
        let table: toml::Table = toml::from_str(&text).map_err(damaged)?;
        match table.get("schema").and_then(toml::Value::as_integer) {
            Some(schema) if schema > i64::from(SCHEMA) => {
                return Err(LeaseError::Newer(schema.try_into().unwrap_or(u32::MAX)));
            }
            _ => {}
        }
        let table: Table = table.try_into().map_err(damaged)?;
        let Table { who, process, token, purpose, since, expires, .. } = table;
        let holder = Holder { who, process, token };
        Ok(Some(Self { holder, purpose, since, expires }))
    }
}

/// Why there is no lease.
pub(super) enum Denied {
    /// Another one has it, or had it in the meantime and has given it back.
    Held(Option<Box<Lease>>),
    /// It could be neither read nor written.
    Call(CallError),
}

/// A lease of this process.
pub(super) struct Held<'a> {
    platform: &'a dyn Platform,
    clock: &'a dyn Clock,
    lifetime: Duration,
    lease: Lease,
    /// When it was asked for, by this process's clock. It lasts at least `lifetime` from then.
    renewed: Duration,
}

impl<'a> Held<'a> {
    /// Takes the lease, if nobody has it or who had it has let it run out.
    pub(super) fn acquire(
        platform: &'a dyn Platform,
        clock: &'a dyn Clock,
        holder: &Holder,
        purpose: &str,
        lifetime: Duration,
    ) -> Result<Self, Denied> {
        let may = |found: Option<&Lease>, now: Moment| match found {
            Some(lease) => lease.holder.token == holder.token || now > lease.expires.after(SKEW),
            None => true,
        };
        let start = |now: Moment| Lease {
            holder: holder.clone(),
            purpose: purpose.to_owned(),
            since: now,
            expires: now.after(lifetime),
        };
        let (lease, renewed) = set(platform, clock, may, start)?;
        Ok(Self { platform, clock, lifetime, lease, renewed })
    }

    /// Makes the lease last, if a quarter of its lifetime is over.
    ///
    /// # Errors
    ///
    /// When it is another's, or when it cannot be renewed and may end while the next call is made.
    pub(super) fn keep(&mut self) -> Result<(), Denied> {
        let age = self.clock.now().saturating_sub(self.renewed);
        if age < self.lifetime / 4 {
            return Ok(());
        }
        let token = self.lease.holder.token.clone();
        let may = |found: Option<&Lease>, _: Moment| {
            found.is_some_and(|lease| lease.holder.token == token)
        };
        let start = |now: Moment| Lease { expires: now.after(self.lifetime), ..self.lease.clone() };
        match set(self.platform, self.clock, may, start) {
            Ok((lease, renewed)) => {
                (self.lease, self.renewed) = (lease, renewed);
                Ok(())
            }
            Err(Denied::Call(_)) if age < self.lifetime / 2 => Ok(()),
            Err(denied) => Err(denied),
        }
    }

    /// Gives the lease back. Where that fails, it runs out.
    pub(super) fn release(self) {
        let token = &self.lease.holder.token;
        if let Ok((Some(lease), revision)) = self.platform.read_lease()
            && lease.holder.token == *token
        {
            let _ = self.platform.write_lease(None, &revision);
        }
    }
}

/// Writes what `start` makes, if `may` allows it for the lease that there is.
fn set(
    platform: &dyn Platform,
    clock: &dyn Clock,
    may: impl Fn(Option<&Lease>, Moment) -> bool,
    start: impl Fn(Moment) -> Lease,
) -> Result<(Lease, Duration), Denied> {
    let mut last = CallError::Abandoned;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            clock.sleep(Duration::from_secs(1));
        }
        match try_set(platform, clock, &may, &start) {
            Err(Denied::Call(error @ (CallError::Conflict(_) | CallError::Unreachable(_)))) => {
                last = error;
            }
            result => return result,
        }
    }
    Err(Denied::Call(last))
}

fn try_set(
    platform: &dyn Platform,
    clock: &dyn Clock,
    may: &impl Fn(Option<&Lease>, Moment) -> bool,
    start: &impl Fn(Moment) -> Lease,
) -> Result<(Lease, Duration), Denied> {
    let asked = clock.now();
    let (found, revision): (Option<Lease>, Revision) =
        platform.read_lease().map_err(Denied::Call)?;
    let now = platform.server_time().map_err(Denied::Call)?;
    if !may(found.as_ref(), now) {
        return Err(Denied::Held(found.map(Box::new)));
    }
    let lease = start(now);
    platform.write_lease(Some(&lease), &revision).map_err(Denied::Call)?;
    Ok((lease, asked))
}
