//! The lock file.
//!
//! ```toml
//! version = 1
//! snapshot = "20261123T090000Z"
//!
//! [[repository]]
//! image = "base"
//! name = "trixie"
//! suite = "trixie"
//! date = "2026-09-12T07:55:41Z"
//! release = "<SHA-256 of the InRelease file>"
//!
//! [image.base]
//! wants = "<digest of the wishes, see `wants_digest`>"
//! packages = [
//!   { name = "adduser", version = "3.152", architecture = "all", repository = "trixie",
//!     path = "pool/main/a/adduser/adduser_3.152_all.deb", size = 191234, sha256 = "…" },
//! ]
//! ```
//!
//! One package is one line, so that a merge or a review shows packages. `snapshot` is the moment
//! at which the packages were on offer: an archive of past states has all of them for that
//! moment. A package that was kept although it had left its repository by then has a `snapshot`
//! of its own.
//!
//! An image with `[sources.NAME]` has a list `sources` beside its `packages`, a line each: `name`,
//! `type`, one of `sha256`, `commit`, `digest` and `unverified`, `published` and `urls`. A package that
//! is one of them has the name of the source, `source`, instead of `repository` and `path`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use miette::NamedSource;
use serde::{Deserialize, Serialize};

use super::{Error, LockedSource};
use crate::debian::date::Moment;
use crate::debian::packages::{is_architecture, is_pool_path};
use crate::debian::relation::is_package_name;
use crate::debian::repository::Repository;
use crate::debian::version;
use crate::digest::Digest;

const HEADER: &str = "# Written by `imgbuild lock`. Commit it; do not edit it.\n";

/// How long a snapshot archive may take to import a state.
const SNAPSHOT_DELAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The packages of all images.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// The version of the format: 1.
    pub version: u64,
    /// When it was resolved, like `20261123T090000Z`.
    pub snapshot: String,
    /// The states of repositories that it was made from.
    #[serde(rename = "repository", default)]
    pub repositories: Vec<LockedRepository>,
    /// The images by name.
    #[serde(rename = "image", default)]
    pub images: BTreeMap<String, LockedImage>,
}

/// The state of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedRepository {
    /// The image that names the repository.
    pub image: String,
    /// The repository's name there.
    pub name: String,
    /// The suite that was asked for.
    pub suite: String,
    /// The date of its Release file. An older one is never accepted again.
    pub date: Moment,
    /// The SHA-256 of its InRelease file.
    pub release: Digest,
    /// The SHA-256 of the certificates, if they came from a URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keyring: Option<Digest>,
}

/// The packages that one image has and its parent has not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedImage {
    /// The digest of the wishes that it was made for.
    pub wants: Digest,
    /// The packages, sorted by name.
    pub packages: Vec<LockedPackage>,
    /// What it has that is in no package, sorted by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<LockedSource>,
}

/// One file of one package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// The name of the package.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
    /// The name of its repository. Empty if it is a source.
    #[serde(default)]
    pub repository: String,
    /// The file, relative to the repository's URL. Never absolute, never with `..`. Empty if it is
    /// a source.
    #[serde(default)]
    pub path: String,
    /// The name of its source, if it is one, whose URLs are among the sources of the image that
    /// declares it.
    #[serde(default)]
    pub source: Option<String>,
    /// The size of the file in bytes.
    pub size: u64,
    /// The SHA-256 of the file.
    pub sha256: Digest,
    /// When it was on offer, if not at the moment of the whole lock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
}

impl LockedPackage {
    /// Where the file can be had, the best first: the repository and its mirrors, then its
    /// archive of past states at the moment of the lock, `snapshot`, and a day later, because
    /// such an archive imports a state some hours after it was current.
    pub fn urls(&self, repository: &Repository, snapshot: &str) -> Vec<String> {
        // A `%` in a file name is not the start of an escape.
        let path = self.path.replace('%', "%25");
        let mut urls: Vec<String> =
            repository.urls().map(|base| format!("{base}/{path}")).collect();
        if let Some(archive) = &repository.snapshot {
            let archive = archive.trim_end_matches('/');
            let moment = self.snapshot.as_deref().unwrap_or(snapshot);
            urls.push(format!("{archive}/{moment}/{path}"));
            if let Some(moment) = Moment::parse_snapshot(moment) {
                let later = moment.after(SNAPSHOT_DELAY).snapshot();
                urls.push(format!("{archive}/{later}/{path}"));
            }
        }
        urls
    }

    /// What is wrong with it, if it is not what [`super::resolve()`] could have written.
    fn defect(&self) -> Option<&'static str> {
        let moment = self.snapshot.as_deref();
        if !is_package_name(&self.name) {
            Some("name")
        } else if version::validate(&self.version).is_err() {
            Some("version")
        } else if !is_architecture(&self.architecture) {
            Some("architecture")
        } else if !self.path.is_empty() && self.source.is_some() {
            Some("source")
        } else if self.source.is_none() && !is_pool_path(&self.path) {
            Some("path")
        } else if moment.is_some_and(|moment| Moment::parse_snapshot(moment).is_none()) {
            Some("snapshot")
        } else {
            None
        }
    }
}

