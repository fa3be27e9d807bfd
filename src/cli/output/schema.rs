//! JSON Schemas of what programs read.

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::{Output, SCHEMA};
use crate::artifact::manifest::Manifest;
use crate::cli::progress::Line;
use crate::cli::{
    audit, boot, build, check, completions, explain, gc, init, lint, lock, man, preflight, pull,
    push, sign, verify, why,
};
use crate::definition::schema::{File, schema as schema_of_file};
use crate::inspect::Comparison;
use crate::inspect::graph::Graph;
use crate::inspect::report::Report;

/// What a schema is made of.
type Make = fn() -> Value;

/// Files and forms that are no verb's, by name.
const FILES: &[(&str, Make)] = &[
    ("image", || schema_of_file(File::Image)),
    ("overlay", || schema_of_file(File::Overlay)),
    ("policy", || schema_of_file(File::Policy)),
    ("manifest", || titled("a manifest of imgbuild", generate::<Manifest>())),
    ("progress", || titled("a line of imgbuild's `--progress json`", generate::<Line>())),
];

/// Verbs, and what makes the schema of one of them.
type OfVerbs = (&'static [&'static str], fn(&str) -> Value);

/// What verbs hand over, by the verbs.
const OUTPUTS: &[OfVerbs] = &[
    output::<init::Output>(),
    output::<lock::Output>(),
    output::<build::Output<'_>>(),
    output::<boot::Output<'_>>(),
    output::<check::Output>(),
    output::<lint::Output>(),
    output::<audit::Output>(),
    output::<explain::Output>(),
    output::<Comparison>(),
    output::<why::Output>(),
    output::<Report>(),
    output::<Graph>(),
    output::<push::Output>(),
    output::<pull::Output>(),
    output::<sign::Output>(),
    output::<verify::Output>(),
    output::<preflight::Output>(),
    output::<super::SitePlan>(),
    output::<super::RunReport>(),
    output::<super::SiteStatus>(),
    output::<super::Killed>(),
    output::<super::Removed>(),
    output::<gc::Output>(),
    output::<completions::Output>(),
    output::<man::Output>(),
];

const fn output<T: Output>() -> OfVerbs {
    (T::VERBS, of_verb::<T>)
}

/// All names that [`schema`] knows; verbs of verbs with a dash: `lab-up`.
pub(in crate::cli) fn names() -> Vec<String> {
    let files = FILES.iter().map(|(name, _)| (*name).to_owned());
    let verbs = OUTPUTS.iter().flat_map(|(verbs, _)| verbs.iter());
    let verbs = verbs.map(|verb| verb.replace(' ', "-"));
    files.chain(verbs).collect()
}

/// The schema called `name`, if there is one.
pub(in crate::cli) fn schema(name: &str) -> Option<Value> {
    if let Some((_, make)) = FILES.iter().find(|(file, _)| *file == name) {
        return Some(make());
    }
    let verb = name.replace('-', " ");
    let (_, make) = OUTPUTS.iter().find(|(verbs, _)| verbs.contains(&verb.as_str()))?;
    Some(make(&verb))
}

/// The schema of what `verb` hands over.
fn of_verb<T: Output>(verb: &str) -> Value {
    let mut schema = generate::<T>();
    let object = schema.ensure_object();
    object.insert("type".to_owned(), json!("object"));
    let mut properties = Map::new();
    properties.insert(
        "verb".to_owned(),
        json!({ "const": verb, "description": "The verb that wrote the object." }),
    );
    properties.insert(
        "schema".to_owned(),
        json!({ "const": SCHEMA, "description": "The version of this form." }),
    );
    if let Some(Value::Object(own)) = object.remove("properties") {
        properties.extend(own);
    }
    object.insert("properties".to_owned(), Value::Object(properties));
    let mut required = vec![json!("verb"), json!("schema")];
    if let Some(Value::Array(own)) = object.remove("required") {
        required.extend(own);
    }
    object.insert("required".to_owned(), Value::Array(required));
    titled(&format!("what `imgbuild {verb} --json` writes"), schema)
}

/// The schema of a type as it is written.
fn generate<T: JsonSchema>() -> Schema {
    // Draft 7, as those of files: every validator knows it.
    let settings = SchemaSettings::draft07().for_serialize();
    settings.with_transform(RecursiveTransform(plain)).into_generator().into_root_schema_for::<T>()
}

/// Descriptions are documentation of this program: links in it lead nowhere elsewhere, and its lines end where
/// they happen to.
fn plain(schema: &mut Schema) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
    }
}

/// `schema` with a title, and its tables in the order in which people read them.
fn titled(title: &str, mut schema: Schema) -> Value {
    let object = schema.ensure_object();
    let mut whole = Map::new();
    for first in ["$schema", "title", "description", "type", "properties", "required"] {
        if let Some(value) = object.remove(first) {
            whole.insert(first.to_owned(), value);
        }
    }
    whole.insert("title".to_owned(), json!(title));
    whole.append(object);
    Value::Object(whole)
}
