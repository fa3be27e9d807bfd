//! What roles connect to, and whether somebody is there who listens and lets them in.

use std::net::IpAddr;

use serde_json::Value;

use super::proof::{Holder, Role, View, broken, parameter_in_words};
use crate::definition::endpoint::{Clients, Connection, Endpoint, PortSource, holds};
use crate::definition::error::Error;
use crate::definition::image::Image;
use crate::definition::place::Place;
use crate::definition::project::Project;
use crate::definition::stack::Setting;
use crate::definition::suggest::did_you_mean;

/// Checks that every connection names an endpoint that its image has, whatever the sites. An image
/// that does not exist is a doubt of [`lint`](crate::definition::lint), not an error: a site that
/// gives an address for it is one.
pub(super) fn check_targets(project: &Project) -> Vec<Error> {
    let mut errors = Vec::new();
    for connection in project.images().flat_map(|image| &image.connections) {
        let (to, _) = &connection.to;
        let (endpoint, place) = &connection.endpoint;
        let Ok(stack) = project.stack(to.as_str()) else { continue };
        let names = || stack.iter().flat_map(|image| image.endpoints.keys());
        if !names().any(|name| name == endpoint) {
            let message = format!("`{to}` has no endpoint `{endpoint}`");
            let names = || names().map(|name| name.as_str());
            let help = did_you_mean(endpoint.as_str(), names()).unwrap_or_else(|| {
                format!("its endpoints: {}", names().collect::<Vec<_>>().join(", "))
            });
            errors.push(broken(place, message, help));
        }
    }
    errors
}

/// Somebody a role connects to.
pub(super) struct Peer<'a> {
    /// An address or a name.
    pub(super) host: &'a str,
    /// The port, if the record has it.
    port: Option<u64>,
}

/// Checks the connections of `role`.
pub(super) fn check(view: &View<'_>, role: &Role<'_>) -> Vec<Error> {
    let mut errors = Vec::new();
    for connection in role.stack.iter().flat_map(|image| &image.connections) {
        if !holds(connection.when.as_ref(), &role.values) {
            continue;
        }
        let (name, _) = &connection.addresses;
        let Some(setting) = role.values.get(name) else { continue };
        let known = errors.len();
        for peer in peers(&setting.value) {
            errors.extend(check_peer(view, role, connection, setting, &peer).err());
        }
        if errors.len() == known && peers(&setting.value).next().is_some() {
            errors.extend(check_admitted(view, role, connection).err());
        }
    }
    errors
}

pub(super) fn peers(value: &Value) -> impl Iterator<Item = Peer<'_>> {
    let all: &[Value] = match value {
        Value::Array(items) => items,
        one => std::slice::from_ref(one),
    };
    all.iter().filter_map(|item| match item {
        Value::Object(record) => Some(Peer {
            host: record.get("address")?.as_str()?,
            port: record.get("port").and_then(Value::as_u64),
        }),
        item => Some(Peer { host: item.as_str()?, port: None }),
    })
}

fn check_peer(
    view: &View<'_>,
    role: &Role<'_>,
    connection: &Connection,
    setting: &Setting,
    peer: &Peer<'_>,
) -> Result<(), Error> {
    let server = server(view, role, connection, setting, peer.host)?;
    let (name, _) = &connection.endpoint;
    let Some((endpoint, port)) = server.endpoints.get(name) else {
        return absent(role, connection, server);
    };
    let (used, place) = match &connection.port {
        PortSource::Number(port, place) => (u64::from(*port), place.clone()),
        PortSource::Parameter(parameter, _) if *parameter == connection.addresses.0 => {
            let Some(port) = peer.port else { return Ok(()) };
            (port, port_of_record(&setting.place, peer))
        }
        PortSource::Parameter(parameter, _) => {
            let Some(setting) = role.values.get(parameter) else { return Ok(()) };
            (setting.value.as_u64().unwrap_or_default(), setting.place.clone())
        }
    };
    let last = u64::from(endpoint.last_port.unwrap_or(*port));
    if (u64::from(*port)..=last).contains(&used) {
        return Ok(());
    }
    let message = format!(
        "`{}` connects to {} at port {used}, where `{}` has {name} on {port}",
        role.name(),
        peer.host,
        server.name(),
    );
    let help = format!("make both the same: {}", where_port_is_set(server, endpoint));
    Err(broken(&place, message, help))
}

