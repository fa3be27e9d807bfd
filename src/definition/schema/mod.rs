//! What tables of definitions and overlays may hold.
//!
//! The reader takes the keys that it knows from here, and the JSON Schemas that editors complete by are made
//! of the same. So neither can know a key that the other does not. Forms of values are coarser in a schema
//! than in the reader, which has the last word: a schema cannot know other files.

mod documented;
mod image;
mod overlay;
mod policy;

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

pub(super) use image::*;
pub(super) use overlay::*;
pub(super) use policy::*;

/// The dialect of JSON Schema that editors of TOML understand best.
const DIALECT: &str = "http://json-schema.org/draft-07/schema#";

/// A table that may hold some keys and no others.
pub(super) struct Keys {
    /// What the schema calls it.
    name: &'static str,
    /// Where the documentation describes its keys: headings, or how the first rows of tables begin.
    described: &'static [&'static str],
    keys: &'static [Key],
}

/// A key of a table.
pub(super) struct Key {
    name: &'static str,
    required: bool,
    shape: Shape,
}

/// What a value may be, as far as one file alone tells.
#[derive(Clone, Copy)]
pub(super) enum Shape {
    /// Anything: its type is declared elsewhere.
    Any,
    /// True or false.
    Boolean,
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// Text of a form, which is a regular expression; whatever text if that is empty.
    Text(&'static str),
    /// One of some words.
    Word(&'static [&'static str]),
    /// A list of at least so many.
    List(usize, &'static Shape),
    /// A table of fixed keys. A function, because a type can hold types.
    Table(fn() -> &'static Keys),
    /// A table whose keys are names of a form.
    Names(&'static str, &'static Shape),
    /// One of several.
    Either(&'static [Shape]),
}

/// A key that may be left out.
const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, required: false, shape }
}

/// A key that has to be there.
const fn required(name: &'static str, shape: Shape) -> Key {
    Key { name, required: true, shape }
}

impl Keys {
    /// The names of the keys, in the order in which messages list them.
    pub(super) fn names(&self) -> Vec<&'static str> {
        self.keys.iter().map(|key| key.name).collect()
    }
}

/// The files that there are schemas of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// `images/NAME/image.toml`
    Image,
    /// `overlays/SITE/overlay.toml`
    Overlay,
    /// `policy.toml`
    Policy,
}

/// The JSON Schema of a file.
pub fn schema(file: File) -> Value {
    let (root, title) = match file {
        File::Image => (&IMAGE, "image.toml of imgbuild"),
        File::Overlay => (&OVERLAY, "overlay.toml of imgbuild"),
        File::Policy => (&POLICY, "policy.toml of imgbuild"),
    };
    let mut tables = Tables { file, known: BTreeMap::new() };
    let mut schema = tables.table(root);
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), json!(DIALECT));
    whole.insert("title".to_owned(), json!(title));
    whole.append(&mut schema);
    whole.insert("definitions".to_owned(), json!(tables.known));
    Value::Object(whole)
}

/// What the documentation says of the value at `path` (`guests.galera.kind`, `packages.install[2]`) of a file
/// that is called `file`, if it is of a key of a known table.
pub(super) fn meaning(file: &str, path: &str) -> Option<String> {
    let (mut table, file) = match file.rsplit('/').next()? {
        "image.toml" => (&IMAGE, File::Image),
        "overlay.toml" => (&OVERLAY, File::Overlay),
        "policy.toml" => (&POLICY, File::Policy),
        _ => return None,
    };
    let mut words = path.split('.').map(|word| word.split('[').next().unwrap_or(word));
    loop {
        let name = words.next()?;
        let key = table.keys.iter().find(|key| key.name == name)?;
        let mut shape = key.shape;
        let is_last = words.clone().next().is_none();
        table = loop {
            shape = match shape {
                _ if is_last => {
                    let mut places = table.described.iter();
                    let text =
                        places.find_map(|start| documented::description(file, start, name))?;
                    return Some(format!("`{name}`: {}", text.trim_end_matches('.')));
                }
                Shape::List(_, items) => *items,
                Shape::Names(_, value) => {
                    // The user chose it; what is below it is described by a table, or nowhere.
                    words.next()?;
                    *value
                }
                Shape::Either(shapes) => {
                    *shapes.iter().find(|shape| matches!(shape, Shape::Table(_)))?
                }
                Shape::Table(table) => break table(),
                _ => return None,
            };
        };
    }
}

/// The tables that were met, each described once.
struct Tables {
    file: File,
    known: BTreeMap<&'static str, Value>,
}

impl Tables {
    fn table(&mut self, table: &'static Keys) -> Map<String, Value> {
        let mut properties = Map::new();
        for key in table.keys {
            let mut value = self.shape(key.shape);
            let mut places = table.described.iter();
            let describe = |start: &&str| documented::description(self.file, start, key.name);
            if let Some(text) = places.find_map(describe) {
                // Beside a reference, draft 7 ignores everything.
                if value.get("$ref").is_some() {
                    value = json!({ "allOf": [value] });
                }
                value["description"] = json!(text);
            }
            properties.insert(key.name.to_owned(), value);
        }
        let required: Vec<&str> =
            table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
        let mut schema = Map::new();
        schema.insert("type".to_owned(), json!("object"));
        schema.insert("properties".to_owned(), Value::Object(properties));
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        schema.insert("additionalProperties".to_owned(), json!(false));
        schema
    }

    fn shape(&mut self, shape: Shape) -> Value {
        match shape {
            Shape::Any => json!({}),
            Shape::Boolean => json!({ "type": "boolean" }),
            Shape::Integer(minimum, maximum) => {
                json!({ "type": "integer", "minimum": minimum, "maximum": maximum })
            }
            Shape::Text("") => json!({ "type": "string" }),
            Shape::Text(pattern) => json!({ "type": "string", "pattern": pattern }),
            Shape::Word(words) => json!({ "enum": words }),
            Shape::List(0, items) => json!({ "type": "array", "items": self.shape(*items) }),
            Shape::List(least, items) => {
                json!({ "type": "array", "items": self.shape(*items), "minItems": least })
            }
            Shape::Names(pattern, value) => json!({
                "type": "object",
                "propertyNames": { "pattern": pattern },
                "additionalProperties": self.shape(*value),
            }),
            Shape::Either(shapes) => {
                let shapes: Vec<Value> = shapes.iter().map(|shape| self.shape(*shape)).collect();
                json!({ "anyOf": shapes })
            }
            Shape::Table(table) => {
                let table = table();
                if !self.known.contains_key(table.name) {
                    // First, because a list of lists describes itself.
                    self.known.insert(table.name, Value::Null);
                    let schema = Value::Object(self.table(table));
                    self.known.insert(table.name, schema);
                }
                json!({ "$ref": format!("#/definitions/{}", table.name) })
            }
        }
    }
}

#[cfg(test)]
mod tests;
