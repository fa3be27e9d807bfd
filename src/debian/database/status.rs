//! The status file: one paragraph for each package that dpkg knows.

use std::collections::BTreeMap;

use super::root::Root;
use super::stanza::{Stanza, database_name};
use super::{Error, admin, io_error, read, syntax};
use crate::debian::{control, relation};

/// A package in the status file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// Its name.
    pub name: String,
    /// Its architecture, or `all`.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// Whether packages of this name for several architectures may be installed side by side.
    pub multi_arch_same: bool,
    /// The third word of its status: `unpacked`, `installed`, …
    pub state: String,
    /// The value of the field `Replaces`, empty if it has none.
    replaces: String,
    /// The value of the field `Provides`, empty if it has none.
    pub provides: String,
}

impl Installed {
    /// The name by which dpkg's database files know the package.
    pub fn database_name(&self) -> String {
        database_name(&self.name, &self.architecture, self.multi_arch_same)
    }

    /// Whether the package is configured, so that dependencies on it are satisfied.
    pub fn is_configured(&self) -> bool {
        matches!(self.state.as_str(), "installed" | "triggers-pending")
    }

    /// Whether the package may take over files of the package `name` in `version`
    /// (`Replaces`, Debian policy 7.6).
    pub fn replaces(&self, name: &str, version: &str) -> bool {
        let relations = relation::parse_field(&self.replaces).unwrap_or_default();
        relations
            .iter()
            .flat_map(|relation| &relation.alternatives)
            .any(|other| other.name == name && other.accepts(version))
    }
}

impl From<&Stanza> for Installed {
    fn from(stanza: &Stanza) -> Self {
        let field = |name| stanza.field(name).unwrap_or_default().to_owned();
        Self {
            name: stanza.name.clone(),
            architecture: stanza.architecture.clone(),
            version: stanza.version.clone(),
            multi_arch_same: stanza.is_multi_arch_same(),
            state: "unpacked".to_owned(),
            replaces: field("Replaces"),
            provides: field("Provides"),
        }
    }
}

/// Name and architecture: the order of the status file.
type Key = (String, String);

/// The status file in memory.
#[derive(Debug, Default)]
pub struct Status {
    packages: BTreeMap<Key, (Option<Installed>, Vec<u8>)>,
}

impl Status {
    /// Reads the status file; none is an empty one.
    pub fn load(root: &Root) -> Result<Self, Error> {
        let path = admin("status");
        let bytes = read(root, &path)?.unwrap_or_default();
        let text = std::str::from_utf8(&bytes)
            .map_err(|_| syntax(root, &path, 1, "the file is not UTF-8"))?;
        let mut packages = BTreeMap::new();
        let mut line = 1;
        for paragraph in control::paragraphs(text) {
            let parsed = parse(paragraph)
                .map_err(|(offset, problem)| syntax(root, &path, line + offset, &problem))?;
            let (key, installed) = parsed;
            let content = format!("{}\n", paragraph.trim_end_matches('\n')).into_bytes();
            line += content.iter().filter(|&&byte| byte == b'\n').count() + 1;
            packages.insert(key, (installed, content));
        }
        Ok(Self { packages })
    }

    /// The packages whose files are there, by name and architecture.
    pub fn installed(&self) -> impl Iterator<Item = &Installed> {
        self.packages.values().filter_map(|(installed, _)| installed.as_ref())
    }

    /// The package `name` of an architecture, if its files are there.
    pub fn package(&self, name: &str, architecture: &str) -> Option<&Installed> {
        let key = (name.to_owned(), architecture.to_owned());
        self.packages.get(&key).and_then(|(installed, _)| installed.as_ref())
    }

    /// Enters a package with its paragraph, in place of an earlier paragraph.
    pub(super) fn insert(&mut self, stanza: &Stanza, paragraph: Vec<u8>) -> Installed {
        let installed = Installed::from(stanza);
        let key = (stanza.name.clone(), stanza.architecture.clone());
        self.packages.insert(key, (Some(installed.clone()), paragraph));
        installed
    }

    /// Enters packages whose `preinst` is about to run.
    pub fn begin<'a>(&mut self, stanzas: impl IntoIterator<Item = &'a Stanza>) {
        for stanza in stanzas {
            let key = (stanza.name.clone(), stanza.architecture.clone());
            self.packages.insert(key, (None, stanza.half_installed()));
        }
    }

    /// Writes the status file.
    pub fn save(&self, root: &Root) -> Result<(), Error> {
        let mut content = Vec::new();
        for (_, paragraph) in self.packages.values() {
            content.extend_from_slice(paragraph);
            content.push(b'\n');
        }
        let path = admin("status");
        root.replace(&path, &content, 0o644)
            .map_err(|source| io_error(root, "write", &path, source))
    }
}

/// Key and package of a paragraph; no package if its files are not there. An error is the
/// number of lines before it and the problem.
fn parse(paragraph: &str) -> Result<(Key, Option<Installed>), (usize, String)> {
    let mut found: [Option<&str>; 7] = [None; 7];
    let names =
        ["Package", "Status", "Architecture", "Version", "Multi-Arch", "Replaces", "Provides"];
    for field in control::fields(paragraph) {
        let (name, value) = field.map_err(|error| (error.line - 1, error.to_string()))?;
        if let Some(index) = names.iter().position(|known| known.eq_ignore_ascii_case(name)) {
            found[index] = Some(value);
        }
    }
    let [package, status, architecture, version, multi_arch, replaces, provides] = found;
    let name = package.ok_or((0, "a paragraph without the field Package".to_owned()))?.to_owned();
    let architecture = architecture.unwrap_or_default().to_owned();
    let state = status.unwrap_or_default().split_whitespace().nth(2).unwrap_or_default();
    let key = (name.clone(), architecture.clone());
    if matches!(state, "not-installed" | "config-files" | "") {
        return Ok((key, None));
    }
    let installed = Installed {
        name,
        architecture,
        version: version.unwrap_or_default().to_owned(),
        multi_arch_same: multi_arch == Some("same"),
        state: state.to_owned(),
        replaces: replaces.unwrap_or_default().to_owned(),
        provides: provides.unwrap_or_default().to_owned(),
    };
    Ok((key, Some(installed)))
}
