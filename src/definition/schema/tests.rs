//! The schemas against the reader, and against every definition and overlay of the repository.

use std::fs;
use std::path::Path;

use regex::Regex;

use super::*;
use crate::scaffold::{Content, Entry};

/// The values in `value` that are not as `schema` says, each by the way to it. Knows the keywords that our
/// schemas use, and no others.
fn wrong(whole: &Value, schema: &Value, value: &Value, way: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut refuse = |keyword: &str| found.push(format!("{way}: {keyword}"));
    let of = |schema: &Value, value: &Value, way: &str| wrong(whole, schema, value, way);
    let mut below = Vec::new();
    for (keyword, argument) in schema.as_object().unwrap() {
        let list = || argument.as_array().unwrap();
        let is_known = |name: &str| schema["properties"].get(name).is_some();
        match keyword.as_str() {
            "$schema" | "title" | "description" | "definitions" => {}
            "$ref" => {
                let name = argument.as_str().unwrap().strip_prefix("#/definitions/").unwrap();
                below.extend(of(&whole["definitions"][name], value, way));
            }
            "type" => {
                let is = match argument.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64(),
                    "boolean" => value.is_boolean(),
                    other => panic!("{other}"),
                };
                if !is {
                    refuse("type");
                }
            }
            "enum" if !list().contains(value) => refuse("enum"),
            "pattern" => {
                let pattern = Regex::new(argument.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    refuse("pattern");
                }
            }
            "minimum" if value.as_i64() < argument.as_i64() && value.is_i64() => refuse("minimum"),
            "maximum" if value.as_i64() > argument.as_i64() => refuse("maximum"),
            "minItems" => {
                if value
                    .as_array()
                    .is_some_and(|items| (items.len() as u64) < argument.as_u64().unwrap())
                {
                    refuse("minItems");
                }
            }
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    below.extend(of(argument, item, &format!("{way}[{index}]")));
                }
            }
            "required" => {
                for name in list().iter().map(|name| name.as_str().unwrap()) {
                    if value.is_object() && value.get(name).is_none() {
                        refuse(&format!("required {name}"));
                    }
                }
            }
            "properties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    if let Some(schema) = argument.get(name) {
                        below.extend(of(schema, item, &format!("{way}.{name}")));
                    }
                }
            }
            "additionalProperties" => {
                for (name, item) in value.as_object().into_iter().flatten() {
                    match argument {
                        _ if is_known(name) => {}
                        Value::Bool(false) => refuse(&format!("no key {name}")),
                        schema => below.extend(of(schema, item, &format!("{way}.{name}"))),
                    }
                }
            }
            "propertyNames" => {
                for (name, _) in value.as_object().into_iter().flatten() {
                    below.extend(of(argument, &json!(name), &format!("{way}.{name} (the name)")));
                }
            }
            "allOf" => list().iter().for_each(|schema| below.extend(of(schema, value, way))),
            "anyOf" => {
                if list().iter().all(|schema| !of(schema, value, way).is_empty()) {
                    refuse("anyOf");
                }
            }
            "enum" | "minimum" | "maximum" => {}
            other => panic!("a keyword that the test does not know: {other}"),
        }
    }
    found.extend(below);
    found
}

fn check(file: File, text: &str) -> Vec<String> {
    let value: toml::Table = text.parse().unwrap();
    let schema = schema(file);
    wrong(&schema, &schema, &serde_json::to_value(value).unwrap(), "")
}

/// Every file called `name` below a directory of the repository.
fn files(directory: &str, name: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    let entries = walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_name() == name);
    files.map(|entry| fs::read_to_string(entry.path()).unwrap()).collect()
}

#[test]
fn every_definition_and_overlay_is_as_its_schema_says() {
    let mut count = 0;
    for (file, directory, name) in [
        (File::Image, "images", "image.toml"),
        (File::Overlay, "overlays", "overlay.toml"),
        (File::Overlay, "tests/lab", "overlay.toml"),
    ] {
        for text in files(directory, name) {
            assert_eq!(check(file, &text), Vec::<String>::new(), "{directory}: {text}");
            count += 1;
        }
    }
    assert!(count > 10, "only {count} files were found");
    for Entry { path, content } in crate::scaffold::project() {
        let file = match path.file_name().and_then(|name| name.to_str()) {
            Some("image.toml") => File::Image,
            Some("overlay.toml") => File::Overlay,
            _ => continue,
        };
        let Content::File { bytes, .. } = content else { panic!("{}", path.display()) };
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(check(file, &text), Vec::<String>::new(), "{}", path.display());
    }
}

