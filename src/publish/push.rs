//! From a directory to a registry.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::{
    ATTACHMENTS, Attachment, DESCRIPTION, Error, Finished, IMAGE, SIGNED, TRANSFERS, VERSION,
    media_type,
};
use crate::digest::Digest;
use crate::progress::{Event, Progress};
use crate::registry::document::TITLE;
use crate::registry::{
    Descriptor, EMPTY_BYTES, MANIFEST, Manifest, OfferedBlob, Repository, Tag, Which,
};

/// Most of what was said earlier about an image that is deleted in favour of what is said now. There is one, but for
/// registries that delete nothing.
const MOST_EARLIER: usize = 64;

/// An image that was pushed.
#[derive(Clone, Debug)]
pub struct Pushed {
    /// The SHA-256 of its manifest in the registry.
    pub digest: Digest,
    /// Bytes of blobs that were sent: none, if all of them were there.
    pub sent: u64,
    /// What about it was pushed, too.
    pub attached: Vec<Attached>,
}

/// Something about an image that was pushed with it.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Attached {
    /// What kind of thing it is.
    #[serde(rename = "type")]
    pub artifact_type: String,
    /// The SHA-256 of its manifest in the registry.
    pub digest: Digest,
    /// Its files.
    pub files: Vec<PathBuf>,
}

impl Attached {
    /// The name of its first file, which it is annotated with.
    fn title(&self) -> Option<&str> {
        self.files.first()?.file_name()?.to_str()
    }
}

/// A file that goes into a blob.
struct Offer {
    path: PathBuf,
    name: String,
    file: File,
    descriptor: Descriptor,
}

impl Offer {
    /// The file at `path`, unless there is none.
    fn open(path: &Path, media_type: &str) -> Result<Option<Self>, Error> {
        let failed =
            |error: std::io::Error| Error::Read { path: path.to_owned(), why: error.to_string() };
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let size = file.metadata().map_err(failed)?.len();
        let digest = Digest::of_reader((&file).take(size)).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let descriptor = Descriptor::new(media_type, digest, size).titled(&name);
        Ok(Some(Self { path: path.to_owned(), name, file, descriptor }))
    }

    /// The file at `path`, which has to be there.
    fn required(path: &Path, media_type: &str) -> Result<Self, Error> {
        let why = || "there is no such file".to_owned();
        Self::open(path, media_type)?
            .ok_or_else(|| Error::Read { path: path.to_owned(), why: why() })
    }

    fn blob(&self) -> OfferedBlob<'_> {
        let Descriptor { digest, size, .. } = self.descriptor;
        OfferedBlob { label: &self.name, digest, size, file: &self.file }
    }
}

/// An attachment whose files are there.
struct Found {
    attachment: &'static Attachment,
    files: Vec<Offer>,
}

/// Pushes an artifact, its manifest and what is about it into `repository`, and tags it. Tags are put last: whoever pulls by
/// one gets all of it.
///
/// # Errors
/// [`Error::Read`], [`Error::Changed`], [`Error::Registry`].
pub fn push(
    repository: &Repository,
    finished: &Finished,
    tags: &[Tag],
    progress: &dyn Progress,
) -> Result<Pushed, Error> {
    let artifact = Offer::required(&finished.path, media_type(finished.manifest.artifact.format))?;
    let (expected, got) = (finished.manifest.artifact.sha256, artifact.descriptor.digest);
    if expected != got {
        return Err(Error::Changed { path: finished.path.clone(), expected, got });
    }
    let description = Offer::required(&finished.manifest_path, DESCRIPTION)?;
    let found = ATTACHMENTS.iter().map(|attachment| attached(finished, attachment));
    let found: Vec<Found> = found.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();

    let files = [&artifact, &description].into_iter();
    let files = files.chain(found.iter().flat_map(|found| &found.files));
    let blobs: Vec<_> = files.map(Offer::blob).collect();
    let sent = repository.push_blobs(&blobs, TRANSFERS, progress)?.iter().map(|it| it.sent).sum();
    repository.push_bytes(EMPTY_BYTES)?;

    let layers = vec![artifact.descriptor.clone(), description.descriptor.clone()];
    let mut manifest = Manifest::new(IMAGE, layers);
    manifest.annotations.insert(VERSION.to_owned(), finished.manifest.version.clone());
    let bytes = manifest.to_bytes();
    let digest = Digest::of(&bytes);
    repository.put_manifest(&Which::Digest(digest), MANIFEST, &bytes)?;
    let subject = Descriptor::of(MANIFEST, &bytes);
    let attach = |found: Found| attach(repository, &subject, found);
    let attached = found.into_iter().map(attach).collect::<Result<Vec<_>, _>>()?;
    retire(repository, &subject, &attached, progress)?;
    for tag in tags {
        repository.put_manifest(&Which::Tag(tag.clone()), MANIFEST, &bytes)?;
    }
    Ok(Pushed { digest, sent, attached })
}