/// Where the port of an endpoint comes from, for a help text.
fn where_port_is_set(server: &Role<'_>, endpoint: &Endpoint) -> String {
    match &endpoint.port {
        Some(PortSource::Parameter(parameter, _)) => match server.values.get(parameter) {
            Some(setting) => {
                format!("{} is set at {}", parameter_in_words(parameter, server), setting.place)
            }
            None => format!("{} is not set", parameter_in_words(parameter, server)),
        },
        _ => format!("the endpoint is declared at {}", endpoint.place),
    }
}

/// The port in the record of `peer`, as far as it can be found in the text; else its address.
fn port_of_record(place: &Place, peer: &Peer<'_>) -> Place {
    let record = place.within(peer.host);
    let port = peer.port.map(|port| port.to_string()).unwrap_or_default();
    record.rest_of_line().and_then(|rest| rest.find_within(&port)).unwrap_or(record)
}

/// The role that answers at `host`, which must run what is connected to.
fn server<'v>(
    view: &'v View<'_>,
    role: &'v Role<'_>,
    connection: &Connection,
    setting: &Setting,
    host: &str,
) -> Result<&'v Role<'v>, Error> {
    let (name, _) = &connection.addresses;
    let (to, _) = &connection.to;
    let site = &view.site.name;
    let place = setting.place.within(host);
    let whose = parameter_in_words(name, role);
    let help = || {
        format!("{}; {} says that it connects there", view.addresses_in_words(to), connection.place)
    };
    let Some(address) = view.address_of(host) else {
        let message = format!(
            "{whose} names {host}, which is no node of site `{site}` and in none of its [names]"
        );
        return Err(broken(&place, message, help()));
    };
    if is_own(address) {
        if role.runs(to) {
            return Ok(role);
        }
        let message = format!("{whose} is {host}, the guest itself, which does not run `{to}`");
        return Err(broken(&place, message, help()));
    }
    let (holder, what) = match view.holder(address) {
        Some(Holder::Node(node)) => {
            (&node.image, format!("`{}`, which runs `{}`", node.name, node.image))
        }
        Some(Holder::Virtual(role)) => (role, format!("a virtual address of `{role}`")),
        None => {
            let message =
                format!("{whose} names {host}, and no node of site `{site}` has that address");
            return Err(broken(&place, message, help()));
        }
    };
    match view.roles.get(holder) {
        Some(server) if server.runs(to) => Ok(server),
        _ => {
            let message = format!("{whose} names {host} for `{to}`, and that is {what}");
            Err(broken(&place, message, help()))
        }
    }
}

fn is_own(address: IpAddr) -> bool {
    address.is_loopback()
}

/// An endpoint that is declared and not there.
fn absent(role: &Role<'_>, connection: &Connection, server: &Role<'_>) -> Result<(), Error> {
    let (name, place) = &connection.endpoint;
    let mut images = server.stack.iter();
    let Some(endpoint) = images.find_map(|image| image.endpoints.get(name)) else {
        // The definitions are at fault, and that is said once.
        return Ok(());
    };
    let Some((parameter, _)) = &endpoint.when else { return Ok(()) };
    let set = server.values.get(parameter).map(|setting| format!(" at {}", setting.place));
    let message = format!(
        "`{}` connects to {name} of `{}`, which is switched off: {} is false or empty",
        role.name(),
        server.name(),
        parameter_in_words(parameter, server),
    );
    let help = format!("set it{}, or connect to another endpoint", set.unwrap_or_default());
    Err(broken(place, message, help))
}

/// Whether the firewall of the other side lets `role` in.
fn check_admitted(view: &View<'_>, role: &Role<'_>, connection: &Connection) -> Result<(), Error> {
    let (to, _) = &connection.to;
    let (name, place) = &connection.endpoint;
    for server in view.roles.values().filter(|server| server.runs(to)) {
        let Some((endpoint, _)) = server.endpoints.get(name) else { continue };
        let Clients::Some { images, .. } = &endpoint.clients else { continue };
        let is_client = |image: &&Image| images.iter().any(|(client, _)| *client == image.name);
        if !role.stack.iter().any(is_client) && server.name() != role.name() {
            let (client, server) = (role.name(), server.name());
            let message =
                format!("`{client}` connects to {name} of `{server}`, which does not let it in");
            let help = format!("add \"{client}\" to its `clients` at {}", endpoint.place);
            return Err(broken(place, message, help));
        }
    }
    Ok(())
}
