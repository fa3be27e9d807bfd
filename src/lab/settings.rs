//! What was decided about a lab: its site, its roles, and the directories that guests share.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::place::{Place, replace};
use super::{Error, LabSite};
use crate::definition::{ImageName, SiteName};

const SCHEMA: u32 = 1;

/// What was decided about a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The site.
    pub site: SiteName,
    /// Its roles that are in the lab.
    pub roles: BTreeSet<ImageName>,
    /// Directories of the machine that guests have.
    pub binds: Vec<Bind>,
}

/// A directory of the machine that guests have: `NODE-OR-ROLE:DIRECTORY:PATH`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// The node or role whose guests have it.
    pub who: String,
    /// The directory.
    pub directory: PathBuf,
    /// Where they have it.
    pub path: String,
}

impl Bind {
    /// Whether guests of `node`, which runs `role`, have it.
    pub(super) fn is_for(&self, node: &str, role: &str) -> bool {
        self.who == role || self.who.eq_ignore_ascii_case(node)
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}:{}", self.who, self.directory.display(), self.path)
    }
}

impl FromStr for Bind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(who), Some(directory), Some(path), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err("expected NODE-OR-ROLE:DIRECTORY:PATH".to_owned());
        };
        let plain = |path: &str| {
            let mut parts = Path::new(path).components();
            parts.next() == Some(Component::RootDir)
                && parts.clone().next().is_some()
                && parts.all(|part| matches!(part, Component::Normal(_)))
                && !path.contains(char::is_control)
        };
        if who.is_empty() || !plain(directory) || !plain(path) {
            return Err("DIRECTORY and PATH are absolute paths without `..`".to_owned());
        }
        Ok(Self { who: who.to_owned(), directory: directory.into(), path: path.to_owned() })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    site: String,
    roles: Vec<String>,
    binds: Vec<Bind>,
}

impl Settings {
    /// A new lab of `site`.
    pub fn new(site: SiteName) -> Self {
        Self { site, roles: BTreeSet::new(), binds: Vec::new() }
    }

    /// Adds directories for guests; one for the same guests at the same place is replaced.
    ///
    /// # Errors
    ///
    /// A directory that is not there, or one for guests that the site does not have.
    pub fn bind(&mut self, binds: &[Bind], site: &LabSite) -> Result<(), Error> {
        for bind in binds {
            let fault = |why: &str| Error::Bind(bind.to_string(), why.to_owned());
            if !bind.directory.is_dir() {
                return Err(fault("the directory is not there"));
            }
            if !site.site.nodes.iter().any(|it| bind.is_for(it.name.as_str(), it.image.as_str())) {
                return Err(fault("the site has no such node or role"));
            }
            self.binds.retain(|old| (&old.who, &old.path) != (&bind.who, &bind.path));
            self.binds.push(bind.clone());
        }
        Ok(())
    }

    pub(super) fn read(place: &Place) -> Result<Self, Error> {
        let path = place.settings();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(place.no_lab());
            }
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let damaged = |why: String| Error::Damaged { path: path.clone(), why };
        let file: File = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        if file.schema != SCHEMA {
            return Err(damaged(format!(
                "it has schema {}, this imgbuild knows {SCHEMA}",
                file.schema
            )));
        }
        let roles = file.roles.iter().map(|role| {
            role.parse().map_err(|error| damaged(format!("the role `{role}` is not {error}")))
        });
        Ok(Self {
            site: file
                .site
                .parse()
                .map_err(|error| damaged(format!("the site `{}` is not {error}", file.site)))?,
            roles: roles.collect::<Result<_, _>>()?,
            binds: file.binds,
        })
    }

    pub(super) fn write(&self, place: &Place) -> Result<(), Error> {
        let file = File {
            schema: SCHEMA,
            site: self.site.to_string(),
            roles: self.roles.iter().map(ToString::to_string).collect(),
            binds: self.binds.clone(),
        };
        let path = place.settings();
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::from);
        text.and_then(|text| replace(&path, &(text + "\n"))).map_err(Error::io("write", &path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bind_is_two_absolute_paths_for_somebody() {
        for (text, good) in [
            ("moodle:/srv/data:/var/lib/moodledata", true),
            ("moodle1:/srv/data:/var/lib/moodledata", true),
            ("moodle:srv:/var", false),
            ("moodle:/srv/../etc:/var", false),
            ("moodle:/srv:/", false),
            ("moodle:/:/srv", false),
            (":/srv:/var", false),
            ("moodle:/srv", false),
            ("moodle:/srv:/var:ro", false),
        ] {
            let parsed: Result<Bind, _> = text.parse();
            assert_eq!(parsed.is_ok(), good, "{text}");
            if let Ok(bind) = parsed {
                assert_eq!(bind.to_string(), text);
            }
        }
    }
}
