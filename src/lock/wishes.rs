//! What images ask for, as the definitions say it.

use std::collections::BTreeMap;

use miette::SourceSpan;

use super::LockedSource;
use crate::debian::repository::Repository;
use crate::definition::{Place, Source};
use crate::digest::{Digest, Hasher};

/// The wishes of one image.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Its name.
    pub image: String,
    /// The image that it extends.
    pub parent: Option<String>,
    /// The packages that it wants, in the order in which they are written.
    pub relations: Vec<Wanted>,
    /// Whether it wants every package that is `Essential: yes`, too.
    pub essential: bool,
    /// The names of packages that neither it nor an image above it may have.
    pub exclude: Vec<String>,
    /// What it has that is in no package, sorted by name.
    pub sources: Vec<LockedSource>,
    /// Packages that it names itself by URL, sorted by name. They are among `sources` too.
    pub files: Vec<WantedFile>,
    /// Where packages come from: the settings of the image at the root of the stack, with the
    /// repositories of all images from there up to this one.
    pub debian: DebianSettings,
    /// How many of the repositories, the last ones, the image names itself.
    pub own_repositories: usize,
}

impl Wishes {
    /// The repositories that the image names itself.
    pub fn own_repositories(&self) -> &[Repository] {
        let all = &self.debian.repositories;
        &all[all.len().saturating_sub(self.own_repositories)..]
    }

    /// Whether it brings packages that those below it have not: of repositories, or by URL.
    pub fn has_own(&self) -> bool {
        !self.own_repositories().is_empty() || !self.files.is_empty()
    }

    /// The number of the first of [`Wishes::own_repositories`] among all.
    pub fn first_own(&self) -> usize {
        self.debian.repositories.len().saturating_sub(self.own_repositories)
    }
}

/// One entry of a list of packages: `haproxy (>= 3.0)`.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The relation.
    pub text: String,
    /// The file in which it is written.
    pub source: Source,
    /// Where in the file, with or without the quotation marks.
    pub span: SourceSpan,
}

/// A package that takes part in the resolution like a repository with nothing else.
#[derive(Clone, Debug)]
pub struct WantedFile {
    /// The name of the source that it is.
    pub name: String,
    /// Where it may be had, best first.
    pub urls: Vec<String>,
    /// The SHA-256 of its bytes; or, where nobody has verified them, how to do that.
    pub pin: Result<Digest, String>,
    /// Where it is declared.
    pub place: Place,
}

impl WantedFile {
    /// What its bytes have to be, in words.
    pub fn expected(&self) -> String {
        match &self.pin {
            Ok(digest) => format!("sha256 {digest}"),
            Err(_) => "not verified yet".to_owned(),
        }
    }
}

/// Where the packages of a stack of images come from.
#[derive(Clone, Debug)]
pub struct DebianSettings {
    /// Their architecture, as Debian calls it: `amd64`.
    pub architecture: String,
    /// The repositories. Of a version that several offer, the first's file is taken.
    pub repositories: Vec<Repository>,
}

/// The digest of everything that decides which packages an image gets, but for what the
/// repositories offer: as long as it stays the same, so does the image's part of the lock.
///
/// Sources that are no packages do not count either: the lock has them as the definition does. Of those
/// that are, their bytes count.
///
/// URLs do not count. An archive may move, and the files are known by their hashes.
pub fn wants_digest(wishes: &Wishes, parent: Option<Digest>) -> Digest {
    let mut hasher = Hasher::new();
    hasher.field("imgbuild wants 1");
    hasher.field(parent.map_or_else(String::new, |parent| parent.to_string()));
    hasher.field([u8::from(wishes.essential)]);
    let mut list = |items: &mut dyn Iterator<Item = &str>| {
        let items: Vec<&str> = items.collect();
        hasher.field((items.len() as u64).to_le_bytes());
        for item in items {
            hasher.field(item);
        }
    };
    list(&mut wishes.relations.iter().map(|wanted| wanted.text.trim()));
    let mut exclude: Vec<&str> = wishes.exclude.iter().map(String::as_str).collect();
    exclude.sort_unstable();
    list(&mut exclude.into_iter());
    list(&mut std::iter::once(wishes.debian.architecture.as_str()));
    let mut allowed = Vec::new();
    for repository in &wishes.debian.repositories {
        list(&mut [repository.name.as_str(), repository.suite.as_str()].into_iter());
        list(&mut repository.components.iter().map(String::as_str));
        list(&mut repository.signed_by.iter().map(String::as_str));
        allowed.push(&repository.packages);
    }
    // Each list of them follows words that no list begins with, so that nothing can be taken for it.
    for (index, packages) in allowed.iter().enumerate().filter(|(_, list)| !list.is_empty()) {
        hasher.field(format!("only these packages of repository {index}"));
        packages.iter().for_each(|package| hasher.field(package));
    }
    for file in &wishes.files {
        hasher.field(format!("the package of source {}", file.name));
        hasher.field(file.pin.as_ref().map_or_else(|_| String::new(), Digest::to_string));
    }
    hasher.finish()
}

/// The digest of each of `wishes` by the name of its image.
///
/// # Panics
///
/// If a parent is absent or comes after its child.
pub fn wants_digests(wishes: &[Wishes]) -> BTreeMap<&str, Digest> {
    let mut digests = BTreeMap::new();
    for image in wishes {
        let parent = image.parent.as_deref().map(|parent| digests[parent]);
        digests.insert(image.image.as_str(), wants_digest(image, parent));
    }
    digests
}
