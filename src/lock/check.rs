//! Whether a lock fits the definitions.

use std::collections::BTreeMap;

use super::{Lock, LockedRepository, Wishes, wants_digests};

/// The lock does not fit the definitions any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("the lock is out of date: image `{image}` {reason}")]
#[diagnostic(help("run `imgbuild lock`, look at what it changes, and commit the lock file"))]
pub struct OutOfDate {
    /// The first image that does not fit.
    pub image: String,
    /// What about it.
    pub reason: &'static str,
}

/// An image that the lock has not, and that needs a repository which the lock has never seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("`{image}` is not in the lock: its packages come from {}, which nobody has locked yet", urls.join(", "))]
#[diagnostic(help(
    "run `imgbuild lock {image}` on a machine that reaches them and commit the lock file; or name a \
     copy of each in `mirrors` of its definition, as a URL or a directory (`file:///…`), and \
     run it here; a single .deb can be given to it: `--source NAME=PATH`"
))]
pub struct Unlocked {
    /// The image.
    pub image: String,
    /// The URLs of such repositories, and those of packages with what is expected of them.
    pub urls: Vec<String>,
}

impl Lock {
    /// Whether the lock fits `wishes`, parents before children; needs no network. Further
    /// images in the lock do not matter.
    ///
    /// # Errors
    ///
    /// The first image that is absent, or wants something else than when the lock was made.
    pub fn check(&self, wishes: &[Wishes]) -> Result<(), OutOfDate> {
        self.check_packages(wishes)?;
        let differs = |wish: &&Wishes| {
            self.images.get(&wish.image).is_some_and(|locked| locked.sources != wish.sources)
        };
        match wishes.iter().find(differs) {
            None => Ok(()),
            Some(wish) => Err(OutOfDate {
                image: wish.image.clone(),
                reason: "has other sources than when the lock was made",
            }),
        }
    }

    /// As [`Lock::check`], for packages alone.
    pub(super) fn check_packages(&self, wishes: &[Wishes]) -> Result<(), OutOfDate> {
        let digests = wants_digests(wishes);
        for image in wishes.iter().map(|wishes| &wishes.image) {
            let reason = match self.images.get(image) {
                None => "is not in it",
                Some(locked) if locked.wants != digests[image.as_str()] => {
                    "wants other packages or repositories than when the lock was made"
                }
                Some(_) => continue,
            };
            return Err(OutOfDate { image: image.clone(), reason });
        }
        Ok(())
    }

    /// The images of `wishes`, parents before children, that were never locked because nobody has
    /// reached all of their repositories yet. Every other image has to be in the lock.
    pub fn unlocked(&self, wishes: &[Wishes]) -> Vec<Unlocked> {
        let mut missing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut unlocked = Vec::new();
        for image in wishes {
            let inherited = image.parent.as_deref().and_then(|parent| missing.get(parent));
            let own = image.own_repositories().iter().filter(|own| {
                let is_own =
                    |seen: &&LockedRepository| seen.image == image.image && seen.name == own.name;
                !self.repositories.iter().any(|seen| is_own(&seen))
            });
            let mut urls = inherited.cloned().unwrap_or_default();
            let is_locked = self.images.contains_key(&image.image);
            for file in image.files.iter().filter(|_| !is_locked) {
                urls.extend(file.urls.iter().map(|url| format!("{url} ({})", file.expected())));
            }
            for repository in own {
                if !urls.contains(&repository.url) {
                    urls.push(repository.url.clone());
                }
            }
            if !urls.is_empty() && !is_locked {
                unlocked.push(Unlocked { image: image.image.clone(), urls: urls.clone() });
            }
            missing.insert(&image.image, urls);
        }
        unlocked
    }
}
