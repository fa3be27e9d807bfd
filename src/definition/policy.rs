//! `policy.toml`: which artifacts may be trusted.

use std::path::{Component, Path, PathBuf};

use super::document::{Item, parse};
use super::place::{Place, Source, read_text};
use super::{Error, Problem, Project, Result, schema};
use crate::debian::packages::matches;

/// What the file is called, at the root of a project and beside the overlay of a site.
pub const POLICY: &str = "policy.toml";

/// Who may sign, in the format of OpenSSH, beside the policy of the project.
const ALLOWED_SIGNERS: &str = "allowed_signers";

/// What an artifact has to be to be trusted.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The file that says so.
    pub place: Place,
    /// What is said of signatures. Nothing: artifacts need none.
    pub signatures: Option<Signatures>,
    /// Whether a bill of materials has to be there.
    pub sbom: bool,
    /// Whether provenance has to be there.
    pub provenance: bool,
    /// Whether anything may be in it that the lock does not pin.
    pub unpinned: bool,
    /// How many days an artifact may be old.
    pub maximum_days: Option<u32>,
    /// The packages that may not be in it.
    pub forbidden: Vec<Forbidden>,
}

/// Who has to sign.
#[derive(Clone, Debug)]
pub struct Signatures {
    /// Whether an artifact has to be signed. One that is signed badly is refused in any case.
    pub required: bool,
    /// The directory that the file of signers is relative to.
    directory: PathBuf,
    /// The file of signers.
    allowed_signers: (PathBuf, Place),
    /// Who of the file may sign. Nobody: all of it.
    pub signers: Vec<String>,
    /// The directory of the policy, and the file of keys that sign nothing any more, relative to it.
    revoked: Option<(PathBuf, PathBuf, Place)>,
}

/// Packages that may not be in an image.
#[derive(Clone, Debug)]
pub struct Forbidden {
    pattern: String,
    /// Why.
    pub reason: String,
    /// Where it says so.
    pub place: Place,
}

impl Forbidden {
    /// Whether the package called `name` is meant.
    pub fn is(&self, name: &str) -> bool {
        matches(&self.pattern, name)
    }
}

impl Signatures {
    /// The text of the file of signers.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn allowed_signers(&self) -> Result<Source> {
        let (path, place) = &self.allowed_signers;
        let help = "write who may sign into that file, as ssh-keygen(1) says under ALLOWED SIGNERS \
                    (docs/signatures.md)";
        named(&self.directory, path, place, help)
    }

    /// The text of the file of keys that sign nothing any more, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn revoked(&self) -> Result<Option<Source>> {
        let Some((directory, path, place)) = &self.revoked else { return Ok(None) };
        let help = "write the public keys into that file, one a line, or leave out `revoked` \
                    (docs/signatures.md)";
        named(directory, path, place, help).map(Some)
    }
}

/// The text of the file `path` in `directory`, which `place` names.
fn named(directory: &Path, path: &Path, place: &Place, help: &str) -> Result<Source> {
    read_text(directory, path).map_err(|error| match error {
        Error::Read { path, cause } => place.error_with_help(
            Problem::Contradiction(format!("cannot read {}: {cause}", path.display())),
            Some(help.to_owned()),
        ),
        other => other,
    })
}

impl Policy {
    /// Reads a policy that is in no project: the file at `path`, with `allowed_signers` beside it.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self> {
        let directory = path.parent().unwrap_or(Path::new(""));
        let name = Path::new(path.file_name().unwrap_or(path.as_os_str()));
        Self::parse(&read_text(directory, name)?, directory, directory)
    }

    /// Reads `source`, which lies in `directory`. Without another word, who may sign stands in `root`.
    fn parse(source: &Source, directory: &Path, root: &Path) -> Result<Self> {
        let file = parse(source)?;
        let table = file.table(&schema::POLICY.names())?;
        let signatures =
            table.optional("signatures", |item| Signatures::read(item, directory, root))?;
        let (sbom, provenance) = table.optional("documents", documents)?.unwrap_or_default();
        Ok(Self {
            place: file.place.clone(),
            signatures,
            sbom,
            provenance,
            unpinned: table.optional("sources", unpinned)?.unwrap_or(true),
            maximum_days: table.optional("age", maximum_days)?,
            forbidden: table.list("forbidden", Forbidden::read)?,
        })
    }
}

