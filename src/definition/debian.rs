//! `[debian]` and `[[repositories]]`: where packages come from, and whose signature vouches for them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::document::{Item, Table};
use super::error::{Problem, Result};
use super::place::{Place, read_bytes};
use super::schema;

/// The package repositories of a root image.
#[derive(Clone, Debug)]
pub struct Debian {
    /// Debian's name for the processor: `amd64`.
    pub architecture: String,
    /// The repositories, in the order of the definition. At least one.
    pub repositories: Vec<Repository>,
}

/// One suite of one package archive.
#[derive(Clone, Debug)]
pub struct Repository {
    /// The name the lock refers to it by. Unique in the definition.
    pub name: String,
    /// The base URL, without a slash at the end.
    pub url: String,
    /// Further base URLs to try in turn.
    pub mirrors: Vec<String>,
    /// The base URL of a snapshot archive, used as `SNAPSHOT/TIMESTAMP/…`.
    pub snapshot: Option<String>,
    /// The suite: `trixie`, `trixie-updates`. The directory of a flat repository ends in `/`.
    pub suite: String,
    /// The components: `main`. None in a flat repository.
    pub components: Vec<String>,
    /// The only packages that may come from it: names, in which `*` stands for any text. Empty in a
    /// root image: there everything may.
    pub packages: Vec<String>,
    /// The certificates that may sign the suite's Release file.
    pub keyring: Keyring,
    /// Fingerprints of primary keys in capital hexadecimal digits; a valid signature of any one of
    /// them suffices. At least one.
    pub signed_by: Vec<String>,
    /// Where the repository is defined.
    pub place: Place,
}

/// Where OpenPGP certificates come from.
#[derive(Clone, Debug)]
pub enum Keyring {
    /// A file of the project.
    File {
        /// The file, relative to the project.
        path: PathBuf,
        /// Its content, armored or binary, as it was read.
        bytes: Vec<u8>,
    },
    /// A URL.
    Url(String),
}

impl Debian {
    /// Reads `[debian]` of the definition in `directory`, a path relative to `root`.
    pub(super) fn read(item: &Item, root: &Path, directory: &Path) -> Result<Self> {
        let table = item.table(&schema::DEBIAN.names())?;
        let architecture = table.require("architecture")?;
        let repositories = table.require("repositories")?;
        let known = repositories
            .each(|item| Repository::read(item, &schema::REPOSITORY.names(), root, directory))?;
        if known.is_empty() {
            return Err(repositories.unexpected("at least one repository"));
        }
        Ok(Self { architecture: word(architecture)?, repositories: known })
    }
}

/// Reads `[[repositories]]` of the definition in `directory`, a path relative to `root`. What comes
/// from each must be said, so that it cannot replace what the root image's repositories have.
pub(super) fn more_repositories(
    item: &Item,
    root: &Path,
    directory: &Path,
) -> Result<Vec<Repository>> {
    let keys = schema::MORE_REPOSITORY.names();
    item.each(|item| {
        let packages = item.table(&keys)?.require("packages")?;
        let repository = Repository::read(item, &keys, root, directory)?;
        match repository.packages.is_empty() {
            true => Err(packages.unexpected("at least one package")),
            false => Ok(repository),
        }
    })
}

/// Refuses a repository that has the name of one before it, as the lock would confuse them.
pub(super) fn check_names<'a>(repositories: impl Iterator<Item = &'a Repository>) -> Result<()> {
    let mut known: BTreeMap<&str, &Repository> = BTreeMap::new();
    for repository in repositories {
        if let Some(other) = known.insert(&repository.name, repository) {
            let what = format!("the repository name `{}`", repository.name);
            let taken = format!("used at {}", other.place);
            return Err(repository.place.error(Problem::Duplicate { what, taken }));
        }
    }
    Ok(())
}

impl Repository {
    fn read(item: &Item, keys: &[&str], root: &Path, directory: &Path) -> Result<Self> {
        let table = item.table(keys)?;
        let name = table.require("name")?;
        let signed_by = table.require("signed_by")?;
        let fingerprints = signed_by.each(fingerprint)?;
        if fingerprints.is_empty() {
            return Err(signed_by.unexpected("at least one fingerprint"));
        }
        let suite = word(table.require("suite")?)?;
        Ok(Self {
            name: word(name)?,
            url: url(table.require("url")?)?,
            mirrors: table.list("mirrors", url)?,
            snapshot: table.optional("snapshot", url)?,
            components: components(&table, suite.ends_with('/'))?,
            suite,
            packages: table.list("packages", package_pattern)?,
            keyring: keyring(table.require("keyring")?, root, directory)?,
            signed_by: fingerprints,
            place: name.place.clone(),
        })
    }
}

