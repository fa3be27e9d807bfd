//! The values that templates see, in the form `handlebars` takes.

use serde_json::{Map, Value, json};

use crate::definition::{Node, Plan, State};

/// Everything in sight of the templates of `plan`; its types are in `shape.rs`.
pub(super) fn values(plan: &Plan) -> Value {
    let nodes: &[Node] = plan.site.as_ref().map_or(&[], |site| &site.nodes);
    let site = plan.site.as_ref().map_or("none", |site| site.name.as_str());
    let secrets = plan.secrets.iter();
    let secrets = secrets.map(|(name, secret)| (name.to_string(), secret.path.as_str().into()));
    let settings = plan.values.iter();
    let mut values: Map<String, Value> =
        settings.map(|(name, setting)| (name.to_string(), setting.value.clone())).collect();
    values.extend([
        ("site".to_owned(), json!({ "name": site, "nodes": table(nodes.iter()) })),
        ("peers".to_owned(), table(plan.peers())),
        ("volumes".to_owned(), plan.states.iter().map(volume).collect()),
        (
            "image".to_owned(),
            json!({ "name": plan.role.as_str(), "version": plan.version.as_str() }),
        ),
        ("secrets".to_owned(), Value::Object(secrets.collect())),
    ]);
    Value::Object(values)
}

fn volume(state: &State) -> Value {
    json!({
        "name": state.name.as_str(),
        "path": state.path.as_str(),
        "owner": state.owner,
        "group": state.group,
        "mode": format!("{:04o}", state.mode.bits()),
    })
}

/// A node without a gateway has empty text there, so that `{{#if gateway}}` can ask for it.
fn table<'a>(nodes: impl Iterator<Item = &'a Node>) -> Value {
    let row = |node: &Node| {
        json!({
            "name": node.name.as_str(),
            "image": node.image.as_str(),
            "address": node.address.address().to_string(),
            "prefix": node.address.prefix(),
            "gateway": node.gateway.map(|gateway| gateway.to_string()).unwrap_or_default(),
            "number": node.number,
        })
    };
    nodes.map(row).collect()
}
