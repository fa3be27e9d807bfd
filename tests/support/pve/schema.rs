//! Holds requests against the API's own description, where that is at hand: a file of endpoints with their
//! parameters, made of the `apidoc.js` of PVE 9.2, with the differences to 8.4. It is not part of this
//! project; `IMGBUILD_TEST_PVE_SCHEMA` says where it is, or it is `../shared/proxmox/pve-api-subset.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use regex::Regex;
use serde_json::Value;

use super::format;

/// A version of Proxmox VE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// 8.4, with messages in the reason phrase only, as the first 8.4 had them.
    V8,
    /// 9.2.
    V9,
}

/// The description.
pub struct Schema {
    root: Value,
}

/// An endpoint, and the parameters that are in its path.
pub struct Endpoint<'a> {
    endpoint: &'a Value,
    pub in_path: Vec<(String, String)>,
}

/// The description, read once. `None` where it is not at hand, which is said once.
pub fn schema() -> Option<Arc<Schema>> {
    static SCHEMA: OnceLock<Option<Arc<Schema>>> = OnceLock::new();
    SCHEMA
        .get_or_init(|| {
            let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
                .join("../shared/proxmox/pve-api-subset.json");
            let path = std::env::var_os("IMGBUILD_TEST_PVE_SCHEMA").map_or(beside, PathBuf::from);
            match std::fs::read_to_string(&path) {
                Ok(text) => {
                    let root = serde_json::from_str(&text).expect("the description is JSON");
                    Some(Arc::new(Schema { root }))
                }
                Err(error) => {
                    eprintln!(
                        "skipped: requests are not held against the API's description: {}: {error}",
                        path.display()
                    );
                    None
                }
            }
        })
        .clone()
}