/// Each table of both schemas with its name.
fn tables() -> Vec<(String, Value)> {
    [File::Image, File::Overlay, File::Policy]
        .into_iter()
        .flat_map(|file| {
            let whole = schema(file);
            let tables = whole["definitions"].as_object().unwrap().clone();
            tables.into_iter().chain([(format!("{file:?}"), whole)])
        })
        .collect()
}

#[test]
fn the_policy_of_the_documentation_is_as_its_schema_says() {
    let page = include_str!("../../../docs/policy.md");
    let examples = page.split("```toml\n").skip(1).map(|it| it.split("```").next().unwrap());
    let mut count = 0;
    for example in examples {
        assert_eq!(check(File::Policy, example), Vec::<String>::new(), "{example}");
        count += 1;
    }
    assert_eq!(count, 1);
    for (text, expected) in [
        ("[age]\nmaximum_days = 0\n", ".age.maximum_days: minimum"),
        ("[age]\n", ".age: required maximum_days"),
        ("[sources]\nunpinned = \"never\"\n", ".sources.unpinned: enum"),
        ("[signatures]\nsigners = []\n", ".signatures.signers: minItems"),
        ("[[forbidden]]\npackage = \"A\"\nreason = \"x\"\n", ".forbidden[0].package: pattern"),
        ("[documents]\nsboms = true\n", ".documents: no key sboms"),
    ] {
        assert_eq!(check(File::Policy, text), [expected]);
    }
}

#[test]
fn every_key_is_described() {
    for (name, table) in tables() {
        assert_eq!(table["additionalProperties"], false, "{name}");
        for (key, value) in table["properties"].as_object().unwrap() {
            // Those of small tables are told with the table, and what tables are for has sections.
            let has_no_row = ["keyring", "operators", "volume", "Image"].contains(&name.as_str());
            assert!(value.get("description").is_some() || has_no_row, "{name}.{key}");
        }
    }
}

const HEAD: &str = "summary = \"x\"\nversion = \"1\"\nextends = \"base\"\n";

#[test]
fn what_the_reader_refuses_in_one_file_the_schema_refuses_too() {
    for (text, expected) in [
        ("", vec![]),
        ("rolle = true\n", vec![": no key rolle"]),
        ("role = \"yes\"\n", vec![".role: type"]),
        ("[packages]\ninstal = []\n", vec![".packages: no key instal"]),
        ("[packages]\ninstall = \"x\"\n", vec![".packages.install: type"]),
        ("[users.a]\nuid = 99\n", vec![".users.a.uid: minimum"]),
        ("[users.a]\n", vec![".users.a: required uid"]),
        ("[users.A]\nuid = 100\n", vec![".users.A (the name): pattern"]),
        ("[parameters.a]\ntype = \"prot\"\ndoc = \"x\"\n", vec![".parameters.a.type: enum"]),
        (
            "[parameters.a]\ntype = \"list\"\nitems = { type = \"record\", fields = { b = { tipe = \"port\" } } }\ndoc = \"x\"\n",
            vec![
                ".parameters.a.items.fields.b: no key tipe",
                ".parameters.a.items.fields.b: required type",
            ],
        ),
        ("[[state]]\npath = \"var/x\"\ndoc = \"x\"\n", vec![".state[0].path: pattern"]),
        (
            "[endpoints.a]\nport = 0\nclients = \"any\"\ndoc = \"x\"\n",
            vec![".endpoints.a.port: anyOf"],
        ),
        ("[[run]]\ncommand = []\n", vec![".run[0].command: minItems"]),
    ] {
        let mut found = check(File::Image, &format!("{HEAD}{text}"));
        found.sort();
        assert_eq!(found, expected, "{text}");
        let project = tempfile::tempdir().unwrap();
        let directory = project.path().join("images/a");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("image.toml"), format!("{HEAD}{text}")).unwrap();
        let name = "a".parse().unwrap();
        let read = crate::definition::Image::read(project.path(), name);
        assert_eq!(read.is_ok(), expected.is_empty(), "{text}: {:?}", read.err());
    }
}
