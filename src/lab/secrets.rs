//! The secrets of a lab: made once, and the same for all roles that have one of the same name, since they use it
//! to talk to each other.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::place::Place;
use super::{Error, LabSite};
use crate::boot::{Identity, SecretFile, Secrets, is_of_one_node, random_digits, trial_value};
use crate::definition::{Hostname, Plan, Secret};

/// Those of a node are made with its first guest and go from guest to guest; those of all lie in a directory of
/// the lab.
#[derive(Default)]
pub(super) struct LabSecrets {
    shared: BTreeMap<String, String>,
}

fn file_name(secret: &Secret) -> Option<&str> {
    Path::new(secret.path.as_str()).file_name()?.to_str()
}

impl LabSecrets {
    /// The secrets that nodes of `site` share; those that the lab has not got yet are made, unless no role has to
    /// have them.
    pub(super) fn make(place: &Place, site: &LabSite) -> Result<Self, Error> {
        let mut shared = BTreeMap::new();
        for (name, (template, node)) in templates(site) {
            let path = place.secrets().join(&name);
            let value = match fs::read_to_string(&path) {
                Ok(value) => value,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let value = value(&template, &node).map_err(Error::io("make", &path))?;
                    write(&path, &value).map_err(Error::io("write", &path))?;
                    value
                }
                Err(error) => return Err(Error::io("read", &path)(error)),
            };
            shared.insert(name, value);
        }
        for name in optional(site) {
            let path = place.secrets().join(name);
            match fs::read_to_string(&path) {
                Ok(value) => drop(shared.entry(name.to_owned()).or_insert(value)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("read", &path)(error)),
            }
        }
        Ok(Self { shared })
    }

    /// The files for the first guest of a node of `plan`.
    pub(super) fn of(&self, plan: &Plan, identity: &Identity) -> io::Result<Secrets> {
        let own = Secrets::for_trial(plan, identity)?.0;
        let mut files: Vec<SecretFile> =
            own.into_iter().filter(|file| !self.shared.contains_key(&file.name)).collect();
        for name in plan.secrets.values().filter_map(file_name) {
            if let Some(content) = self.shared.get(name) {
                files.push(SecretFile { name: name.to_owned(), content: content.clone() });
            }
        }
        Ok(Secrets(files))
    }
}

/// Secrets that a role can do without. The lab makes none, and hands on those that somebody laid beside the others.
fn optional(site: &LabSite) -> impl Iterator<Item = &str> {
    let secrets = site.plans().flat_map(|plan| plan.secrets.values());
    secrets
        .filter(|secret| !secret.required && !secret.trial.as_deref().is_some_and(is_of_one_node))
        .filter_map(file_name)
}

/// What is put into each secret that nodes share, and the node that it names: the first of the role.
///
/// One that any role has to have is given to all that know it. Certificates are of one node each.
fn templates(site: &LabSite) -> BTreeMap<String, (String, Hostname)> {
    let mut templates: BTreeMap<String, (String, Hostname)> = BTreeMap::new();
    for plan in site.plans() {
        let Some(first) = plan.peers().min_by_key(|node| node.number) else { continue };
        for secret in plan.secrets.values() {
            let Some(name) = file_name(secret) else { continue };
            let template = match (&secret.trial, secret.required) {
                (Some(template), _) if is_of_one_node(template) => continue,
                (Some(template), _) => template.clone(),
                (None, true) if templates.contains_key(name) => continue,
                (None, true) => "{random}".to_owned(),
                (None, false) => continue,
            };
            templates.insert(name.to_owned(), (template, first.name.clone()));
        }
    }
    templates
}

fn value(template: &str, node: &Hostname) -> io::Result<String> {
    let node = node.as_str().split('.').next().unwrap_or_default();
    let random = random_digits()?;
    let mut value = trial_value(template, &[("{node}", node), ("{random}", &random)]);
    if !value.ends_with('\n') {
        value.push('\n');
    }
    Ok(value)
}

/// Under its name there is the whole secret or none.
fn write(path: &Path, value: &str) -> io::Result<()> {
    let temporary = path.with_file_name(".new");
    let mut options = fs::File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(value.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
