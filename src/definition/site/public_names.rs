//! Names that browsers use, and whether they lead to those who serve them.

use std::net::IpAddr;

use super::proof::{Holder, Role, View, broken, parameter_in_words};
use crate::definition::error::Error;
use crate::definition::name::{Hostname, ImageName, ParameterName};
use crate::definition::place::Place;

/// Checks every parameter of `role` that is marked as a public name.
pub(super) fn check(view: &View<'_>, role: &Role<'_>) -> Vec<Error> {
    let parameters = role.stack.iter().flat_map(|image| &image.parameters);
    let named = parameters.filter_map(|(name, parameter)| {
        let setting = role.values.get(name)?;
        Some((name, parameter.public_name.as_ref()?, setting.value.as_str()?, &setting.place))
    });
    named
        .filter(|(.., text, _)| !text.is_empty())
        .filter_map(|(name, (image, _), text, place)| {
            check_name(view, role, name, image, text, place).err()
        })
        .collect()
}

fn check_name(
    view: &View<'_>,
    role: &Role<'_>,
    name: &ParameterName,
    image: &ImageName,
    text: &str,
    place: &Place,
) -> Result<(), Error> {
    let whose = parameter_in_words(name, role);
    let host = host_of(text);
    let site = &view.site.name;
    if host.parse::<Hostname>().is_err() {
        let message = format!("{whose} is {text:?}, and that has no host name");
        let help = format!(
            "use the name that name servers give for a virtual address of `{image}`: browsers must not \
             notice which node answers"
        );
        return Err(broken(place, message, help));
    }
    let mut names = view.site.names.iter();
    let Some(public) = names.find(|public| public.name.as_str().eq_ignore_ascii_case(host)) else {
        let message =
            format!("{whose} is {text:?}, and site `{site}` does not say where `{host}` leads");
        let address = view.roles.values().filter(|role| role.runs(image));
        let address = address.flat_map(Role::virtual_addresses).next();
        let address = address.map_or_else(|| "…".to_owned(), |address| address.to_string());
        let help = format!(
            "add it to the overlay, as name servers have it:\n[names]\n{host:?} = {address:?}"
        );
        return Err(broken(place, message, help));
    };
    if serves(view, image, public.address) {
        return Ok(());
    }
    let what = match view.holder(public.address) {
        Some(Holder::Node(node)) => {
            format!("which is `{}`, a single node of `{}`", node.name, node.image)
        }
        Some(Holder::Virtual(role)) => format!("which is a virtual address of `{role}`"),
        None => "which nobody has".to_owned(),
    };
    let message = format!(
        "{whose} is {text:?}, a name that `{image}` serves, but `{host}` leads to {} ({}), {what}",
        public.address, public.place,
    );
    Err(broken(place, message, view.addresses_in_words(image)))
}

/// A virtual address of `image`, or the address of any of its nodes where it has none.
fn serves(view: &View<'_>, image: &ImageName, address: IpAddr) -> bool {
    let mut servers = view.roles.values().filter(|role| role.runs(image));
    servers.any(|server| {
        let mut shared = server.virtual_addresses().peekable();
        match shared.peek() {
            Some(_) => shared.any(|one| one == address),
            None => view.nodes_of(image).any(|node| node.address.address() == address),
        }
    })
}

/// The host in a URL; a host name is its own.
fn host_of(text: &str) -> &str {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    // `[fd00::1]` keeps its brackets: only a name is wanted here.
    match host.rsplit_once(':') {
        Some((name, port)) if is_number(port) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_url_is_found() {
        for (text, host) in [
            ("moodle.example", "moodle.example"),
            ("https://moodle.example", "moodle.example"),
            ("https://moodle.example:8443/a?b#c", "moodle.example"),
            ("http://user@moodle.example/", "moodle.example"),
            ("http://10.0.0.1:80", "10.0.0.1"),
            ("http://[fd00::1]:80/", "[fd00::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(text), host, "{text}");
        }
    }
}
