//! Passwords in the account files.

use std::io;
use std::path::Path;

use super::tree::text_of;
use super::{Check, Objections, Rule};
use crate::layer::archive::Archive;
use crate::lint as registry;

pub(super) const RULES: &[Rule] = &[Rule { lint: &registry::PASSWORD, check: Check::Layer(check) }];

/// The account files and what their second field may consist of: `x` says that the password is in
/// the shadow file (passwd(5)), `!` and `*` are no password's hash (shadow(5)).
const FILES: [(&str, &[char]); 6] = [
    ("etc/passwd", &['x', '!', '*']),
    ("etc/passwd-", &['x', '!', '*']),
    ("etc/shadow", &['!', '*']),
    ("etc/shadow-", &['!', '*']),
    ("etc/gshadow", &['!', '*']),
    ("etc/gshadow-", &['!', '*']),
];

fn check(layer: &Archive, objections: &mut Objections) -> io::Result<()> {
    for (path, allowed) in FILES {
        let Some(member) = layer.index.get(Path::new(path)) else { continue };
        for line in text_of(layer, member)?.lines().filter(|line| !line.is_empty()) {
            let mut fields = line.split(':');
            let account = fields.next().unwrap_or_default();
            match fields.next() {
                None | Some("") => {
                    objections.add(path, format!("lets `{account}` in without a password"));
                }
                Some(password) if !password.chars().all(|mark| allowed.contains(&mark)) => {
                    objections.add(path, format!("has a password for `{account}`"));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}
