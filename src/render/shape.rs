//! The types of everything a template can name, known before any value is.

use std::collections::BTreeMap;

use crate::definition::{Image, Place, Protocol, Type};

/// The type of a value in a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Text,
    /// One of a few texts.
    Choice(Vec<String>),
    Number,
    Boolean,
    List(Box<Shape>),
    Record(BTreeMap<String, Shape>),
}

impl Shape {
    /// The type as messages name it.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Text | Self::Choice(_) => "text",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::List(_) => "a list",
            Self::Record(_) => "a record",
        }
    }

    /// Whether the value can be written out as it is.
    pub(super) fn is_scalar(&self) -> bool {
        !matches!(self, Self::List(_) | Self::Record(_))
    }

    /// Whether the value is text.
    pub(super) fn is_text(&self) -> bool {
        matches!(self, Self::Text | Self::Choice(_))
    }

    fn record<const N: usize>(fields: [(&str, Shape); N]) -> Self {
        Self::Record(fields.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect())
    }
}

impl From<&Type> for Shape {
    fn from(kind: &Type) -> Self {
        match kind {
            Type::Boolean => Self::Boolean,
            Type::Integer { .. } | Type::Port => Self::Number,
            Type::String { values: Some(values) } => Self::Choice(values.clone()),
            Type::String { values: None }
            | Type::Address
            | Type::Network
            | Type::Hostname
            | Type::Path => Self::Text,
            Type::List(items) => Self::List(Box::new(items.as_ref().into())),
            Type::Record(fields) => Self::Record(
                fields
                    .iter()
                    .map(|(name, field)| (name.to_string(), (&field.kind).into()))
                    .collect(),
            ),
        }
    }
}

/// What the templates of one image can name.
#[derive(Clone, Debug)]
pub(super) struct Sight {
    /// The root of all names, a record.
    pub(super) root: Shape,
    /// Where parameters in sight are declared.
    pub(super) declared: BTreeMap<String, Place>,
    /// Where parameters that this image cannot see are declared, with the image.
    pub(super) elsewhere: BTreeMap<String, Place>,
    /// The definition whose templates these are.
    pub(super) definition: String,
}

impl Sight {
    /// What templates of the last image of `stack` see. `all` images serve to explain what they
    /// do not see.
    pub(super) fn new<'a>(stack: &[&Image], all: impl Iterator<Item = &'a Image>) -> Self {
        let mut fields = BTreeMap::new();
        let mut declared = BTreeMap::new();
        let mut secrets = BTreeMap::new();
        for image in stack {
            for (name, parameter) in &image.parameters {
                fields.insert(name.to_string(), Shape::from(&parameter.kind));
                declared.insert(name.to_string(), parameter.place.clone());
            }
            secrets.extend(image.secrets.keys().map(|name| (name.to_string(), Shape::Text)));
        }
        let nodes = Shape::List(Box::new(Shape::record([
            ("name", Shape::Text),
            ("image", Shape::Text),
            ("address", Shape::Text),
            ("prefix", Shape::Number),
            ("gateway", Shape::Text),
            ("number", Shape::Number),
            ("host", Shape::Text),
        ])));
        let image = Shape::record([("name", Shape::Text), ("version", Shape::Text)]);
        let name = Shape::record([("name", Shape::Text), ("address", Shape::Text)]);
        let site = Shape::record([
            ("name", Shape::Text),
            ("nodes", nodes.clone()),
            ("names", Shape::List(Box::new(name))),
            ("operators", Shape::List(Box::new(Shape::Text))),
        ]);
        let volume = ["name", "path", "owner", "group", "mode"].map(|name| (name, Shape::Text));
        fields.insert("volumes".to_owned(), Shape::List(Box::new(Shape::record(volume))));
        fields.insert("endpoints".to_owned(), Shape::List(Box::new(endpoint())));
        fields.insert("peers".to_owned(), nodes);
        fields.insert("image".to_owned(), image);
        fields.insert("site".to_owned(), site);
        fields.insert("secrets".to_owned(), Shape::Record(secrets));
        let words = Shape::List(Box::new(Shape::Text));
        let health = [("live", words.clone()), ("ready", words.clone())];
        fields.insert("health".to_owned(), Shape::record(health));
        let swap = [
            ("drain", words.clone()),
            ("drained", words.clone()),
            ("leads", words),
            ("patience", Shape::Number),
        ];
        fields.insert("swap".to_owned(), Shape::record(swap));
        let parameters = all.flat_map(|image| &image.parameters);
        let elsewhere = parameters
            .filter(|(name, _)| !declared.contains_key(name.as_str()))
            .map(|(name, parameter)| (name.to_string(), parameter.place.clone()))
            .collect();
        let definition = stack.last().map(|image| image.place.file().to_owned());
        let definition = definition.unwrap_or_default();
        Self { root: Shape::Record(fields), declared, elsewhere, definition }
    }
}

fn endpoint() -> Shape {
    let addresses = Shape::List(Box::new(Shape::Text));
    let protocols = Protocol::ALL.map(|protocol| protocol.as_str().to_owned());
    Shape::record([
        ("name", Shape::Text),
        ("port", Shape::Number),
        ("last_port", Shape::Number),
        ("protocol", Shape::Choice(protocols.to_vec())),
        ("world", Shape::Boolean),
        ("clients", addresses.clone()),
        ("clients_ipv4", addresses.clone()),
        ("clients_ipv6", addresses),
        ("doc", Shape::Text),
    ])
}
