//! Release files: what a repository's suite consists of, with the hash of each of its indexes.
//!
//! The format is described in
//! [DebianRepository/Format](https://wiki.debian.org/DebianRepository/Format). A [`Release`] is
//! made from text whose signature was checked before, see [`super::openpgp`].

use std::collections::BTreeMap;
use std::time::Duration;

use super::control;
use super::date::Moment;
use crate::digest::Digest;

#[cfg(test)]
mod tests;

/// How far the clocks of an archive and of this machine may differ.
const CLOCK_SKEW: Duration = Duration::from_secs(30 * 60);

/// The description of one suite at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// When it was made.
    pub date: Moment,
    /// After this it must not be trusted to be the newest any more.
    pub valid_until: Option<Moment>,
    /// Whether indexes are also served under names made of their hash.
    pub acquire_by_hash: bool,
    suite: Option<String>,
    codename: Option<String>,
    architectures: Vec<String>,
    components: Vec<String>,
    /// Packages for all architectures are listed with those of each architecture only.
    no_support_for_all: bool,
    files: BTreeMap<String, File>,
}

/// A file that a Release file vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    /// Its size in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
}

/// What was asked of a repository.
#[derive(Clone, Copy, Debug)]
pub struct Expectation<'a> {
    /// The suite or code name: `trixie`. None for a flat repository, which has no suites.
    pub suite: Option<&'a str>,
    /// The date of the Release file that was seen last, if one was.
    pub not_before: Option<Moment>,
    /// The time of asking.
    pub now: Moment,
}

/// Why a Release file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum Error {
    /// A line that cannot be understood.
    #[error("malformed Release file")]
    Malformed(#[from] control::MalformedLine),
    /// A field that must be there and is not, or has no sense.
    #[error("the Release file has no valid `{0}`")]
    Field(&'static str),
    /// A line of the list of files that cannot be understood, or contradicts another.
    #[error("the Release file lists a file in a way that makes no sense: `{0}`")]
    FileLine(String),
    /// It is for another suite.
    #[error("asked for `{asked}`, but the Release file is for {found}")]
    #[diagnostic(help(
        "correct `suite` in the definition; if it is right, the mirror serves the wrong files"
    ))]
    WrongSuite {
        /// What the definition says.
        asked: String,
        /// What the file says.
        found: String,
    },
    /// `Valid-Until` is over.
    #[error("the Release file was valid until {0}, which is past")]
    #[diagnostic(help(
        "the mirror is out of date, or somebody keeps updates from you: try another mirror, and \
         check the clock of this machine"
    ))]
    Expired(Moment),
    /// It is older than one that was seen before.
    #[error("the Release file is of {found}, but the lock was made from one of {seen}")]
    #[diagnostic(help(
        "the mirror is behind, or somebody keeps updates from you: try another mirror"
    ))]
    RolledBack {
        /// Its date.
        found: Moment,
        /// The date in the lock file.
        seen: Moment,
    },
    /// It is of the future.
    #[error("the Release file is of {0}, which is in the future")]
    #[diagnostic(help("check the clock of this machine"))]
    Future(Moment),
    /// The suite does not have the architecture.
    #[error("`{suite}` has no packages for {architecture}, only for {available}")]
    Architecture {
        /// The suite.
        suite: String,
        /// What was asked for.
        architecture: String,
        /// What there is.
        available: String,
    },
    /// The suite does not have the component.
    #[error("`{suite}` has no component `{component}`, only {available}")]
    #[diagnostic(help("correct `components` in the definition"))]
    Component {
        /// The suite.
        suite: String,
        /// What was asked for.
        component: String,
        /// What there is.
        available: String,
    },
    /// No index of packages is listed.
    #[error("the Release file of `{suite}` lists no SHA-256 for {path}")]
    NoIndex {
        /// The suite.
        suite: String,
        /// What was looked for.
        path: String,
    },
}

/// How an index is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// `.xz`
    Xz,
    /// `.gz`
    Gzip,
    /// Not at all.
    None,
}

/// An index of packages: where it is and what it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The path of the packed file, relative to the Release file.
    pub path: String,
    /// The packed file.
    pub packed: File,
    /// The file within, if the Release file says what it must be.
    pub plain: Option<File>,
    /// How it is packed.
    pub compression: Compression,
}

impl Release {
    /// Reads the verified text of a Release file and checks it against what was asked for.
    ///
    /// # Errors
    ///
    /// The text is no Release file, or not the one that was asked for: another suite, expired,
    /// older than the last one or of the future.
    pub fn parse(text: &str, expectation: &Expectation<'_>) -> Result<Self, Error> {
        let release = Self::read(text)?;
        release.check(expectation)?;
        Ok(release)
    }

