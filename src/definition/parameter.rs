//! Parameters: what a definition lets a site decide.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::document::{Item, Table, parse_key};
use super::error::{Problem, Result};
use super::name::{ImageName, ParameterName};
use super::place::Place;
use super::schema;
use super::suggest::did_you_mean;

/// Names that parameters cannot have, since templates already know them: those that are always in
/// sight, the helpers, and the words of the template language.
#[rustfmt::skip]
pub const RESERVED_NAMES: [&str; 31] = [
    "endpoints", "health", "image", "peers", "secrets", "site", "swap", "volumes",
    "and", "each", "eq", "gt", "gte", "if", "join", "json", "len", "lookup", "lt", "lte", "ne",
    "not", "or", "unless", "with",
    "as", "else", "false", "null", "this", "true",
];

/// The type of a parameter, of a field of a record, or of the items of a list.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Text, perhaps one of a few.
    String {
        /// The texts allowed; any, if absent.
        values: Option<Vec<String>>,
    },
    /// True or false.
    Boolean,
    /// A whole number.
    Integer {
        /// The least value allowed.
        minimum: Option<i64>,
        /// The greatest value allowed.
        maximum: Option<i64>,
    },
    /// A TCP or UDP port, 1 to 65535.
    Port,
    /// An IPv4 or IPv6 address.
    Address,
    /// A network in prefix notation.
    Network,
    /// A host name (RFC 1123).
    Hostname,
    /// An absolute path inside the image.
    Path,
    /// Any number of values of one type.
    List(Box<Type>),
    /// A value for each of a fixed set of fields.
    Record(BTreeMap<ParameterName, Field>),
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The type of its value.
    pub kind: Type,
    /// The value where a record does not give one; without it, every record must.
    pub default: Option<Value>,
    /// What it is for.
    pub doc: Option<String>,
}

/// A parameter as a definition declares it.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The type of its values.
    pub kind: Type,
    /// The value where nobody gives one; without it, a site must.
    pub default: Option<Value>,
    /// What it is for.
    pub doc: String,
    /// If its value is a name that browsers use, or a URL with one: the image that serves it, and
    /// where it is named.
    pub public_name: Option<(ImageName, Place)>,
    /// Where its name stands in the definition.
    pub place: Place,
}

impl Parameter {
    /// Reads `[parameters.NAME]`.
    pub(super) fn read(name: &ParameterName, place: &Place, item: &Item) -> Result<Self> {
        if RESERVED_NAMES.contains(&name.as_str()) {
            let problem = Problem::Duplicate {
                what: format!("the name `{name}`"),
                taken: "taken: templates know it as something else".to_owned(),
            };
            return Err(place.error_with_help(problem, Some("choose another name".to_owned())));
        }
        let table = item.table(&schema::PARAMETER.names())?;
        let (kind, default) = described(table)?;
        let public_name =
            table.optional("public_name", |item| Ok((item.parse()?, item.place.clone())))?;
        if let Some((_, place)) = &public_name
            && !matches!(kind, Type::Hostname | Type::String { .. })
        {
            let message =
                format!("`{name}` is {kind}, and only a host name or a URL is a public name");
            return Err(place.error(Problem::Contradiction(message)));
        }
        let doc = table.require("doc")?.line()?;
        Ok(Self { kind, default, doc, public_name, place: place.clone() })
    }
}

impl Field {
    fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::FIELD.names())?;
        let (kind, default) = described(table)?;
        Ok(Self { kind, default, doc: table.optional("doc", Item::line)? })
    }
}

/// A type with the default that stands beside it.
fn described(table: Table<'_>) -> Result<(Type, Option<Value>)> {
    let kind = Type::read(table)?;
    let default = table.optional("default", |default| kind.check(default))?;
    Ok((kind, default))
}

