//! Secrets that packages write into configuration files while they are installed.

use std::path::PathBuf;

use super::{Check, Error, Lint, Objections, Tree};

pub(super) const LINTS: &[Lint] = &[Lint {
    name: "minted-secret",
    reason: "a package made this secret while it was installed, so every guest would have the same",
    remedy: "replace the file or the value in the image, and have it made anew at the first start",
    check: Check::Tree(check),
}];

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

/// Looks at what counts in the end: a value that a package has written, and that a layer above has
/// replaced, is nobody's secret.
fn check(tree: &Tree<'_>, _: &[PathBuf], objections: &mut Objections) -> Result<(), Error> {
    for (path, before) in SETTINGS {
        let text = tree.text(path)?.unwrap_or_default();
        if text.lines().any(|line| has_value(line, before)) {
            let setting = before.trim_end_matches(['=', ':', ' ']);
            objections.add(path, format!("has a value for `{setting}`"));
        }
    }
    Ok(())
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