impl Lock {
    /// Reads the lock file at `path`.
    ///
    /// # Errors
    ///
    /// There is none, or it cannot be read, or it is damaged, or of another version.
    pub fn read(path: &Path) -> Result<Self, Error> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::Absent { path: path.to_owned() })
            }
            Err(source) => Err(Error::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(path: &Path, text: String) -> Result<Self, Error> {
        /// The version decides whether the rest can be understood.
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let malformed = |text: String, message: String, span: Option<std::ops::Range<usize>>| {
            let text = NamedSource::new(path.display().to_string(), text).with_language("TOML");
            Error::Malformed { message, text: Arc::new(text), span: span.map(Into::into) }
        };
        let toml_error = |text: String, error: toml::de::Error| {
            malformed(text, error.message().to_owned(), error.span())
        };
        match toml::from_str(&text) {
            Ok(Version { version: 1 }) => {}
            Ok(Version { version }) => {
                return Err(Error::Version { path: path.to_owned(), version });
            }
            Err(error) => return Err(toml_error(text, error)),
        }
        let lock: Self = match toml::from_str(&text) {
            Ok(lock) => lock,
            Err(error) => return Err(toml_error(text, error)),
        };
        if Moment::parse_snapshot(&lock.snapshot).is_none() {
            return Err(malformed(text, "`snapshot` is not a moment".to_owned(), None));
        }
        for (image, locked) in &lock.images {
            for package in &locked.packages {
                if let Some(field) = package.defect() {
                    let name = &package.name;
                    let message = format!("`{name}` of image `{image}` has no valid `{field}`");
                    let start = text.find(&format!("name = {name:?}"));
                    let span = start.map(|start| start..start + "name".len());
                    return Err(malformed(text, message, span));
                }
            }
        }
        Ok(lock)
    }

    /// Writes the lock file at `path`: whole or not at all. A file that has this content already
    /// is left alone.
    ///
    /// # Errors
    ///
    /// The directory cannot be written to.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let error = |source| Error::Write { path: path.to_owned(), source };
        let text = self.text();
        if fs::read_to_string(path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // The umask of the user applies, as for any file of a project.
        let mut file = tempfile::Builder::new()
            .prefix(".imgbuild.lock.")
            .permissions(fs::Permissions::from_mode(0o666))
            .tempfile_in(directory)
            .map_err(error)?;
        file.write_all(text.as_bytes()).map_err(error)?;
        file.as_file().sync_all().map_err(error)?;
        file.persist(path).map_err(|failed| error(failed.error))?;
        Ok(())
    }

    /// The content of the lock file. Equal locks have equal texts.
    pub fn text(&self) -> String {
        let mut text = HEADER.to_owned();
        self.write_text(&mut text).expect("writing to a string cannot fail");
        text
    }

    fn write_text(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "version = {}", self.version)?;
        writeln!(text, "snapshot = {}", quoted(&self.snapshot))?;
        for repository in &self.repositories {
            let LockedRepository { image, name, suite, date, release, keyring } = repository;
            writeln!(text, "\n[[repository]]")?;
            writeln!(text, "image = {}", quoted(image))?;
            writeln!(text, "name = {}", quoted(name))?;
            writeln!(text, "suite = {}", quoted(suite))?;
            writeln!(text, "date = \"{date}\"")?;
            writeln!(text, "release = \"{release}\"")?;
            if let Some(keyring) = keyring {
                writeln!(text, "keyring = \"{keyring}\"")?;
            }
        }
        for (name, image) in &self.images {
            writeln!(text, "\n[image.{}]", key(name))?;
            writeln!(text, "wants = \"{}\"", image.wants)?;
            writeln!(text, "packages = [")?;
            for package in &image.packages {
                write_package(text, package)?;
            }
            writeln!(text, "]")?;
            if !image.sources.is_empty() {
                writeln!(text, "sources = [")?;
                for source in &image.sources {
                    source.write(text)?;
                }
                writeln!(text, "]")?;
            }
        }
        Ok(())
    }
}

fn write_package(text: &mut String, package: &LockedPackage) -> std::fmt::Result {
    let LockedPackage { name, version, architecture, size, sha256, snapshot, .. } = package;
    write!(text, "  {{ name = {}, version = {}", quoted(name), quoted(version))?;
    write!(text, ", architecture = {}", quoted(architecture))?;
    match &package.source {
        Some(source) => write!(text, ", source = {}", quoted(source))?,
        None => {
            let (repository, path) = (quoted(&package.repository), quoted(&package.path));
            write!(text, ", repository = {repository}, path = {path}")?;
        }
    }
    write!(text, ", size = {size}, sha256 = \"{sha256}\"")?;
    if let Some(snapshot) = snapshot {
        write!(text, ", snapshot = {}", quoted(snapshot))?;
    }
    writeln!(text, " }},")
}

/// A key of TOML: bare where that is possible.
fn key(name: &str) -> String {
    let bare = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !name.is_empty() && name.bytes().all(bare) { name.to_owned() } else { quoted(name) }
}

/// A basic string of TOML.
pub(super) fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if control.is_control() => {
                text.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => text.push(other),
        }
    }
    text.push('"');
    text
}
