//! `[endpoints.NAME]` and `[[connections]]`: what a role listens on, whom it lets in, and what it
//! connects to itself.
//!
//! Ports and addresses stay in the parameters that the daemons' templates use: an endpoint or a
//! connection only names them. So a site that changes a port changes the firewall and what is
//! proved of its peers with it.

use std::collections::BTreeMap;

use serde_json::Value;

use super::document::{Content, Item, Table};
use super::error::{Error, Problem, Result};
use super::image::Image;
use super::name::{EndpointName, ImageName, ParameterName};
use super::parameter::Type;
use super::place::Place;
use super::schema;
use super::stack::{Settings, declaration, stack_text};
use super::suggest::did_you_mean;

/// The word among `clients` that stands for the networks in `[operators]` of a site.
const OPERATORS: &str = "operators";

/// Something of a role that others connect to.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Where it listens; none for a protocol without ports.
    pub port: Option<PortSource>,
    /// The last port, if it is a range that begins at `port`.
    pub last_port: Option<u16>,
    /// What it speaks.
    pub protocol: Protocol,
    /// Who may connect.
    pub clients: Clients,
    /// The parameter that says whether it is there at all, and where it is named.
    pub when: Option<(ParameterName, Place)>,
    /// What it is for.
    pub doc: String,
    /// Where its name stands.
    pub place: Place,
}

/// What is told apart by a firewall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// The Transmission Control Protocol.
    Tcp,
    /// The User Datagram Protocol.
    Udp,
    /// The Virtual Router Redundancy Protocol, number 112 (RFC 9568, section 5.1.1.4). No ports.
    Vrrp,
}

/// Who may connect to an endpoint. The guest itself always may.
#[derive(Clone, Debug)]
pub enum Clients {
    /// Everybody.
    Any,
    /// The nodes of a site that run one of some images, or stand on it, and perhaps its operators.
    Some {
        /// The images, each with the place where it is named.
        images: Vec<(ImageName, Place)>,
        /// Whether operators may, too.
        operators: bool,
    },
}

/// A number, or the parameter that holds it.
#[derive(Clone, Debug)]
pub enum PortSource {
    /// The number itself, and where it stands.
    Number(u16, Place),
    /// The parameter, and where it is named.
    Parameter(ParameterName, Place),
}

/// What a role connects to.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The image whose nodes it connects to, and where it is named.
    pub to: (ImageName, Place),
    /// The endpoint of that image, and where it is named.
    pub endpoint: (EndpointName, Place),
    /// The parameter that holds the addresses, and where it is named: an address, a host name, or
    /// a list of those or of records with a field `address`.
    pub addresses: (ParameterName, Place),
    /// Where the port is: a number, a parameter, or the same list of records with a field `port`.
    pub port: PortSource,
    /// The parameter that says whether it connects at all, and where it is named.
    pub when: Option<(ParameterName, Place)>,
    /// Where the table stands.
    pub place: Place,
}

impl Protocol {
    /// The name, as definitions and templates have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Vrrp => "vrrp",
        }
    }

    /// All of them.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Vrrp];

    fn read(item: &Item) -> Result<Self> {
        let text = item.string()?;
        let known = Self::ALL.into_iter().find(|protocol| protocol.as_str() == text);
        known.ok_or_else(|| item.unexpected("`tcp`, `udp` or `vrrp`"))
    }
}

impl PortSource {
    fn read(item: &Item) -> Result<Self> {
        match &item.value {
            Content::String(_) => Ok(Self::Parameter(item.parse()?, item.place.clone())),
            _ => item
                .integer_in(1..=65535, "a port (1 to 65535) or the name of a parameter")
                .map(|port| Self::Number(port, item.place.clone())),
        }
    }

    /// Where it stands.
    pub fn place(&self) -> &Place {
        match self {
            Self::Number(_, place) | Self::Parameter(_, place) => place,
        }
    }
}

