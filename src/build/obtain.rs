//! Getting what sources are made of into the store.

use super::layers::DOWNLOADS;
use super::plan::PinnedSource;
use super::sources::{unusable, unverified};
use super::supply::{ImagePart, known_commit, lock_commit, put_commit};
use super::{Builder, Error, LockedImage};
use crate::definition::{CommitId, Pin, UpstreamKind};
use crate::digest::Digest;
use crate::fetch::{self, Request, Verified};
use crate::layer::source::{self, oci};
use crate::progress::Step;

impl Builder<'_> {
    /// Gets the sources of `images`, in their order; of each, those of its layer come first.
    pub(super) fn fetch_sources(&self, images: &[LockedImage]) -> Result<Vec<Verified>, Error> {
        let sources: Vec<(&PinnedSource, Digest)> = images
            .iter()
            .flat_map(LockedImage::all_sources)
            .map(|source| Ok((source, self.digest(source)?)))
            .collect::<Result<_, Error>>()?;
        let request = |(source, digest): &(&PinnedSource, Digest)| Request {
            label: format!("source {}", source.upstream.name),
            // What was given is in the store.
            urls: source.supplied.as_ref().map_or_else(|| source.upstream.urls.clone(), |_| vec![]),
            digest: *digest,
            size: None,
        };
        let requests: Vec<Request> = sources.iter().map(request).collect();
        self.fetcher
            .download(&requests, self.downloads, DOWNLOADS, self.progress)
            .map_err(|error| self.unreachable(&sources, error))
    }

    /// The SHA-256 of what `source` is made of. The tree of a commit is brought into the store for that.
    fn digest(&self, source: &PinnedSource) -> Result<Digest, Error> {
        match (source.digest(), &source.upstream.pin) {
            (Some(digest), _) => Ok(digest),
            (None, Pin::Sha256(digest)) => Ok(*digest),
            (None, Pin::Commit(commit)) => self.commit(source, commit),
            (None, Pin::Image(digest)) => self.container_image(source, digest),
            (None, Pin::Unverified(how)) => Err(unverified(source, how)),
        }
    }

    /// The archive of the tree of `commit`, from the store or from the first URL that has it.
    fn commit(&self, source: &PinnedSource, commit: &CommitId) -> Result<Digest, Error> {
        if let Some(digest) = known_commit(self.downloads, commit) {
            return Ok(digest);
        }
        let _lock = lock_commit(self.downloads, commit)?;
        if let Some(digest) = known_commit(self.downloads, commit) {
            return Ok(digest);
        }
        let label = format!("fetch source {}", source.upstream.name);
        let step = Step::start(self.progress, label, None);
        let mut tried = Vec::new();
        for url in &source.upstream.urls {
            if !self.fetcher.online() && url.starts_with("http") {
                tried.push(format!("{url}: {}", fetch::Failure::Offline));
                continue;
            }
            let scratch = self.downloads.work_dir()?;
            let repository = scratch.path().join("repository");
            match source::git::fetch(&repository, url, commit) {
                Err(reason) => tried.push(format!("{url}: {reason}")),
                Ok(()) => {
                    let digest = put_commit(self.downloads, &repository, commit)?
                        .map_err(|error| unusable(source, &error))?;
                    step.finish("");
                    return Ok(digest);
                }
            }
        }
        Err(self.out_of_reach(source, &format!("commit {commit}"), &tried, &[]))
    }

    /// The archive of what `source` takes of the OCI image `digest`, from the store or from the registry.
    fn container_image(&self, source: &PinnedSource, digest: &Digest) -> Result<Digest, Error> {
        let UpstreamKind::Oci { path, .. } = &source.upstream.kind else {
            return Err(unverified(source, "it is no OCI image"));
        };
        let part = ImagePart { digest, path: path.relative() };
        if let Some(digest) = part.known(self.downloads) {
            return Ok(digest);
        }
        let _lock = part.lock(self.downloads)?;
        if let Some(digest) = part.known(self.downloads) {
            return Ok(digest);
        }
        let base = source.upstream.urls.first().map(String::as_str).unwrap_or_default();
        let layers = oci::layers(digest, |wanted| {
            let name = &source.upstream.name;
            let request = |blob: &oci::Wanted| Request {
                label: format!("source {name}"),
                urls: vec![format!("{base}/{}", blob.address())],
                digest: blob.digest,
                size: blob.size,
            };
            let requests: Vec<Request> = wanted.iter().map(request).collect();
            let files = self
                .fetcher
                .download(&requests, self.downloads, DOWNLOADS, self.progress)
                .map_err(|error| self.no_image(source, digest, &requests, error))?;
            Ok(files.iter().map(|file| file.path().to_owned()).collect())
        });
        let layers = layers.map_err(|error| match error {
            oci::LayersError::Blob(error) => error,
            oci::LayersError::Image(error) => unusable(source, &error),
        })?;
        part.put(self.downloads, &layers)?.map_err(|error| unusable(source, &error))
    }

    /// The error that a part of an OCI image cannot be had.
    fn no_image(
        &self,
        source: &PinnedSource,
        digest: &Digest,
        requests: &[Request],
        error: fetch::Error,
    ) -> Error {
        let Some(failed) = attempts(&error) else { return error.into() };
        let mut tried: Vec<String> = failed.into_iter().flat_map(|(_, tried)| tried).collect();
        if tried.is_empty() {
            let urls = requests.iter().flat_map(|request| &request.urls);
            tried = urls.map(|url| format!("{url}: {}", fetch::Failure::Offline)).collect();
        }
        self.out_of_reach(source, &format!("image sha256:{digest}"), &tried, &[])
    }

    /// The error that some of `sources` cannot be had, with every URL that was tried.
    fn unreachable(&self, sources: &[(&PinnedSource, Digest)], error: fetch::Error) -> Error {
        let Some(failed) = attempts(&error) else { return error.into() };
        let called = |label: &str| {
            let name = label.strip_prefix("source ")?;
            sources.iter().find(|(source, _)| source.upstream.name.as_str() == name)
        };
        let mut failed =
            failed.iter().filter_map(|(label, tried)| Some((called(label)?, tried.clone())));
        let Some(((source, digest), mut tried)) = failed.next() else { return error.into() };
        if tried.is_empty() {
            let offline = |url: &String| format!("{url}: {}", fetch::Failure::Offline);
            tried = source.upstream.urls.iter().map(offline).collect();
        }
        let more: Vec<String> =
            failed.map(|((source, _), _)| format!("`{}`", source.upstream.name)).collect();
        self.out_of_reach(source, &format!("sha256 {digest}"), &tried, &more)
    }

    /// The error that no URL has `source`, with what each said; nor can `more` be had.
    fn out_of_reach(
        &self,
        source: &PinnedSource,
        pin: &str,
        tried: &[String],
        more: &[String],
    ) -> Error {
        let name = &source.upstream.name;
        let lines: String = tried.iter().map(|line| format!("\n  {line}")).collect();
        let mut message = format!("cannot fetch the source `{name}`, {pin}:{lines}");
        if !more.is_empty() {
            message.push_str(&format!("\nnor can {} be fetched", more.join(", ")));
        }
        let site = self.site.as_ref().map(|site| format!(" --site {site}")).unwrap_or_default();
        let place = &source.upstream.place;
        let other = match &source.upstream.kind {
            UpstreamKind::Oci { .. } => {
                format!("name another registry that has it in `image` of {place}")
            }
            _ => {
                format!("name another URL that has it, a mirror or file:///…, in `urls` of {place}")
            }
        };
        let help = format!(
            "what was fetched once stays in the store; for the rest there are two ways on:\n- {other}, \
             and run `imgbuild lock`\n- get it yourself by whatever way and give it: imgbuild build \
             {}{site} --source {name}=PATH",
            self.role,
        );
        Error::source(source, message, help)
    }
}

/// What each URL said, by the label of the request; nothing if it was not tried because of `--offline`.
/// None of other errors.
pub(super) fn attempts(error: &fetch::Error) -> Option<Vec<(String, Vec<String>)>> {
    match error {
        fetch::Error::Download { failed, .. } => Some(
            failed
                .iter()
                .map(|file| {
                    let tried = file.attempts.iter();
                    let lines = tried.map(|tried| format!("{}: {}", tried.url, tried.failure));
                    (file.label.clone(), lines.collect())
                })
                .collect(),
        ),
        fetch::Error::Offline { missing } => {
            Some(missing.iter().map(|file| (file.label.clone(), Vec::new())).collect())
        }
        _ => None,
    }
}
