//! From a registry to a directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Serialize;

use super::finished::{stem_of, tag_of};
use super::{
    ATTACHMENTS, Attachment, DESCRIPTION, Error, IMAGE, MANIFEST, MOST_DOCUMENT, SUMS, TRANSFERS,
    media_type,
};
use crate::artifact::manifest;
use crate::build::output::Output;
use crate::digest::{Digest, HashingWriter};
use crate::progress::{Event, Progress};
use crate::registry::{
    self, Descriptor, Found, Manifest, Reference, Repository, WantedBlob, Which,
};
use crate::store::Store;
use crate::verify::unfit_layers;

/// Most manifests about an image that are looked at: whoever may push may push any number.
const MOST_ATTACHED: usize = 64;

/// An image that was pulled.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The SHA-256 of its manifest in the registry.
    pub digest: Digest,
    /// Its manifest.
    pub manifest: manifest::Manifest,
    /// Its files: the artifact, its manifest, and what is about it.
    pub files: Vec<PulledFile>,
}

/// A file of an image that was pulled.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct PulledFile {
    /// Where it is.
    pub path: PathBuf,
    /// The SHA-256 of it.
    pub sha256: Digest,
    /// Bytes of it.
    pub size: u64,
    /// Whether it was there already.
    pub reused: bool,
}

/// Where the files of an image go.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The directory. It is made if it is not there.
    pub directory: &'a Path,
    /// Whether other files of the same names, if there are any, are replaced.
    pub replace: bool,
}

/// A file that is wanted: its name, and the blob that it is.
struct Wanted {
    name: String,
    digest: Digest,
    size: u64,
}

/// Something about an image, as the registry has it.
struct Candidate {
    attachment: &'static Attachment,
    files: Vec<Wanted>,
}

/// A pull of one image.
struct Pull<'a> {
    repository: &'a Repository,
    reference: Reference,
    store: &'a Store,
    progress: &'a dyn Progress,
}

/// Pulls an image to `destination`: the artifact, its manifest, and what is about it. What is there and right is not
/// fetched; what is there under the same name and is something else is left alone, unless it is to be replaced.
/// Everything is fetched and held against each other before anything is written.
///
/// # Errors
/// [`Error::Absent`], [`Error::NotAnImage`], [`Error::Unfit`], [`Error::Others`], [`Error::Registry`], [`Error::Write`].
pub fn pull(
    repository: &Repository,
    which: &Which,
    destination: Destination,
    store: &Store,
    progress: &dyn Progress,
) -> Result<Pulled, Error> {
    let reference = repository.location().with(which.clone());
    let pull = Pull { repository, reference, store, progress };
    let found = pull.found(which)?;
    let document = pull.document(&found)?;
    let (manifest, stem) = pull.described(&document)?;
    pull.check_tag(which, tag_of(&manifest, &stem))?;

    let mut wanted = Vec::new();
    for candidate in pull.attached(&found, &stem)? {
        wanted.extend(candidate.files);
    }
    let of = |index: usize, name: String| {
        let Descriptor { digest, size, .. } = document.layers[index];
        Wanted { name, digest, size }
    };
    // An artifact is never without its manifest, so it is the last one that is written.
    wanted.push(of(1, format!("{stem}{MANIFEST}")));
    wanted.push(of(0, manifest.artifact.name.clone()));
    let mut files = pull.bring(wanted, destination)?;
    files.reverse();
    Ok(Pulled { digest: found.digest, manifest, files })
}

