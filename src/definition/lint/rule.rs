//! `[lints]`: what a definition or an overlay says of the level of lints, and why.

use std::collections::BTreeSet;

use super::pattern::PathPattern;
use crate::definition::document::{Content, Item, Table};
use crate::definition::error::{Problem, Result};
use crate::definition::place::Place;
use crate::definition::schema;
use crate::definition::suggest::did_you_mean;
use crate::lint::{self, Group, Level, Lint, Stance};

/// What a definition or an overlay says of one lint.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The lint.
    pub lint: &'static Lint,
    /// The level of what it finds.
    pub level: Level,
    /// Why.
    pub reason: String,
    /// What it holds for.
    scope: Scope,
    /// Where the name of the lint stands.
    pub place: Place,
}

/// What a rule holds for.
#[derive(Clone, Debug)]
enum Scope {
    /// Everything that the lint finds.
    All,
    /// What is found at these paths of an image.
    Paths(Vec<(PathPattern, Place)>),
    /// What is found of these: parameters, packages, sources, images.
    Names(Vec<(String, Place)>),
}

/// The files that have `[lints]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::definition) enum Holder {
    /// A definition.
    Image,
    /// An overlay.
    Site,
}

/// The parts of rules that something was found for, by file and position.
#[derive(Clone, Debug, Default)]
pub struct Used(BTreeSet<(String, usize)>);

impl Used {
    fn insert(&mut self, place: &Place) {
        self.0.insert((place.file().to_owned(), place.span().offset()));
    }

    fn contains(&self, place: &Place) -> bool {
        self.0.contains(&(place.file().to_owned(), place.span().offset()))
    }
}

impl Rule {
    /// Reads the entries of `[lints]`.
    pub(in crate::definition) fn read_all(table: &Table<'_>, holder: Holder) -> Result<Vec<Self>> {
        let Some(item) = table.get("lints") else { return Ok(Vec::new()) };
        let entries = item.entries()?.iter();
        entries.map(|(name, (place, item))| Self::read(name, place, item, holder)).collect()
    }

    fn read(name: &str, place: &Place, item: &Item, holder: Holder) -> Result<Self> {
        let lint = lint::find(name).ok_or_else(|| {
            let names = lint::all().map(|lint| lint.name);
            let help = did_you_mean(name, names)
                .unwrap_or_else(|| "`imgbuild lint --list` shows them all".to_owned());
            let message = format!("there is no lint `{name}`");
            place.error_with_help(Problem::Contradiction(message), Some(help))
        })?;
        if holder == Holder::Site && !lint.concerns_sites() {
            let message = format!("`{name}` looks at definitions, and this is an overlay");
            let help = "say it in the image.toml that it is about".to_owned();
            return Err(place.error_with_help(Problem::Contradiction(message), Some(help)));
        }
        if !matches!(item.value, Content::Table(_)) {
            return Err(item.unexpected("a table: `{ level = \"…\", reason = \"…\" }`"));
        }
        let table = item.table(&schema::LINT.names())?;
        let level_item = table.require("level")?;
        let level: Level = level_item.parse()?;
        if let Stance::Forbid(why) = lint.stance
            && level < Level::Forbid
        {
            let message = format!("`{name}` cannot be relaxed: {why}");
            let help = Some(lint.remedy.to_owned());
            return Err(level_item.place.error_with_help(Problem::Contradiction(message), help));
        }
        let reason = table.require("reason")?.line()?;
        let scope = Scope::read(&table, lint)?;
        if matches!(scope, Scope::All) && lint.level().stops() && !level.stops() {
            let example = match lint.looks_at_images() {
                true => "paths = [\"/…\"]",
                false => "names = [\"…\"]",
            };
            let message =
                format!("`{name}` stops a build, so what it is relaxed for must be named");
            let help = format!("add `{example}`; what is not named stays refused");
            return Err(level_item
                .place
                .error_with_help(Problem::Contradiction(message), Some(help)));
        }
        Ok(Self { lint, level, reason, scope, place: place.clone() })
    }

    /// Whether it makes the lint milder than it is by itself.
    pub fn is_allowance(&self) -> bool {
        self.level < self.lint.level()
    }