impl Schema {
    /// The endpoint of a request, if this version has it.
    pub fn endpoint(
        &self,
        flavour: Flavour,
        method: &str,
        segments: &[String],
    ) -> Option<Endpoint<'_>> {
        let endpoints = self.root["endpoints"].as_array().into_iter().flatten();
        endpoints.filter(|endpoint| endpoint["method"] == method).find_map(|endpoint| {
            let absent = endpoint["compat"]["absent_in_8_4_5"] == true;
            if absent && flavour == Flavour::V8 {
                return None;
            }
            let in_path = match_path(endpoint["path"].as_str()?, segments)?;
            Some(Endpoint { endpoint, in_path })
        })
    }

    /// What is wrong with the parameters of a request, by name.
    pub fn check(
        &self,
        flavour: Flavour,
        endpoint: &Endpoint<'_>,
        given: &BTreeMap<String, String>,
    ) -> Vec<(String, String)> {
        let known = &endpoint.endpoint["parameters"];
        let mut errors = Vec::new();
        let mut add = |name: &str, why: String| errors.push((name.to_owned(), why));
        for (name, value) in given {
            let Some(key) = parameter_key(known, name) else {
                add(name, "property is not defined in schema and the schema does not allow additional properties".to_owned());
                continue;
            };
            let compat = &endpoint.endpoint["compat"];
            if flavour == Flavour::V8 && lists(&compat["params_not_in_8_4_5"], &key) {
                add(name, "property is not defined in schema (8.4)".to_owned());
                continue;
            }
            let parameter = self.resolve(&known[&key]);
            let before = &compat["params_changed"][&key]["8.4.5"];
            let parameter = if flavour == Flavour::V8 && before.is_object() {
                self.resolve(before)
            } else {
                parameter
            };
            if let Err(why) = self.value(parameter, value) {
                add(name, why);
            }
            let new = &compat["params_changed"][&key]["subkeys_new_in_9.2"];
            if flavour == Flavour::V8
                && let Some(part) = value
                    .split(',')
                    .find(|part| lists(new, part.split('=').next().unwrap_or_default()))
            {
                add(name, format!("`{part}` is not known in 8.4"));
            }
            if let Some(other) = parameter["requires"].as_str()
                && !given.contains_key(other)
            {
                add(name, format!("missing property - '{name}' requires this property"));
            }
        }
        for required in endpoint.endpoint["required"].as_array().into_iter().flatten() {
            let required = required.as_str().unwrap_or_default();
            if !given.contains_key(required) {
                add(required, "property is missing and it is not optional".to_owned());
            }
        }
        errors
    }

    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        match value["$ref"].as_str().and_then(|text| text.strip_prefix("#/defs/")) {
            Some(name) => &self.root["defs"][name],
            None => value,
        }
    }

    /// Whether `text` is a value as `schema` wants it.
    fn value(&self, schema: &Value, text: &str) -> Result<(), String> {
        match schema["type"].as_str() {
            Some("boolean") if !matches!(text, "0" | "1") => {
                return Err(format!("type check ('boolean') failed - got '{text}'"));
            }
            Some("integer") if text.parse::<i64>().is_err() => {
                return Err(format!("type check ('integer') failed - got '{text}'"));
            }
            Some("number") if text.parse::<f64>().is_err() => {
                return Err(format!("type check ('number') failed - got '{text}'"));
            }
            _ => {}
        }
        let bound = |key: &str| match &schema[key] {
            Value::String(text) => text.parse::<f64>().ok(),
            other => other.as_f64(),
        };
        if let Ok(number) = text.parse::<f64>() {
            if let Some(minimum) = bound("minimum").filter(|minimum| number < *minimum) {
                return Err(format!("value must have a minimum value of {minimum}"));
            }
            if let Some(maximum) = bound("maximum").filter(|maximum| number > *maximum) {
                return Err(format!("value must have a maximum value of {maximum}"));
            }
        }
        let length = text.chars().count() as f64;
        if bound("maxLength").is_some_and(|limit| length > limit) {
            return Err("value may only be so many characters long".to_owned());
        }
        if bound("minLength").is_some_and(|limit| length < limit) {
            return Err("value must be at least so many characters long".to_owned());
        }
        if let Some(values) = schema["enum"].as_array()
            && !values.iter().any(|value| value.as_str() == Some(text))
        {
            return Err(format!("value '{text}' does not have a value in the enumeration"));
        }
        if let Some(pattern) = schema["pattern"].as_str() {
            // Perl writes its flags before the pattern.
            let pattern = pattern.replace("(?^:", "(?:");
            let regex = Regex::new(&format!("^(?:{pattern})$"))
                .map_err(|error| format!("the pattern cannot be read: {error}"))?;
            if !regex.is_match(text) {
                return Err("value does not match the regex pattern".to_owned());
            }
        }
        match &schema["format"] {
            Value::String(name) => format::check(name, text),
            Value::Object(_) => self.properties(&schema["format"], text),
            _ => Ok(()),
        }
    }

    /// A property string (`parse_property_string` of `PVE/JSONSchema.pm`).
    fn properties(&self, format: &Value, text: &str) -> Result<(), String> {
        let mut seen = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.to_owned(), value),
                None => (
                    default_key(format)
                        .ok_or("value without key, but schema does not define a default key")?,
                    part,
                ),
            };
            let entry = &format[&key];
            if entry.is_null() {
                return Err(format!("property '{key}' is not defined in schema"));
            }
            // `virtio=MAC` is short for `model=virtio,macaddr=MAC`.
            let alias = entry["alias"].as_str().map_or(key.clone(), str::to_owned);
            if let Some(model) = entry["keyAlias"].as_str() {
                seen.push(model.to_owned());
            }
            if seen.contains(&alias) {
                return Err(format!("duplicate key in comma-separated list property: {key}"));
            }
            let schema = self.resolve(&format[&alias]);
            self.value(schema, value).map_err(|why| format!("{key}: {why}"))?;
            seen.push(alias);
        }
        let entries = format.as_object().into_iter().flatten();
        for (key, entry) in entries {
            let needed = entry["type"].is_string() && entry["optional"] != 1;
            if needed && !seen.contains(key) {
                return Err(format!("property '{key}' is missing and it is not optional"));
            }
        }
        Ok(())
    }
}

fn lists(list: &Value, name: &str) -> bool {
    list.as_array().is_some_and(|list| list.iter().any(|item| item == name))
}

fn default_key(format: &Value) -> Option<String> {
    let mut entries = format.as_object()?.iter();
    entries.find(|(_, entry)| entry["default_key"] == 1).map(|(key, _)| key.clone())
}

/// `scsi1` is `scsi[n]`.
fn parameter_key(known: &Value, name: &str) -> Option<String> {
    if known[name].is_object() {
        return Some(name.to_owned());
    }
    let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
    let numbered = format!("{stem}[n]");
    (stem != name && known[&numbered].is_object()).then_some(numbered)
}

fn match_path(template: &str, segments: &[String]) -> Option<Vec<(String, String)>> {
    let parts: Vec<_> = template.split('/').skip(1).collect();
    if parts.len() != segments.len() {
        return None;
    }
    let mut found = Vec::new();
    for (part, segment) in parts.iter().zip(segments) {
        match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
            Some(name) => found.push((name.to_owned(), segment.clone())),
            None if part == segment => {}
            None => return None,
        }
    }
    Some(found)
}
