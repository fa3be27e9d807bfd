//! Reads what imgbuild tells programs, as a program that holds it against the published schemas.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

/// Where the schema called `name` is published.
pub fn published(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("docs/schemas/{name}.json"))
}

/// Holds `value` against the schema called `name`.
pub fn hold(value: &Value, name: &str) {
    let path = published(name);
    let schema = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<String> = validator
        .iter_errors(value)
        .map(|error| format!("{}: {error}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "not as {}: {errors:#?}\n{value:#}", path.display());
}

/// What a verb wrote with `--json`.
pub fn read(text: &str) -> Value {
    let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let verb = value["verb"].as_str().unwrap_or_else(|| panic!("of no verb: {text}"));
    hold(&value, &verb.replace(' ', "-"));
    value
}
