//! `[sources.NAME]`: what an image has that is in no package of a repository.

use std::fmt;

use super::container::ContainerImage;
use super::debian::any_url;
use super::document::{Item, Table};
use super::error::{Problem, Result};
use super::image::Image;
use super::name::{AbsolutePath, CommitId, Mode, SourceName};
use super::place::Place;
use super::schema;
use super::state::State;
use crate::digest::Digest;

/// Something that is fetched as it is and becomes part of an image.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// What messages, the lock and `--source` call it. Unique in a stack.
    pub name: SourceName,
    /// What it is, and where it goes.
    pub kind: UpstreamKind,
    /// Where it may be had, best first. At least one.
    pub urls: Vec<String>,
    /// What its bytes are.
    pub pin: Pin,
    /// Where the pin was published, in one line.
    pub published: Option<String>,
    /// What it is for, in one line.
    pub doc: Option<String>,
    /// Where it is declared.
    pub place: Place,
}

/// What a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpstreamKind {
    /// A tar archive, unpacked to a directory.
    Archive {
        /// The directory.
        into: AbsolutePath,
        /// How many leading components its paths lose.
        strip: usize,
    },
    /// The tree of a commit of a git repository.
    Git {
        /// The directory that it becomes.
        into: AbsolutePath,
    },
    /// One file, as it is.
    File {
        /// The file.
        into: AbsolutePath,
        /// Its permissions.
        mode: Mode,
    },
    /// A file or a directory of an OCI image.
    Oci {
        /// The image, as the definition names it.
        image: ContainerImage,
        /// What of it.
        path: AbsolutePath,
        /// The file or directory that it becomes.
        into: AbsolutePath,
    },
    /// A Debian package, which is installed like those of repositories.
    Package,
}

impl UpstreamKind {
    /// The word for it in definitions and locks.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Archive { .. } => "archive",
            Self::Git { .. } => "git",
            Self::File { .. } => "file",
            Self::Oci { .. } => "oci",
            Self::Package => "package",
        }
    }

    /// Where in the image it goes. A package says that itself.
    pub fn destination(&self) -> Option<&AbsolutePath> {
        match self {
            Self::Archive { into, .. }
            | Self::Git { into }
            | Self::File { into, .. }
            | Self::Oci { into, .. } => Some(into),
            Self::Package => None,
        }
    }
}

/// How the bytes of a source are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// By their SHA-256.
    Sha256(Digest),
    /// By the commit that they are in.
    Commit(CommitId),
    /// By the SHA-256 of the manifest or index of the OCI image that they are in.
    Image(Digest),
    /// Not yet: nobody could verify them. How to do that, in one line.
    Unverified(String),
}

impl fmt::Display for Pin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => digest.fmt(formatter),
            Self::Commit(commit) => commit.fmt(formatter),
            Self::Image(digest) => write!(formatter, "sha256:{digest}"),
            Self::Unverified(_) => formatter.write_str("unverified"),
        }
    }
}

/// Keys of every type of source.
const COMMON: [&str; 3] = ["type", "published", "doc"];

impl Upstream {
    /// Reads `[sources.NAME]`.
    pub(super) fn read(name: &SourceName, place: &Place, item: &Item) -> Result<Self> {
        const TYPES: &str = "one of `archive`, `file`, `git`, `oci`, `package`";
        let kind = item.table(&schema::SOURCE.names())?.require("type")?;
        let own: &[&str] = match kind.string()? {
            "archive" => &["urls", "into", "sha256", "unverified", "strip"],
            "file" => &["urls", "into", "sha256", "unverified", "mode"],
            "git" => &["urls", "into", "commit"],
            "oci" => &["image", "digest", "path", "into"],
            "package" => &["urls", "sha256", "unverified"],
            _ => return Err(kind.unexpected(TYPES)),
        };
        let table = item.table(&[&COMMON[..], own].concat())?;
        let into = || target(table.require("into")?);
        let upstream = match kind.string()? {
            "archive" => UpstreamKind::Archive {
                into: into()?,
                strip: table.optional("strip", strip)?.unwrap_or(0),
            },
            "git" => UpstreamKind::Git { into: into()? },
            "oci" => UpstreamKind::Oci {
                image: table.require("image")?.parse()?,
                path: table.require("path")?.parse()?,
                into: into()?,
            },
            "package" => UpstreamKind::Package,
            _ => UpstreamKind::File {
                into: into()?,
                mode: table.optional("mode", file_mode)?.unwrap_or(Mode::PLAIN),
            },
        };
        let published = || table.optional("published", Item::line);
        let (pin, published) = match &upstream {
            UpstreamKind::Git { .. } => {
                (Pin::Commit(table.require("commit")?.parse()?), published()?)
            }
            UpstreamKind::Oci { .. } => {
                (Pin::Image(image_digest(table.require("digest")?)?), published()?)
            }
            _ => pin(place, &table)?,
        };
        let urls = match &upstream {
            UpstreamKind::Oci { image, .. } => vec![image.url()],
            _ => urls(table.require("urls")?)?,
        };
        Ok(Self {
            name: name.clone(),
            kind: upstream,
            urls,
            pin,
            published,
            doc: table.optional("doc", Item::line)?,
            place: place.clone(),
        })
    }