/// The files of an attachment, if all of them are there.
fn attached(finished: &Finished, attachment: &'static Attachment) -> Result<Option<Found>, Error> {
    let mut files = Vec::new();
    for (ending, media_type) in attachment.files {
        let path = finished.beside(ending);
        let Some(offer) = Offer::open(&path, media_type)? else { return Ok(None) };
        if offer.descriptor.size > attachment.most {
            return Err(Error::TooLong { path, most: attachment.most });
        }
        files.push(offer);
    }
    Ok(Some(Found { attachment, files }))
}

/// Pushes what is about `subject`.
fn attach(repository: &Repository, subject: &Descriptor, found: Found) -> Result<Attached, Error> {
    let Found { attachment, files } = found;
    let layers = files.iter().map(|file| file.descriptor.clone()).collect();
    let mut manifest = Manifest::new(attachment.artifact_type, layers).about(subject.clone());
    let title = files.first().map(|file| file.name.clone()).unwrap_or_default();
    manifest.annotations.insert(TITLE.to_owned(), title);
    let bytes = manifest.to_bytes();
    let digest = Digest::of(&bytes);
    repository.put_manifest(&Which::Digest(digest), MANIFEST, &bytes)?;
    let files = files.into_iter().map(|file| file.path).collect();
    Ok(Attached { artifact_type: attachment.artifact_type.to_owned(), digest, files })
}

/// Deletes what `attached` takes the place of: what was pushed about `subject` of the same kinds under the same names. Not
/// before all of `attached` is there, and signatures first, so that at no time there is a signature of what is gone.
/// Without a signature among `attached` nothing that may be signed goes.
fn retire(
    repository: &Repository,
    subject: &Descriptor,
    attached: &[Attached],
    progress: &dyn Progress,
) -> Result<(), Error> {
    let is_signature = |it: &Descriptor| it.artifact_type.as_deref() == Some(SIGNED);
    if attached.is_empty() {
        return Ok(());
    }
    if !attached.iter().any(|it| it.artifact_type == SIGNED)
        && !repository.referrers(&subject.digest, &is_signature, 1)?.is_empty()
    {
        return Ok(());
    }
    let is_earlier = |it: &Descriptor| {
        // What others have pushed about it, under other names, is theirs.
        let is_of = |one: &&Attached| {
            it.artifact_type.as_ref() == Some(&one.artifact_type) && it.title() == one.title()
        };
        attached.iter().find(is_of).is_some_and(|one| it.digest != one.digest)
    };
    let mut earlier = repository.referrers(&subject.digest, &is_earlier, MOST_EARLIER)?;
    earlier.sort_by_key(|it| !is_signature(it));
    for it in earlier {
        match repository.delete_manifest(&subject.digest, &it.digest) {
            Err(error) if !error.is_transient() => {
                let title = it.title().unwrap_or_default();
                progress.event(Event::Warning(format!("an earlier `{title}` stays: {error}")));
            }
            other => drop(other?),
        }
    }
    Ok(())
}