impl Type {
    /// Reads the keys of a table that describe a type.
    fn read(table: Table<'_>) -> Result<Self> {
        let word = table.require("type")?;
        let kind = match word.string()? {
            "string" => Self::String { values: table.optional("values", enumeration)? },
            "boolean" => Self::Boolean,
            "integer" => Self::integer(table)?,
            "port" => Self::Port,
            "address" => Self::Address,
            "network" => Self::Network,
            "hostname" => Self::Hostname,
            "path" => Self::Path,
            "list" => {
                let items = table.require("items")?.table(&schema::ITEM.names())?;
                Self::List(Box::new(Self::read(items)?))
            }
            "record" => Self::Record(fields(table.require("fields")?)?),
            other => return Err(unknown_type(word, other)),
        };
        let allowed: &[&str] = match kind {
            Self::String { .. } => &["values"],
            Self::Integer { .. } => &["minimum", "maximum"],
            Self::List(_) => &["items"],
            Self::Record(_) => &["fields"],
            _ => &[],
        };
        for key in schema::ITEM.names().into_iter().skip(1).filter(|key| !allowed.contains(key)) {
            if let Some(item) = table.get(key) {
                let message = format!("`{key}` means nothing for the type `{}`", kind.word());
                return Err(item.place.error(Problem::Contradiction(message)));
            }
        }
        Ok(kind)
    }

    fn integer(table: Table<'_>) -> Result<Self> {
        let minimum = table.optional("minimum", Item::integer)?;
        let maximum = table.optional("maximum", Item::integer)?;
        match (table.get("maximum"), minimum, maximum) {
            (Some(item), Some(minimum), Some(maximum)) if minimum > maximum => {
                Err(item.unexpected(format!("at least `minimum` ({minimum})")))
            }
            _ => Ok(Self::Integer { minimum, maximum }),
        }
    }

    /// The word for the type in a definition.
    pub fn word(&self) -> &'static str {
        match self {
            Self::String { .. } => "string",
            Self::Boolean => "boolean",
            Self::Integer { .. } => "integer",
            Self::Port => "port",
            Self::Address => "address",
            Self::Network => "network",
            Self::Hostname => "hostname",
            Self::Path => "path",
            Self::List(_) => "list",
            Self::Record(_) => "record",
        }
    }
}

/// `a port (1-65535)`: what a value of the type has to be.
impl fmt::Display for Type {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String { values: None } => formatter.write_str("a string"),
            Self::String { values: Some(values) } => {
                write!(formatter, "one of {}", quoted(values.iter().map(String::as_str)))
            }
            Self::Boolean => formatter.write_str("true or false"),
            Self::Integer { minimum: None, maximum: None } => formatter.write_str("an integer"),
            Self::Integer { minimum: Some(minimum), maximum: None } => {
                write!(formatter, "an integer of at least {minimum}")
            }
            Self::Integer { minimum: None, maximum: Some(maximum) } => {
                write!(formatter, "an integer of at most {maximum}")
            }
            Self::Integer { minimum: Some(minimum), maximum: Some(maximum) } => {
                write!(formatter, "an integer from {minimum} to {maximum}")
            }
            Self::Port => formatter.write_str("a port (1-65535)"),
            Self::Address => formatter.write_str("an IPv4 or IPv6 address"),
            Self::Network => {
                formatter.write_str("a network without host bits (such as 10.20.40.0/24)")
            }
            Self::Hostname => formatter.write_str("a host name"),
            Self::Path => formatter
                .write_str("an absolute path without `.`, `..`, `//` or a slash at the end"),
            Self::List(_) => formatter.write_str("a list"),
            Self::Record(fields) => {
                let names = fields.keys().map(ParameterName::as_str);
                write!(formatter, "a table with {}", quoted(names))
            }
        }
    }
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn enumeration(item: &Item) -> Result<Vec<String>> {
    let values = item.each(|value| value.string().map(str::to_owned))?;
    if values.is_empty() {
        return Err(item.unexpected("at least one string"));
    }
    Ok(values)
}

fn fields(item: &Item) -> Result<BTreeMap<ParameterName, Field>> {
    let mut fields = BTreeMap::new();
    for (name, (place, field)) in item.entries()? {
        let name: ParameterName = parse_key(name, place, &item.path)?;
        if ["this", "else", "as"].contains(&name.as_str()) {
            return Err(place.error(Problem::Value {
                path: item.path.clone(),
                expected: "a name that is no word of the template language".to_owned(),
                found: format!("`{name}`"),
            }));
        }
        fields.insert(name, Field::read(field)?);
    }
    if fields.is_empty() {
        return Err(item.unexpected("at least one field"));
    }
    Ok(fields)
}

fn unknown_type(item: &Item, word: &str) -> super::Error {
    let problem = Problem::Value {
        path: item.path.clone(),
        expected: format!("one of {}", quoted(schema::TYPES.into_iter())),
        found: item.found(),
    };
    item.place.error_with_help(problem, did_you_mean(word, schema::TYPES))
}
