//! A TOML file in which every key and value knows its place.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{Problem, Result};
use super::place::{Place, Source};
use super::schema::meaning;
use super::suggest::did_you_mean;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Item {
    pub(crate) place: Place,
    /// The way to the value, as messages name it: `packages.install[2]`.
    pub(crate) path: String,
    pub(crate) value: Content,
}

/// What a value is. Numbers that no key and no parameter takes are kept as text for the message.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    String(String),
    Boolean(bool),
    Integer(i64),
    /// A float, a date, or an integer beyond 64 bits.
    Other(&'static str, String),
    Array(Vec<Item>),
    Table(Entries),
}

/// The entries of a table, each with the place of its key.
pub(crate) type Entries = BTreeMap<String, (Place, Item)>;

/// Parses `source`; the result is the table that the file is.
pub(crate) fn parse(source: &Source) -> Result<Item> {
    let table = DeTable::parse(source.inner()).map_err(|error| {
        let length = source.inner().len();
        let span = error.span().unwrap_or(length..length);
        Place::new(source.clone(), span).error(Problem::Syntax(error.message().to_owned()))
    })?;
    let entries = entries(source, "", table.into_inner());
    let place = Place::new(source.clone(), 0..0);
    Ok(Item { place, path: String::new(), value: Content::Table(entries) })
}

fn entries(source: &Source, path: &str, table: DeTable<'_>) -> Entries {
    let convert = |(key, value): (Spanned<_>, _)| {
        let place = Place::new(source.clone(), key.span());
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        let key = key.into_owned();
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let item = item(source, path, value);
        (key, (place, item))
    };
    table.into_iter().map(convert).collect()
}

fn item(source: &Source, path: String, value: Spanned<DeValue<'_>>) -> Item {
    let span: Range<usize> = value.span();
    let text = || source.inner().get(span.clone()).unwrap_or_default().to_owned();
    let value = match value.into_inner() {
        DeValue::String(text) => Content::String(text.into_owned()),
        DeValue::Boolean(value) => Content::Boolean(value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Content::Integer(number),
            Err(_) => Content::Other("an integer beyond 64 bits", text()),
        },
        DeValue::Float(_) => Content::Other("a float", text()),
        DeValue::Datetime(_) => Content::Other("a date", text()),
        DeValue::Array(items) => {
            let convert = |(index, value)| item(source, format!("{path}[{index}]"), value);
            Content::Array(items.into_iter().enumerate().map(convert).collect())
        }
        DeValue::Table(table) => Content::Table(entries(source, &path, table)),
    };
    Item { place: Place::new(source.clone(), span), path, value }
}

impl Item {
    /// What the value is, as a message says it: `70000`, `"x"`, `a table`.
    pub(crate) fn found(&self) -> String {
        match &self.value {
            Content::String(text) if text.chars().count() > 60 => {
                format!("{:?}…", text.chars().take(60).collect::<String>())
            }
            Content::String(text) => format!("{text:?}"),
            Content::Boolean(value) => value.to_string(),
            Content::Integer(number) => number.to_string(),
            Content::Other(kind, text) => format!("{kind} ({text})"),
            Content::Array(items) if items.is_empty() => "an empty list".to_owned(),
            Content::Array(_) => "a list".to_owned(),
            Content::Table(_) => "a table".to_owned(),
        }
    }

    /// The error that this value is not `expected`.
    pub(crate) fn unexpected(&self, expected: impl Display) -> super::Error {
        let path = if self.path.is_empty() { "the file" } else { &self.path };
        let problem = Problem::Value {
            path: path.to_owned(),
            expected: expected.to_string(),
            found: self.found(),
        };
        self.place.error_with_help(problem, meaning(self.place.file(), &self.path))
    }

    /// The value as text.
    pub(crate) fn string(&self) -> Result<&str> {
        match &self.value {
            Content::String(text) => Ok(text),
            _ => Err(self.unexpected("a string")),
        }
    }

