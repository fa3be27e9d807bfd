//! Checking a value of an overlay or definition against the type of its parameter.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value};

use super::document::{Content, Item};
use super::error::{Problem, Result};
use super::name::{AbsolutePath, Hostname, ParameterName};
use super::network::Network;
use super::parameter::{Field, Type};

impl Type {
    /// The value of `item`, if it is of this type. Addresses and networks come out in their
    /// canonical form, records with every field, defaults included.
    pub(super) fn check(&self, item: &Item) -> Result<Value> {
        match self {
            Self::String { values } => self.text(item, |text| {
                let listed = values.as_ref().is_none_or(|values| values.iter().any(|v| v == text));
                (listed && is_printable(text)).then(|| text.to_owned())
            }),
            Self::Boolean => item.boolean().map(Value::from),
            Self::Integer { minimum, maximum } => {
                let range = minimum.unwrap_or(i64::MIN)..=maximum.unwrap_or(i64::MAX);
                item.integer_in::<i64>(range, &self.to_string()).map(Value::from)
            }
            Self::Port => item.integer_in::<u16>(1..=65535, &self.to_string()).map(Value::from),
            Self::Address => self.text(item, |text| Some(text.parse::<IpAddr>().ok()?.to_string())),
            Self::Network => {
                self.text(item, |text| Some(text.parse::<Network>().ok()?.to_string()))
            }
            Self::Hostname => {
                self.text(item, |text| Some(text.parse::<Hostname>().ok()?.to_string()))
            }
            Self::Path => {
                self.text(item, |text| Some(text.parse::<AbsolutePath>().ok()?.to_string()))
            }
            Self::List(kind) => match &item.value {
                Content::Array(_) => item.each(|element| kind.check(element)).map(Value::from),
                _ => Err(item.unexpected(self)),
            },
            Self::Record(fields) => self.record(fields, item),
        }
    }

    fn text(&self, item: &Item, accept: impl FnOnce(&str) -> Option<String>) -> Result<Value> {
        let Content::String(text) = &item.value else { return Err(item.unexpected(self)) };
        accept(text).map(Value::from).ok_or_else(|| item.unexpected(self))
    }

    fn record(&self, fields: &BTreeMap<ParameterName, Field>, item: &Item) -> Result<Value> {
        let Content::Table(_) = &item.value else { return Err(item.unexpected(self)) };
        let known: Vec<&str> = fields.keys().map(ParameterName::as_str).collect();
        let table = item.table(&known)?;
        let mut record = Map::new();
        for (name, field) in fields {
            let value = match (table.get(name.as_str()), &field.default) {
                (Some(given), _) => field.kind.check(given)?,
                (None, Some(default)) => default.clone(),
                (None, None) => return Err(missing_field(name, field, item)),
            };
            record.insert(name.to_string(), value);
        }
        Ok(record.into())
    }
}

fn missing_field(name: &ParameterName, field: &Field, item: &Item) -> super::Error {
    let problem = Problem::MissingKey { key: name.to_string(), table: format!("`{}`", item.path) };
    item.place.error_with_help(problem, Some(format!("`{name}` is {}", field.kind)))
}

/// Whether text can stand in a configuration file without cutting it short or hiding what it says.
fn is_printable(text: &str) -> bool {
    !text.chars().any(|letter| letter.is_control() && !matches!(letter, '\n' | '\t'))
}