impl Pull<'_> {
    fn unfit(&self, why: impl Into<String>) -> Error {
        Error::Unfit { reference: self.reference.to_string(), why: why.into() }
    }

    fn no_image(&self, why: impl Into<String>) -> Error {
        Error::NotAnImage { reference: self.reference.to_string(), why: why.into() }
    }

    fn found(&self, which: &Which) -> Result<Found, Error> {
        let absent = || Error::Absent { reference: self.reference.to_string() };
        self.repository.manifest(which)?.ok_or_else(absent)
    }

    /// The manifest in the registry, if it is one of an image.
    fn document(&self, found: &Found) -> Result<Manifest, Error> {
        if found.media_type != registry::MANIFEST {
            return Err(self.no_image(format!("it is `{}`", found.media_type)));
        }
        let document: Manifest = serde_json::from_slice(&found.bytes)
            .map_err(|error| self.no_image(error.to_string()))?;
        match &document.artifact_type {
            Some(kind) if kind == IMAGE => {}
            Some(kind) => return Err(self.no_image(format!("it is about `{kind}`"))),
            None => {
                return Err(self.no_image(format!("it is about `{}`", document.config.media_type)));
            }
        }
        match document.layers.len() {
            2 => Ok(document),
            other => Err(self.unfit(format!("it has {other} blobs, and not two"))),
        }
    }

    /// The manifest of the image, if it is that of the artifact beside it, and what the names of its files begin with.
    fn described(&self, document: &Manifest) -> Result<(manifest::Manifest, String), Error> {
        let [artifact, description] = &document.layers[..] else {
            return Err(self.unfit("it has not two blobs"));
        };
        if description.media_type != DESCRIPTION {
            let why = format!("its description is `{}`", description.media_type);
            return Err(self.no_image(why));
        }
        let bytes = self.small(description, &format!("the manifest of {}", self.reference))?;
        let text = String::from_utf8(bytes).map_err(|_| self.unfit("its manifest is no text"))?;
        let manifest = manifest::Manifest::from_json(&text)
            .map_err(|error| self.no_image(error.to_string()))?;
        let stem = stem_of(&manifest).map_err(|why| self.unfit(why))?;
        let file = &manifest.artifact;
        if artifact.media_type != media_type(file.format) {
            return Err(self.unfit(format!("its artifact is `{}`", artifact.media_type)));
        }
        if (file.sha256, file.size) != (artifact.digest, artifact.size) {
            return Err(self.unfit(format!(
                "its artifact is sha256:{} of {} bytes, its manifest is of sha256:{} of {} bytes",
                artifact.digest, artifact.size, file.sha256, file.size
            )));
        }
        if let Some(why) = unfit_layers(&manifest) {
            return Err(self.unfit(why));
        }
        self.check_role(&manifest.role)?;
        for (layer, name) in [(artifact, &file.name), (description, &format!("{stem}{MANIFEST}"))] {
            self.check_title(layer, name)?;
        }
        Ok((manifest, stem))
    }

    /// Refuses a blob that is called other than `name`: a name from a registry never becomes one of a file.
    fn check_title(&self, blob: &Descriptor, name: &str) -> Result<(), Error> {
        match blob.title() {
            Some(title) if title == name => Ok(()),
            title => {
                let title = title.unwrap_or_default().escape_debug();
                Err(self.unfit(format!("a file is called `{title}`, and not `{name}`")))
            }
        }
    }

    /// Refuses an image of another role than the repository is for: `push` puts each into one that is called like its role.
    /// Otherwise, whoever may push for one role could replace the images of all others where they are pulled to.
    fn check_role(&self, role: &str) -> Result<(), Error> {
        let name = self.repository.location().name();
        match name.rsplit('/').next() == Some(role) {
            true => Ok(()),
            false => Err(self.unfit(format!(
                "it is an image of the role `{role}`, and `{name}` does not end in that"
            ))),
        }
    }

    /// Refuses a tag that says which content it is, and is on other content. `own` is that of the image.
    fn check_tag(&self, which: &Which, own: &str) -> Result<(), Error> {
        let Which::Tag(tag) = which else { return Ok(()) };
        let digits = tag.as_str().rsplit_once('-').map_or("", |(_, digits)| digits);
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let says_content = digits.len() == 12 && digits.bytes().all(is_digit);
        if says_content && tag.as_str() != own {
            return Err(self.unfit(format!("it is `{own}`")));
        }
        Ok(())
    }

    /// A blob that is read whole.
    fn small(&self, blob: &Descriptor, label: &str) -> Result<Vec<u8>, Error> {
        if blob.size > MOST_DOCUMENT {
            return Err(self.unfit(format!("{label} has {} bytes, far too many", blob.size)));
        }
        let (label, digest, size) = (label.to_owned(), blob.digest, blob.size);
        let wanted = WantedBlob { label, digest, size };
        let pulled = self.repository.pull_blob(wanted, self.store, self.progress)?;
        fs::read(pulled.path())
            .map_err(|error| Error::Read { path: pulled.path().to_owned(), why: error.to_string() })
    }

    /// What is about the image, one of each kind.
    fn attached(&self, found: &Found, stem: &str) -> Result<Vec<Candidate>, Error> {
        let mut candidates = Vec::new();
        for entry in self.repository.referrers(&found.digest, None)?.iter().take(MOST_ATTACHED) {
            let is_kind =
                |it: &&Attachment| Some(it.artifact_type) == entry.artifact_type.as_deref();
            if let Some(attachment) = ATTACHMENTS.iter().find(is_kind)
                && let Some(candidate) = self.candidate(found, entry, attachment, stem)?
            {
                candidates.push(candidate);
            }
        }
        // What is signed goes before what is not, where there are several.
        let sums = candidates.iter().flat_map(|it| &it.files).filter(|it| it.name.ends_with(SUMS));
        let mut signed: BTreeSet<Digest> = BTreeSet::new();
        for file in sums {
            let blob = Descriptor::new("text/plain", file.digest, file.size);
            let text = self.small(&blob, "the list of checksums")?;
            let lines = String::from_utf8_lossy(&text).into_owned();
            let digest = |line: &str| line.split(' ').next()?.parse::<Digest>().ok();
            signed.extend(lines.lines().filter_map(digest));
        }
        let is_signed = |it: &Candidate| it.files.iter().all(|file| signed.contains(&file.digest));
        let mut chosen = Vec::new();
        for attachment in ATTACHMENTS {
            let same = |it: &Candidate| it.attachment.artifact_type == attachment.artifact_type;
            let (of_kind, others) = candidates.into_iter().partition::<Vec<_>, _>(same);
            candidates = others;
            if of_kind.len() > 1 {
                self.progress.event(Event::Warning(format!(
                    "{} has several `{}`: one of them is taken, a signed one if there is one",
                    self.reference, attachment.artifact_type
                )));
            }
            let best = of_kind.into_iter().min_by_key(|it| (!is_signed(it), it.files[0].digest));
            chosen.extend(best);
        }
        Ok(chosen)
    }

    /// What `entry` of the list is, if it is ours: of this image, and with the names of files that it should have.
    fn candidate(
        &self,
        image: &Found,
        entry: &Descriptor,
        attachment: &'static Attachment,
        stem: &str,
    ) -> Result<Option<Candidate>, Error> {
        // A list may name what was deleted.
        let Some(found) = self.repository.manifest(&Which::Digest(entry.digest))? else {
            return Ok(None);
        };
        let Ok(document) = serde_json::from_slice::<Manifest>(&found.bytes) else {
            return Ok(None);
        };
        let is_about = document.subject.as_ref().is_some_and(|it| it.digest == image.digest);
        let is_kind = document.artifact_type.as_deref() == Some(attachment.artifact_type);
        if !is_about || !is_kind || document.layers.len() != attachment.files.len() {
            return Ok(None);
        }
        let mut files = Vec::new();
        for (layer, (ending, media_type)) in document.layers.iter().zip(attachment.files) {
            let name = format!("{stem}{ending}");
            let fits = layer.title() == Some(&name) && layer.media_type == *media_type;
            // Other tools push such things, too, under names of their own.
            if !fits || layer.size > MOST_DOCUMENT {
                return Ok(None);
            }
            files.push(Wanted { name, digest: layer.digest, size: layer.size });
        }
        Ok(Some(Candidate { attachment, files }))
    }

    /// Refuses to write over anything of these names in `directory`.
    fn check_free<'n>(
        &self,
        directory: &Path,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<(), Error> {
        let is_there = |name: &&str| directory.join(name).symlink_metadata().is_ok();
        let names: Vec<String> = names.filter(is_there).map(str::to_owned).collect();
        let (reference, directory) = (self.reference.to_string(), directory.to_owned());
        match names.is_empty() {
            true => Ok(()),
            false => Err(Error::Others { reference, directory, names }),
        }
    }

    /// Brings all files to `destination`, in their order, after all of them were fetched.
    fn bring(
        &self,
        wanted: Vec<Wanted>,
        Destination { directory, replace }: Destination,
    ) -> Result<Vec<PulledFile>, Error> {
        let failed = |path: &Path, source| Error::Write { path: path.to_owned(), source };
        let absolute = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
        let is_there = |file: &Wanted| is_right(&absolute.join(&file.name), file);
        let there: Vec<bool> = wanted.iter().map(is_there).collect();
        let absent = wanted.iter().zip(&there).filter(|(_, there)| !**there);
        if !replace {
            self.check_free(directory, absent.clone().map(|(file, _)| file.name.as_str()))?;
        }
        fs::create_dir_all(&absolute).map_err(|source| failed(&absolute, source))?;
        let blobs: Vec<WantedBlob> = absent
            .map(|(file, _)| WantedBlob {
                label: file.name.clone(),
                digest: file.digest,
                size: file.size,
            })
            .collect();
        let mut pulled =
            self.repository.pull_blobs(&blobs, self.store, TRANSFERS, self.progress)?.into_iter();
        let mut files = Vec::new();
        for (file, reused) in wanted.into_iter().zip(there) {
            let path = absolute.join(&file.name);
            if !reused && let Some(blob) = pulled.next() {
                write(blob.path(), &path, &file.digest).map_err(|source| failed(&path, source))?;
            }
            files.push(PulledFile { path, sha256: file.digest, size: file.size, reused });
        }
        Ok(files)
    }
}

/// Whether the file at `path` is what is wanted.
fn is_right(path: &Path, wanted: &Wanted) -> bool {
    let is_file = |metadata: fs::Metadata| metadata.is_file() && metadata.len() == wanted.size;
    fs::symlink_metadata(path).is_ok_and(is_file)
        && File::open(path).and_then(Digest::of_reader).is_ok_and(|digest| digest == wanted.digest)
}

/// Copies a blob to its final name, whole or not at all, if it is still what it should be.
fn write(from: &Path, path: &Path, digest: &Digest) -> io::Result<()> {
    let mut output = Output::create_in(path.parent().unwrap_or(Path::new(".")))?;
    let mut writer = HashingWriter::new(output.file());
    io::copy(&mut File::open(from)?, &mut writer)?;
    let (_, got, _) = writer.finish();
    if got != *digest {
        let why = format!("its sha256 has become {got}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    output.publish(path)
}