impl Project {
    /// The policies that hold for artifacts of `site`, or of none: that of the project, and those of the site and of
    /// what it extends. An artifact has to satisfy all of them.
    ///
    /// # Errors
    /// A file that is there and cannot be read; a site that is not there.
    pub fn policies(&self, site: Option<&str>) -> Result<Vec<Policy>> {
        let mut directories = vec![PathBuf::new()];
        if let Some(site) = site {
            let overlays = self.overlays(site)?.into_iter();
            directories.extend(overlays.map(|it| Path::new("overlays").join(it.name.as_str())));
        }
        let mut policies = Vec::new();
        for directory in directories {
            let path = directory.join(POLICY);
            if self.root().join(&path).symlink_metadata().is_err() {
                continue;
            }
            let source = read_text(self.root(), &path)?;
            policies.push(Policy::parse(&source, &self.root().join(directory), self.root())?);
        }
        Ok(policies)
    }
}

impl Signatures {
    fn read(item: &Item, directory: &Path, root: &Path) -> Result<Self> {
        let table = item.table(&schema::SIGNATURES.names())?;
        let signers = table.list("signers", Item::line)?;
        if let Some(item) = table.get("signers").filter(|_| signers.is_empty()) {
            return Err(item.unexpected("a list of at least one name"));
        }
        let named = table.optional("allowed_signers", |item| Ok((below(item)?, &item.place)))?;
        let (place_of_signers, path, place) = match named {
            Some((path, place)) => (directory, path, place),
            None => (root, PathBuf::from(ALLOWED_SIGNERS), &item.place),
        };
        let revoked = table.optional("revoked", |item| Ok((below(item)?, item.place.clone())))?;
        Ok(Self {
            required: table.optional("required", Item::boolean)?.unwrap_or(true),
            directory: place_of_signers.to_owned(),
            allowed_signers: (path, place.clone()),
            signers,
            revoked: revoked.map(|(path, place)| (directory.to_owned(), path, place)),
        })
    }
}

/// A path that leads nowhere but down.
fn below(item: &Item) -> Result<PathBuf> {
    let path = PathBuf::from(item.line()?);
    let is_below = path.components().all(|part| matches!(part, Component::Normal(_)));
    is_below
        .then_some(path)
        .ok_or_else(|| item.unexpected("a path below the directory of this file"))
}

fn documents(item: &Item) -> Result<(bool, bool)> {
    let table = item.table(&schema::DOCUMENTS.names())?;
    let get = |key| -> Result<bool> { Ok(table.optional(key, Item::boolean)?.unwrap_or(false)) };
    Ok((get("sbom")?, get("provenance")?))
}

fn unpinned(item: &Item) -> Result<bool> {
    let item = item.table(&schema::SOURCES.names())?.require("unpinned")?;
    match item.string()? {
        "allow" => Ok(true),
        "refuse" => Ok(false),
        _ => Err(item.unexpected("\"allow\" or \"refuse\"")),
    }
}

fn maximum_days(item: &Item) -> Result<u32> {
    let table = item.table(&schema::AGE.names())?;
    table.require("maximum_days")?.integer_in(1..=3650, "a number of days from 1 to 3650")
}

impl Forbidden {
    fn read(item: &Item) -> Result<Self> {
        let table = item.table(&schema::FORBIDDEN.names())?;
        let package = table.require("package")?;
        let pattern = package.string()?.to_owned();
        let fits = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+.*-".contains(&byte)
        };
        let is_start = |byte: &u8| !b"+.-".contains(byte);
        if !pattern.bytes().all(fits) || !pattern.as_bytes().first().is_some_and(is_start) {
            return Err(
                package.unexpected("the name of a package, in which `*` may stand for any text")
            );
        }
        let (reason, place) = (table.require("reason")?.line()?, package.place.clone());
        Ok(Self { pattern, reason, place })
    }
}
