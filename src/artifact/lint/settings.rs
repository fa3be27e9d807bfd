//! Secrets that packages write into configuration files while they are installed.

use std::io;
use std::path::{Path, PathBuf};

use super::tree::text_of;
use super::{Check, Error, Objections, Rule, Tree};
use crate::layer::archive::Archive;
use crate::lint as registry;

pub(super) const RULES: &[Rule] = &[
    Rule { lint: &registry::MINTED_SECRET, check: Check::Layer(check) },
    Rule { lint: &registry::DEFAULT_PASSWORD, check: Check::Image(check_defaults) },
];

/// Files with the text that stands directly before a secret. An empty value, and one that refers to
/// something else (`$`), is none. The list follows what the installation scripts of BigBlueButton
/// 3.0, coturn and MariaDB are known to write.
const SETTINGS: [(&str, &str); 9] = [
    ("etc/bigbluebutton/bbb-web.properties", "securitySalt="),
    ("usr/share/bbb-web/WEB-INF/classes/bigbluebutton.properties", "securitySalt="),
    ("etc/default/bbb-graphql-server", "HASURA_GRAPHQL_ADMIN_SECRET="),
    ("usr/share/bbb-graphql-server/config.yaml", "admin_secret:"),
    (
        "opt/freeswitch/etc/freeswitch/autoload_configs/event_socket.conf.xml",
        "name=\"password\" value=",
    ),
    ("opt/freeswitch/etc/freeswitch/vars.xml", "default_password="),
    ("usr/share/etherpad-lite/APIKEY.txt", ""),
    ("etc/turnserver.conf", "static-auth-secret="),
    ("etc/mysql/debian.cnf", "password ="),
];

/// Values of [`SETTINGS`] that packages ship and nobody has made up: no secret where a layer above replaces
/// them, and none at all where none does. FreeSWITCH's is in `conf/vanilla/vars.xml`.
const DEFAULTS: [(&str, &str); 1] =
    [("opt/freeswitch/etc/freeswitch/vars.xml", "default_password=1234\"")];

fn check(layer: &Archive, objections: &mut Objections) -> io::Result<()> {
    for (path, before) in SETTINGS {
        let Some(member) = layer.index.get(Path::new(path)) else { continue };
        let text = text_of(layer, member)?;
        if text.lines().any(|line| has_value(line, before) && !is_default(path, line)) {
            let setting = before.trim_end_matches(['=', ':', ' ']);
            objections.add(path, format!("has a value for `{setting}`"));
        }
    }
    Ok(())
}

fn check_defaults(
    tree: &Tree<'_>,
    _: &[PathBuf],
    objections: &mut Objections,
) -> Result<(), Error> {
    for (path, _) in DEFAULTS {
        let text = tree.text(path)?.unwrap_or_default();
        if text.lines().any(|line| is_default(path, line)) {
            objections.add(path, "still has the password that its package ships");
        }
    }
    Ok(())
}

fn is_default(path: &str, line: &str) -> bool {
    DEFAULTS.iter().any(|(file, default)| *file == path && line.contains(default))
}

fn has_value(line: &str, before: &str) -> bool {
    let line = line.trim_start();
    if ["#", ";", "//", "<!--"].iter().any(|comment| line.starts_with(comment)) {
        return false;
    }
    line.split_once(before).is_some_and(|(_, rest)| {
        let value = rest.trim().trim_start_matches(['"', '\'']);
        !value.is_empty() && !value.starts_with(['"', '\'', '$', '/'])
    })
}