    fn read(text: &str) -> Result<Self, Error> {
        let paragraph = control::paragraphs(text).next().unwrap_or("");
        let mut fields = BTreeMap::new();
        for field in control::fields(paragraph) {
            let (name, value) = field?;
            if fields.insert(name.to_ascii_lowercase(), value).is_some() {
                return Err(Error::FileLine(format!("{name} (twice)")));
            }
        }
        let field = |name: &str| fields.get(name).copied();
        let words = |name: &str| -> Vec<String> {
            field(name).unwrap_or("").split_ascii_whitespace().map(str::to_owned).collect()
        };
        let date = field("date").and_then(Moment::parse_release).ok_or(Error::Field("Date"))?;
        let valid_until = match field("valid-until") {
            Some(text) => Some(Moment::parse_release(text).ok_or(Error::Field("Valid-Until"))?),
            None => None,
        };
        Ok(Self {
            date,
            valid_until,
            acquire_by_hash: field("acquire-by-hash").is_some_and(|value| value == "yes"),
            suite: field("suite").map(str::to_owned),
            codename: field("codename").map(str::to_owned),
            architectures: words("architectures"),
            components: words("components"),
            no_support_for_all: words("no-support-for-architecture-all")
                .iter()
                .any(|word| word == "Packages"),
            files: files(field("sha256").ok_or(Error::Field("SHA256"))?)?,
        })
    }

    fn check(&self, expectation: &Expectation<'_>) -> Result<(), Error> {
        let names = [&self.suite, &self.codename];
        if let Some(suite) = expectation.suite
            && !names.iter().any(|name| name.as_deref() == Some(suite))
        {
            let found = match names.map(|name| name.as_deref()) {
                [None, None] => "a suite that it does not name".to_owned(),
                [Some(name), None] | [None, Some(name)] => format!("`{name}`"),
                [Some(suite), Some(codename)] => format!("`{codename}` (`{suite}`)"),
            };
            return Err(Error::WrongSuite { asked: suite.to_owned(), found });
        }
        if self.date > expectation.now.after(CLOCK_SKEW) {
            return Err(Error::Future(self.date));
        }
        if let Some(end) = self.valid_until.filter(|end| *end < expectation.now) {
            return Err(Error::Expired(end));
        }
        match expectation.not_before {
            Some(seen) if self.date < seen => Err(Error::RolledBack { found: self.date, seen }),
            _ => Ok(()),
        }
    }

    /// The indexes of packages of `component` that can be installed on `architecture`.
    ///
    /// # Errors
    ///
    /// The suite has no such architecture or component, or the Release file no hash of the
    /// index.
    pub fn indexes(
        &self,
        suite: &str,
        component: &str,
        architecture: &str,
    ) -> Result<Vec<Index>, Error> {
        if !self.architectures.iter().any(|known| known == architecture) {
            return Err(Error::Architecture {
                suite: suite.to_owned(),
                architecture: architecture.to_owned(),
                available: self.architectures.join(", "),
            });
        }
        // Debian's security suites say `updates/main` and mean `main`.
        let known = |name: &String| {
            name == component || name.rsplit_once('/').is_some_and(|(_, last)| last == component)
        };
        if !self.components.iter().any(known) {
            return Err(Error::Component {
                suite: suite.to_owned(),
                component: component.to_owned(),
                available: self.components.join(", "),
            });
        }
        let path = |architecture: &str| format!("{component}/binary-{architecture}/Packages");
        let own = path(architecture);
        let mut indexes = vec![
            self.index(&own)
                .ok_or_else(|| Error::NoIndex { suite: suite.to_owned(), path: own })?,
        ];
        if !self.no_support_for_all && self.architectures.iter().any(|known| known == "all") {
            indexes.extend(self.index(&path("all")));
        }
        Ok(indexes)
    }

    /// The index of packages of a flat repository, in the directory called `suite`. It has packages
    /// of all architectures, and its Release file need not say which.
    ///
    /// # Errors
    ///
    /// The Release file says that there is nothing for the architecture, or has no hash of the index.
    pub fn flat_index(&self, suite: &str, architecture: &str) -> Result<Index, Error> {
        let known = |known: &String| known == architecture || known == "all";
        if !self.architectures.is_empty() && !self.architectures.iter().any(known) {
            return Err(Error::Architecture {
                suite: suite.to_owned(),
                architecture: architecture.to_owned(),
                available: self.architectures.join(", "),
            });
        }
        let path = "Packages".to_owned();
        self.index(&path).ok_or_else(|| Error::NoIndex { suite: suite.to_owned(), path })
    }

    /// The index at `path`, packed as small as it is offered. Tools for small repositories list only
    /// the files that they keep, so that the unpacked one may be missing from the list.
    fn index(&self, path: &str) -> Option<Index> {
        let plain = self.files.get(path).copied();
        [(".xz", Compression::Xz), (".gz", Compression::Gzip), ("", Compression::None)]
            .into_iter()
            .find_map(|(extension, compression)| {
                let path = format!("{path}{extension}");
                let packed = *self.files.get(&path)?;
                Some(Index { path, packed, plain, compression })
            })
    }
}

/// The lines ` SHA256 SIZE PATH`.
fn files(value: &str) -> Result<BTreeMap<String, File>, Error> {
    let mut files = BTreeMap::new();
    for line in value.lines().filter(|line| !line.trim().is_empty()) {
        let error = || Error::FileLine(line.trim().to_owned());
        let mut words = line.split_ascii_whitespace();
        let mut word = || words.next().ok_or_else(error);
        let sha256 = word()?.parse().map_err(|_| error())?;
        let size = word()?.parse().map_err(|_| error())?;
        // `apt-ftparchive release .` and its like write `./Packages`.
        let path = word()?.trim_start_matches("./");
        let file = File { size, sha256 };
        if words.next().is_some()
            || files.insert(path.to_owned(), file).is_some_and(|old| old != file)
        {
            return Err(error());
        }
    }
    Ok(files)
}