    /// The value as text that is not empty and stays on one line.
    pub(crate) fn line(&self) -> Result<String> {
        let text = self.string()?;
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err(self.unexpected("one line of text"));
        }
        Ok(text.to_owned())
    }

    /// The value as text of a certain form. The error of `T` says what is expected.
    pub(crate) fn parse<T: FromStr<Err: Display>>(&self) -> Result<T> {
        self.string()?.parse().map_err(|expected| self.unexpected(expected))
    }

    pub(crate) fn boolean(&self) -> Result<bool> {
        match self.value {
            Content::Boolean(value) => Ok(value),
            _ => Err(self.unexpected("true or false")),
        }
    }

    pub(crate) fn integer(&self) -> Result<i64> {
        match self.value {
            Content::Integer(number) => Ok(number),
            _ => Err(self.unexpected("an integer")),
        }
    }

    /// The value as an integer within `range`, which `expected` puts in words.
    pub(crate) fn integer_in<T: TryFrom<i64>>(
        &self,
        range: std::ops::RangeInclusive<i64>,
        expected: &str,
    ) -> Result<T> {
        let number = self.integer().map_err(|_| self.unexpected(expected))?;
        match T::try_from(number) {
            Ok(value) if range.contains(&number) => Ok(value),
            _ => Err(self.unexpected(expected)),
        }
    }

    pub(crate) fn array(&self) -> Result<&[Item]> {
        match &self.value {
            Content::Array(items) => Ok(items),
            _ => Err(self.unexpected("a list")),
        }
    }

    /// Every element of a list, read by `read`.
    pub(crate) fn each<T>(&self, read: impl Fn(&Item) -> Result<T>) -> Result<Vec<T>> {
        self.array()?.iter().map(read).collect()
    }

    /// The value as a table whose keys are names chosen by the user.
    pub(crate) fn entries(&self) -> Result<&Entries> {
        match &self.value {
            Content::Table(entries) => Ok(entries),
            _ => Err(self.unexpected("a table")),
        }
    }

    /// The value as a table that may hold `known` keys and no others.
    pub(crate) fn table(&self, known: &[&str]) -> Result<Table<'_>> {
        let table = Table { item: self, entries: self.entries()? };
        for (key, (place, _)) in table.entries {
            if !known.contains(&key.as_str()) {
                let problem = Problem::UnknownKey { key: key.clone(), table: table.name() };
                let help = did_you_mean(key, known.iter().copied())
                    .unwrap_or_else(|| format!("known keys: {}", known.join(", ")));
                return Err(place.error_with_help(problem, Some(help)));
            }
        }
        Ok(table)
    }
}

/// A table whose keys are known to be valid.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a> {
    item: &'a Item,
    entries: &'a Entries,
}

impl<'a> Table<'a> {
    /// The table as a message names it.
    fn name(&self) -> String {
        match self.item.path.as_str() {
            "" => "the file".to_owned(),
            path => format!("`{path}`"),
        }
    }

    pub(crate) fn place(&self) -> &'a Place {
        &self.item.place
    }

    /// The value of `key`, if it is given.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Item> {
        self.entries.get(key).map(|(_, item)| item)
    }

    /// The value of `key`, which must be given.
    pub(crate) fn require(&self, key: &str) -> Result<&'a Item> {
        self.get(key).ok_or_else(|| {
            let problem = Problem::MissingKey { key: key.to_owned(), table: self.name() };
            let path = format!("{}.{key}", self.item.path);
            let help = meaning(self.place().file(), path.trim_start_matches('.'));
            self.place().error_with_help(problem, help)
        })
    }

    /// The value of `key` read by `read`, if it is given.
    pub(crate) fn optional<T>(
        &self,
        key: &str,
        read: impl FnOnce(&'a Item) -> Result<T>,
    ) -> Result<Option<T>> {
        self.get(key).map(read).transpose()
    }

    /// The elements of the list `key` read by `read`; none if it is not given.
    pub(crate) fn list<T>(&self, key: &str, read: impl Fn(&Item) -> Result<T>) -> Result<Vec<T>> {
        Ok(self.optional(key, |item| item.each(read))?.unwrap_or_default())
    }

    /// The entries of the table `key`, whose keys are names, read by `read`.
    pub(crate) fn map<K: FromStr<Err: Display> + Ord, T>(
        &self,
        key: &str,
        read: impl Fn(&K, &Place, &Item) -> Result<T>,
    ) -> Result<BTreeMap<K, T>> {
        let mut values = BTreeMap::new();
        let Some(item) = self.get(key) else { return Ok(values) };
        for (name, (place, item)) in item.entries()? {
            let name = parse_key(name, place, &item.path)?;
            let value = read(&name, place, item)?;
            values.insert(name, value);
        }
        Ok(values)
    }
}

/// A key of a table as a name of a certain form.
pub(crate) fn parse_key<K: FromStr<Err: Display>>(
    key: &str,
    place: &Place,
    path: &str,
) -> Result<K> {
    key.parse().map_err(|expected: K::Err| {
        place.error(Problem::Value {
            path: path.to_owned(),
            expected: expected.to_string(),
            found: format!("{key:?}"),
        })
    })
}
