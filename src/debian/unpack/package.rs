//! Packages to unpack, and what their control archives say.

use std::path::PathBuf;

use super::Error;
use crate::debian::database::Installed;
use crate::debian::database::stanza::{Conffile, Stanza, parse_conffiles};
use crate::debian::database::triggers::{Directive, parse_directives};
use crate::debian::deb::Deb;

/// A package file and what it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// The verified package file.
    pub file: PathBuf,
    /// The name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
}

/// An opened package with its control information.
#[derive(Debug)]
pub(super) struct Loaded {
    pub deb: Deb,
    pub stanza: Stanza,
    /// The package as dpkg's database will know it.
    pub identity: Installed,
    pub conffiles: Vec<Conffile>,
    pub directives: Vec<Directive>,
    /// Bytes of the package file.
    pub size: u64,
}

impl Loaded {
    /// Opens the package file and checks that it is the right one.
    pub fn open(package: &Package) -> Result<Self, Error> {
        let deb = Deb::open(&package.file)?;
        let origin = package.file.display().to_string();
        let stanza = Stanza::parse(deb.control_file("control").unwrap_or_default(), &origin)?;
        let found = [&stanza.name, &stanza.version, &stanza.architecture];
        let expected = [&package.name, &package.version, &package.architecture];
        if found != expected {
            let words = |words: [&String; 3]| format!("{} {} {}", words[0], words[1], words[2]);
            return Err(Error::WrongPackage {
                path: package.file.clone(),
                found: words(found),
                expected: words(expected),
            });
        }
        let file = |name| deb.control_file(name).unwrap_or_default();
        let conffiles = parse_conffiles(file("conffiles"), &stanza.name)?;
        let directives = parse_directives(file("triggers"), &stanza.name)?;
        let size = std::fs::metadata(&package.file).map_or(0, |metadata| metadata.len());
        let identity = Installed::from(&stanza);
        Ok(Self { deb, stanza, identity, conffiles, directives, size })
    }

    /// Name and architecture, for messages and for the order of packages.
    pub fn label(&self) -> String {
        format!("{}:{}", self.stanza.name, self.stanza.architecture)
    }

    pub fn name(&self) -> &str {
        &self.stanza.name
    }

    /// Whether the package ships `path` as a configuration file.
    pub fn is_conffile(&self, path: &[u8]) -> bool {
        self.conffiles.iter().any(|conffile| !conffile.remove_on_upgrade && conffile.path == path)
    }

    /// Whether dpkg has to compute the checksums of the package's files itself.
    pub fn lacks_checksums(&self) -> bool {
        self.deb.control_file("md5sums").is_none()
    }
}

/// Which of two packages that ship the same path has it, by the rules of dpkg when `second` is
/// unpacked after `first`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The second package replaces the file of the first.
    Second,
    /// The first package keeps it; the second goes without.
    First,
    /// Both have it, and it must be the same: one package for several architectures.
    Shared,
    /// Neither may.
    Conflict,
}

/// Compares two packages that ship the same path.
pub(super) fn compare(first: &Installed, second: &Installed) -> Claim {
    if first.name == second.name && first.multi_arch_same && second.multi_arch_same {
        Claim::Shared
    } else if second.replaces(&first.name, &first.version) {
        Claim::Second
    } else if first.replaces(&second.name, &second.version) {
        Claim::First
    } else {
        Claim::Conflict
    }
}
