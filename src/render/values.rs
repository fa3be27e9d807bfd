//! The values that templates see, in the form `handlebars` takes.

use serde_json::{Map, Value, json};

use crate::definition::{Admitted, Network, Node, OpenEndpoint, Plan, Site, State, Swap};

/// Everything in sight of the templates of `plan`; its types are in `shape.rs`.
pub(super) fn values(plan: &Plan) -> Value {
    let secrets = plan.secrets.iter();
    let secrets = secrets.map(|(name, secret)| (name.to_string(), secret.path.as_str().into()));
    let settings = plan.values.iter();
    let mut values: Map<String, Value> =
        settings.map(|(name, setting)| (name.to_string(), setting.value.clone())).collect();
    values.extend([
        ("site".to_owned(), site(plan.site.as_ref())),
        ("endpoints".to_owned(), plan.endpoints.iter().map(endpoint).collect()),
        ("peers".to_owned(), table(plan.peers())),
        ("volumes".to_owned(), plan.states.iter().map(volume).collect()),
        (
            "image".to_owned(),
            json!({ "name": plan.role.as_str(), "version": plan.version.as_str() }),
        ),
        ("secrets".to_owned(), Value::Object(secrets.collect())),
        (
            "health".to_owned(),
            json!({ "live": words(&plan.health.live), "ready": words(&plan.health.ready) }),
        ),
        ("swap".to_owned(), swap(plan.swap.as_ref())),
    ]);
    Value::Object(values)
}

fn site(site: Option<&Site>) -> Value {
    let nodes = site.map_or(&[][..], |site| &site.nodes);
    let names = site.map_or(&[][..], |site| &site.names);
    let names = names.iter().map(
        |public| json!({ "name": public.name.as_str(), "address": public.address.to_string() }),
    );
    json!({
        "name": site.map_or("none", |site| site.name.as_str()),
        "nodes": table(nodes.iter()),
        "names": names.collect::<Value>(),
        "operators": site.map_or(&[][..], |site| &site.operators).iter().map(address).collect::<Value>(),
    })
}

fn endpoint(endpoint: &OpenEndpoint) -> Value {
    let clients: &[Network] = match &endpoint.admitted {
        Admitted::World => &[],
        Admitted::Only(clients) => clients,
    };
    let some = |wanted: fn(&&Network) -> bool| -> Value {
        clients.iter().filter(wanted).map(address).collect()
    };
    json!({
        "name": endpoint.name.as_str(),
        "port": endpoint.port,
        "last_port": endpoint.last_port,
        "protocol": endpoint.protocol.as_str(),
        "world": endpoint.admitted == Admitted::World,
        "clients": some(|_| true),
        "clients_ipv4": some(|network| network.address().is_ipv4()),
        "clients_ipv6": some(|network| network.address().is_ipv6()),
        "doc": endpoint.doc,
    })
}

/// A network; an address alone without the length of its prefix.
fn address(network: &Network) -> String {
    let address = network.address();
    if *network == Network::host(address) { address.to_string() } else { network.to_string() }
}

/// Without `[swap]` there is nothing to wait for.
fn swap(swap: Option<&Swap>) -> Value {
    json!({
        "drain": words(swap.map_or(&None, |swap| &swap.drain)),
        "drained": words(swap.map_or(&None, |swap| &swap.drained)),
        "leads": words(swap.map_or(&None, |swap| &swap.leads)),
        "patience": swap.map_or(0, |swap| swap.patience),
    })
}

/// A program and its arguments; no words if there is none.
fn words(command: &Option<Vec<String>>) -> Value {
    command.iter().flatten().map(String::as_str).collect()
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
            "host": node.host.as_ref().map(|(host, _)| host.as_str()).unwrap_or_default(),
        })
    };
    nodes.map(row).collect()
}