    /// Whether it holds for `subject`, a path or a name. Notes in `used` what of it does.
    fn holds(&self, subject: &str, used: &mut Used) -> bool {
        let mut found = false;
        let mut note = |place: &Place| {
            used.insert(place);
            found = true;
        };
        match &self.scope {
            Scope::All => note(&self.place),
            Scope::Paths(paths) => paths
                .iter()
                .filter(|(pattern, _)| pattern.matches(subject))
                .for_each(|(_, place)| note(place)),
            Scope::Names(names) => {
                names.iter().filter(|(name, _)| name == subject).for_each(|(_, place)| note(place));
            }
        }
        found
    }

    /// The parts of it that nothing was found for, if it is an allowance: what they are, and where.
    pub fn unused(&self, used: &Used) -> Vec<(String, Place)> {
        if !self.is_allowance() {
            return Vec::new();
        }
        let parts: Vec<(String, &Place)> = match &self.scope {
            Scope::All => vec![(format!("`{}`", self.lint.name), &self.place)],
            Scope::Paths(paths) => paths
                .iter()
                .map(|(path, place)| (format!("`{}` at {path}", self.lint.name), place))
                .collect(),
            Scope::Names(names) => names
                .iter()
                .map(|(name, place)| (format!("`{}` for `{name}`", self.lint.name), place))
                .collect(),
        };
        let unused = parts.into_iter().filter(|(_, place)| !used.contains(place));
        unused.map(|(what, place)| (what, place.clone())).collect()
    }
}

impl Scope {
    fn read(table: &Table<'_>, lint: &Lint) -> Result<Self> {
        let (key, other) = match lint.looks_at_images() {
            true => ("paths", "names"),
            false => ("names", "paths"),
        };
        if let Some(item) = table.get(other) {
            let what = lint.subject.word();
            let message = format!("`{}` looks at a {what}, which has no {other} to it", lint.name);
            let help = Some(format!("write `{key}`"));
            return Err(item.place.error_with_help(Problem::Contradiction(message), help));
        }
        let Some(item) = table.get(key) else { return Ok(Self::All) };
        if item.array()?.is_empty() {
            return Err(item.unexpected("a list of at least one"));
        }
        if key == "names" {
            return Ok(Self::Names(item.each(|item| Ok((item.line()?, item.place.clone())))?));
        }
        Ok(Self::Paths(item.each(|item| {
            let pattern: PathPattern = item.parse()?;
            if lint.group == Group::Secrets && pattern.has_wildcards() {
                let message = "what is about secrets is relaxed for single files only";
                let help = Some("name each file by its whole path, without `*`".to_owned());
                return Err(item
                    .place
                    .error_with_help(Problem::Contradiction(message.to_owned()), help));
            }
            Ok((pattern, item.place.clone()))
        })?))
    }
}

/// The level of a finding, and the rule that it is due to, if it is not that of the lint itself.
pub struct Verdict<'a> {
    /// The level.
    pub level: Level,
    /// The rule.
    pub rule: Option<&'a Rule>,
}

/// What `rules`, the weakest first, come to for what `lint` found at or of `subject`. What somebody forbade
/// stays forbidden.
pub fn verdict<'a>(
    rules: impl IntoIterator<Item = &'a Rule>,
    lint: &Lint,
    subject: &str,
    used: &mut Used,
) -> Verdict<'a> {
    let mut verdict = Verdict { level: lint.level(), rule: None };
    for rule in rules.into_iter().filter(|rule| rule.lint.name == lint.name) {
        if rule.holds(subject, used) && verdict.level < Level::Forbid {
            verdict = Verdict { level: rule.level, rule: Some(rule) };
        }
    }
    verdict
}

/// The errors of `stack`, whose last image relaxes what one below it forbids.
pub(in crate::definition) fn check_forbidden(below: &[&[Rule]], rules: &[Rule]) -> Result<()> {
    for rule in rules.iter().filter(|rule| rule.level < Level::Forbid) {
        let lower = below.iter().copied().flatten();
        let mut forbidding =
            lower.filter(|lower| lower.level == Level::Forbid && lower.lint.name == rule.lint.name);
        if let Some(lower) = forbidding.next_back() {
            let message =
                format!("`{}` is forbidden at {}: {}", rule.lint.name, lower.place, lower.reason);
            let help = Some("remove one of the two".to_owned());
            return Err(rule.place.error_with_help(Problem::Contradiction(message), help));
        }
    }
    Ok(())
}