impl Clients {
    fn read(item: &Item) -> Result<Self> {
        if let Content::String(word) = &item.value
            && word == "any"
        {
            return Ok(Self::Any);
        }
        let expected = "\"any\", or a list of images and \"operators\"";
        let names = item.array().map_err(|_| item.unexpected(expected))?;
        let mut images = Vec::new();
        // Nobody in particular: still those who look after the site.
        let mut operators = names.is_empty();
        for name in names {
            match name.string()? {
                OPERATORS => operators = true,
                "any" => return Err(name.unexpected("an image (\"any\" stands without a list)")),
                _ => images.push((name.parse()?, name.place.clone())),
            }
        }
        Ok(Self::Some { images, operators })
    }
}

impl Endpoint {
    /// Reads `[endpoints.NAME]`.
    pub(super) fn read(place: &Place, item: &Item) -> Result<Self> {
        let table = item.table(&schema::ENDPOINT.names())?;
        let protocol = table.optional("protocol", Protocol::read)?.unwrap_or(Protocol::Tcp);
        if protocol == Protocol::Vrrp
            && let Some(item) = table.get("port").or(table.get("range"))
        {
            let message = "VRRP has no ports".to_owned();
            let help = Some("remove it, or name another protocol".to_owned());
            return Err(item.place.error_with_help(Problem::Contradiction(message), help));
        }
        let port = match protocol {
            Protocol::Vrrp => None,
            _ => Some(PortSource::read(table.require("port")?)?),
        };
        let last_port = table.optional("range", |item| {
            item.integer_in(1..=65535, "the last port of the range (1 to 65535)")
        })?;
        Ok(Self {
            port,
            last_port,
            protocol,
            clients: Clients::read(table.require("clients")?)?,
            when: when(table)?,
            doc: table.require("doc")?.line()?,
            place: place.clone(),
        })
    }
}

impl Connection {
    /// Reads one of `[[connections]]`.
    pub(super) fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::CONNECTION.names())?;
        let to = table.require("to")?;
        let endpoint = table.require("endpoint")?;
        let addresses = table.require("addresses")?;
        Ok(Self {
            to: (to.parse()?, to.place.clone()),
            endpoint: (endpoint.parse()?, endpoint.place.clone()),
            addresses: (addresses.parse()?, addresses.place.clone()),
            port: PortSource::read(table.require("port")?)?,
            when: when(table)?,
            place: to.place.clone(),
        })
    }
}

fn when(table: Table<'_>) -> Result<Option<(ParameterName, Place)>> {
    table.optional("when", |item| Ok((item.parse()?, item.place.clone())))
}

/// Checks what the last image of `stack` says of endpoints and connections: that parameters it
/// names are in sight and of a type that serves, and that no endpoint is declared twice.
pub(super) fn check(stack: &[&Image]) -> Vec<Error> {
    let Some((image, below)) = stack.split_last() else { return Vec::new() };
    let mut errors = Vec::new();
    for (name, endpoint) in &image.endpoints {
        let lower = below.iter().find_map(|lower| lower.endpoints.get(name));
        if let Some(other) = lower {
            let taken = format!("declared at {}", other.place);
            let what = format!("endpoint `{name}`");
            errors.push(endpoint.place.error(Problem::Duplicate { what, taken }));
        }
        errors.extend(check_when(stack, endpoint.when.as_ref()).err());
        if let Some(PortSource::Parameter(name, place)) = &endpoint.port {
            let is_port = |kind: &Type| matches!(kind, Type::Port | Type::Integer { .. });
            errors.extend(check_type(stack, name, place, "a port or an integer", is_port).err());
        }
    }
    for connection in &image.connections {
        let (name, place) = &connection.addresses;
        let expected =
            "an address, a host name, or a list of those or of records with an `address`";
        errors.extend(check_type(stack, name, place, expected, holds_addresses).err());
        errors.extend(check_when(stack, connection.when.as_ref()).err());
        if let PortSource::Parameter(port, place) = &connection.port {
            let holds = |kind: &Type| {
                matches!(kind, Type::Port | Type::Integer { .. })
                    || (port == name && field(kind, "port").is_some_and(is_number))
            };
            let expected = "a port, an integer, or the list of `addresses` with a field `port`";
            errors.extend(check_type(stack, port, place, expected, holds).err());
        }
    }
    errors
}

