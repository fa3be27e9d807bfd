//! Packages that are sources, for the resolution.

use super::layers::DOWNLOADS;
use super::obtain::attempts;
use super::{Supplied, Supplies};
use crate::digest::Digest;
use crate::fetch::{self, Fetcher, Request};
use crate::lock::{FileProblem, PackageFile, PackageFiles, WantedFile};
use crate::progress::Progress;
use crate::store::Store;

/// Gets packages from what was given by hand, from the store, and from their URLs.
pub struct Packages<'a> {
    /// Where downloads are kept.
    pub store: &'a Store,
    /// Gets what is not there.
    pub fetcher: &'a Fetcher,
    /// What was given by hand.
    pub supplies: &'a Supplies,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

impl PackageFiles for Packages<'_> {
    fn get(&self, wanted: &WantedFile) -> Result<PackageFile, FileProblem> {
        match (self.supplies.get(&wanted.name), &wanted.pin) {
            (Some(given), Ok(pinned)) if given.digest != *pinned => {
                Err(other(wanted, given, pinned))
            }
            (Some(given), _) => self.stored(wanted, &given.digest),
            (None, Ok(digest)) => self.fetch(wanted, digest),
            (None, Err(how)) => Err(unverified(wanted, how)),
        }
    }
}

impl Packages<'_> {
    fn stored(&self, wanted: &WantedFile, digest: &Digest) -> Result<PackageFile, FileProblem> {
        let gone = || FileProblem {
            message: format!(
                "the source `{}` was deleted from the store while it was in use",
                wanted.name
            ),
            help: "run the command again, and do not delete files of the store by hand".to_owned(),
        };
        let blob = self.store.blob(digest).ok_or_else(gone)?;
        Ok(PackageFile { path: blob.path().to_owned(), digest: blob.digest(), size: blob.size() })
    }

    fn fetch(&self, wanted: &WantedFile, digest: &Digest) -> Result<PackageFile, FileProblem> {
        let request = Request {
            label: format!("source {}", wanted.name),
            urls: wanted.urls.clone(),
            digest: *digest,
            size: None,
        };
        let requests = std::slice::from_ref(&request);
        self.fetcher
            .download(requests, self.store, DOWNLOADS, self.progress)
            .map_err(|error| unreachable(wanted, digest, &error))?;
        self.stored(wanted, digest)
    }
}

fn other(wanted: &WantedFile, given: &Supplied, pinned: &Digest) -> FileProblem {
    let (name, place) = (&wanted.name, &wanted.place);
    FileProblem {
        message: format!(
            "sha256 {} was given for the source `{name}`, and its definition pins {pinned}",
            given.digest
        ),
        help: format!(
            "a lock takes nothing else than what is pinned: give that file, or put the SHA-256 of this one \
             into {place}, with where it was published"
        ),
    }
}

fn unverified(wanted: &WantedFile, how: &str) -> FileProblem {
    let (name, place) = (&wanted.name, &wanted.place);
    FileProblem {
        message: format!(
            "nobody has verified the source `{name}`, whose control file decides what comes with it"
        ),
        help: format!(
            "{how}\nThen there are two ways on:\n- put the hash into {place}: replace `unverified` by \
             `sha256` and `published`, and run `imgbuild lock` again\n- give the package yourself, here \
             and to each build, and have artifacts marked as unpinned: --source {name}=PATH"
        ),
    }
}

fn unreachable(wanted: &WantedFile, digest: &Digest, error: &fetch::Error) -> FileProblem {
    let (name, place) = (&wanted.name, &wanted.place);
    let Some(failed) = attempts(error) else {
        let help = "free the store from what is in its way, and run the command again".to_owned();
        return FileProblem { message: error.to_string(), help };
    };
    let mut tried: Vec<String> = failed.into_iter().flat_map(|(_, tried)| tried).collect();
    if tried.is_empty() {
        let offline = |url: &String| format!("{url}: {}", fetch::Failure::Offline);
        tried = wanted.urls.iter().map(offline).collect();
    }
    let lines: String = tried.iter().map(|line| format!("\n  {line}")).collect();
    FileProblem {
        message: format!("cannot fetch the source `{name}`, sha256 {digest}:{lines}"),
        help: format!(
            "its control file decides what comes with it, so it is needed here; there are two ways on:\n- \
             name another URL that has it, a mirror or file:///…, in `urls` of {place}\n- get it \
             yourself by whatever way and give it: imgbuild lock --source {name}=PATH"
        ),
    }
}