    /// Whether it is a package, which takes part in the resolution.
    pub fn is_package(&self) -> bool {
        self.kind == UpstreamKind::Package
    }
}

/// The digest of a manifest or of an index (OCI image specification, descriptor.md, "Digests").
fn image_digest(item: &Item) -> Result<Digest> {
    let digest = item.string()?.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
    digest.ok_or_else(|| item.unexpected("a digest (`sha256:` and 64 hexadecimal digits)"))
}

/// Exactly one of `sha256` and `unverified`; a hash comes with where it was published.
fn pin(place: &Place, table: &Table<'_>) -> Result<(Pin, Option<String>)> {
    let published = table.optional("published", Item::line)?;
    match (table.get("sha256"), table.get("unverified")) {
        (Some(sha256), None) => {
            let digest = sha256
                .string()?
                .parse()
                .map_err(|_| sha256.unexpected("a SHA-256 (64 hexadecimal digits)"))?;
            if published.is_none() {
                let help = "add `published`, one line: where its authors, or somebody who had checked \
                            it, published this hash; if nobody did, replace `sha256` by `unverified`";
                let message = "a hash without where it was published says nothing of its bytes";
                let problem = Problem::Contradiction(message.to_owned());
                return Err(sha256.place.error_with_help(problem, Some(help.to_owned())));
            }
            Ok((Pin::Sha256(digest), published))
        }
        (None, Some(how)) => Ok((Pin::Unverified(how.line()?), published)),
        (Some(_), Some(how)) => {
            let message = "a source is either verified or not, and this one has `sha256` as well";
            let help = "remove `unverified`".to_owned();
            let problem = Problem::Contradiction(message.to_owned());
            Err(how.place.error_with_help(problem, Some(help)))
        }
        (None, None) => {
            let message = "nothing says what the bytes of this source are";
            let help = "add `sha256` and `published`, or, if nobody could verify a hash, \
                        `unverified` with how to do that";
            let problem = Problem::Contradiction(message.to_owned());
            Err(place.error_with_help(problem, Some(help.to_owned())))
        }
    }
}

fn urls(item: &Item) -> Result<Vec<String>> {
    let urls = item.each(url)?;
    if urls.is_empty() {
        return Err(item.unexpected("at least one URL"));
    }
    Ok(urls)
}

/// A URL of one file.
fn url(item: &Item) -> Result<String> {
    const EXPECTED: &str =
        "the URL of a file (http://, https:// or file:///, no user, no fragment)";
    any_url(item, EXPECTED).map(str::to_owned)
}

fn strip(item: &Item) -> Result<usize> {
    item.integer_in(0..=64, "a number of path components from 0 to 64")
        .map(|number: u32| number as usize)
}

/// Permissions of a file: images get no set-id bits from outside.
fn file_mode(item: &Item) -> Result<Mode> {
    let mode: Mode = item.parse()?;
    if mode.bits() > 0o777 {
        return Err(item.unexpected("permissions without set-id and sticky bits, such as \"0755\""));
    }
    Ok(mode)
}

/// Where a source may go: nowhere that is a link, or mounted over when the image runs.
fn target(item: &Item) -> Result<AbsolutePath> {
    let path: AbsolutePath = item.parse()?;
    let refuse = |message: String, help: String| {
        Err(item.place.error_with_help(Problem::Contradiction(message), Some(help)))
    };
    let top = path.as_str()[1..].split('/').next().unwrap_or_default();
    // Links into /usr since its merge: file-hierarchy(7), "Compatibility Symlinks".
    if ["bin", "sbin", "lib", "lib32", "lib64", "libx32"].contains(&top) {
        let help = format!("write /usr{path}");
        return refuse(format!("/{top} is a link to /usr/{top}"), help);
    }
    if ["dev", "proc", "sys", "run", "tmp"].contains(&top) {
        let help = "name a directory of the image itself, such as one below /usr/share".to_owned();
        return refuse(format!("/{top} is mounted over when the image runs"), help);
    }
    if path.as_str().split('/').any(|name| name.starts_with(".wh.")) {
        let help = "name it differently".to_owned();
        return refuse("`.wh.` marks deleted files in layers".to_owned(), help);
    }
    Ok(path)
}

/// Checks that the sources of the last image of `stack` go nowhere that a volume hides.
pub(super) fn check_targets(stack: &[&Image]) -> Result<()> {
    let sources = stack.last().into_iter().flat_map(|image| image.sources.values());
    for source in sources {
        let Some(into) = source.kind.destination() else { continue };
        let into = into.relative();
        let hides = |state: &&State| into.starts_with(state.path.relative());
        if let Some(state) = stack.iter().flat_map(|image| &image.states).find(hides) {
            let message = format!(
                "the state volume `{}` ({}) is mounted over what this source puts there",
                state.name, state.place
            );
            let help = "put it outside the volume, and copy it from there when the service starts for \
                        the first time";
            let problem = Problem::Contradiction(message);
            return Err(source.place.error_with_help(problem, Some(help.to_owned())));
        }
    }
    Ok(())
}