/// A flat repository has no components, any other some.
fn components(table: &Table<'_>, flat: bool) -> Result<Vec<String>> {
    match table.get("components") {
        Some(item) if flat => {
            let message = "a flat repository (`suite` ends with `/`) has no components";
            let help = Some("remove `components`, or name a suite".to_owned());
            Err(item.place.error_with_help(Problem::Contradiction(message.to_owned()), help))
        }
        None if flat => Ok(Vec::new()),
        _ => table.require("components")?.each(word),
    }
}

/// The name of a package (Debian Policy Manual, section 5.6.1), in which `*` stands for any text. One
/// that begins with it would let in whatever the repository offers.
fn package_pattern(item: &Item) -> Result<String> {
    let text = item.string()?;
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-.*".contains(&byte);
    let starts_well = text.starts_with(|first: char| first.is_ascii_alphanumeric());
    if !starts_well || !text.bytes().all(allowed) {
        return Err(item.unexpected("the name of a package, or its beginning and `*`"));
    }
    Ok(text.to_owned())
}

/// A word that becomes part of a URL path and of the lock. A suite may have several components
/// (`stable/updates`, or `./` for a flat repository), none of them `..`.
fn word(item: &Item) -> Result<String> {
    let text = item.string()?;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._/".contains(&byte);
    let climbs = text.split('/').any(|component| component == "..");
    if text.is_empty() || climbs || text.starts_with('/') || !text.bytes().all(allowed) {
        return Err(item.unexpected("a word of letters, digits, `+`, `-`, `.`, `_` and `/`"));
    }
    Ok(text.to_owned())
}

fn url(item: &Item) -> Result<String> {
    const EXPECTED: &str = "a base URL (http://, https:// or file:///, no user, no query)";
    let text = any_url(item, EXPECTED)?;
    if text.contains('?') {
        return Err(item.unexpected(EXPECTED));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// A URL that may have a query, as those of key servers do, and no credentials: those would be in the lock, and in every
/// manifest.
pub(super) fn any_url<'a>(item: &'a Item, expected: &str) -> Result<&'a str> {
    let text = item.string()?;
    let rest =
        ["http://", "https://", "file:///"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let has_user = rest.and_then(|rest| rest.split('/').next()).is_some_and(|it| it.contains('@'));
    let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !printable || rest.is_none_or(str::is_empty) || text.contains('#') || has_user {
        return Err(item.unexpected(expected));
    }
    Ok(text)
}

/// The fingerprint of a version 4 key, 160 bits (RFC 9580, section 5.5.4.2), or of a version 6
/// key, 256 bits (section 5.5.4.3). Spaces, as `gpg` prints them, are taken out.
fn fingerprint(item: &Item) -> Result<String> {
    let digits: String = item.string()?.chars().filter(|letter| *letter != ' ').collect();
    if !matches!(digits.len(), 40 | 64) || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(item.unexpected("a fingerprint (40 or 64 hexadecimal digits)"));
    }
    Ok(digits.to_ascii_uppercase())
}

/// A path below the definition, or `{ url = "…" }`.
fn keyring(item: &Item, root: &Path, directory: &Path) -> Result<Keyring> {
    use std::path::Component;
    if item.entries().is_ok() {
        let url = item.table(&schema::KEYRING_URL.names())?.require("url")?;
        return Ok(Keyring::Url(
            any_url(url, "a URL (http://, https:// or file:///, no user)")?.to_owned(),
        ));
    }
    let text = item.string().map_err(|_| item.unexpected("a path, or `{ url = \"…\" }`"))?;
    let relative = Path::new(text);
    let inside = relative.components().all(|part| matches!(part, Component::Normal(_)));
    if text.is_empty() || text.contains(char::is_control) || !inside {
        return Err(item.unexpected("a path below the definition's directory, without `..`"));
    }
    let path = directory.join(relative);
    let bytes = read_bytes(root, &path)
        .map_err(|error| item.unexpected(format!("a readable file ({error})")))?;
    Ok(Keyring::File { path, bytes })
}