fn check_when(stack: &[&Image], when: Option<&(ParameterName, Place)>) -> Result<()> {
    let Some((name, place)) = when else { return Ok(()) };
    let is_answer = |kind: &Type| matches!(kind, Type::Boolean | Type::List(_));
    check_type(stack, name, place, "a boolean or a list", is_answer)
}

fn check_type(
    stack: &[&Image],
    name: &ParameterName,
    place: &Place,
    expected: &str,
    accepts: impl Fn(&Type) -> bool,
) -> Result<()> {
    let Some((_, parameter)) = declaration(stack, name.as_str()) else {
        let names =
            stack.iter().flat_map(|image| image.parameters.keys()).map(ParameterName::as_str);
        let (help, name) = (did_you_mean(name.as_str(), names), name.to_string());
        let problem = Problem::UndeclaredParameter { name, stack: stack_text(stack) };
        return Err(place.error_with_help(problem, help));
    };
    if accepts(&parameter.kind) {
        return Ok(());
    }
    let message = format!("parameter `{name}` is {}, and this needs {expected}", parameter.kind);
    let help = Some(format!("{} declares it", parameter.place));
    Err(place.error_with_help(Problem::Contradiction(message), help))
}

fn is_address(kind: &Type) -> bool {
    matches!(kind, Type::Address | Type::Hostname)
}

fn is_number(kind: &Type) -> bool {
    matches!(kind, Type::Port | Type::Integer { .. })
}

fn holds_addresses(kind: &Type) -> bool {
    match kind {
        Type::List(items) => is_address(items) || field(kind, "address").is_some_and(is_address),
        kind => is_address(kind),
    }
}

/// The type of the field `name`, if `kind` is a list of records that have it.
fn field<'a>(kind: &'a Type, name: &str) -> Option<&'a Type> {
    let Type::List(items) = kind else { return None };
    let Type::Record(fields) = items.as_ref() else { return None };
    fields.iter().find(|(field, _)| field.as_str() == name).map(|(_, field)| &field.kind)
}

/// Whether what `when` names says yes: true, or a list that is not empty.
pub(super) fn holds(when: Option<&(ParameterName, Place)>, values: &Settings) -> bool {
    let Some((name, _)) = when else { return true };
    match values.get(name).map(|setting| &setting.value) {
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Bool(answer)) => *answer,
        _ => false,
    }
}

/// The endpoints that are there in `stack` with `values`, by name, each with its first port (0
/// where it has none).
///
/// # Errors
/// A port that is no port, and a range that ends before it begins.
pub(super) fn present<'a>(
    stack: &[&'a Image],
    values: &Settings,
) -> Result<BTreeMap<&'a EndpointName, (&'a Endpoint, u16)>> {
    let mut present = BTreeMap::new();
    for (name, endpoint) in stack.iter().flat_map(|image| &image.endpoints) {
        if !holds(endpoint.when.as_ref(), values) {
            continue;
        }
        let (port, place) = match &endpoint.port {
            None => (0, &endpoint.place),
            Some(PortSource::Number(port, place)) => (*port, place),
            Some(PortSource::Parameter(parameter, place)) => {
                let Some(setting) = values.get(parameter) else { continue };
                let port = setting.value.as_u64().and_then(|port| u16::try_from(port).ok());
                let port = port.filter(|port| *port > 0).ok_or_else(|| {
                    let message = format!("`{parameter}` is the port of the endpoint `{name}`");
                    let help = format!("give it a value from 1 to 65535; {place} says so");
                    setting.place.error_with_help(Problem::Contradiction(message), Some(help))
                })?;
                (port, &setting.place)
            }
        };
        if let Some(last) = endpoint.last_port.filter(|last| *last < port) {
            let message =
                format!("the ports of the endpoint `{name}` begin at {port} and end at {last}");
            return Err(place.error(Problem::Contradiction(message)));
        }
        present.insert(name, (endpoint, port));
    }
    Ok(present)
}
